import json
import math
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from nbutils.callpath.exchange import Failure, Reply, Token
from nbutils.judging import JudgingError, grade_answers, judge_pairs, show_judgement
from nbutils.models import replay
from nbutils.profiles import DATA
from nbutils.prompts import GRADE, PAIRWISE
from nbutils.records import Answer, Judgement, Pair, Question, load_dataset, read_jsonl, write_jsonl

QUESTION = Question("q000", "train", "s", "fact", "Which boat?", "Dunlin.", "c0", "c0", "A source.")
ANSWERS = [Answer("q000", "one", "Dunlin."), Answer("q000", "two", "Plover.")]
PAIR = Pair("p000", "train", "q000", "one", "two")


class Scripted:
    """A judge that gives the replies of a table, by data id, and keeps its calls."""

    name = "scripted"

    def __init__(self, replies):
        self.replies = {k: Reply(r) if isinstance(r, str) else r for k, r in replies.items()}
        self.calls = {}
        self.readable = {}

    def ask(self, calls, what, readable=None):
        self.what = what
        self.calls |= {call.data_id: call for call in calls}
        replies = [self.replies[call.data_id] for call in calls]
        came = [reply for reply in replies if isinstance(reply, Reply)]
        self.readable |= {reply.text: readable(reply) for reply in came}
        return replies


def judged(original, flipped):
    model = Scripted({"p000/original": original, "p000/flipped": flipped})
    return judge_pairs([PAIR], [QUESTION], ANSWERS, model), model


@pytest.mark.parametrize(
    ("original", "flipped", "verdicts"),
    [
        # The flipped order shows b as A, so that [[A]] there is a win for b.
        ("[[A]]", "[[B]]", ("a", "a")),
        ("[[B]]", "[[A]]", ("b", "b")),
        ("[[A]]", "[[A]]", ("a", "b")),
        ("[[C]]", "[[C]]", ("tie", "tie")),
    ],
)
def test_verdicts_come_in_the_pair_s_own_labels(original, flipped, verdicts):
    rows, _ = judged(original, flipped)
    assert [(row.order, row.judge) for row in rows] == [
        ("original", "scripted"),
        ("flipped", "scripted"),
    ]
    assert tuple(row.verdict for row in rows) == verdicts


def test_an_unreadable_reply_is_kept_with_its_reason_and_stops_nothing():
    (first, second), _ = judged("I cannot say.", "Fine.\n[[B]]")
    assert (first.verdict, first.reply) == (None, "I cannot say.") and first.reason
    assert (second.verdict, second.reason) == ("a", None)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("[[A]]", "length"), "cut off: finish reason 'length'"),
        (Reply("", "stop"), "the reply is empty"),
        (Failure("400: too long"), "no reply: 400: too long"),
    ],
)
def test_a_call_that_failed_is_a_row_with_its_reason(reply, reason):
    (first, second), _ = judged(reply, "[[B]]")
    assert (first.pair_id, first.order, first.judge) == ("p000", "original", "scripted")
    assert (first.verdict, first.reason, first.prompt) == (None, reason, PAIRWISE.fingerprint)
    assert first.reply == ("" if isinstance(reply, Failure) else reply.text)
    assert (first.source, first.probabilities) == (None, None)
    assert second.verdict == "a"


def test_the_call_path_is_told_which_replies_can_be_read():
    _, model = judged("Well.", "Fine.\n[[C]]")
    assert model.readable == {"Well.": False, "Fine.\n[[C]]": True}
    model = Scripted({"q000/one": "All.\n[[0.9]]", "q000/two": "[[9]]"})
    grade_answers(ANSWERS, [QUESTION], model)
    assert model.readable == {"All.\n[[0.9]]": True, "[[9]]": False}


def test_log_probabilities_are_kept_in_the_pair_s_own_labels():
    def letters(**shares):
        top = tuple((letter, math.log(share)) for letter, share in shares.items())
        tokens = (Token("[[", 0.0, ()), Token("A", top[0][1], top), Token("]]", 0.0, ()))
        return Reply("[[A]]", "stop", tokens=tokens)

    (original, flipped), _ = judged(letters(A=0.7, B=0.2, C=0.1), letters(A=0.6, B=0.3, C=0.1))
    assert original.probabilities == pytest.approx((0.7, 0.2, 0.1))
    assert flipped.probabilities == pytest.approx((0.3, 0.6, 0.1))  # b was shown as A
    assert original.source == flipped.source == "log-probabilities"
    (voted, _), _ = judged("[[A]]", "[[A]]")
    assert (voted.source, voted.probabilities) == ("votes", None) and voted.fallback


def test_the_flipped_order_shows_b_first():
    _, model = judged("[[A]]", "[[A]]")
    calls = model.calls["p000/original"], model.calls["p000/flipped"]
    assert {(call.role, call.prompt) for call in calls} == {("teacher", PAIRWISE.fingerprint)}
    original, flipped = (call.messages[-1]["content"] for call in calls)
    assert original.index("Dunlin.") < original.index("Plover.")
    assert flipped.index("Plover.") < flipped.index("Dunlin.")


def test_all_pairs_are_asked_in_one_go_original_first():
    pairs = [PAIR, replace(PAIR, pair_id="p001", answerer_a="two", answerer_b="one")]
    names = [f"{pair.pair_id}/{order}" for pair in pairs for order in ("original", "flipped")]
    model = Scripted(dict.fromkeys(names, "[[A]]"))
    rows = judge_pairs(pairs, [QUESTION], ANSWERS, model)
    assert [f"{row.pair_id}/{row.order}" for row in rows] == list(model.calls) == names
    assert model.what.startswith("judgements")


def test_a_student_that_writes_is_booked_under_its_own_role():
    model = Scripted({"p000/original": "[[A]]", "p000/flipped": "[[B]]"})
    judge_pairs([PAIR], [QUESTION], ANSWERS, model, role="student")
    assert {call.role for call in model.calls.values()} == {"student"}


def test_the_judge_sees_the_whole_source():
    # In 2023 the judge saw 1,000 characters of one chunk, the answerers two whole chunks.
    source = "A sentence of the handbook. " * 50 + "The last fact."  # 50 x 28 + 14 = 1414
    question = replace(QUESTION, source=source)
    model = Scripted({"p000/original": "[[A]]", "p000/flipped": "[[B]]"})
    judge_pairs([PAIR], [question], ANSWERS, model)
    shown = [call.messages[-1]["content"] for call in model.calls.values()]
    assert [source in text for text in shown] == [True, True]


def test_rows_that_do_not_fit_are_named_before_anything_is_asked():
    model = Scripted({})
    strange = replace(PAIR, pair_id="p001", answerer_b="three")
    message = "pair p001: the answer of three to question q000 is not given; run notebook 02"
    with pytest.raises(JudgingError, match=message):
        judge_pairs([PAIR, strange], [QUESTION], ANSWERS, model)
    with pytest.raises(JudgingError, match="pair p000: question q000 is not given"):
        judge_pairs([PAIR], [], ANSWERS, model)
    with pytest.raises(JudgingError, match="answer of one: question q000 is not given"):
        grade_answers(ANSWERS, [], model)
    assert model.calls == {}


def test_grades_are_read_or_kept_with_the_reason():
    three = [*ANSWERS, Answer("q000", "three", "Knot.")]
    replies = ("All of it.\n[[0.9]]", "Well.", Failure("500: gone"))
    model = Scripted({f"q000/{row.answerer}": r for row, r in zip(three, replies, strict=True)})
    first, second, third = grade_answers(three, [QUESTION], model)
    assert (first.score, first.reason, first.judge) == (0.9, None, "scripted")
    assert (second.score, second.reply) == (None, "Well.") and second.reason
    assert (third.score, third.reply, third.reason) == (None, "", "no reply: 500: gone")
    assert {(call.role, call.prompt) for call in model.calls.values()} == {
        ("grader", GRADE.fingerprint)
    }
    assert first.prompt == third.prompt == GRADE.fingerprint and model.what == "grades"


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture(scope="module")
def recorded(data):
    return replay(data)


def test_the_recorded_pairs_replay_as_the_data_card_counts_them(data, recorded, tmp_path):
    rows = judge_pairs(data.pairs, data.questions, data.answers, recorded)
    replies = {(j.pair_id, j.order): j.reply for j in data.judgements}
    assert {(row.pair_id, row.order): row.reply for row in rows} == replies
    assert len(rows) == 2262 and all(row.verdict for row in rows)
    in_test = {pair.pair_id for pair in data.pairs if pair.split == "test"}
    verdicts = {(row.pair_id, row.order): row.verdict for row in rows}
    # The card: "the two orders agree in 486 pairs, lean in 13, conflict in 11" (510 in all)
    kinds = Counter()
    for pair in in_test:
        both = {verdicts[pair, "original"], verdicts[pair, "flipped"]}
        kinds["agree" if len(both) == 1 else "lean" if "tie" in both else "conflict"] += 1
    assert kinds == {"agree": 486, "lean": 13, "conflict": 11}
    # ... "the first answer is chosen in 50.1 % of decided replies"
    first = {"original": "a", "flipped": "b"}
    decided = [row for row in rows if row.pair_id in in_test and row.verdict != "tie"]
    share = sum(row.verdict == first[row.order] for row in decided) / len(decided)
    assert round(100 * share, 1) == 50.1
    write_jsonl(tmp_path / "judgements.jsonl", rows)
    assert read_jsonl(tmp_path / "judgements.jsonl", Judgement) == rows


def test_the_recorded_grades_replay(data, recorded):
    graded = {(row.question_id, row.answerer): row.reply for row in data.grades}
    answers = [row for row in data.answers if (row.question_id, row.answerer) in graded]
    rows = grade_answers(answers, data.questions, recorded)
    assert len(rows) == 1124
    assert {(row.question_id, row.answerer): row.reply for row in rows} == graded
    assert all(row.score is not None for row in rows)


class Cells(HTMLParser):
    """The text of each heading and cell of a table, and the tags that were met."""

    def __init__(self, html):
        super().__init__()
        self.heads, self.rows, self.tags = [], [], set()
        self._into = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._into = self.rows[-1]
        if tag == "style":
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._into = None


def shown(original="Dunlin is right.\n[[A]]", flipped="Both.\n[[C]]", answers=ANSWERS, **changes):
    rows, _ = judged(original, flipped)
    return show_judgement(replace(QUESTION, **changes), *answers, rows).to_html()


def test_the_table_has_the_columns_of_2023_and_a_row_for_each_order():
    head, original, flipped = Cells(shown()).rows
    names = ["Question", "Source", "Model A", "Answer A", "Model B", "Answer B", "Score"]
    assert [name.strip() for name in head] == ["", *names, "Judgement"]
    common = ["Which boat?", "A source."]
    a, b = ["one", "Dunlin."], ["two", "Plover."]
    assert original == [
        "original\nscripted",
        *common,
        *a,
        *b,
        "1 (A)",
        "Dunlin is right.\n[[A]]",
    ]
    assert flipped == ["flipped\nscripted", *common, *b, *a, "0.5 (tie)", "Both.\n[[C]]"]


@pytest.mark.parametrize(
    ("original", "flipped", "scores"),
    [
        ("[[A]]", "[[B]]", ["1 (A)", "0 (B)"]),  # a won twice: shown as A, then as B
        ("[[B]]", "[[A]]", ["0 (B)", "1 (A)"]),
        ("[[C]]", "[[A]]", ["0.5 (tie)", "1 (A)"]),
    ],
)
def test_the_score_is_that_of_the_answer_in_column_a(original, flipped, scores):
    _, *rows = Cells(shown(original, flipped)).rows
    assert [row[7] for row in rows] == scores


def test_an_unreadable_reply_is_shown_with_its_reason():
    _, first, _ = Cells(shown(original="No idea.")).rows
    assert first[7].startswith("unreadable\n(") and first[8] == "No idea."


HOSTILE = "</div></td></table><script>alert(1)</script><img src=x onerror=alert(1)> & \"q\" 'q' {x}"


def test_hostile_text_is_shown_and_never_run():
    harmless = Cells(shown()).tags
    answers = [Answer("q000", "one", HOSTILE), Answer("q000", HOSTILE, HOSTILE)]
    reply = HOSTILE + "\n[[A]]"
    rows, _ = judged(reply, reply)
    rows = [replace(row, judge=HOSTILE, pair_id=HOSTILE) for row in rows]
    question = replace(QUESTION, question=HOSTILE, source=HOSTILE)
    page = Cells(show_judgement(question, *answers, rows).to_html())
    assert page.tags == harmless  # no tag came in with the text
    _, original, flipped = page.rows
    assert original == [
        f"original\n{HOSTILE}",
        HOSTILE,
        HOSTILE,
        "one",
        HOSTILE,
        HOSTILE,
        HOSTILE,
        "1 (A)",
        reply,
    ]
    assert flipped[3] == HOSTILE and flipped[0] == f"flipped\n{HOSTILE}"


def test_two_judges_rows_stand_in_one_table():
    rows, _ = judged("[[A]]", "[[B]]")
    other = [replace(row, judge="other") for row in rows]
    page = Cells(show_judgement(QUESTION, *ANSWERS, rows + other).to_html())
    assert [row[0].split()[1] for row in page.rows[1:]] == ["scripted"] * 2 + ["other"] * 2


def test_the_table_sets_no_colour():
    assert "color" not in shown() and "background" not in shown()


def test_the_table_is_the_same_each_time():
    assert shown() == shown()


def test_a_table_of_no_judgement_two_pairs_or_another_question_is_an_error():
    rows, _ = judged("[[A]]", "[[B]]")
    with pytest.raises(JudgingError, match=r"question q000: .* judgements of \[\]; give that"):
        show_judgement(QUESTION, *ANSWERS, [])
    with pytest.raises(JudgingError, match=r"judgements of \['p000', 'p001'\]"):
        show_judgement(QUESTION, *ANSWERS, [rows[0], replace(rows[1], pair_id="p001")])
    with pytest.raises(JudgingError, match=r"answers to \['q000', 'q001'\]"):
        show_judgement(QUESTION, ANSWERS[0], replace(ANSWERS[1], question_id="q001"), rows)


def test_every_recorded_pair_can_be_shown(data):
    pair = data.pairs[0]
    [question] = [q for q in data.questions if q.question_id == pair.question_id]
    texts = {a.answerer: a for a in data.answers if a.question_id == pair.question_id}
    row = Judgement(pair.pair_id, "original", "recorded", PAIRWISE.fingerprint, "x\n[[A]]", "a")
    table = show_judgement(question, texts[pair.answerer_a], texts[pair.answerer_b], [row])
    assert json.dumps(question.source) == json.dumps(Cells(table.to_html()).rows[1][2])

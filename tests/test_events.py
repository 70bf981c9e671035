import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.profiles import DATA
from nbutils.prompts import PAIRWISE, render_pairwise
from nbutils.records import HUMAN, Answer, Judgement, Pair, Question, Resolution, load_dataset
from nbutils.resolution import resolve_all
from nbutils.verdicts import in_pair_labels, read_verdict
from nbutils.writing.events import (
    EventError,
    check_events,
    finetuning_events,
    hold_out,
    write_events,
)

QUESTIONS = [
    Question("q1", "train", "s", "fact", "Which boat?", "Dunlin.", "c", "c", "A source."),
    Question("q2", "train", "s", "fact", "When?", "Noon.", "c", "c", "A source."),
]
ANSWERS = [
    Answer("q1", "x", "Dunlin."),
    Answer("q1", "y", "Plover."),
    Answer("q2", "x", "At noon."),
    Answer("q2", "y", "At night."),
    Answer("q2", "z", "At 12."),
]
PAIRS = [
    Pair("p1", "train", "q1", "x", "y"),
    Pair("p2", "train", "q2", "y", "z"),
    Pair("p3", "train", "q2", "x", "z"),
    Pair("p4", "train", "q2", "x", "y"),
    Pair("p5", "train", "q1", "y", "x"),
]


def judged(pair_id, original, flipped):
    """The teacher's judgements from the letters that it gives, None for no verdict at all."""
    rows = []
    for order, letter in (("original", original), ("flipped", flipped)):
        reply = f"{pair_id} {order}.\n[[{letter}]]" if letter else "I cannot say."
        read = read_verdict(reply)
        label = in_pair_labels(read.letter, order) if read.letter else None
        rows.append(Judgement(pair_id, order, "t", PAIRWISE.fingerprint, reply, label, read.reason))
    return rows


JUDGEMENTS = [
    *judged("p1", "A", "B"),  # a twice
    *judged(
        "p2", "C", "A"
    ),  # a tie, then b (shown as A): leans to b, which the flipped order named
    *judged("p3", "C", "C"),  # a tie
    *judged("p4", "A", "A"),  # a, then b: a conflict
    *judged("p5", "B", None),  # unreadable
]
RESOLUTIONS = resolve_all(JUDGEMENTS)


def events(pairs=PAIRS, judgements=JUDGEMENTS, resolutions=RESOLUTIONS):
    return finetuning_events(pairs, QUESTIONS, ANSWERS, judgements, resolutions)


def replies(rows):
    return [row["messages"][-1]["content"] for row in rows]


def test_a_pair_that_is_resolved_gives_one_event():
    assert replies(events()) == [
        "p1 original.\n[[A]]",
        "p2 flipped.\n[[A]]",  # the order that named the winner
        "p3 original.\n[[C]]",
    ]  # neither the conflict nor the unreadable pair


def test_a_lean_to_the_original_order_s_winner_takes_the_original():
    rows = judged("p1", "B", "C")
    assert replies(events(PAIRS[:1], rows, resolve_all(rows))) == ["p1 original.\n[[B]]"]


def test_an_event_is_a_chat_of_prompt_and_reply_in_one_order():
    first, second, _ = events()
    for event, order, shown in (
        (first, "original", ("Which boat?", "A source.", "Dunlin.", "Plover.")),
        (second, "flipped", ("When?", "A source.", "At night.", "At 12.")),
    ):
        assert list(event) == ["messages"]
        assert [m["role"] for m in event["messages"]] == ["system", "user", "assistant"]
        assert event["messages"][:2] == render_pairwise(*shown, order)
    # Flipped shows p2's b, z's answer, as A: the winner that the reply names.
    assert "<answer_a>\nAt 12.\n</answer_a>" in second["messages"][1]["content"]


def test_what_does_not_belong_to_a_pair_of_train_gives_none():
    assert replies(events(pairs=[PAIRS[2]])) == ["p3 original.\n[[C]]"]
    with pytest.raises(EventError, match="pair p1: split 'test' is not train"):
        events(pairs=[replace(PAIRS[0], split="test")])


def test_both_orders_events_end_in_one_file(tmp_path):
    # In 2023 the originals' events were saved, then the flipped orders' to the same file, over
    # them, then both were read back from it: here p2's twice, and p1's and p3's never.
    file = tmp_path / "events.jsonl"
    chosen = {"original": [], "flipped": []}
    for event in events():
        order = "flipped" if " flipped." in replies([event])[0] else "original"
        chosen[order].append(event)
    as_in_2023 = []
    for rows in chosen.values():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in chosen:
        as_in_2023 += [json.loads(line) for line in file.read_text().splitlines()]
    assert replies(as_in_2023) == ["p2 flipped.\n[[A]]"] * 2
    write_events(file, events())
    read_back = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert read_back == events() and len(read_back) == 3


def test_rows_are_matched_by_pair_and_not_by_position():
    # In 2023 19 events stood against 18 rows: one call had been logged twice. Here p1's original
    # is: by position, row p2 would learn from p1's second event and p3 from p2's.
    rows = ["p1", "p2", "p3"]
    logged = ["p1 original.", *(reply.split("\n")[0] for reply in replies(events()))]
    assert len(logged) == 4
    by_position = dict(zip(rows, logged, strict=False))
    assert by_position == {"p1": "p1 original.", "p2": "p1 original.", "p3": "p2 flipped."}
    with pytest.raises(EventError, match=r"\('p1', 't', 'original'\) is given twice"):
        events(judgements=[JUDGEMENTS[0], *JUDGEMENTS])
    with pytest.raises(EventError, match="'p1' is given twice"):
        events(resolutions=[RESOLUTIONS[0], *RESOLUTIONS])
    # In whatever order the rows come, the events are the same.
    draw = random.Random(0)
    for _ in range(5):
        shuffled = draw.sample(JUDGEMENTS, len(JUDGEMENTS))
        assert events(PAIRS, shuffled, draw.sample(RESOLUTIONS, 5)) == events()
        pairs = draw.sample(PAIRS, 5)
        found = [reply[:2] for reply in replies(events(pairs=pairs))]
        assert found == [p.pair_id for p in pairs if p.pair_id in ("p1", "p2", "p3")]


def test_what_is_missing_is_named():
    with pytest.raises(EventError, match=r"pair p2: there is no row for \('p2', 't', 'flipped'\)"):
        events(judgements=[row for row in JUDGEMENTS if "p2 flipped" not in row.reply])
    with pytest.raises(EventError, match="pair p3: there is no row for 'p3'"):
        events(resolutions=RESOLUTIONS[:2])
    with pytest.raises(EventError, match="pair p1: there is no row for 'q1'"):
        finetuning_events(PAIRS, QUESTIONS[1:], ANSWERS, JUDGEMENTS, RESOLUTIONS)
    with pytest.raises(EventError, match=r"pair p1: there is no row for \('q1', 'y'\)"):
        finetuning_events(PAIRS, QUESTIONS, ANSWERS[:1], JUDGEMENTS, RESOLUTIONS)


def test_a_judgement_under_another_prompt_is_refused():
    other = [replace(row, prompt="pairwise-v0:0123456789ab") for row in JUDGEMENTS]
    with pytest.raises(EventError, match="pair p1: was judged under pairwise-v0:0123456789ab"):
        events(judgements=other)


def test_a_resolution_that_no_order_gave_is_refused():
    wrong = [replace(RESOLUTIONS[0], verdict="b"), *RESOLUTIONS[1:]]
    with pytest.raises(EventError, match="pair p1: no order gives the resolved verdict 'b'"):
        events(resolutions=wrong)


def test_a_person_s_verdict_has_the_reply_that_argues_for_it_or_none():
    said = {
        "p1": "b",  # the teacher said a twice: no reply argues for b
        "p2": "tie",  # a tie in the original order, which leaned to b
        "p3": "tie",  # as the teacher
        "p4": "b",  # a conflict: a, then b
        "p5": "b",  # unreadable: b in the original order, nothing in the other
    }
    people = [Resolution(pair_id, HUMAN, verdict) for pair_id, verdict in said.items()]
    assert replies(events(resolutions=people)) == [
        "p2 original.\n[[C]]",
        "p3 original.\n[[C]]",
        "p4 flipped.\n[[A]]",  # b is shown as A there
        "p5 original.\n[[B]]",
    ]
    mixed = [*people[:1], *RESOLUTIONS[1:]]
    assert replies(events(resolutions=mixed)) == replies(events())[1:]
    with pytest.raises(EventError, match="pair p1: there is no row for"):
        events(PAIRS[:1], [], people)


def test_every_recorded_event_argues_for_its_pair_s_verdict():
    data = load_dataset(DATA)
    pairs = [pair for pair in data.pairs if pair.split == "train"]
    rows = []
    for own in data.judgements:
        read = read_verdict(own.reply)
        label = in_pair_labels(read.letter, own.order)
        print_ = PAIRWISE.fingerprint
        rows.append(Judgement(own.pair_id, own.order, "teacher", print_, own.reply, label))
    resolved = {row.pair_id: row for row in resolve_all(rows)}
    found = finetuning_events(pairs, data.questions, data.answers, rows, resolved.values())
    decided = [pair for pair in pairs if resolved[pair.pair_id].verdict in ("a", "b", "tie")]
    assert len(found) == len(decided) < len(pairs)
    texts = {(row.question_id, row.answerer): row.text for row in data.answers}
    orders = Counter()
    for event, pair in zip(found, decided, strict=True):
        _, user, assistant = event["messages"]
        ends = [texts[pair.question_id, end] for end in (pair.answerer_a, pair.answerer_b)]
        shown = user["content"].split("<answer_a>\n")[1].split("\n</answer_a>")[0]
        order = "original" if shown == ends[0] else "flipped"
        orders[order] += 1
        verdict = in_pair_labels(read_verdict(assistant["content"]).letter, order)
        assert verdict == resolved[pair.pair_id].verdict
    leans = [resolved[pair.pair_id] for pair in decided if resolved[pair.pair_id].leaning]
    flipped = {row.pair_id for row in rows if row.order == "flipped" and row.verdict != "tie"}
    assert orders["flipped"] == sum(row.pair_id in flipped for row in leans) > 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "events.jsonl"
    write_events(file, events())
    before = file.read_bytes()

    def broken():
        yield events()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_events(file, broken())
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_text_of_any_kind_comes_back(tmp_path):
    file = tmp_path / "events.jsonl"
    said = "Zwölf\u2028 \x85 \U0001f426 \ud800"
    event = {"messages": [{"role": "assistant", "content": said}]}
    write_events(file, [event, event])
    lines = file.read_bytes().decode("utf-8").rstrip("\n").split("\n")
    assert [json.loads(line) for line in lines] == [event, event]
    assert "Zwölf" in lines[0]


def asked(number, section, chunk="", split="train"):
    """A question and its pair."""
    chunk = chunk or f"c{number}"
    question = Question(f"q{number}", split, section, "fact", "?", "!", "c", chunk, f"Text {chunk}")
    return question, Pair(f"p{number}", split, f"q{number}", "x", "y")


def both(rows):
    return [question for question, _ in rows], [pair for _, pair in rows]


def ids(pairs):
    return [pair.pair_id for pair in pairs]


def test_whole_sections_are_held_out():
    # 10 questions, a fifth to hold out: the aim is 2. A section of 2 goes there whenever it comes
    # first (0 + 2/2 <= 2); after it another of 2 does not (2 + 1 > 2); the one of 6 never does.
    rows = [asked(n, "a" if n < 6 else "b" if n < 8 else "c") for n in range(10)]
    for seed in range(6):
        teach, validate = hold_out(both(rows)[1], both(rows)[0], share=0.2, seed=seed)
        assert ids(validate) in (["p6", "p7"], ["p8", "p9"])
        assert sorted(ids(teach) + ids(validate)) == ids(both(rows)[1])
        assert hold_out(both(rows)[1], both(rows)[0], 0.2, seed) == (teach, validate)


def test_the_smallest_section_is_held_out_where_none_is_small_enough():
    rows = [asked(n, "a" if n < 6 else "b") for n in range(10)]  # the aim is 1, b has 4
    teach, validate = hold_out(both(rows)[1], both(rows)[0], share=0.1, seed=0)
    assert ids(validate) == ["p6", "p7", "p8", "p9"] and len(teach) == 6


def test_a_source_is_never_on_both_sides():
    # p6's source is also that of q0, which is taught: p6 is in neither part. p7 shares one chunk
    # of two with q1.
    rows = [asked(n, "a") for n in range(6)]
    rows += [asked(6, "b", "c0"), asked(7, "b", "c9+c1"), asked(8, "b")]
    teach, validate = hold_out(both(rows)[1], both(rows)[0], share=0.1, seed=0)
    assert (len(teach), ids(validate)) == (6, ["p8"])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 30)), min_size=2), st.data())
def test_no_section_and_no_source_stands_on_both_sides(drawn, data):
    rows = [asked(n, section, f"c{chunk}") for n, (section, chunk) in enumerate(drawn)]
    questions, pairs = both(rows)
    if len({question.section for question in questions}) < 2:
        with pytest.raises(EventError, match="1 section"):
            hold_out(pairs, questions, 0.1, 0)
        return
    share = data.draw(st.floats(0.05, 0.45))
    teach, validate = hold_out(pairs, questions, share, data.draw(st.integers(0, 9)))
    of = {question.question_id: question for question in questions}
    for name in ("section", "source"):
        left, right = (
            {getattr(of[p.question_id], name) for p in side} for side in (teach, validate)
        )
        assert left and not left & right


def test_a_test_question_is_never_held_out():
    rows = [asked(0, "a"), asked(1, "b"), asked(2, "b", split="test")]
    with pytest.raises(EventError, match="question q2 is not of train; give the pairs of train"):
        hold_out(both(rows)[1], both(rows)[0], share=0.1, seed=0)


def event(n, system="Judge.", user="Which?", assistant="[[A]]"):
    texts = (system, f"{user} {n}" if user else user, assistant)
    roles = ("system", "user", "assistant")
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]}


GOOD = [event(n) for n in range(10)]


HELD = [event("other")]


def checked(train=GOOD, validation=HELD):
    return check_events(train, validation, ("train.jsonl", "held.jsonl"))


def test_tokens_of_the_training_events_are_counted():
    # An event: "Judge." is 2 tokens, "Which? 0" 4, "[[A]]" 3; three frames of 4 each: 21.
    assert checked() == 210


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"messages": GOOD[0]["messages"][1:]}, r"the roles are \['user', 'assistant'\], not \["),
        ({"messages": GOOD[0]["messages"][::-1]}, r"the roles are \['assistant', 'user', 'system'"),
        ({"messages": []}, r"the roles are \[\], not .*; make the events again"),
        (event(2, assistant=" \n"), "the assistant's message is empty; leave that pair out"),
        (event(2, system=""), "the system's message is empty"),
        (event(2, user="why " * 70_000), "about 70,0.. tokens, and 65,536 are the most; retrieve"),
    ],
)
def test_a_line_that_no_service_takes_is_named(broken, why):
    with pytest.raises(EventError, match=f"train.jsonl line 3: {why}"):
        checked(train=[*GOOD[:2], broken, *GOOD[3:]])
    with pytest.raises(EventError, match=f"held.jsonl line 1: {why}"):
        checked(validation=[broken])


def test_too_few_events_are_refused():
    with pytest.raises(EventError, match="train.jsonl: 9 events, and 10 are needed; judge more"):
        checked(GOOD[:9])
    with pytest.raises(EventError, match="held.jsonl: 0 events, and 1 are needed"):
        checked(validation=[])


def test_a_prompt_in_both_files_is_refused():
    twin = event(4, assistant="[[B]]")
    with pytest.raises(
        EventError, match="held.jsonl line 2: the prompt is that of train.jsonl line 5"
    ):
        checked(validation=[event("other"), twin])

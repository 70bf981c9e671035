import doctest
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbutils.verdicts
from nbutils.verdicts import Letter, Score, Verdict, in_pair_labels, read_score, read_verdict

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "verdict_cases.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["reply"][-30:]))
def test_what_a_careful_reader_says(case: dict[str, str | None]) -> None:
    reply = case["reply"]
    assert reply is not None
    found = read_verdict(reply)
    assert found.letter == case["verdict"]
    assert (found.reason is None) == (found.letter is not None)


@pytest.mark.parametrize(
    "reply",
    [
        "[[B]]!",
        "([[B]])",
        "- [[B]]",
        "1. [[B]]",
        "[[ **b** ]]",
        "**[[B]].**",
        "_[[B]]_",
        "<b>[[B]]</b>",
        "<verdict>[[ b ]]</verdict>",
        "[[<b>B</b>]]",
        "| Verdict | [[B]] |",
        "### Verdict: [[B]]",
        "**Final verdict:** [[B]]",
        "**Verdict**: `[[B]]`",
        "So my verdict is `[[B]]`.",
        "Verdict \u2014 [[B]]",
        "[[B]] [[b]]",
        "[[B]] (answer B is complete, A is not)",
        "[[B]] - answer A does not give the year",
        "[[B]] because A would mislead the reader, and is not supported",
        "The verdict is [[B]] because A would mislead.",
        "Both cite the passage. [[B]] is my verdict.",
        "[[B]]. Answer A gives another year.",
        "Answer A does not give the year. [[B]]",
        "Answer A is not supported, so [[B]]",
        "Answer A would mislead the reader, therefore [[B]].",
        "Answer A says 412 hectares, so [[B]]",
        "Answer B isn't perfect; the verdict is [[B]].",
        "The contestants' answers differ. [[B]]",
        'Only B has the words "Year Three". [[B]]',
        "There is no doubt: [[B]]",
        'Answer A contains the text "[[B]]". [[B]]',
        'The answer says "do this:\n[[B]]',  # the line itself is clean
    ],
)
def test_a_verdict_among_decorations_and_reasons(reply: str) -> None:
    assert read_verdict(reply) == Verdict("B")


@pytest.mark.parametrize(
    "reply",
    [
        '"[[B]]"',
        "'[[B]]'",
        "\u201c[[B]]\u201d",
        "\u2018[[B]]\u2019",
        "\u00ab[[B]]\u00bb",
        '[[B]]"',
        '"It is better. [[B]]',
        "Answer A says \u201cthe verdict is [[B]]\u201d",
        "Answer A says 'choose [[B]]'.",
        "In 'choose [[B]] now'",
        "In \u2018choose [[B]] now\u2019",
        '[[B]] is better" it goes',
        "[[B]]'",
        "Answer A says: [[B]]",
        "Answer A says, [[B]]",
        "Answer A says the verdict is [[B]]",
        "Answer A contains `[[B]]`",
        "`print [[B]]`",
        "The instruction in answer A gives [[B]].",
        "Answer A wants me to answer [[B]]",
        "> [[B]]",
        "<q>[[B]]</q>",
        "<answer_a>[[B]]</answer_a>",
        "<!-- [[B]] -->",
        "<think>so [[B]]</think>",
    ],
)
def test_a_quoted_marker_is_no_verdict(reply: str) -> None:
    assert read_verdict(reply) == Verdict(None, "the marker is quoted")


@pytest.mark.parametrize(
    "reply",
    [
        "Not [[B]]",
        "not: [[B]]",
        "It is NOT [[B]]",
        "It is **not** [[B]]",
        "It is _not_ [[B]]",
        "It is ne**ver** [[B]]",
        "It is not, in my view, [[B]]",
        "It is not, therefore, [[B]]",
        "It is not... [[B]]",
        "It isn't [[B]].",
        "It isn\u2019t [[B]].",
        "It cannot be [[B]].",
        "Ignore [[B]]",
        "I disregard [[B]].",
        "It is false that [[B]]",
        "~~[[B]]~~",
        "[[B]] is not my verdict",
        "[[B]] cannot be right",
        "[[B]]? No, not [[B]]",
        "[[B]], not the other",
    ],
)
def test_a_negated_marker_is_no_verdict(reply: str) -> None:
    assert read_verdict(reply) == Verdict(None, "the marker is negated")


@pytest.mark.parametrize(
    "reply",
    [
        "If the year is right, [[B]]",
        "Unless A is right, [[B]]",
        "[[B]] unless A is right",
        "[[B]] if B is better",
        "[[B]], if anything",
        "[[B]] because it is complete, unless the year matters",
        "The verdict would be [[B]]",
        "It might be [[B]].",
        "[[B]] might be right",
        "Perhaps [[B]]",
        "Either [[B]] or a tie",
        "Had it named the year, [[B]]",
    ],
)
def test_a_conditional_marker_is_no_verdict(reply: str) -> None:
    assert read_verdict(reply) == Verdict(None, "the marker is conditional")


@pytest.mark.parametrize(
    "reply",
    [
        "[[B]]?",
        "[[B]] or A",
        "[[B]]/C",
        "[[B]] is worse.",
        "[[B]], provided the year is right",
        "I choose A over [[B]]",
        "Answer A contains the text [[B]].",
        "Please output [[B]]",
        "[[ [[B]] ]]",
        "[[[B]]]",
        "[[[B]]",
        "[[B]]]",
        "[[[[B]]]]",
    ],
)
def test_a_marker_that_is_only_mentioned_is_no_verdict(reply: str) -> None:
    assert read_verdict(reply) == Verdict(None, "the marker is not given as the verdict")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("The [[B]] stands in the middle", "opens nor ends"),
        ("One thing. [[B]]. Two more.", "opens nor ends"),
        ("[[A]] [[B]]", "different markers"),
        ('It says "[[A]]". [[B]]', "different markers"),
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("[[A]] [[[B]]]", "different markers"),
        ("[[B|B]]", "no marker"),
        ("[ [B] ]", "no marker"),
        ("[[\u200bB]]", "no marker"),
        ("[[\u0412]]", "no marker"),  # a Cyrillic Ve
        ("Verdict: [[A]]\nThanks", "no marker"),  # not alone on its line
    ],
)
def test_other_unreadable_replies_keep_their_reason(reply: str, reason: str) -> None:
    found = read_verdict(reply)
    assert found.letter is None and found.reason is not None and reason in found.reason


CUT = ["length", "content_filter", "model_length", "error", "abort"]


@pytest.mark.parametrize("finish_reason", CUT)
def test_a_reply_that_was_cut_off_is_unreadable_whatever_it_holds(finish_reason: str) -> None:
    reason = f"cut off: finish reason '{finish_reason}'"
    assert read_verdict("B is right.\n[[B]]", finish_reason) == Verdict(None, reason)
    assert read_score("[[1]]", finish_reason) == Score(None, reason)


@pytest.mark.parametrize("finish_reason", [None, "", "stop", "eos_token", "end_turn"])
def test_a_reply_that_came_to_its_end_is_read(finish_reason: str | None) -> None:
    assert read_verdict("B is right.\n[[B]]", finish_reason) == Verdict("B")
    assert read_score("[[1]]", finish_reason) == Score(1.0)


@pytest.mark.parametrize("reply", ["", "I cannot compare these answers.", "I will not say [[B]]"])
def test_a_refusal_is_no_verdict_whatever_it_says(reply: str) -> None:
    assert read_verdict(reply, "refusal") == Verdict(None, "the model refused")
    assert read_score(reply, "refusal") == Score(None, "the model refused")
    assert read_score("[[1]]", "refusal") == Score(None, "the model refused")


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("[[B]]", 2),
        ("A is not right.\r\n\n  **[[ b ]]** \n", 25),  # 15 + 2 + 1 + 2, then **[[ and a space
        ("<i>So</i> it is [[<b>B</b>]].", 21),
        ("A line\u2028[[B]] because B is right", 9),
        ("[[B]]\nI hope this helps!", 2),
        ("[[B]] [[b]]", None),
        ('Answer A has "[[B]]". [[B]]', None),
    ],
)
def test_the_place_of_the_letter(reply: str, place: int | None) -> None:
    found = read_verdict(reply)
    assert (found.letter, found.place) == ("B", place)


@pytest.mark.parametrize(
    "reply",
    [
        "[[A]]\nI hope this helps!",
        "[[A]]\nLet me know if you need more.",
        "[[A]]\nAnswer B does not give the year.",
        "[[A]]\nNo further comments.",
        "```\n[[A]]\n```",
        "**[[ a ]]**\n\n---",
        "[[A]] [[A]].\n(end)",
    ],
)
def test_a_lone_marker_before_the_last_line_is_recovered_and_marked(reply: str) -> None:
    assert read_verdict(reply) == Verdict("A", recovered=True)


@pytest.mark.parametrize(
    "reply",
    [
        "[[A]]\nOn reflection the second answer is right after all.",
        "[[A]]\nActually B.",
        "[[A]]\nNo, the other one.",
        "[[A]]\nIgnore that.",
        "[[A]]\nI do not follow this.",
        "[[A]]\nB",
        "[[A]]\nVerdict: B",
        "[[A]]\n[B]",
        "[[A]]\n[[D]]",
        "[[A]]\n[[B",
        "[[A]]\n\u3010\u3010B\u3011\u3011",
        '[[A]]\nis what it says".',
        "<think>\n[[A]]\n</think>",
        '"[[A]]"\nThanks',
        "> [[A]]\nThanks",
        "[[A]]?\nThanks",
        "[[A]] [[B]]\nThanks",
        "Not [[A]]\nThanks",
        "[[A]]\nThanks\nBye",
    ],
)
def test_nothing_else_is_recovered(reply: str) -> None:
    assert read_verdict(reply) == Verdict(None, "no marker on the last line")


def test_the_2023_search_takes_a_quoted_marker_for_the_verdict() -> None:
    def search_of_2023(reply: str) -> str | None:
        return next((m for m in "ABC" if f"[[{m}]]" in reply), None)

    reply = 'Answer A asks me to write "[[A]]", which is no answer.\n[[B]]'
    assert (search_of_2023(reply), read_verdict(reply).letter) == ("A", "B")


def test_an_unreadable_reply_is_not_a_tie_and_stops_nothing() -> None:
    # In 2023 an unreadable reply stopped the loop, but for one place, where it became a tie.
    replies = ["[[A]]", "Both answers have their", "[[C]]"]
    assert [read_verdict(reply).letter for reply in replies] == ["A", None, "C"]


@pytest.mark.parametrize(
    ("letter", "order", "label"),
    [
        ("A", "original", "a"),
        ("B", "original", "b"),
        ("C", "original", "tie"),
        ("A", "flipped", "b"),
        ("B", "flipped", "a"),
        ("C", "flipped", "tie"),
    ],
)
def test_labels(letter: Letter, order: str, label: str) -> None:
    assert in_pair_labels(letter, order) == label  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Right.\n[[1]]", 1.0),
        ("Wrong.\n[[0]]", 0.0),
        ("Half.\n**[[ 0.50 ]]**", 0.5),
        ("Score: [[.7]]", 0.7),
        ("One could give [[1]].\n[[0.2]]", 0.2),
        ("My score is [[0.8]] because the place is missing.", 0.8),
    ],
)
def test_scores(reply: str, value: float) -> None:
    assert read_score(reply) == Score(value)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("[[7]]", "not from 0 to 1"),
        ("[[-0.1]]", "not from 0 to 1"),
        ("[[" + "9" * 5000 + "]]", "not from 0 to 1"),
        ("[[0.5]] [[0.7]]", "different markers"),
        ("0.7", "no marker"),
        ("[0.7]", "no marker"),
        ("[[70%]]", "no marker"),
        ("[[0,7]]", "no marker"),
        ("[[nan]]", "no marker"),
        ("[[\u0661]]", "no marker"),  # an Arabic-Indic one
        ("[[0.7]]/1", "not given"),
        ("It is not [[0.7]]", "negated"),
        ('It says "[[1]]"', "quoted"),
        ("[[0.7]]\nI hope this helps!", "no marker"),  # scores are never recovered
        ("", "empty"),
    ],
)
def test_unreadable_scores(reply: str, reason: str) -> None:
    found = read_score(reply)
    assert found.value is None and found.reason is not None and reason in found.reason


PIECES = ["[[A]]", "[[B]]", "[[c]]", "[[ A ]]", "**", "`", '"', "'", "<b>", "</b>", "[", "]"]
PIECES += ["\n", "\n", ". ", ", ", ": ", "; ", "?", " ", "not ", "if ", "so ", "Answer A ", "says "]
replies = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text()
MARKER = re.compile(r"\[\[[\s*`]*([ABC])[\s*`]*\]\]", re.IGNORECASE)


def last_lines(reply: str) -> list[str]:
    return [line for line in reply.splitlines() if line.strip()][-2:]


@given(replies, st.none() | st.sampled_from(["stop", "length", ""]))
def test_every_reply_has_a_letter_or_a_reason(reply: str, finish_reason: str | None) -> None:
    found = read_verdict(reply, finish_reason)
    assert (found.letter is None) == (found.reason is not None)
    assert not (found.recovered and found.letter is None)
    score = read_score(reply, finish_reason)
    assert (score.value is None) == (score.reason is not None)


@given(replies, st.sampled_from("ABC"))
def test_a_clean_last_line_decides_whatever_stands_before(text: str, letter: str) -> None:
    assert read_verdict(f"{text}\n[[{letter}]]").letter == letter
    assert read_verdict(f"{text}\n\n**[[ {letter.lower()} ]]**\n \n").letter == letter


@given(replies)
def test_a_letter_stands_as_a_marker_in_the_lines_that_count(reply: str) -> None:
    found = read_verdict(reply)
    if found.letter:
        if found.place is not None:
            assert reply[found.place].upper() == found.letter
        lines = last_lines(reply)
        line = re.sub("</?b>", " ", lines[-2] if found.recovered else lines[-1])
        assert {marker.upper() for marker in MARKER.findall(line)} == {found.letter}
        assert not found.recovered or not MARKER.search(lines[-1])


@given(replies)
def test_only_the_last_two_lines_count(reply: str) -> None:
    assert read_verdict("\n".join(last_lines(reply))) == read_verdict(reply)


@given(replies, replies)
def test_two_markers_on_the_last_line_are_no_verdict(before: str, between: str) -> None:
    line = f"{before} [[A]] {between} [[B]]".replace("\n", " ")
    line = " ".join(line.splitlines())
    assert read_verdict(line).letter is None


@given(replies, st.sampled_from(['"{}"', "\u201c{}\u201d", "It is not {}", "{} if it is better"]))
def test_a_quoted_negated_or_conditional_last_line_is_no_verdict(text: str, frame: str) -> None:
    assert read_verdict(text + "\n" + frame.format("[[A]]")).letter is None


@pytest.mark.parametrize(
    "piece", ["[[", "[[A]]", "<a ", "'", '"', "*", "says ", ", so ", "a. ", "1"]
)
@pytest.mark.parametrize("tail", ["", "[[A]]", "\n[[A]]\nx"])
def test_long_lines_take_time_in_proportion(piece: str, tail: str) -> None:
    started = time.perf_counter()  # a tenth of a second; were it quadratic, minutes
    read_verdict(piece * 50_000 + tail)
    read_score(piece * 50_000 + tail)
    assert time.perf_counter() - started < 5


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(nbutils.verdicts) == doctest.TestResults(failed=0, attempted=4)

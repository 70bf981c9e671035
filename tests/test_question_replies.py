import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.callpath.exchange import Reply
from nbutils.corpus.question_replies import Line, read_questions, without_label
from nbutils.profiles import DATA
from nbutils.records import load_dataset


def line(question="Who counts seals?", kind="fact", reference="Corriden", **more):
    return json.dumps({"question": question, "kind": kind, "reference": reference} | more)


def read(text, finish_reason="stop"):
    return read_questions(Reply(text, finish_reason))


def test_one_object_a_line():
    found = read(f"{line()}\n{line('Why fog?', 'why', 'Cold water.')}\n")
    assert found.rows == [
        Line("Who counts seals?", "fact", "Corriden"),
        Line("Why fog?", "why", "Cold water."),
    ]
    assert (found.broken, found.cleaned) == ([], 0)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{line()}\n```",
        f"\n\n{line()}\r\n\n",
        f"[\n  {line()},\n]",
        f"  {line()}  ,",
    ],
)
def test_what_stands_around_the_lines_is_passed_over(text):
    found = read(text)
    assert found.rows == [Line("Who counts seals?", "fact", "Corriden")]
    assert (found.broken, found.cleaned) == ([], 0)


LABELLED = [
    ("Question: Who?", "Who?"),
    ("question 3: Who?", "Who?"),
    ("Q3. Who?", "Who?"),
    ("Q:Who?", "Who?"),
    ("1. Who?", "Who?"),
    ("12) Who?", "Who?"),
    ("(2) Who?", "Who?"),
    ("**Question 1:** Who?", "Who?"),
    ("[Q1] Who?", "Who?"),
    ("Question 2 - Who?", "Who?"),
    ("1. Question: Who?", "Who?"),
    ("  2: Who?", "Who?"),
]
PLAIN = [
    "3.5 percent of what?",
    "5-year plans: who made them?",
    "12:30 is the time of what?",
    "Q fever came when?",
    "1990: what happened?",
    "Question marks are used where?",
    "What is 1. and 2. here?",
    "Quarrels: who settles them?",
]


@pytest.mark.parametrize(("labelled", "plain"), LABELLED)
def test_a_label_is_taken_off_and_counted(labelled, plain):
    found = read(line(labelled))
    assert [row.question for row in found.rows] == [plain]
    assert found.cleaned == 1


@pytest.mark.parametrize("question", PLAIN)
def test_what_is_no_label_stays(question):
    found = read(line(question))
    assert ([row.question for row in found.rows], found.cleaned) == ([question], 0)


@pytest.mark.parametrize("label", ["1. ", "- ", "* ", "Question 2: ", "3) "])
def test_a_label_before_the_object_is_taken_off_and_counted(label):
    found = read(label + line())
    assert ([row.question for row in found.rows], found.cleaned) == (["Who counts seals?"], 1)


@given(st.text(max_size=80))
def test_taking_a_label_off_twice_changes_nothing(question):
    once = without_label(question)
    assert without_label(once) == once


@pytest.mark.parametrize("text", ["q" + ")" * 100_000, "1." + "*" * 100_000, "(" * 100_000])
def test_a_long_row_of_marks_takes_no_time(text):
    start = time.monotonic()
    without_label(text)
    assert time.monotonic() - start < 1


def test_no_recorded_question_has_a_label():
    for row in load_dataset(DATA).questions:
        assert without_label(row.question) == row.question


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Here are the questions", "is no whole JSON object (Expecting value)"),
        ('{"question": "Who?", "kind": "fa', "is no whole JSON object (Unterminated string"),
        ("[1, 2]", "has no object, not question, kind, reference"),
        ('{"question": "Who?"}', "has the fields question, not question, kind, reference"),
        (line(page="3"), "has the fields question, kind, reference, page, not question"),
        (line(question=" "), "its question is ' ', not a text"),
        (line(question="Question 1:"), "its question is 'Question 1:', a label alone"),
        (line(reference=7), "its reference is 7, not a text"),
        (line(kind="how"), "its kind is 'how', not fact or why or combine"),
        (line(question="Who \ud800?"), "its question holds half a character"),
        (line()[:-1] + ', "kind": "why"}', "has a field twice"),
        ("[" * 100_000, "is nested too deep"),
        (line() + " " + line(), "is no whole JSON object (Extra data)"),
    ],
)
def test_a_broken_line_is_kept_with_its_number_and_reason(text, why):
    found = read(f"{line()}\n{text}\n{line('Why fog?')}")
    assert [row.question for row in found.rows] == ["Who counts seals?", "Why fog?"]
    [broken] = found.broken
    assert broken.line == 2 and broken.why.startswith(why) and len(broken.why) < 200
    assert text.startswith(broken.text) and len(broken.text) <= 80


def test_a_reply_that_is_cut_off_keeps_its_whole_lines():
    found = read(f'{line()}\n{line("Why fog?")}\n{{"question": "Where', "length")
    assert len(found.rows) == 2
    [broken] = found.broken
    assert (broken.line, broken.why) == (3, "is cut off at the reply's token limit: raise it")


def test_a_reply_cut_off_after_a_whole_line_has_nothing_broken():
    assert read(line(), "length").broken == []


def test_an_empty_reply_has_neither_rows_nor_broken_lines():
    found = read("")
    assert (found.rows, found.broken) == ([], [])


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    found = read(text)
    # Each line is passed over, a question or broken; the last two are counted.
    assert len(found.rows) + len(found.broken) <= text.count("\n") + 1


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=4))
def test_every_well_formed_line_comes_back(references):
    found = read(
        "\n".join(line(f"Who is {n} of them?", reference=r) for n, r in enumerate(references))
    )
    assert [row.reference for row in found.rows] == references

from dataclasses import replace

import pytest

from nbutils.review.reveal import reveal_html, said_text
from tests.reviewed import answer_item, pair_item
from tests.shown import grade, judged, label, text


def test_what_is_revealed_of_a_pair():
    item = judged(pair_item(student="a"), flipped="tie", reply="why")
    item = replace(
        item,
        student=replace(item.student, target=(0.25, 0.7, 0.05)),
        answer_b=replace(item.answer_b, error="12 instead of 3"),
    )
    found = text(reveal_html(item, label(item, "b")))
    assert found.startswith("You: B. Teacher: A: you overrule it. Student: A.")
    assert "teacher, original orderAwhy [[A]]" in found
    # the flipped reply speaks of A and B as the teacher saw them; the verdict is in our labels
    assert "teacher, flipped order(B was shown first: its “A” is your B)tiewhy [[B]]" in found
    assert "studentAA 25% B 70% tie 5%" in found
    assert found.endswith("B was given an error: 12 instead of 3")


@pytest.mark.parametrize(
    ("teacher", "said", "line"),
    [
        ("a", "a", "You: A. Teacher: A."),
        ("conflict", "a", "You: A. Teacher: conflict."),  # decides nothing, so nothing to overrule
        ("a", "can't tell", "You: can't tell. Teacher: A."),
        ("tie", None, "Teacher: tie."),
        (None, None, "No judge has seen this yet."),
    ],
)
def test_the_line_of_words(teacher, said, line):
    item = pair_item(teacher=teacher)
    assert text(reveal_html(item, said and label(item, said))) == line


def test_an_order_that_could_not_be_read_says_why():
    item = judged(pair_item(teacher="unreadable"), flipped=None, reply="so")
    found = text(reveal_html(item, None))
    assert "unreadableso [[B]]no marker" in found


def test_what_is_revealed_of_an_answer():
    item = answer_item(teacher=0.9, student=0.734)
    found = text(reveal_html(item, grade(item, 0.4, False)))
    line = "You: 0.4, not acceptable. Teacher: 0.90: you overrule it. Student: 0.73."
    assert found == f"{line}teacher0.90reply"
    unread = answer_item(teacher=None)
    assert text(reveal_html(unread, None)) == "Teacher: unreadable.teacherunreadablereplyno score"
    assert said_text(grade(item, 1.0, True)) == "1.0, acceptable"

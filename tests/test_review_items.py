from dataclasses import replace

import pytest

from nbutils.records import Answer, Grade, Judgement, Pair, Resolution
from nbutils.review.items import AnswerItem, PairItem
from nbutils.review.labels import HumanGrade, HumanLabel, answer_fingerprint, pair_fingerprint
from nbutils.review.session import ReviewError, answer_items, pair_items
from tests.reviewed import answer_item, pair_item, question

A = Resolution("p0", "student", "a", target=(0.7, 0.2, 0.1))
PRINT, TIME = "0123456789abcdef", "2026-01-31T08:15:00Z"


def label(act: str) -> HumanLabel:
    return HumanLabel("p0", PRINT, act, 1.0, "", True, True, TIME)


def grade(score: float | None) -> HumanGrade:
    act = "can't tell" if score is None else "grade"
    accepted = None if score is None else True
    return HumanGrade("q0", "small", PRINT, act, score, accepted, 1.0, "", True, True, TIME)


def judged(order: str) -> Judgement:
    return Judgement("p1", order, "teacher", "pairwise-v1:0", "[[A]]", "a")


QUESTIONS = [question(1), question(2, "train")]
ANSWERS = [Answer(q, by, f"{q} {by}") for q in ("q1", "q2") for by in ("small", "large")]
PAIRS = [Pair("p2", "train", "q2", "small", "large"), Pair("p1", "test", "q1", "large", "small")]


def test_a_pair_is_put_together_from_the_files_of_a_run() -> None:
    teacher = Resolution("p1", "teacher", "a")
    rows = [judged("flipped"), judged("original")]
    second, first = pair_items(PAIRS, QUESTIONS, ANSWERS, rows, [teacher], {"p2": A})
    assert (second.item_id, first.item_id) == ("p2", "p1")  # in the pairs' order
    assert (first.split, first.answerers) == ("test", "large vs small")
    assert (second.split, second.answerers) == ("train", "large vs small")
    assert (first.answer_a.text, first.answer_b.text) == ("q1 large", "q1 small")
    assert [row.order for row in first.judgements] == ["original", "flipped"]
    assert (first.teacher, first.student) == (teacher, None)
    assert (second.judgements, second.teacher, second.student) == ((), None, A)
    assert first.fingerprint == pair_fingerprint(question(1), first.answer_a, first.answer_b)


def test_an_answer_is_put_together_too() -> None:
    given = Grade("q2", "large", "teacher", "grade-v1:0", "[[0.5]]", 0.5)
    items = answer_items(ANSWERS, QUESTIONS, [given], {("q1", "small"): 0.25})
    assert [item.item_id for item in items] == ["q1/small", "q1/large", "q2/small", "q2/large"]
    assert [item.split for item in items] == ["test", "test", "train", "train"]
    assert [item.teacher for item in items] == [None, None, None, given]
    assert [item.student for item in items] == [0.25, None, None, None]
    assert items[0].answerers == "small"
    assert items[0].fingerprint == answer_fingerprint(question(1), ANSWERS[0])


def test_files_of_two_runs_do_not_go_together() -> None:
    with pytest.raises(ReviewError, match="'q2' is named, but is not among the questions"):
        pair_items(PAIRS, QUESTIONS[:1], ANSWERS, [], [])
    with pytest.raises(ReviewError, match=r"\('q2', 'large'\) is named.*files of one run"):
        pair_items(PAIRS, QUESTIONS, ANSWERS[:3], [], [])
    with pytest.raises(ReviewError, match="'q2' is named, but is not among the questions"):
        answer_items(ANSWERS, QUESTIONS[:1], [])


def test_two_judges_are_not_the_teacher() -> None:
    twice = [Resolution("p1", name, "a") for name in ("teacher", "student")]
    with pytest.raises(ReviewError, match="1 items were judged twice; the judges are student, tea"):
        pair_items(PAIRS, QUESTIONS, ANSWERS, [], twice)
    grades = [Grade("q1", "small", n, "grade-v1:0", "[[1]]", 1.0) for n in ("teacher", "student")]
    with pytest.raises(ReviewError, match="1 items were judged twice; the judges are student, tea"):
        answer_items(ANSWERS, QUESTIONS, grades)


@pytest.mark.parametrize(
    ("item", "traits"),
    [
        (pair_item(teacher=None, student="b"), set()),
        (pair_item(teacher="tie"), {"tie"}),
        (pair_item(teacher=replace(A, leaning=True)), {"a", "leaning"}),
        (pair_item(teacher="a", student="a"), {"a"}),
        (pair_item(teacher="a", student="tie"), {"a", "teacher and student disagree"}),
        (pair_item(teacher="conflict", student="a"), {"conflict"}),  # only one of them decides
        (pair_item(teacher="b", student="unreadable"), {"b"}),
        (answer_item(teacher=0.5, student=0.7), set()),
        (answer_item(teacher=0.5, student=0.75), {"teacher and student disagree"}),
        (answer_item(teacher=None, student=0.75), {"unreadable"}),
    ],
)
def test_what_an_item_can_be_filtered_by(item: PairItem | AnswerItem, traits: set[str]) -> None:
    assert item.traits == traits
    assert traits <= {*item.kinds}


@pytest.mark.parametrize(
    ("item", "distance"),
    [
        (pair_item(teacher="b", student=A), (1, 0.8)),  # 1 - 0.2
        (pair_item(teacher="tie", student=A), (1, 0.9)),
        (pair_item(teacher="conflict", student=A), (1, 1.0)),
        (pair_item(teacher=None, student=A), (1, 1.0)),
        (pair_item(teacher="b", student="b"), (1, 0.0)),  # without probabilities
        (pair_item(teacher="b", student="tie"), (1, 1.0)),
        (pair_item(teacher="conflict"), (0, 3.0)),
        (pair_item(teacher="unreadable"), (0, 2.0)),
        (pair_item(teacher=replace(A, leaning=True)), (0, 1.0)),
        (pair_item(teacher="a"), (0, 0.0)),
        (pair_item(teacher=None), (0, 0.0)),
        (answer_item(teacher=0.25, student=0.75), (1, 0.5)),
        (answer_item(teacher=None, student=0.75), (1, 1.0)),
        (answer_item(teacher=None), (0, 1.0)),
        (answer_item(teacher=0.25), (0, 0.0)),
    ],
)
def test_how_far_apart_the_judges_are(item: PairItem, distance: tuple[int, float]) -> None:
    assert item.distance == pytest.approx(distance)


def test_how_sure_the_student_is() -> None:
    assert pair_item(student=A).sureness == 0.7
    assert pair_item(student="a").sureness is None
    assert pair_item().sureness is None
    assert answer_item(student=0.25).sureness == 0.25
    assert answer_item().sureness is None


def test_overruled_is_where_both_decided_and_not_alike() -> None:
    assert pair_item(teacher="a").overruled_by(label("tie"))
    assert not pair_item(teacher="a").overruled_by(label("a"))
    assert not pair_item(teacher="a").overruled_by(label("can't tell"))
    assert not pair_item(teacher="conflict").overruled_by(label("a"))
    assert not pair_item(teacher=None).overruled_by(label("a"))
    assert answer_item(teacher=0.5).overruled_by(grade(0.25))
    assert not answer_item(teacher=0.5).overruled_by(grade(0.3))
    assert not answer_item(teacher=0.5).overruled_by(grade(None))
    assert not answer_item(teacher=None).overruled_by(grade(0.3))

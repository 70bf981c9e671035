import numpy as np
import pytest
import torch

from nbutils.grading.frozen import frozen, project, read_answers
from nbutils.grading.graded import GradingError
from nbutils.records import Answer, Pair, Resolution
from nbutils.scoring.backbone import Group
from tests import rows
from tests.tiny import random_student

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = [rows.question("q1"), rows.question("q2")]
ANSWERS = [
    Answer("q1", "x", "gull lamp"),
    Answer("q1", "y", "tern rope"),
    Answer("q2", "x", "ice"),
    Answer("q2", "same", "ice"),
]


@pytest.mark.parametrize("kind", ["probe", "lora"])
def test_one_pass_gives_the_features_and_the_student_s_scores(tiny, kind):
    student = random_student(tiny, kind)
    features, scores = read_answers(student, QUESTIONS, ANSWERS)
    assert list(features) == list(scores) == [(row.question_id, row.answerer) for row in ANSWERS]
    for question in QUESTIONS:
        own = [row for row in ANSWERS if row.question_id == question.question_id]
        texts = tuple(row.text for row in own)
        group = Group(question.question, question.source, texts)
        expected = student.scores(group)
        assert [scores[question.question_id, row.answerer] for row in own] == expected
        alone = student.read(group).features
        found = torch.stack([features[question.question_id, row.answerer] for row in own])
        assert torch.allclose(found, alone, atol=1e-4)


def test_answers_of_one_text_are_read_once_and_alike(tiny):
    features, scores = read_answers(random_student(tiny), QUESTIONS, ANSWERS)
    assert torch.equal(features["q2", "x"], features["q2", "same"])
    assert scores["q2", "x"] == scores["q2", "same"]


def test_a_question_can_be_scored_by_one_member(tiny):
    student = random_student(tiny)
    _, found = read_answers(student, QUESTIONS, ANSWERS, {"q1": 2, "q2": 0})
    for question_id, member in (("q1", 2), ("q2", 0)):
        other = random_student(tiny)
        other.heads[:] = student.heads[member]  # a committee of that member alone
        _, alone = read_answers(other, QUESTIONS, ANSWERS)
        for answer in ANSWERS:
            if answer.question_id == question_id:
                key = (question_id, answer.answerer)
                assert found[key] == pytest.approx(alone[key], abs=1e-5)


def test_a_question_without_answers_is_passed_over(tiny):
    features, _ = read_answers(random_student(tiny), QUESTIONS, ANSWERS[:2])
    assert set(features) == {("q1", "x"), ("q1", "y")}


FEATURES = {
    ("q2", "y"): torch.tensor([5.0, 6.0]),
    ("q1", "x"): torch.tensor([1.0, 2.0]),
    ("q1", "y"): torch.tensor([3.0, 4.0]),
    ("q2", "x"): torch.tensor([7.0, 8.0]),
    ("elsewhere", "x"): torch.tensor([9.0, 9.0]),
}
PAIRS = [
    Pair("p1", "train", "q1", "y", "x"),
    Pair("p2", "train", "q2", "x", "y"),
    Pair("p3", "train", "q2", "y", "x"),
]
RESOLUTIONS = [
    Resolution("p2", "t", "conflict", target=(0.475, 0.475, 0.05)),
    Resolution("p1", "t", "b", target=(0.1, 0.8, 0.1)),
    Resolution("p3", "t", "unreadable"),
]
GRADES = [
    rows.grade("q2", "x", 0.3),
    rows.grade("q1", "x", None),
    rows.grade("q1", "y", 0.9),
    rows.grade("elsewhere", "x", 1.0),
]


def test_what_the_teacher_said_becomes_arrays():
    found = frozen(QUESTIONS, FEATURES, GRADES, PAIRS, RESOLUTIONS)
    assert found.keys == (("q1", "x"), ("q1", "y"), ("q2", "y"), ("q2", "x"))
    assert found.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert found.asked.tolist() == [0, 0, 1, 1]
    # The unreadable grade stays out, and that of another question.
    assert (found.graded.tolist(), found.scores.tolist()) == ([3, 1], [0.3, 0.9])
    assert found.graded_question.tolist() == [1, 0]
    # The unreadable pair stays out; the conflict has a target and no verdict.
    assert found.ends.tolist() == [[1, 0], [3, 2]]
    assert found.verdicts.tolist() == [1, -1]
    assert found.targets.tolist() == [[0.1, 0.8, 0.1], [0.475, 0.475, 0.05]]
    assert found.pair_question.tolist() == [0, 1]


def test_questions_without_features_stay_out():
    only = {key: value for key, value in FEATURES.items() if key[0] == "q2"}
    found = frozen(QUESTIONS, only, GRADES[:1], PAIRS[1:], RESOLUTIONS)
    assert [row.question_id for row in found.questions] == ["q2"]
    assert found.asked.tolist() == [0, 0]


def test_without_grades_and_pairs_the_arrays_are_empty():
    found = frozen(QUESTIONS, FEATURES, [], [], [])
    assert (found.graded.shape, found.ends.shape, found.targets.shape) == ((0,), (0, 2), (0, 3))


def test_what_has_no_features_is_named():
    with pytest.raises(GradingError, match="none of 2 questions has an answer with features"):
        frozen(QUESTIONS, {}, [], [], [])
    lacking = {key: value for key, value in FEATURES.items() if key != ("q2", "x")}
    with pytest.raises(GradingError, match=r"\('q2', 'x'\) has no features; read that answer"):
        frozen(QUESTIONS, lacking, GRADES, [], [])
    with pytest.raises(GradingError, match=r"\('q2', 'x'\) has no features"):
        frozen(QUESTIONS, lacking, [], PAIRS, RESOLUTIONS)


def test_the_projection_keeps_every_distance_between_training_answers():
    train, test = rows.drawn(seed=1, width=200), rows.drawn(seed=2, width=200)
    near, far = project(train, test)
    assert near.features.shape == (72, 72)  # as many dimensions as answers, of 200
    mean, scale = train.features.mean(0), train.features.std(0, ddof=1) + 1e-3
    for projected, whole in ((near, train), (far, test)):
        standard = (whole.features - mean) / scale
        against = ((train.features - mean) / scale).T
        # The product of any answer with a training answer is all that a ridge head can see.
        assert projected.features @ near.features.T == pytest.approx(standard @ against, abs=1e-8)
    assert near.keys == train.keys and np.array_equal(near.ends, train.ends)


def test_fewer_features_than_answers_stay_as_many():
    (near,) = project(rows.drawn(width=3))
    assert near.features.shape == (72, 3)

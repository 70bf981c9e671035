from math import exp, log

import numpy as np
import pytest

from nbutils.grading import choosing, grader
from nbutils.grading.grade_measures import Mark
from nbutils.grading.grader import Grader
from nbutils.grading.heads import Head, targets
from nbutils.scoring.student import Calibration, Student
from tests import rows
from tests.tiny import random_student

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_calibrated_student_grades_by_its_curve(tiny) -> None:
    student: Student = random_student(tiny)
    student.calibration = Calibration(1.0, -1.0, 2.0, -0.5)
    found = grader.calibrated(student, {("q", "x"): 1.5, ("q", "y"): 0.9}, 0.8)
    # 1 / (1 + exp(-(-0.5 + 2 * 1.5))) = 1 / (1 + exp(-2.5)) = 0.9241; exp(-1.3): 0.7858
    assert found.marks["q", "x"] == Mark(True, 1.5, pytest.approx(1 / (1 + exp(-2.5))))
    assert found.marks["q", "y"] == Mark(False, 0.9, pytest.approx(0.7858, abs=1e-4))
    assert found.name == grader.CALIBRATED


def test_the_committee_s_logit_is_the_members_mean() -> None:
    test = rows.frozen([[1], [-1], [0]], [0, 0, 0], [0.9, None, None])
    heads = (Head(np.array([2.0]), 0.5, -1.0), Head(np.array([1.0]), -0.5, -1.0))
    mine = Grader(heads, 0.8, 0.1)
    # answer 0: (2 + 0.5 + 1 - 0.5) / 2 = 1.5; answer 1: (-2 + 0.5 - 1 - 0.5) / 2; answer 2: 0
    assert mine.logits(test).tolist() == [1.5, -1.5, 0]
    marks = mine.judge(test).marks
    first, second, third = (marks["q0", f"w{place}"] for place in range(3))
    assert first.acceptable and not second.acceptable and not third.acceptable  # 1/2 is not above
    assert first.chance == pytest.approx(1 / (1 + exp(-1.5)))
    # P = 0.81757; without the smoothing 0.5 + 0.31757 / 0.9 = 0.85286;
    # 0.8 + 0.1 * log(0.85286 / 0.14714) = 0.9757
    inside = 0.5 + (1 / (1 + exp(-1.5)) - 0.5) / 0.9
    assert first.grade == pytest.approx(0.8 + 0.1 * log(inside / (1 - inside)))
    assert third.grade == pytest.approx(0.8)
    assert (first.rank, second.rank) == (1.5, -1.5)


def test_the_class_a_grade_and_a_chance_give_is_one() -> None:
    train, test = rows.drawn(24, seed=1), rows.drawn(24, seed=2)
    mine, _ = grader.fit_grader(train, 0.6, 0.2, 0.1, seed=0)
    for mark in mine.judge(test).marks.values():
        assert mark.acceptable == (mark.chance > 0.5) == (mark.rank > 0) == (mark.grade > 0.6)


def test_a_taught_grader_learns_what_makes_an_answer_good() -> None:
    train, test = rows.drawn(40, seed=1), rows.drawn(40, seed=2)
    mine, held_out = grader.fit_grader(train, 0.6, 0.2, 0.01, seed=0)
    right = (mine.logits(test)[test.graded] > 0) == (test.scores > 0.6)
    assert right.mean() > 0.8  # the scores have noise
    assert ((held_out > 0) == (train.scores > 0.6)).mean() > 0.8


def test_its_held_out_logits_are_those_of_the_cross_fit() -> None:
    train = rows.drawn(24)
    mine, held_out = grader.fit_grader(train, 0.8, 0.1, 0.1, seed=2)
    taught = targets(train, 1.0, 0.8, 0.5, 0.1)
    found, fold = choosing.cross_fit(train, taught, 0.1, 2)
    assert held_out.tolist() == choosing.held_out_logits(train, found, fold)[0].tolist()
    assert len(mine.heads) == choosing.FOLDS
    assert (mine.threshold, mine.tau) == (0.8, 0.1)

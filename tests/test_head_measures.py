from math import exp, log

import numpy as np
import pytest

from nbutils.grading.head_measures import measure_grades, measure_pairs
from nbutils.grading.heads import Head
from tests import rows

ONCE = np.ones((1, 2))


def test_grades_by_hand() -> None:
    # Logits 0.4, -1 and 1 against good, bad and bad at 0.8.
    test = rows.frozen([[0.4], [-1], [1]], [0, 0, 1], [0.9, 0.1, 0.2])
    head = Head(np.array([1.0]), 0.0, -1.0)
    found = measure_grades(head, test, 0.8, 0.1, ONCE)
    assert found["agreement"] == pytest.approx([2 / 3])
    assert found["AUROC"] == pytest.approx([1 / 2])  # above -1, below 1
    # chances .5987, .2689, .7311, each in a bin: (.4013 + .2689 + .7311) / 3
    assert found["calibration error"] == pytest.approx([(0.4013 + 0.2689 + 0.7311) / 3], abs=1e-4)
    # Weight 3 on question 0 and 0 on question 1: both of its answers are right.
    assert measure_grades(head, test, 0.8, 0.1, np.array([[3.0, 0]]))["agreement"].tolist() == [1]


def test_kl_of_grades_by_hand() -> None:
    # score 0.9, tau 0.1: p = 0.5 + 0.9 * (0.73106 - 0.5) = 0.70795; the head says 1/2
    test = rows.frozen([[0]], [0], [0.9])
    p = 0.5 + 0.9 * (1 / (1 + exp(-1)) - 0.5)
    found = measure_grades(Head(np.array([1.0]), 0.0, -1.0), test, 0.8, 0.1, np.ones((1, 1)))
    assert found["KL"] == pytest.approx([p * log(2 * p) + (1 - p) * log(2 * (1 - p))])


# question 0: answers of scores 1 and 0; question 1: of 2 and 2
PAIRS = [
    (0, 1, 0, (0.9, 0.05, 0.05)),  # a, and a has the higher score
    (1, 0, 0, (0.9, 0.05, 0.05)),  # a, but b has it
    (0, 1, -1, (0.475, 0.475, 0.05)),  # a conflict
    (2, 3, 2, (0.05, 0.05, 0.9)),  # a tie of equal scores
    (2, 3, 1, (0.05, 0.9, 0.05)),  # b, of equal scores: half a credit
]
TEST = rows.frozen([[1], [0], [2], [2]], [0, 0, 1, 1], [None] * 4, PAIRS)


def test_pairs_by_hand() -> None:
    found = measure_pairs(Head(np.array([1.0]), 0.0, -1.0), TEST, ONCE)
    assert found["agreement"] == pytest.approx([2 / 5])  # the first and the tie
    # preferred: the first (1), the second (0), the last (1/2); the conflict and the tie have none
    assert found["preference"] == pytest.approx([1.5 / 3])
    by_question = measure_pairs(Head(np.array([1.0]), 0.0, -1.0), TEST, np.array([[0.0, 1]]))
    assert by_question["agreement"].tolist() == [0.5]
    assert by_question["preference"].tolist() == [0.5]


def test_kl_and_calibration_of_pairs_by_hand() -> None:
    test = rows.frozen([[1], [0]], [0, 0], [None] * 2, PAIRS[:1])
    found = measure_pairs(Head(np.array([1.0]), 0.0, -1.0), test, np.ones((1, 1)))
    # logits 1, 0, 0.5 - 1: e, 1, e^-0.5 over their sum 4.3248: .62854, .23122, .14024
    shares = np.array([exp(1), 1, exp(-0.5)]) / (exp(1) + 1 + exp(-0.5))
    assert found["calibration error"] == pytest.approx([1 - shares[0]])  # sure .62854, and right
    target = np.array([0.9, 0.05, 0.05])
    assert found["KL"] == pytest.approx([(target * np.log(target / shares)).sum()])
    # 0.9 * 0.3590 - 0.05 * 1.5313 - 0.05 * 1.0313
    assert found["KL"] == pytest.approx([0.1950], abs=1e-4)


def test_a_tie_that_is_likelier_is_said() -> None:
    test = rows.frozen([[1], [0]], [0, 0], [None] * 2, [(0, 1, 2, (0.05, 0.05, 0.9))])
    assert measure_pairs(Head(np.array([1.0]), 0.0, 5.0), test, np.ones((1, 1)))["agreement"] == 1

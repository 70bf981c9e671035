import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)

from nbutils.grading import resampling

GOOD = np.array([1.0, 1, 0, 0])
RANKS = np.array([0.9, 0.4, 0.4, 0.1])
ONCE = np.ones((1, 4))
SEVERAL = np.array([[1.0, 1, 1, 1], [2, 0, 1, 3], [0, 1, 2, 1], [1, 0, 0, 1]])


def repeated(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What weights stand for: each row as often as it counts."""
    return np.repeat(values, counts.astype(int))


def test_draws_take_whole_questions() -> None:
    questions = np.array(["q2", "q1", "q2", "q3"])
    weights = resampling.draws(questions, seed=0, resamples=500)
    assert weights.shape == (501, 4)
    assert weights[0].tolist() == [1, 1, 1, 1]  # the data as it is
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # three questions are drawn
    assert weights[1:].mean(axis=0) == pytest.approx([1, 1, 1, 1], abs=0.15)


def test_no_rows_have_draws_too() -> None:
    assert resampling.draws(np.array([]), seed=0, resamples=5).shape == (6, 0)


def test_the_seed_decides_the_draws() -> None:
    questions = np.arange(9)
    one, same, other = (resampling.draws(questions, seed, 20) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_the_span_is_the_middle_95_percent() -> None:
    assert resampling.span(np.arange(101.0)) == (2.5, 97.5)
    assert resampling.span(np.array([np.nan, 1.0, np.inf])) == (1, 1)
    assert resampling.span(np.array([np.nan])) == (None, None)


def test_mean() -> None:
    # counts 2, 0, 1, 3 of 1, 2, 3, 4: (2 + 3 + 12) / 6
    assert resampling.mean(np.array([1.0, 2, 3, 4]), SEVERAL[1:2]) == pytest.approx([17 / 6])
    assert np.isnan(resampling.mean(np.zeros(0), np.ones((1, 0))))


def test_balanced_accuracy() -> None:
    # 1 of 2 acceptable right, 2 of 2 others: (0.5 + 1) / 2; with counts 2, 0, 1, 3: 2 of 2 and 4/4
    right = np.array([1.0, 0, 1, 1])
    found = resampling.balanced_accuracy(GOOD, right, SEVERAL)
    assert found[:2] == pytest.approx([0.75, 1])
    assert np.isnan(resampling.balanced_accuracy(GOOD, right, np.array([[1.0, 1, 0, 0]])))


def test_f1() -> None:
    # said yes to rows 0 and 2; both: row 0 alone; 2 * 1 / (2 + 2) = 0.5
    said = np.array([1.0, 0, 1, 0])
    assert resampling.f1(GOOD, said, ONCE) == pytest.approx([0.5])
    # counts 2, 0, 1, 3: good 2, said 3, both 2: 4 / 5
    assert resampling.f1(GOOD, said, SEVERAL)[1] == pytest.approx(0.8)
    assert np.isnan(resampling.f1(np.zeros(4), np.zeros(4), ONCE))


def test_auroc() -> None:
    # 0.9 beats 0.4 and 0.1; 0.4 equals 0.4 (one half) and beats 0.1: 3.5 of 4
    assert resampling.auroc(GOOD, RANKS, ONCE) == pytest.approx([3.5 / 4])
    assert np.isnan(resampling.auroc(GOOD, RANKS, np.array([[1.0, 1, 0, 0]])))
    assert np.isnan(resampling.auroc(np.zeros(0), np.zeros(0), np.ones((1, 0))))


def test_average_precision() -> None:
    # first cut 0.9: recall 1/2, precision 1; second 0.4: recall 2/2, precision 2/3
    assert resampling.average_precision(GOOD, RANKS, ONCE) == pytest.approx([0.5 + 0.5 * 2 / 3])
    assert np.isnan(resampling.average_precision(np.zeros(4), RANKS, ONCE))


def test_calibration_error() -> None:
    # bin [0.9, 1]: chances 0.9, 0.9, observed 1, 0: 2/4 * |0.5 - 0.9|; bin [0.1, 0.2): 0.1, 0.1,
    # observed 0, 0: 2/4 * 0.1; in all 0.2 + 0.05
    chances, seen = np.array([0.9, 0.9, 0.1, 0.1]), np.array([1.0, 0, 0, 0])
    assert resampling.calibration_error(seen, chances, ONCE) == pytest.approx([0.25])
    # counts 2, 0, 1, 3: 2/6 * |1 - 0.9| + 4/6 * 0.1
    assert resampling.calibration_error(seen, chances, SEVERAL)[1] == pytest.approx(0.1)


def test_bins_are_of_equal_width_and_hold_their_ends() -> None:
    chances = np.array([0, 0.0999, 0.1, 0.3, 0.7, 0.95, 1])
    assert resampling.bins(chances).tolist() == [0, 0, 1, 3, 7, 9, 9]


ROWS = st.integers(2, 12).flatmap(
    lambda size: st.tuples(
        arrays(float, size, elements=st.sampled_from([0.0, 1.0])),
        arrays(float, size, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        arrays(float, (3, size), elements=st.integers(0, 3).map(float)),
    )
)


@given(ROWS)
def test_weights_are_rows_that_many_times(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Every measure of weighted rows is scikit-learn's of the rows written out."""
    good, ranks, weights = drawn
    said = (ranks > 0.4).astype(float)
    found = {
        roc_auc_score: resampling.auroc(good, ranks, weights),
        average_precision_score: resampling.average_precision(good, ranks, weights),
        f1_score: resampling.f1(good, said, weights),
        balanced_accuracy_score: resampling.balanced_accuracy(good, good == said, weights),
    }
    for number, counts in enumerate(weights):
        told, theirs = repeated(good, counts), repeated(ranks, counts)
        for measure, values in found.items():
            cut = measure in (f1_score, balanced_accuracy_score)
            if len(set(told)) == 2:
                expected = measure(told, theirs > 0.4 if cut else theirs)
                assert values[number] == pytest.approx(expected)

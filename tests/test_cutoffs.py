import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score

from nbutils.grading import cutoffs
from nbutils.grading.cutoffs import Costs
from nbutils.grading.grade_measures import Mark
from nbutils.grading.graded import GradingError

# ranks 1 (bad), 2 (good), 2 (bad), 4 (good)
GOOD, RANKS = np.array([0.0, 1, 0, 1]), np.array([1.0, 2, 2, 4])


def test_the_curve_by_hand() -> None:
    found = cutoffs.curve(GOOD, RANKS, Costs(accept_bad=3, reject_good=1))
    assert found["cut"].tolist() == [0, 1.5, 3, 4]
    assert found["accepted"].tolist() == [4, 3, 1, 0]
    # precision 2/4, 2/3, 1/1, none accepted; recall 2/2, 2/2, 1/2, 0/2
    assert found["precision"].tolist()[:3] == pytest.approx([0.5, 2 / 3, 1])
    assert math.isnan(found["precision"].iloc[3])
    assert found["recall"].tolist() == [1, 1, 0.5, 0]
    # bad accepted 2, 1, 0, 0 at 3 each; good rejected 0, 0, 1, 2 at 1 each; by 4 answers
    assert found["cost"].tolist() == [6 / 4, 3 / 4, 1 / 4, 2 / 4]


def test_the_cut_of_least_cost_goes_by_the_costs() -> None:
    assert cutoffs.cheapest(GOOD, RANKS, Costs(3, 1)) == 3
    # a good one rejected at 3, a bad one accepted at 1: 2/4, 1/4, 3/4, 6/4
    assert cutoffs.cheapest(GOOD, RANKS, Costs(1, 3)) == 1.5
    assert cutoffs.cheapest(GOOD, RANKS, Costs(100, 1)) == 3
    # rejecting costs nothing: all of 0 cost, and the highest accepts the fewest
    assert cutoffs.cheapest(GOOD, RANKS, Costs(1, 0)) == 4


def test_of_equal_cost_the_highest_cut_is_taken() -> None:
    # costs 1 and 1: 2/4, 1/4, 1/4, 2/4
    assert cutoffs.cheapest(GOOD, RANKS, Costs(1, 1)) == 3


def test_the_balanced_cut() -> None:
    # Two of each class, so as with equal costs; ranks 1 and 2 apart are all right at 1.5.
    assert cutoffs.balanced(GOOD, RANKS) == 3
    # One good at 2 among bad at 1, 1, 1, 3: of balanced accuracy (3/4 + 1) / 2 above 1.
    assert cutoffs.balanced(np.array([0.0, 0, 0, 1, 0]), np.array([1.0, 1, 1, 2, 3])) == 1.5


def test_a_balanced_cut_needs_both_classes() -> None:
    with pytest.raises(GradingError, match="0 of 2 answers are acceptable: a cut needs both"):
        cutoffs.balanced(np.zeros(2), np.array([1.0, 2]))


def test_no_answers_have_no_cut() -> None:
    with pytest.raises(GradingError, match="no answer with both a grade and a rank"):
        cutoffs.curve(np.zeros(0), np.zeros(0), Costs(1, 1))


@pytest.mark.filterwarnings("error")
def test_one_class_has_a_curve_without_recall() -> None:
    found = cutoffs.curve(np.zeros(2), np.array([1.0, 2]), Costs(1, 1))
    assert found["recall"].isna().all()
    assert cutoffs.cheapest(np.zeros(2), np.array([1.0, 2]), Costs(1, 1)) == 2  # accepts nothing


ROWS = st.integers(2, 12).flatmap(
    lambda size: st.tuples(
        arrays(float, size, elements=st.sampled_from([0.0, 1.0])),
        arrays(float, size, elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
    )
)


@given(ROWS, st.floats(0, 5), st.floats(0, 5))
def test_no_cut_at_all_costs_less(
    drawn: tuple[np.ndarray, np.ndarray], accept_bad: float, reject_good: float
) -> None:
    good, ranks = drawn
    costs = Costs(accept_bad, reject_good)

    def cost(cut: float) -> float:
        bad = ((ranks > cut) * (1 - good)).sum()
        return float(accept_bad * bad + reject_good * ((ranks <= cut) * good).sum()) / len(good)

    least = cost(cutoffs.cheapest(good, ranks, costs))
    assert all(least <= cost(cut) + 1e-9 for cut in (-2, -1, -0.5, 0, 0.2, 0.5, 1, 2, 3))
    assert cutoffs.curve(good, ranks, costs)["cost"].min() == pytest.approx(least)


@given(ROWS)
def test_the_curve_s_measures_are_scikit_learn_s(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    good, ranks = drawn
    for row in cutoffs.curve(good, ranks, Costs(1, 1)).itertuples():
        said = (ranks > row.cut).astype(float)
        assert row.accepted == said.sum()
        if said.any():
            assert row.precision == pytest.approx(precision_score(good, said))
        if good.any():
            assert row.recall == pytest.approx(recall_score(good, said))
    if 0 < good.sum() < len(good):
        cut = cutoffs.balanced(good, ranks)
        best = max(balanced_accuracy_score(good, ranks > other) for other in (-2, -1, 0, 0.5, 2))
        assert balanced_accuracy_score(good, ranks > cut) == pytest.approx(best)


def test_a_judge_at_a_cut_accepts_what_ranks_above_it() -> None:
    found = cutoffs.at_cut("j", {("q", "x"): 2.0, ("q", "y"): 1.0}, 1.0)
    assert found.name == "j"
    assert found.marks == {("q", "x"): Mark(True, 2.0), ("q", "y"): Mark(False, 1.0)}


def test_cuts_are_tried_on_other_answers() -> None:
    questions = np.array(["q1", "q1", "q2", "q3"])
    cuts = {"all": -math.inf, "two": 1.0, "none": math.inf}  # a rank of 1 is not above 1
    found = cutoffs.tried(GOOD, RANKS, questions, cuts, Costs(3, 1), seed=0)
    assert found["accepted"].tolist() == [4, 3, 0]
    assert found["bad accepted"].tolist() == [2, 1, 0]
    assert found["good rejected"].tolist() == [0, 0, 2]
    assert found["precision"].tolist()[:2] == pytest.approx([0.5, 2 / 3])
    assert found["cost"].tolist() == [1.5, 0.75, 0.5]
    assert found["difference"].tolist() == [0, -0.75, -1]
    assert found.loc["all", ["difference_low", "difference_high"]].tolist() == [0, 0]
    # Accepting none costs at most 1 (q3 alone drawn, whose only answer is good), at least 0.5
    # (q1 alone drawn, one good of two; or q2 with its bad one, 0).
    assert found.loc["none", ["low", "high"]].tolist() == [0, 1]
    assert (found["low"] <= found["cost"]).all() and (found["cost"] <= found["high"]).all()

from math import log

import pytest
import torch

from nbutils.scoring.calibration import calibrate
from nbutils.scoring.student import davidson

ROWS = 4000


def simulated(slope, tie, seed=0, rows=ROWS):
    """Raw scores, and verdicts drawn by Davidson's model from slope times them."""
    draw = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, 2, generator=draw, dtype=torch.float64)
    logits = davidson(slope * scores[:, 0], slope * scores[:, 1], tie)
    told = torch.multinomial(torch.softmax(logits, -1), 1, generator=draw)[:, 0]
    return [(a, b, v) for (a, b), v in zip(scores.tolist(), told.tolist(), strict=True)]


@pytest.mark.parametrize(("slope", "tie"), [(0.5, -1.0), (3.0, 0.5), (1.0, -3.0)])
def test_slope_and_tie_are_found_again(slope, tie):
    found = calibrate(simulated(slope, tie), [])
    # Standard errors with 4,000 rows are near 0.03 for log slope, 0.05 to 0.2 for the tie term.
    assert log(found.slope) == pytest.approx(log(slope), abs=0.12)
    assert found.tie == pytest.approx(tie, abs=0.35)
    assert (found.grade_slope, found.grade_intercept) == (1.0, 0.0)  # no grades given


def test_it_is_the_least_cross_entropy():
    rows = simulated(0.7, -0.5, rows=500)
    found = calibrate(rows, [])
    table = torch.tensor(rows, dtype=torch.float64)

    def surprise(slope, tie):
        logits = davidson(slope * table[:, 0], slope * table[:, 1], tie)
        return torch.nn.functional.cross_entropy(logits, table[:, 2].long()).item()

    least = surprise(found.slope, found.tie)
    for slope, tie in ((1.02, 0), (0.98, 0), (1, 0.05), (1, -0.05)):
        assert surprise(found.slope * slope, found.tie + tie) > least


def test_the_grades_curve_is_found_again():
    # Grades that lie on the curve: 1 / (1 + exp(-(0.4 + 1.5 * slope * score))).
    margins = simulated(0.5, -1.0)
    slope = calibrate(margins, []).slope
    scores = torch.linspace(-3, 3, 50, dtype=torch.float64)
    grades = torch.sigmoid(0.4 + 1.5 * slope * scores)
    found = calibrate(margins, list(zip(scores.tolist(), grades.tolist(), strict=True)))
    assert found.grade_slope == pytest.approx(1.5, rel=1e-3)
    assert found.grade_intercept == pytest.approx(0.4, abs=1e-3)
    assert found.slope == slope


def test_a_ranking_is_never_turned_round():
    # Scores that are always wrong, and grades that fall as scores rise: flat, but never downward.
    wrong = [(1.0, 0.0, 1), (0.0, 1.0, 0), (2.0, 0.0, 1), (0.0, 0.5, 0), (1.0, 0.9, 2)]
    found = calibrate(wrong, [(1.0, 0.1), (0.0, 0.5), (-1.0, 0.9)])
    assert 0 < found.slope < 0.05 and found.grade_slope > 0


def test_scores_that_are_always_right_leave_finite_figures():
    right = [(1.0, 0.0, 0), (0.0, 1.0, 1), (2.0, 0.0, 0)]
    found = calibrate(right, [(1.0, 1.0), (0.0, 0.0)])
    assert all(abs(x) < 1e6 for x in (found.slope, found.tie, found.grade_intercept))
    assert found.slope > 1

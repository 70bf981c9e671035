"""From raw scores to probabilities and grades, on questions not trained on. Never moves a ranking.

A student's scores on its own training questions are too sure of themselves. So the slope, the tie
term and the grade's curve are fitted on scores that each question got from the member of the
committee that was trained without it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from nbutils.scoring.student import Calibration, davidson


def calibrate(
    margins: Sequence[tuple[float, float, int]], graded: Sequence[tuple[float, float]]
) -> Calibration:
    """The calibration of least cross-entropy.

    `margins` holds raw scores of a and b and the verdict's place in (a, b, tie), one row a decided
    pair; `graded` raw scores and the teacher's grades from 0 to 1, which may be none.
    Source of the two-parameter form: Platt 1999, here on Davidson's three outcomes.
    """
    table = torch.tensor(margins, dtype=torch.float64)
    told = table[:, 2].long()

    def surprise(free: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean -log p of the verdicts, and its gradient; the slope is exp(free[0]), so above 0."""
        values = torch.tensor(free, requires_grad=True)
        scores = table[:, :2] * values[0].exp()
        loss = functional.cross_entropy(davidson(scores[:, 0], scores[:, 1], values[1]), told)
        return _with_gradient(loss, values)

    log_slope, tie = minimize(surprise, np.array([0.0, -1.0]), jac=True).x
    slope = float(np.exp(log_slope))
    if not graded:
        return Calibration(slope, float(tie), 1.0, 0.0)
    seen = torch.tensor(graded, dtype=torch.float64)

    def grade_surprise(free: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.tensor(free, requires_grad=True)
        logits = values[0].exp() * slope * seen[:, 0] + values[1]
        return _with_gradient(
            functional.binary_cross_entropy_with_logits(logits, seen[:, 1]), values
        )

    log_grade, intercept = minimize(grade_surprise, np.array([0.0, 0.0]), jac=True).x
    return Calibration(slope, float(tie), float(np.exp(log_grade)), float(intercept))


def _with_gradient(loss: Tensor, values: Tensor) -> tuple[float, np.ndarray]:
    loss.backward()
    assert values.grad is not None
    return loss.item(), values.grad.numpy()

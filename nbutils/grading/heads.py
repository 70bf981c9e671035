"""A linear head on frozen features, taught by pairs, by grades or by both. Never reads a text.

An answer's score is head . features. Two scores make Davidson's probabilities of (a, b, tie), as in
student.py, and one score makes P(acceptable) = logistic(score + intercept). Either loss is a
cross-entropy against a mixed target, and with the penalty the problem is convex: one solution.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from threadpoolctl import threadpool_limits

from nbutils.grading.frozen import Frozen
from nbutils.grading.graded import GradingError
from nbutils.grading.loss import mixed_targets
from nbutils.resolution import sharpen

STEPS = 1000  # of L-BFGS at most; a fit takes about 100
FLAT = 1e-5  # largest entry of the gradient at the end


@dataclass(frozen=True)
class Head:
    """What a fit found."""

    weights: np.ndarray  # (d,)
    intercept: float  # of P(acceptable); 0 where no grade taught it
    tie: float  # Davidson's tie term; -1 where no pair taught it

    def scores(self, rows: Frozen) -> np.ndarray:
        """(N,) scores of all answers."""
        return np.asarray(rows.features @ self.weights)

    def grade_logits(self, rows: Frozen) -> np.ndarray:
        """(n,) log-odds of being acceptable, of the graded answers."""
        return np.asarray(self.scores(rows)[rows.graded] + self.intercept)

    def pair_logits(self, rows: Frozen) -> np.ndarray:
        """(m, 3) Davidson's logits of (a, b, tie)."""
        return _davidson(self.scores(rows)[rows.ends], self.tie)


@dataclass(frozen=True)
class Targets:
    """What a head is taught; `share` is the weight of the grades' mean loss, the rest the pairs'.

    A pair's row sums to 1, or to 1 - alpha for a conflict, which has no verdict to be taught.
    """

    pairs: np.ndarray  # (m, 3)
    grades: np.ndarray  # (n,)
    share: float  # 0: pairs alone; 1: grades alone


def targets(
    rows: Frozen,
    share: float,
    threshold: float,
    alpha: float,
    tau: float,
    temperature: float = 1.0,
) -> Targets:
    """alpha * verdict or class + (1 - alpha) * soft target, of pairs and grades.

    `temperature` divides the log of a soft target (resolution.sharpen). For the chance of a grade
    that is to multiply tau, but for the smoothing of its ends.
    """
    soft = np.array([sharpen(tuple(row), temperature) for row in rows.targets]).reshape(-1, 3)
    hard = np.eye(3)[rows.verdicts] * (rows.verdicts >= 0)[:, None]
    grades = mixed_targets(rows.scores, threshold, alpha, tau * temperature)
    return Targets(alpha * hard + (1 - alpha) * soft, grades, share)


def fit(rows: Frozen, taught: Targets, weights: np.ndarray, decay: float) -> Head:
    """The head of least loss: the mean loss plus decay * |weights|^2, solved by L-BFGS from zero.

    `weights` holds one number a question, which counts for all its pairs and grades: 0 leaves it
    out, 2 counts it twice. Raises GradingError where nothing that is to be taught is left.
    """
    share = taught.share
    graded = _normalised(weights[rows.graded_question], share, "grade")
    judged = _normalised(weights[rows.pair_question], 1 - share, "pair")
    whole = taught.pairs.sum(axis=1)
    ends = rows.ends.ravel()
    size = len(rows.keys)

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        head, intercept, tie = free[:-2], free[-2], free[-1]
        scores = rows.features @ head
        logits = scores[rows.graded] + intercept
        grade_loss = graded @ (np.logaddexp(0, logits) - taught.grades * logits)
        logged = log_softmax(_davidson(scores[rows.ends], tie), axis=1)
        pair_loss = -judged @ (taught.pairs * logged).sum(axis=1)
        by_logit = graded * (expit(logits) - taught.grades)
        by_label = judged[:, None] * (whole[:, None] * np.exp(logged) - taught.pairs)
        by_end = (by_label[:, :2] + by_label[:, 2:] / 2).ravel()
        by_score = np.bincount(rows.graded, by_logit, size) + np.bincount(ends, by_end, size)
        slopes = rows.features.T @ by_score + 2 * decay * head
        total = grade_loss + pair_loss + decay * head @ head
        return total, np.concatenate([slopes, [by_logit.sum(), by_label[:, 2].sum()]])

    start = np.zeros(rows.features.shape[1] + 2)
    start[-1] = -1.0
    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": FLAT, "ftol": 0.0}
    with threadpool_limits(1, "blas"):  # the products are small: a second thread only waits
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return Head(found.x[:-2], float(found.x[-2]), float(found.x[-1]))


def _normalised(weights: np.ndarray, share: float, what: str) -> np.ndarray:
    """Weights that sum to the share."""
    if not share:
        return np.zeros(len(weights))
    if not weights.sum() > 0:
        raise GradingError(f"no {what} is left to teach a head with; pass more questions with one")
    return np.asarray(share * weights / weights.sum())


def _davidson(scores: np.ndarray, tie: float) -> np.ndarray:
    """(m, 2) scores of a and b -> (m, 3) logits; the formula is that of student.davidson."""
    return np.column_stack([scores, scores.mean(axis=1) + tie])

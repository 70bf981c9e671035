"""The loss of grading: two classes, soft targets, gradient. Never fits a thing.

A teacher's score becomes a distribution over (acceptable, not acceptable), written as the chance of
the first. The loss of one answer is alpha * CE(class) + (1 - alpha) * KL(teacher || student).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor
from torch.nn import functional

from nbutils.resolution import EPSILON


@dataclass(frozen=True)
class GradeLoss:
    """The terms of the loss, one an answer."""

    ce: Tensor
    kl: Tensor
    total: Tensor


def classes(scores: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a score lies strictly above the threshold (acceptable), else 0."""
    return (np.asarray(scores) > threshold).astype(float)


def teacher_chances(
    scores: np.ndarray, threshold: float, tau: float, epsilon: float = EPSILON
) -> np.ndarray:
    """P(acceptable) of each score: logistic((score - threshold) / tau), its ends smoothed.

    1/2 at the threshold, above it above, and from epsilon / 2 to 1 - epsilon / 2: so it is never on
    the other side of 1/2 than the class. A score that equals the threshold is not acceptable and
    yet has 1/2: there the class says no, and the distribution that it cannot tell. A small tau is a
    sharp distribution, as a low temperature is. Raises ValueError unless tau is above 0.
    """
    if not tau > 0:
        raise ValueError(f"tau {tau} is not above 0")
    slope = (np.asarray(scores, dtype=float) - threshold) / tau
    return np.asarray(0.5 + (1 - epsilon) * (expit(slope) - 0.5))


def teacher_scores(
    chances: np.ndarray, threshold: float, tau: float, epsilon: float = EPSILON
) -> np.ndarray:
    """The score, 0 to 1, to which teacher_chances gives a chance; the nearest where none does."""
    inside = 0.5 + (np.asarray(chances, dtype=float) - 0.5) / (1 - epsilon)
    return np.clip(threshold + tau * logit(np.clip(inside, 0, 1)), 0, 1)


def mixed_targets(scores: np.ndarray, threshold: float, alpha: float, tau: float) -> np.ndarray:
    """alpha * class + (1 - alpha) * teacher's chance: all that the loss asks of an answer."""
    soft = teacher_chances(scores, threshold, tau)
    return alpha * classes(scores, threshold) + (1 - alpha) * soft


def grading_loss(logits: Tensor, told: Tensor, chances: Tensor, alpha: float) -> GradeLoss:
    """The loss of each answer, in nats; all arguments are of one shape but alpha.

    `logits` are the student's, log(P / (1 - P)); `told` the classes, 1 for acceptable; `chances`
    the teacher's.
    """
    ce = functional.binary_cross_entropy_with_logits(logits, told, reduction="none")
    cross = functional.binary_cross_entropy_with_logits(logits, chances, reduction="none")
    entropy = -torch.xlogy(chances, chances) - torch.xlogy(1 - chances, 1 - chances)
    kl = cross - entropy
    return GradeLoss(ce, kl, alpha * ce + (1 - alpha) * kl)


def gradient(logits: Tensor, told: Tensor, chances: Tensor, alpha: float) -> Tensor:
    """d loss / d logit of each answer: alpha * (P - class) + (1 - alpha) * (P - chance).

    With P = 1 / (1 + exp(-logit)), d CE / d logit is P - class and d KL / d logit is P - chance.
    The sum is P - (alpha * class + (1 - alpha) * chance): the loss is, but for a constant, one
    cross-entropy against that mixed target.
    """
    return torch.sigmoid(logits) - (alpha * told + (1 - alpha) * chances)

"""What a head is worth on held-out rows, under draws of them (resampling.py). Never fits one."""

import numpy as np
from scipy.special import expit, rel_entr, softmax

from nbutils.evaluation.measures import LEAST
from nbutils.grading import resampling
from nbutils.grading.frozen import Frozen
from nbutils.grading.heads import Head
from nbutils.grading.loss import classes, teacher_chances

Measured = dict[str, np.ndarray]  # measure -> (draws,) values, the first on the rows as they are


def measure_grades(
    head: Head, test: Frozen, threshold: float, tau: float, weights: np.ndarray
) -> Measured:
    """Agreement on the class, AUROC, calibration error and KL over the graded answers.

    `weights` holds a number for each of test's questions, (draws, questions). KL is from the
    teacher's distribution of this tau, in nats.
    """
    told = weights[:, test.graded_question]
    good, logits = classes(test.scores, threshold), head.grade_logits(test)
    soft = teacher_chances(test.scores, threshold, tau)
    chance = np.clip(expit(logits), LEAST, 1 - LEAST)
    kl = rel_entr(soft, chance) + rel_entr(1 - soft, 1 - chance)
    return {
        "agreement": resampling.mean((logits > 0) == good, told),
        "AUROC": resampling.auroc(good, logits, told),
        "calibration error": resampling.calibration_error(good, chance, told),
        "KL": resampling.mean(kl, told),
    }


def measure_pairs(head: Head, test: Frozen, weights: np.ndarray) -> Measured:
    """Three-way agreement, preference accuracy, calibration error and KL over the pairs.

    As in measures.py: a conflict agrees with nothing and has no preferred answer; equal scores are
    a tie, and half a credit. Pairs that the teacher left unreadable are not among test's.
    """
    told = weights[:, test.pair_question]
    chances = softmax(head.pair_logits(test), axis=1)
    ends = head.scores(test)[test.ends]
    margin = ends[:, 0] - ends[:, 1]
    said = np.where(margin == 0, 2, chances.argmax(axis=1))
    hit = (said == test.verdicts).astype(float)
    sided = np.isin(test.verdicts, (0, 1))
    credit = np.where(test.verdicts == 0, 1, -1) * np.sign(margin) / 2 + 0.5
    kl = rel_entr(test.targets, np.maximum(chances, LEAST)).sum(axis=1)
    sure = chances[np.arange(len(said)), said]
    return {
        "agreement": resampling.mean(hit, told),
        "preference": resampling.mean(credit[sided], told[:, sided]),
        "calibration error": resampling.calibration_error(hit, sure, told),
        "KL": resampling.mean(kl, told),
    }

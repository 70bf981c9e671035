"""Heads by held-out sections of train, and the settings that do best there. Never sees test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import log_expit, log_softmax

from nbutils.grading.frozen import Frozen
from nbutils.grading.graded import GradingError
from nbutils.grading.heads import Head, Targets, fit, targets
from nbutils.grading.loss import classes
from nbutils.scoring.targets import folds

FOLDS = 3  # members of a committee
ALPHA = 0.5  # as in student.Settings
TAUS = (0.05, 0.1, 0.2, 0.4)
DECAYS = (0.1, 0.3, 1.0, 3.0)


def cross_fit(
    train: Frozen, taught: Targets, decay: float, seed: int
) -> tuple[list[Head], np.ndarray]:
    """A head for each fold of sections, fitted without it, and the (questions,) folds.

    The seed deals the sections. Raises GradingError where there are fewer of them than folds.
    """
    sections = len({question.section for question in train.questions})
    if sections < FOLDS:
        what = f"train has answers of {sections} sections, and a committee of {FOLDS} needs as many"
        raise GradingError(f"{what}; ask questions on more sections")
    fold = np.array(folds(train.questions, FOLDS, seed))
    return [fit(train, taught, (fold != k).astype(float), decay) for k in range(FOLDS)], fold


def held_out_logits(
    train: Frozen, heads: Sequence[Head], fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) logits of grades and (m, 3) of pairs, each by the head fitted without its section."""
    grades = np.stack([head.grade_logits(train) for head in heads])
    pairs = np.stack([head.pair_logits(train) for head in heads])
    by_grade, by_pair = fold[train.graded_question], fold[train.pair_question]
    return grades[by_grade, np.arange(len(by_grade))], pairs[by_pair, np.arange(len(by_pair))]


def choose(
    train: Frozen,
    share: float,
    threshold: float,
    seed: int,
    taus: Sequence[float] = TAUS,
    decays: Sequence[float] = DECAYS,
) -> pd.DataFrame:
    """Candidates for tau and decay, the best first: columns tau, decay, loss.

    `share` is that of the grades, as in heads.Targets. `loss` is the held-out mean of -log P(class)
    of grades and -log P(verdict) of decided pairs, by their shares: it asks for what the teacher
    said, so that no tau makes it easier by asking for less.
    """
    told = classes(train.scores, threshold)
    decided = train.verdicts >= 0
    rows = []
    for tau in taus:
        taught = targets(train, share, threshold, ALPHA, tau)
        for decay in decays:
            grades, pairs = held_out_logits(train, *cross_fit(train, taught, decay, seed))
            loss = 0.0
            if share:
                loss -= share * log_expit(np.where(told == 1, grades, -grades)).mean()
            if share < 1:
                logged = log_softmax(pairs[decided], axis=1)
                loss -= (1 - share) * logged[np.arange(len(logged)), train.verdicts[decided]].mean()
            rows.append((tau, decay, float(loss)))
    table = pd.DataFrame(rows, columns=["tau", "decay", "loss"])
    return table.sort_values("loss", kind="stable", ignore_index=True)

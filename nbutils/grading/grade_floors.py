"""Graders that read nothing, which a student must beat. Never calls a model."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from nbutils.evaluation.floors import IDENTITY, trigram_share
from nbutils.grading import cutoffs
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.graded import GradingError

NO, MAJORITY = "always no", "always the majority"
OVERLAP, LENGTH = "trigrams in the source", "answer length"
GRADE_FLOORS = (NO, MAJORITY, OVERLAP, LENGTH, IDENTITY)


def always_no(frame: pd.DataFrame) -> GradeJudge:
    """Accepts nothing."""
    return _same(NO, frame, False)


def majority(train: pd.DataFrame, frame: pd.DataFrame) -> GradeJudge:
    """Gives every answer the class that more answers of train have; no, where they are even."""
    told = train["acceptable"].dropna()
    return _same(MAJORITY, frame, bool(told.sum() > len(told) / 2))


def overlap(train: pd.DataFrame, frame: pd.DataFrame, sources: dict[str, str]) -> GradeJudge:
    """Ranks by the share of an answer's word trigrams that stand in the source (floors.py)."""

    def share(row: pd.Series) -> float:
        return trigram_share(row["answer"], sources[row["question_id"]])

    return _by_number(OVERLAP, train, frame, share)


def length(train: pd.DataFrame, frame: pd.DataFrame) -> GradeJudge:
    """Ranks by the number of characters."""
    return _by_number(LENGTH, train, frame, lambda row: float(len(row["answer"])))


def identity(train: pd.DataFrame, frame: pd.DataFrame) -> GradeJudge:
    """Gives an answer its answerer's share of acceptable answers of train, and mean grade.

    It knows what no judge is told: who answered. Raises GradingError on an answerer without a
    readable grade in train.
    """
    known = train[train["acceptable"].notna()]
    shares = known.groupby("answerer")["acceptable"].mean().astype(float)
    grades = known.groupby("answerer")["score"].mean()
    if unknown := set(frame["answerer"]) - set(shares.index):
        what = f"train has no readable grade of {sorted(unknown)}"
        raise GradingError(f"{what}; leave this floor out, or grade that answerer in train")
    marks = {
        name: Mark(bool(share > 0.5), float(share), float(grades[name]), float(share))
        for name, share in shares.items()
    }
    keys = zip(frame["question_id"], frame["answerer"], strict=True)
    return GradeJudge(IDENTITY, {key: marks[key[1]] for key in keys})


def _same(name: str, frame: pd.DataFrame, said: bool) -> GradeJudge:
    keys = zip(frame["question_id"], frame["answerer"], strict=True)
    return GradeJudge(name, {key: Mark(said) for key in keys})


def _by_number(
    name: str, train: pd.DataFrame, frame: pd.DataFrame, number: Callable[[pd.Series], float]
) -> GradeJudge:
    """A judge that ranks by a number; its direction and its cut are chosen on train.

    The direction is that of AUROC above 1/2. The cut is that of best balanced accuracy: the cut of
    best agreement of a weak number accepts nothing, and always no is a floor already.
    """
    known = train[train["acceptable"].notna()]
    good = known["acceptable"].to_numpy(dtype=float)
    if not 0 < good.sum() < len(good):
        raise GradingError(f"floor {name!r}: train has one class alone; set another threshold")
    ranks = known.apply(number, axis=1).to_numpy(dtype=float)
    sign = 1.0 if roc_auc_score(good, ranks) >= 0.5 else -1.0
    cut = cutoffs.balanced(good, sign * ranks)
    found = sign * frame.apply(number, axis=1).to_numpy(dtype=float)
    keys = zip(frame["question_id"], frame["answerer"], strict=True)
    return cutoffs.at_cut(name, dict(zip(keys, np.asarray(found).tolist(), strict=True)), cut)

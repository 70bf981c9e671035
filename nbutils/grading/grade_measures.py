"""Measures of one judge's grades against the teacher's classes. Never drops an answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import rel_entr
from scipy.stats import kendalltau, pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
)
from statsmodels.stats.proportion import proportion_confint

from nbutils.evaluation.measures import LEAST, Figures
from nbutils.grading import resampling
from nbutils.grading.graded import OUTCOMES, Key, outcomes
from nbutils.grading.loss import teacher_chances

FEWEST_RANKED = 3  # numbers for a correlation to say anything


@dataclass(frozen=True)
class Mark:
    """What a judge says of one answer; whatever it does not give is None."""

    acceptable: bool | None  # None: its reply could not be read
    rank: float | None = None  # the higher the better, on any scale
    grade: float | None = None  # on the teacher's scale, 0 to 1
    chance: float | None = None  # P(acceptable)


@dataclass(frozen=True)
class GradeJudge:
    """A judge's marks, by question id and answerer."""

    name: str
    marks: Mapping[Key, Mark]


@dataclass(frozen=True)
class Rows:
    """The teacher's table and one judge's marks of it, as arrays of the table's length."""

    good: np.ndarray  # 1 acceptable, 0 not, NaN where the teacher's grade is unreadable
    score: np.ndarray  # the teacher's; NaN as above
    truth: np.ndarray  # one of graded.OUTCOMES
    said: np.ndarray  # the same for the judge
    rank: np.ndarray  # NaN where the judge gives none; so are the next two
    grade: np.ndarray
    chance: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """1 where both say the same class; unreadable on either side is 0."""
        return np.asarray((self.truth == self.said) & (self.said != OUTCOMES[2]), dtype=float)


def rows(frame: pd.DataFrame, judge: GradeJudge) -> Rows:
    """Raises ValueError where the judge has no mark of an answer, or one that is not finite."""
    keys = list(zip(frame["question_id"], frame["answerer"], strict=True))
    gaps = [key for key in keys if key not in judge.marks]
    if gaps:
        what = f"judge {judge.name!r} has no mark of {len(gaps)} answers, {gaps[0]} first"
        raise ValueError(f"{what}; grade them too: an answer is never left out")
    marks = [judge.marks[key] for key in keys]
    for key, mark in zip(keys, marks, strict=True):
        numbers = [mark.rank, mark.grade, mark.chance]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            what = f"judge {judge.name!r}, answer {key}: {mark} holds a number that is not finite"
            raise ValueError(f"{what}; mend the judge's scores")
    names = {True: OUTCOMES[0], False: OUTCOMES[1], None: OUTCOMES[2]}
    return Rows(
        good=frame["acceptable"].astype("Float64").to_numpy(dtype=float, na_value=np.nan),
        score=frame["score"].to_numpy(dtype=float),
        truth=outcomes(frame).to_numpy(),
        said=np.array([names[mark.acceptable] for mark in marks], dtype=object),
        rank=np.array([mark.rank for mark in marks], dtype=float),
        grade=np.array([mark.grade for mark in marks], dtype=float),
        chance=np.array([mark.chance for mark in marks], dtype=float),
    )


def by_class(row: Rows, weights: np.ndarray) -> Figures:
    """Agreement on the class, and what it hides.

    agreement: share of all answers of the same class, with Wilson's 95 % interval (low, high; takes
    answers as independent) and that of the bootstrap over questions; an unreadable grade on either
    side agrees with nothing. The rest is over the answers that the teacher's grade classifies,
    where the judge's unreadable is a miss. balanced_accuracy: mean of the two classes' shares
    right; None where the teacher has one class alone. f1: of acceptable. kappa: Cohen's, the
    judge's unreadable being a label of its own; None where both have one and the same label.
    """
    hits = int(row.right.sum())
    low, high = proportion_confint(hits, len(row.right), method="wilson")
    counted = {f"said {name}": int((row.said == name).sum()) for name in OUTCOMES}
    found: Figures = {"agree": hits, "agreement": hits / len(row.right)}
    found |= {"agreement_wilson_low": low, "agreement_wilson_high": high} | counted
    found |= _span("agreement", resampling.mean(row.right, weights))
    known = np.isfinite(row.good)
    good, right, told = row.good[known], row.right[known], weights[:, known]
    truth, said = list(row.truth[known]), list(row.said[known])
    yes = (row.said[known] == OUTCOMES[0]).astype(float)
    both, named = len(set(truth)) == 2, bool(yes.any() or good.any())
    found |= {
        "balanced_accuracy": _balanced(truth, said) if both else None,
        **_span("balanced_accuracy", resampling.balanced_accuracy(good, right, told), both),
        "f1": _f1(truth, said) if named else None,
        **_span("f1", resampling.f1(good, yes, told), named),
        "kappa": cohen_kappa_score(truth, said) if len({*truth, *said}) > 1 else None,
    }
    return found


def by_rank(row: Rows, weights: np.ndarray) -> Figures:
    """How well the judge orders the answers, over those that have a rank and a teacher's score.

    auroc and average_precision of "acceptable"; pearson (of the grade, where the judge gives one,
    else of the rank), spearman and kendall (tau b) with the teacher's score. None where one class
    or one value is all there is, or below three answers.
    """
    known = np.isfinite(row.rank) & np.isfinite(row.score)
    good, rank, score = row.good[known], row.rank[known], row.score[known]
    told = weights[:, known]
    both = 0 < good.sum() < len(good)
    found: Figures = {
        "ranked": int(known.sum()),
        "auroc": float(roc_auc_score(good, rank)) if both else None,
        **_span("auroc", resampling.auroc(good, rank, told), both),
        "average_precision": float(average_precision_score(good, rank)) if both else None,
        **_span("average_precision", resampling.average_precision(good, rank, told), both),
    }
    grade = np.where(np.isfinite(row.grade[known]), row.grade[known], rank)
    several = known.sum() >= FEWEST_RANKED and len(np.unique(score)) > 1
    for name, measure, values in (
        ("pearson", pearsonr, grade),
        ("spearman", spearmanr, rank),
        ("kendall", kendalltau, rank),
    ):
        defined = several and len(np.unique(values)) > 1
        found[name] = float(measure(values, score).statistic) if defined else None
    return found


def by_number(row: Rows, weights: np.ndarray, threshold: float, tau: float) -> Figures:
    """How near the judge's numbers come, over the answers that have them and a teacher's score.

    mae: mean |grade - teacher's score|. kl: of the teacher's distribution (grading.teacher_chances)
    from the judge's chance, in nats. calibration_error: sum over bins of the chance of share *
    |share acceptable - mean chance|; grade_error the same for the grade and the teacher's mean
    score. `bins` and `grade_bins` hold what the two are made of. None without numbers.
    """
    found: Figures = {}
    known = np.isfinite(row.grade) & np.isfinite(row.score)
    grade, score = row.grade[known], row.score[known]
    found["mae"] = float(mean_absolute_error(score, grade)) if known.any() else None
    found |= _span("mae", resampling.mean(np.abs(score - grade), weights[:, known]))
    found |= _calibration("grade", score, grade, weights[:, known])
    known = np.isfinite(row.chance) & np.isfinite(row.score)
    good, chance = row.good[known], row.chance[known]
    soft = teacher_chances(row.score[known], threshold, tau)
    kl = rel_entr(soft, np.maximum(chance, LEAST)) + rel_entr(
        1 - soft, np.maximum(1 - chance, LEAST)
    )
    found["kl"] = float(kl.mean()) if known.any() else None
    found |= _span("kl", resampling.mean(kl, weights[:, known]))
    found |= _calibration("calibration", good, chance, weights[:, known])
    return found


def _balanced(truth: list[str], said: list[str]) -> float:
    each = recall_score(truth, said, labels=list(OUTCOMES[:2]), average=None, zero_division=0.0)
    return float(each.mean())


def _f1(truth: list[str], said: list[str]) -> float:
    (found,) = f1_score(truth, said, labels=[OUTCOMES[0]], average=None, zero_division=0.0)
    return float(found)


def _calibration(
    name: str, outcomes: np.ndarray, chances: np.ndarray, weights: np.ndarray
) -> Figures:
    errors = resampling.calibration_error(outcomes, chances, weights)
    groups = pd.DataFrame({"observed": outcomes, "said": chances}).groupby(resampling.bins(chances))
    table = groups.mean().assign(count=groups.size())
    table.insert(0, "low", table.index / resampling.BINS)
    key = "bins" if name == "calibration" else f"{name}_bins"
    error = float(errors[0]) if len(chances) else None
    return {f"{name}_error": error, **_span(f"{name}_error", errors), key: table.to_dict("records")}


def _span(name: str, values: np.ndarray, defined: bool = True) -> Figures:
    """The interval of resampled values; row 0 is the data as it is."""
    low, high = resampling.span(values[1:]) if defined else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}

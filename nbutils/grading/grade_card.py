"""The scorecard of grading: judges against the teacher over every answer. Never calls a model."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar

from nbutils.evaluation.agreement import NAMED, Card, rounded
from nbutils.grading import grade_measures as measures
from nbutils.grading import resampling
from nbutils.grading.grade_measures import GradeJudge, Rows
from nbutils.grading.graded import OUTCOMES, GradingError, outcomes

COMPARED = ("agreement", "balanced_accuracy", "auroc")
COLUMNS = {  # the table for people: figure of the scorecard -> heading
    "agreement": "agreement",
    "agreement_span": "agreement, 95 %",
    "said acceptable": "said yes",
    "said unreadable": "unreadable",
    "balanced_accuracy": "balanced accuracy",
    "balanced_accuracy_span": "balanced, 95 %",
    "f1": "F1",
    "kappa": "kappa",
    "auroc": "AUROC",
    "auroc_span": "AUROC, 95 %",
    "average_precision": "average precision",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "mae": "mean absolute error",
    "calibration_error": "calibration error",
    "grade_error": "calibration error of grades",
    "kl": "KL",
}


def scorecard(
    frame: pd.DataFrame, judges: Sequence[GradeJudge], threshold: float, tau: float, seed: int
) -> Card:
    """Every judge against the teacher's table (graded.table), ready for JSON.

    The same for the same seed. Keys: `subsets` (answers, questions and outcomes of "all", of the
    two named pairs of answerers where both are there, and of each answerer), `judges` {name:
    {subset: figures}}, `comparisons` (a row for every two judges on "all" and the named subsets);
    grade_measures.py says what each figure is. `tau` is that of the teacher's distribution, for KL.
    Raises ValueError where a judge lacks an answer or is there twice, GradingError without rows.
    """
    names = [judge.name for judge in judges]
    if len({*names}) < len(names):
        raise ValueError(f"judges {names}: pass each judge once")
    if not len(frame):
        raise GradingError("no graded answer to score judges on; grade answers of this split")
    parts = _subsets(frame)
    card: Card = {"seed": seed, "resamples": resampling.RESAMPLES, "threshold": threshold}
    card |= {"tau": tau, "subsets": {name: _about(part) for name, part in parts.items()}}
    card |= {"judges": {name: {} for name in names}, "comparisons": []}
    for subset, part in parts.items():
        weights = resampling.draws(part["question_id"].to_numpy(), seed)
        said = {judge.name: measures.rows(part, judge) for judge in judges}
        for name, row in said.items():
            card["judges"][name][subset] = _figures(row, weights, threshold, tau)
        if subset in ("all", *NAMED.values()):
            for first, second in combinations(said, 2):
                about = {"subset": subset, "first": first, "second": second}
                card["comparisons"].append(about | compare(said[first], said[second], weights))
    return {key: rounded(value) for key, value in card.items()}


def compare(ours: Rows, theirs: Rows, weights: np.ndarray) -> Card:
    """First minus second on the same answers, each with a 95 % bootstrap over questions.

    Agreement also has McNemar's exact test, which takes answers as independent; answers to one
    question are not, so where the two differ, go by the interval. AUROC is over the answers that
    both rank; None where one of them ranks none, or one class is all there is.
    """
    gains = int((ours.right > theirs.right).sum())
    losses = int((ours.right < theirs.right).sum())
    pvalue = float(mcnemar([[0, gains], [losses, 0]], exact=True).pvalue)
    result: Card = {"only_first": gains, "only_second": losses, "mcnemar_p": pvalue}
    ranked = np.isfinite(ours.rank) & np.isfinite(theirs.rank)
    for name in COMPARED:
        steps = _values(name, ours, ranked, weights) - _values(name, theirs, ranked, weights)
        low, high = resampling.span(steps[1:])
        ends = (float(steps[0]), low, high) if np.isfinite(steps[0]) else (None, None, None)
        result[name] = dict(zip(("difference", "low", "high"), ends, strict=True))
    return result


def table(card: Card, subset: str = "all") -> pd.DataFrame:
    """One row a judge, for people; agreement's interval is the one over questions."""
    rows = {name: dict(by_subset[subset]) for name, by_subset in card["judges"].items()}
    for row in rows.values():
        for name in COMPARED:
            if row[f"{name}_low"] is not None:
                row[f"{name}_span"] = f"{row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f}"
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("judge")
    return frame.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)


def differences(card: Card, judge: str, measure: str, subset: str = "all") -> pd.DataFrame:
    """One judge minus every other in a measure of COMPARED: difference, low, high, McNemar p."""
    found = {}
    for row in card["comparisons"]:
        if row["subset"] == subset and judge in (row["first"], row["second"]):
            sign, other = (1, row["second"]) if row["first"] == judge else (-1, row["first"])
            ends = [row[measure][key] for key in ("difference", "low", "high")]
            moved = [np.nan if end is None else sign * end for end in ends]
            found[other] = [moved[0], *sorted(moved[1:]), row["mcnemar_p"]]
    names = ["difference", "low", "high", "McNemar p (agreement)"]
    return pd.DataFrame.from_dict(found, orient="index", columns=names).rename_axis("minus")


def _subsets(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    own = {str(name): part for name, part in sorted(frame.groupby("answerer"))}
    named = {
        short: frame[frame["answerer"].isin(name.split(" vs "))]
        for name, short in NAMED.items()
        if {*name.split(" vs ")} <= own.keys()
    }
    return {"all": frame} | named | own


def _about(frame: pd.DataFrame) -> Card:
    counted = outcomes(frame).value_counts()
    told = {name: int(counted.get(name, 0)) for name in OUTCOMES}
    return {"answers": len(frame), "questions": int(frame["question_id"].nunique())} | told


def _figures(row: Rows, weights: np.ndarray, threshold: float, tau: float) -> Card:
    """All figures of one judge on some answers."""
    return {
        "answers": len(row.right),
        **measures.by_class(row, weights),
        **measures.by_rank(row, weights),
        **measures.by_number(row, weights, threshold, tau),
    }


def _values(name: str, row: Rows, ranked: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A measure on the data and on every draw; NaN where it is undefined."""
    if name == "agreement":
        return resampling.mean(row.right, weights)
    known = np.isfinite(row.good)
    if name == "balanced_accuracy":
        return resampling.balanced_accuracy(row.good[known], row.right[known], weights[:, known])
    known &= ranked
    return resampling.auroc(row.good[known], row.rank[known], weights[:, known])

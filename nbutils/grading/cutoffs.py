"""The cut of a judge's ranks, chosen on purpose by what errors cost. Never chooses on test.

An answer is accepted whose rank lies strictly above the cut. Each bad answer that is accepted has a
cost, and each good one that is rejected another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.grading import resampling
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.graded import GradingError, Key


@dataclass(frozen=True)
class Costs:
    """What the two errors cost, in one unit of the user's."""

    accept_bad: float
    reject_good: float


def curve(good: np.ndarray, ranks: np.ndarray, costs: Costs) -> pd.DataFrame:
    """Every cut that divides the answers otherwise, the lowest first.

    `good` holds 1 for acceptable, else 0; no NaN in either. Columns: cut (halfway between two
    neighbouring ranks; the first accepts all, the last none), accepted (answers), precision (NaN
    where none is accepted), recall (NaN where none is good), cost (an answer). Raises GradingError
    without answers.
    """
    if not len(good):
        raise GradingError("no answer with both a grade and a rank to choose a cut on; grade more")
    steps = np.unique(ranks)
    inner = (steps[:-1] + steps[1:]) / 2
    cuts = np.concatenate([[steps[0] - 1], inner, [steps[-1]]])
    order = np.argsort(ranks, kind="stable")
    first = np.searchsorted(ranks[order], cuts, side="right")
    above = np.append(np.cumsum(good[order][::-1])[::-1], 0)[first]
    accepted = len(good) - first
    errors = costs.accept_bad * (accepted - above) + costs.reject_good * (good.sum() - above)
    frame = pd.DataFrame({"cut": cuts, "accepted": accepted})
    frame["precision"] = above / frame["accepted"].where(frame["accepted"] > 0)
    frame["recall"] = above / good.sum() if good.any() else np.nan
    return frame.assign(cost=errors / len(good))


def cheapest(good: np.ndarray, ranks: np.ndarray, costs: Costs) -> float:
    """The cut of least cost; of several, the highest: it accepts the fewest."""
    found = curve(good, ranks, costs)
    least = found["cost"].min()
    return float(found.loc[np.isclose(found["cost"], least, rtol=1e-12, atol=0), "cut"].max())


def balanced(good: np.ndarray, ranks: np.ndarray) -> float:
    """The cut of best balanced accuracy: errors cost the inverse of their class's size."""
    bad = len(good) - good.sum()
    if not 0 < good.sum() < len(good):
        what = f"{good.sum():.0f} of {len(good)} answers are acceptable"
        raise GradingError(f"{what}: a cut needs both classes; set another threshold")
    return cheapest(good, ranks, Costs(1 / bad, 1 / good.sum()))


def at_cut(name: str, ranks: Mapping[Key, float], cut: float) -> GradeJudge:
    """A judge that accepts what ranks above the cut, and gives no grade or chance."""
    return GradeJudge(name, {key: Mark(rank > cut, rank) for key, rank in ranks.items()})


def tried(
    good: np.ndarray,
    ranks: np.ndarray,
    questions: np.ndarray,
    cuts: Mapping[str, float],
    costs: Costs,
    seed: int,
) -> pd.DataFrame:
    """What cuts chosen elsewhere come to on these answers: one row a cut, by its name.

    Columns: cut, accepted, bad accepted, good rejected, precision and recall (NaN where undefined),
    cost an answer with its 95 % interval over questions (low, high), and the cost minus that of the
    first cut, with its interval (difference, difference_low, difference_high).
    """
    weights = resampling.draws(questions, seed)
    rows, first = {}, None
    for name, cut in cuts.items():
        accepted = ranks > cut
        bad, lost = accepted * (1 - good), ~accepted * good
        cost = resampling.mean(costs.accept_bad * bad + costs.reject_good * lost, weights)
        first = cost if first is None else first
        right = float((accepted * good).sum())
        rows[name] = {
            "cut": cut,
            "accepted": int(accepted.sum()),
            "bad accepted": int(bad.sum()),
            "good rejected": int(lost.sum()),
            "precision": right / accepted.sum() if accepted.any() else np.nan,
            "recall": right / good.sum() if good.any() else np.nan,
            "cost": float(cost[0]),
            **dict(zip(("low", "high"), resampling.span(cost[1:]), strict=True)),
            "difference": float(cost[0] - first[0]),
            **dict(
                zip(
                    ("difference_low", "difference_high"),
                    resampling.span(cost[1:] - first[1:]),
                    strict=True,
                )
            ),
        }
    return pd.DataFrame.from_dict(rows, orient="index")

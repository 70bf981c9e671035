"""Two readings of a judge: do two grades order a pair as its verdict does? Never says who is right.

A scoring student's grades and verdicts come from the same scores, so they never take two sides: by
construction, not by merit. A teacher, asked twice under two prompts, can.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from nbutils.evaluation.agreement import rounded
from nbutils.evaluation.measures import DECIDED, Figures
from nbutils.grading import resampling
from nbutils.grading.graded import Key
from nbutils.records import Label, Pair, Resolution, Resolved

ORDERS = (*get_args(Label), "unreadable")


@dataclass(frozen=True)
class TwoReadings:
    """What grades and verdicts of the same pairs say of each other."""

    table: pd.DataFrame  # pairs: rows by the order of the two grades, columns by the verdict
    parted: pd.DataFrame  # pairs where the two prefer different answers, the widest gap first
    figures: Figures


def two_readings(
    pairs: Iterable[Pair],
    resolutions: Iterable[Resolution],
    grades: Mapping[Key, float | None],
    seed: int,
) -> TwoReadings:
    """Compares the order of two grades with the resolved verdict, for every pair.

    `grades` are numbers on any scale, the higher the better; equal ones are a tie, and one that is
    None or not there is unreadable. `parted` has columns pair_id, question_id, grade_a, grade_b,
    verdict. `figures`: over all pairs, `same`, the pairs of one reading, their share and its
    interval over questions (a conflict or an unreadable reading is like nothing); over the pairs
    where both readings prefer an answer (`both_prefer`), `same_side` likewise.
    """
    told = {row.pair_id: row for row in resolutions}
    rows = []
    for pair in pairs:
        a, b = (grades.get((pair.question_id, who)) for who in (pair.answerer_a, pair.answerer_b))
        found = _order(a, b)
        rows.append((pair.pair_id, pair.question_id, a, b, found, told[pair.pair_id].verdict))
    columns = ["pair_id", "question_id", "grade_a", "grade_b", "order", "verdict"]
    frame = pd.DataFrame(rows, columns=columns)
    table = pd.crosstab(frame["order"], frame["verdict"])
    table = table.reindex(index=list(ORDERS), columns=list(get_args(Resolved)), fill_value=0)
    prefer = frame[["order", "verdict"]].isin(("a", "b")).all(axis=1)
    same = frame["order"] == frame["verdict"]
    parted = frame[prefer & ~same].drop(columns="order")
    gap = (parted["grade_a"] - parted["grade_b"]).abs()
    parted = parted.loc[gap.sort_values(ascending=False, kind="stable").index]
    figures: Figures = {"pairs": len(frame), "both_prefer": int(prefer.sum())}
    figures |= _share("same", same & frame["order"].isin(DECIDED), frame["question_id"], seed)
    figures |= _share("same_side", same[prefer], frame.loc[prefer, "question_id"], seed)
    return TwoReadings(table, parted.reset_index(drop=True), rounded(figures))


def _order(first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return ORDERS[-1]
    return "tie" if first == second else "a" if first > second else "b"


def _share(name: str, hits: pd.Series, questions: pd.Series, seed: int) -> Figures:
    weights = resampling.draws(questions.to_numpy(), seed)
    values = resampling.mean(hits.to_numpy(dtype=float), weights)
    low, high = resampling.span(values[1:])
    share = float(values[0]) if np.isfinite(values[0]) else None
    return {
        name: int(hits.sum()),
        f"{name}_share": share,
        f"{name}_low": low,
        f"{name}_high": high,
    }

"""Measures judges against the teacher over every pair. Never drops a pair and calls no model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar

from nbutils.evaluation import measures
from nbutils.records import Judgement, Pair, Resolution

Card = dict[str, Any]  # ready for JSON

NAMED = {  # pairs of answerers that the scorecard names
    "frontier-llm vs frontier-llm-one-error": "contrast",
    "gemma-3-270m vs smollm2-135m-instruct": "like strength",
}
RESAMPLES = 10_000
COLUMNS = {  # the table for people: figure of the scorecard -> heading
    "agreement": "agreement",
    "agreement_span": "agreement, 95 %",
    "coverage": "coverage",
    "agreement_where_both_decide": "where both decide",
    "kappa": "kappa",
    "preference": "preference",
    "preference_span": "preference, 95 %",
    "conflict": "conflict",
    "leaning": "leaning",
    "tie": "tie",
    "unreadable": "unreadable",
    "first_choice": "first choice",
    "flip_rate": "flip rate",
    "kl": "KL",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True)
class Judge:
    """A judge's resolution of each pair, and its judgements if it gives verdicts order by order.

    A judge without judgements is one that scores: each resolution has a margin, the same in both
    orders by construction.
    """

    name: str
    resolutions: dict[str, Resolution]  # by pair id
    judgements: list[Judgement] = field(default_factory=list)


def scorecard(teacher: Judge, judges: list[Judge], pairs: list[Pair], seed: int) -> Card:
    """Every judge against the teacher, ready for JSON; the same for the same seed.

    Keys: `subsets` (pairs and questions of "all", "contrast", "like strength" and of each
    "answerer vs answerer" that the pairs hold), `teacher` {subset: figures}, `judges` {name:
    {subset: figures}}, `comparisons` (a row for every two judges on each of the three named
    subsets); measures.py says what each figure is. Raises ValueError where the teacher or a judge
    lacks a pair: no gap is left out.
    """
    names = [judge.name for judge in judges]
    if not pairs or len({*names}) < len(names):
        raise ValueError(f"{len(pairs)} pairs, judges {names}: pass pairs, and each judge once")
    subsets = _subsets(pairs)
    card: Card = {"seed": seed, "resamples": RESAMPLES, "teacher_name": teacher.name}
    card["subsets"] = {
        name: {"pairs": len(some), "questions": len({pair.question_id for pair in some})}
        for name, some in subsets.items()
    }
    card["teacher"] = {name: _own(teacher, some) for name, some in subsets.items()}
    card["judges"] = {
        judge.name: {name: _against(teacher, judge, some, seed) for name, some in subsets.items()}
        for judge in judges
    }
    card["comparisons"] = [
        {"subset": name} | compare(teacher, first, second, subsets[name], seed)
        for name in ("all", *NAMED.values())
        if name in subsets
        for number, first in enumerate(judges)
        for second in judges[number + 1 :]
    ]
    return {key: rounded(value) for key, value in card.items()}


def compare(
    teacher: Judge,
    first: Judge,
    second: Judge,
    pairs: list[Pair],
    seed: int,
    resamples: int = RESAMPLES,
) -> Card:
    """First minus second on the same pairs: McNemar's exact test and a bootstrap of questions.

    McNemar's test asks whether the pairs that only one of the two has right fall evenly; it takes
    pairs as independent. Pairs of one question are not: they share its source and its answers, so
    a judge fails on several at once, and the test is too sure of itself. The bootstrap draws whole
    questions and so keeps that dependence: where the two differ, go by its interval. Half a credit
    (equal scores) is, for the test, less than right and more than wrong.
    """
    truth = resolved(teacher, pairs)
    said = list(zip(resolved(first, pairs), resolved(second, pairs), strict=True))
    questions = [pair.question_id for pair in pairs]
    result: Card = {"first": first.name, "second": second.name, "pairs": len(pairs)}
    for name, rule in (("agreement", measures.hit), ("preference", measures.credit)):
        both = [(rule(t, x), rule(t, y)) for t, (x, y) in zip(truth, said, strict=True)]
        steps = [None if x is None or y is None else x - y for x, y in both]
        difference, low, high = measures.mean_by_question(steps, questions, seed, resamples)
        gains = sum(step is not None and step > 0 for step in steps)
        losses = sum(step is not None and step < 0 for step in steps)
        result[name] = {
            "difference": difference,
            "low": low,
            "high": high,
            "only_first": gains,
            "only_second": losses,
            "mcnemar_p": mcnemar([[0, gains], [losses, 0]], exact=True).pvalue,
        }
    return {key: rounded(value) for key, value in result.items()}


def orders(judge: Judge, pairs: list[Pair]) -> measures.Orders:
    """Verdicts in the original and the flipped order, in the pair's labels; None: unreadable.

    A scoring judge has the same verdict in both by construction. Raises ValueError where a judge
    has neither a margin nor judgements in both orders.
    """
    said = {(row.pair_id, row.order): row.verdict for row in judge.judgements}
    found: measures.Orders = []
    for row in resolved(judge, pairs):
        scored = row.verdict == "unreadable" or row.margin is not None
        if judge.judgements or row.verdict == "conflict" or not scored:
            try:
                found.append((said[row.pair_id, "original"], said[row.pair_id, "flipped"]))
            except KeyError as error:
                what = f"judge {judge.name!r} has neither a margin nor a judgement of {error}"
                raise ValueError(f"{what}; pass its judgements in both orders") from None
        else:
            one = None if row.verdict == "unreadable" else row.verdict
            found.append((one, one))
    return found


def win_rates(judge: Judge, pairs: list[Pair]) -> pd.DataFrame:
    """One row an answerer, best first: its pairs, how many it won (leaning too), tied, lost or saw
    undecided (conflict, unreadable), and rate = (won + half of tied) / pairs."""
    fates = []
    for pair, resolution in zip(pairs, resolved(judge, pairs), strict=True):
        for name, own in ((pair.answerer_a, "a"), (pair.answerer_b, "b")):
            other = {"tie": "tied", "a": "lost", "b": "lost"}.get(resolution.verdict, "undecided")
            fates.append((name, "won" if resolution.verdict == own else other))
    frame = pd.DataFrame(fates, columns=["answerer", "fate"])
    counts = pd.crosstab(frame["answerer"], frame["fate"]).rename_axis(columns=None)
    counts = counts.reindex(columns=["won", "tied", "lost", "undecided"], fill_value=0)
    counts.insert(0, "pairs", counts.sum(axis=1))
    counts["rate"] = (counts["won"] + counts["tied"] / 2) / counts["pairs"]
    return counts.sort_values("rate", ascending=False, kind="stable")


def longer_wins(judge: Judge, longest: Judge, pairs: list[Pair]) -> float | None:
    """Share of the judge's winners that are the longer answer; equal lengths count one half."""
    both = zip(resolved(judge, pairs), resolved(longest, pairs), strict=True)
    credits = [credit for ours, long in both if (credit := measures.credit(ours, long)) is not None]
    return sum(credits) / len(credits) if credits else None


def table(card: Card, subset: str = "all") -> pd.DataFrame:
    """One row a judge, for people, and the teacher's own consistency as the ceiling at the end."""
    rows = {name: dict(by_subset[subset]) for name, by_subset in card["judges"].items()}
    own = card["teacher"][subset]
    ceiling = f"{card['teacher_name']}, both orders (ceiling)"
    rows[ceiling] = {key.replace("same_in_both", "agreement"): own[key] for key in own}
    for row in rows.values():
        for name in ("agreement", "preference"):
            if row.get(f"{name}_low") is not None:
                row[f"{name}_span"] = f"{row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f}"
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("judge")
    return frame.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)


def _subsets(pairs: list[Pair]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        name = " vs ".join(sorted((pair.answerer_a, pair.answerer_b)))
        groups.setdefault(name, []).append(pair)
    named = {short: groups[name] for name, short in NAMED.items() if name in groups}
    return {"all": pairs} | named | dict(sorted(groups.items()))


def _own(judge: Judge, pairs: list[Pair]) -> Card:
    """What needs no teacher: the counts of verdicts, and the sway of the order."""
    return measures.counts(resolved(judge, pairs)) | measures.position(orders(judge, pairs))


def _against(teacher: Judge, judge: Judge, pairs: list[Pair], seed: int) -> Card:
    """All figures of one judge on some pairs."""
    both = list(zip(resolved(teacher, pairs), resolved(judge, pairs), strict=True))
    questions = [pair.question_id for pair in pairs]
    sure = not judge.judgements or any(row.probabilities for row in judge.judgements)
    return {
        "pairs": len(pairs),
        **measures.agreement(both),
        **measures.preference(both, questions, seed, RESAMPLES),
        **_own(judge, pairs),
        **measures.calibration(both if sure else []),
    }


def resolved(judge: Judge, pairs: Sequence[Pair]) -> list[Resolution]:
    """The judge's resolutions in the pairs' order. Raises ValueError on a gap or a bad score."""
    gaps = [pair.pair_id for pair in pairs if pair.pair_id not in judge.resolutions]
    if gaps:
        what = f"judge {judge.name!r} has no resolution of {len(gaps)} pairs, {gaps[0]!r} first"
        raise ValueError(f"{what}; judge them too: a pair is never left out")
    found = [judge.resolutions[pair.pair_id] for pair in pairs]
    for row in found:
        if row.margin is not None and not math.isfinite(row.margin):
            what = f"judge {judge.name!r}, pair {row.pair_id!r}: margin {row.margin}"
            raise ValueError(f"{what} is not a finite number; mend the judge's scores")
    return found


def rounded(value: Any) -> Any:
    """The value with floats of six significant digits (0 below 1e-12): files stay the same."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) > 1e-12 else 0.0
    return value

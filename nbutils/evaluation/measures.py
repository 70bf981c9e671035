"""One function a figure, on rows of resolutions. Never drops a row and knows no judge by name."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy.special import rel_entr
from scipy.stats import bootstrap
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from nbutils.records import Label, Resolution, Resolved

Figures = dict[str, Any]  # ready for JSON once rounded
Both = list[tuple[Resolution, Resolution]]  # teacher's and judge's resolution of each pair
Orders = list[tuple[Label | None, Label | None]]  # original and flipped verdict; None: unreadable

DECIDED = ("a", "b", "tie")
BINS = 10  # of equal width, for the calibration error
LEAST = 1e-9  # what a judge's probability of 0 counts as in the KL divergence


def hit(teacher: Resolution, judge: Resolution) -> float:
    """1 where both give the same verdict of a, b and tie, else 0."""
    return float(teacher.verdict == judge.verdict and judge.verdict in DECIDED)


def credit(teacher: Resolution, judge: Resolution) -> float | None:
    """1 for the answer that the teacher prefers, 1/2 for equal scores; None where it has none.

    A judge without scores has to name that answer: tie, conflict and unreadable earn 0.
    """
    if teacher.verdict not in ("a", "b"):
        return None
    if judge.margin is None:
        return float(judge.verdict == teacher.verdict)
    return 0.5 if judge.margin == 0 else float((judge.margin > 0) == (teacher.verdict == "a"))


def counts(resolutions: Sequence[Resolution]) -> Figures:
    """How many of each verdict, and how many of the winners are leaning."""
    verdicts = [resolution.verdict for resolution in resolutions]
    found = {verdict: verdicts.count(verdict) for verdict in get_args(Resolved)}
    return found | {"leaning": sum(resolution.leaning for resolution in resolutions)}


def agreement(both: Both) -> Figures:
    """Three-way agreement of resolved verdicts over all pairs, and what it hides.

    agreement: share of all pairs with the same verdict, Wilson's 95 % interval (which takes pairs
    as independent); a conflict or an unreadable reply on either side agrees with nothing.
    coverage: share of all pairs that the judge decides (a, b or tie). kappa: Cohen's, over all
    pairs, each side's undecided pairs being a label of its own that matches none; None where
    both have one and the same label throughout, since chance is then 1.
    """
    hits = int(sum(hit(t, j) for t, j in both))
    low, high = proportion_confint(hits, len(both), method="wilson")
    decided = sum({t.verdict, j.verdict} <= {*DECIDED} for t, j in both)
    theirs = [t.verdict if t.verdict in DECIDED else "teacher undecided" for t, _ in both]
    ours = [j.verdict if j.verdict in DECIDED else "judge undecided" for _, j in both]
    return {
        "agree": hits,
        "agreement": hits / len(both),
        "agreement_low": low,
        "agreement_high": high,
        "coverage": sum(j.verdict in DECIDED for _, j in both) / len(both),
        "both_decide": decided,
        "agreement_where_both_decide": hits / decided if decided else None,
        "kappa": cohen_kappa_score(theirs, ours) if len({*theirs, *ours}) > 1 else None,
    }


def preference(both: Both, questions: list[str], seed: int, resamples: int) -> Figures:
    """Share right of the `preferred` pairs, where the teacher prefers one; interval by questions.

    Where all are right, or all wrong, a bootstrap has no width: Wilson's interval over questions
    stands there instead.
    """
    credits = [credit(t, j) for t, j in both]
    mean, low, high = mean_by_question(credits, questions, seed, resamples)
    if mean in (0, 1):
        asked = len({q for q, c in zip(questions, credits, strict=True) if c is not None})
        low, high = proportion_confint(mean * asked, asked, method="wilson")
    preferred = sum(c is not None for c in credits)
    return {
        "preferred": preferred,
        "preference": mean,
        "preference_low": low,
        "preference_high": high,
    }


def position(orders: Orders) -> Figures:
    """What the order of the answers does to a judge.

    first_choice: share of replies for one answer that choose the one shown first. same_in_both:
    share of all pairs with one readable verdict in both orders, Wilson's 95 % interval. flips:
    pairs that go to the other answer; flip_rate: their share of pairs readable in both orders.
    """
    first = sum((o == "a") + (f == "b") for o, f in orders)
    decided = sum((o in ("a", "b")) + (f in ("a", "b")) for o, f in orders)
    readable = [(o, f) for o, f in orders if o and f]
    same = sum(o == f for o, f in readable)
    flips = sum({o, f} == {"a", "b"} for o, f in readable)
    low, high = proportion_confint(same, len(orders), method="wilson")
    return {
        "first_choice": first / decided if decided else None,
        "same_in_both": same / len(orders),
        "same_in_both_low": low,
        "same_in_both_high": high,
        "flips": flips,
        "flip_rate": flips / len(readable) if readable else None,
    }


def calibration(both: Both) -> Figures:
    """KL(teacher || judge) and expected calibration error, on pairs where the judge has a target.

    kl: mean over pairs where the teacher has a soft target too, in nats. calibration_error: sum
    over bins of share * |agreement - confidence| (Guo et al. 2017, equation 3), confidence being
    the probability of the verdict given, or for a conflict the largest. Both None without targets.
    """
    rows = [(t, j, j.target) for t, j in both if j.target]
    if not rows:
        return {"kl": None, "kl_pairs": 0, "calibration_error": None, "bins": []}
    soft = np.array([(t.target, target) for t, _, target in rows if t.target]).reshape(-1, 2, 3)
    divergence = rel_entr(soft[:, 0], np.maximum(soft[:, 1], LEAST)).sum(axis=1)
    frame = pd.DataFrame({"agreement": [hit(t, j) for t, j, _ in rows]})
    frame["confidence"] = [
        target[DECIDED.index(j.verdict)] if j.verdict in DECIDED else max(target)
        for _, j, target in rows
    ]
    frame["low"] = np.minimum(np.floor(frame["confidence"] * BINS), BINS - 1) / BINS
    groups = frame.groupby("low")
    bins = groups[["agreement", "confidence"]].mean().assign(count=groups.size()).reset_index()
    gaps = (bins["agreement"] - bins["confidence"]).abs() * bins["count"]
    return {
        "kl": divergence.mean() if len(soft) else None,
        "kl_pairs": len(soft),
        "calibration_error": gaps.sum() / len(frame),
        "bins": bins.to_dict("records"),
    }


def mean_by_question(
    values: Sequence[float | None], questions: list[str], seed: int, resamples: int
) -> tuple[float | None, float | None, float | None]:
    """Mean of the values that are not None, with its 95 % percentile bootstrap interval.

    Questions are drawn, each with all its values: pairs of one question share its source and
    answers and are not independent. A single question gives no interval.
    """
    kept = [(q, value) for q, value in zip(questions, values, strict=True) if value is not None]
    if not kept:
        return None, None, None
    groups = pd.DataFrame(kept, columns=["question", "value"]).groupby("question")["value"]
    sums, sizes = groups.sum().to_numpy(), groups.count().to_numpy()
    mean = float(sums.sum() / sizes.sum())
    if len(sums) == 1:
        return mean, None, None
    found = bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return mean, float(low), float(high)

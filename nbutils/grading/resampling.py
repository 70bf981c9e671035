"""Measures of grading under weights of the rows, for intervals over questions. Never draws a row.

Questions are drawn, each with all its answers: they share a source, so a judge is right or wrong on
several at once. A draw is a row of weights, how often each answer counts; row 0 is the data as it
is, all ones. So one call gives a measure and all its resampled values, and measures taken under the
same draws can be subtracted. A draw in which a measure is undefined gives NaN.
"""

import numpy as np

RESAMPLES = 2000
BINS = 10  # of equal width, for the calibration error


def draws(questions: np.ndarray, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples + 1, rows) weights; `questions` holds the question of each row."""
    names, place = np.unique(questions, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(names) or 1, size=(resamples, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])
    return np.asarray(np.vstack([np.ones(len(names)), counts])[:, place], dtype=float)


def span(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of resampled values; (None, None) where none is defined."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None, None
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(low), float(high)


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the rows' values, a draw."""
    return _over(weights @ values, weights.sum(axis=1))


def balanced_accuracy(good: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the shares right among the acceptable (`good`) and among the other answers."""
    parts = [_over(weights @ (side * right), weights @ side) for side in (good, 1 - good)]
    return np.asarray(np.mean(parts, axis=0))


def f1(good: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """2 * both / (good + said): of "acceptable", as it is (`good`) and as it was said."""
    return _over(2 * (weights @ (good * said)), weights @ good + weights @ said)


def auroc(good: np.ndarray, ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of (acceptable, not acceptable) that `ranks` puts in order; equal ranks count 1/2."""
    ours, others = _by_rank(good, ranks, weights)
    below = others.sum(axis=1, keepdims=True) - others.cumsum(axis=1)
    found = (ours * (below + others / 2)).sum(axis=1)
    return _over(found, ours.sum(axis=1) * others.sum(axis=1))


def average_precision(good: np.ndarray, ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over cuts, the highest first, of gain in recall times precision there."""
    ours, others = _by_rank(good, ranks, weights)
    precision = _over(ours.cumsum(axis=1), (ours + others).cumsum(axis=1))
    return _over((ours * np.nan_to_num(precision)).sum(axis=1), ours.sum(axis=1))


def calibration_error(outcomes: np.ndarray, chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over bins of `chances` of share * |mean outcome - mean chance|.

    Guo et al. 2017, equation 3, with the chance of being acceptable for the confidence. Chance
    alone moves a bin off the diagonal, so resampled values lie a little above the measure itself.
    """
    inside = np.eye(BINS)[bins(chances)]
    gaps = np.abs((weights * (outcomes - chances)) @ inside).sum(axis=1)
    return _over(gaps, weights.sum(axis=1))


def bins(chances: np.ndarray) -> np.ndarray:
    """The bin of each chance: 0 for [0, 0.1), ... BINS - 1 for [0.9, 1]."""
    return np.minimum(np.floor(np.asarray(chances) * BINS), BINS - 1).astype(int)


def _by_rank(
    good: np.ndarray, ranks: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(draws, distinct ranks) weights of acceptable and other answers, the highest rank first."""
    if not len(ranks):
        empty = np.zeros((len(weights), 0))
        return empty, empty
    order = np.argsort(-ranks, kind="stable")
    starts = np.flatnonzero(np.diff(-ranks[order], prepend=-np.inf))
    ours, others = ((weights * side)[:, order] for side in (good, 1 - good))
    return np.add.reduceat(ours, starts, axis=1), np.add.reduceat(others, starts, axis=1)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0)

"""What alpha, temperature, the number of questions and the kind of label do. Never chooses one.

Every figure is on test, for a reader to see. A fit is convex, so a seed changes nothing in it; what
may differ is what the head is taught with. So a seed draws the training questions again (a
bootstrap; for the learning curve, a part of them), which shows what another training set of the
kind would give. Dealing the same questions into other folds would hide most of that. A bootstrap
holds about 63 % of the questions, so its heads are a little worse than one of all of them: compare
values with each other. Intervals are over seeds and over draws of the test questions together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nbutils.grading import resampling
from nbutils.grading.frozen import Frozen
from nbutils.grading.head_measures import Measured, measure_grades, measure_pairs
from nbutils.grading.heads import Head, fit, targets

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training questions
TAUGHT = {"pairs alone": 0.0, "grades alone": 1.0, "both": 0.5}  # share of the grades in the loss
SEEDS = 10
RESAMPLES = 200  # of the test questions, for each seed


@dataclass(frozen=True)
class Setting:
    """How a head is fitted, and what its KL is measured against."""

    share: float  # of the grades in the loss; see heads.Targets
    threshold: float
    tau: float
    decay: float
    alpha: float = 0.5
    temperature: float = 1.0  # of the soft targets


@dataclass(frozen=True)
class Sweep:
    """What a sweep found, as tidy tables.

    `seeds`: value, seed, measure, result (on test as it is). `table`: value, measure, mean over the
    seeds, low and high (95 %, over seeds and draws of test together), and difference,
    difference_low and difference_high of this value minus the reference, each time under the same
    seed and the same draw of test; NaN where no interval is defined.
    """

    reference: object  # the value that the others are compared with
    seeds: pd.DataFrame
    table: pd.DataFrame


def alpha_sweep(train: Frozen, test: Frozen, setting: Setting, seeds: int = SEEDS) -> Sweep:
    """ALPHAS, against the setting's own; read as grades where grades are taught, else as pairs."""
    chosen = {alpha: replace(setting, alpha=alpha) for alpha in ALPHAS}
    return _sweep(train, test, chosen, setting.alpha, seeds, _bootstrap(train), _measure)


def temperature_sweep(train: Frozen, test: Frozen, setting: Setting, seeds: int = SEEDS) -> Sweep:
    """TEMPERATURES of the soft targets that the head is taught, likewise.

    KL is from the teacher's own distribution, at temperature 1, whatever the head was taught.
    """
    chosen = {value: replace(setting, temperature=value) for value in TEMPERATURES}
    return _sweep(train, test, chosen, setting.temperature, seeds, _bootstrap(train), _measure)


def learning_curve(train: Frozen, test: Frozen, setting: Setting, seeds: int = SEEDS) -> Sweep:
    """PARTS of the training questions, by their number, against all of them.

    A seed puts the questions in an order, and the first n teach the head. With all of them every
    seed gives the same, and the interval is that of test alone. The decay and the features' scale
    are those of all of train.
    """
    count = len(train.questions)
    sizes = sorted({max(1, round(part * count)) for part in PARTS})

    def first(size: int, seed: int) -> np.ndarray:
        order = np.random.default_rng(seed).permutation(count)
        return (np.argsort(order) < size).astype(float)

    return _sweep(train, test, dict.fromkeys(sizes, setting), count, seeds, first, _measure)


def taught_sweep(
    train: Frozen,
    test: Frozen,
    setting: Setting,
    decays: Mapping[str, float],
    seeds: int = SEEDS,
) -> Sweep:
    """TAUGHT: pairs, grades or both, each with its own decay; read on pairs and on grades.

    Only the order of the scores is measured: what a head lacks that has seen no grade, or no pair,
    is a number or two, which a curve can give it.
    """
    chosen = {
        name: replace(setting, share=share, decay=decays[name]) for name, share in TAUGHT.items()
    }

    def order(head: Head, rows: Frozen, now: Setting, weights: np.ndarray) -> Measured:
        grades = measure_grades(head, rows, now.threshold, now.tau, weights)
        preference = measure_pairs(head, rows, weights)["preference"]
        return {"preference on pairs": preference, "AUROC on grades": grades["AUROC"]}

    return _sweep(train, test, chosen, "both", seeds, _bootstrap(train), order)


def _bootstrap(train: Frozen) -> Callable[[Any, int], np.ndarray]:
    """How often each training question is drawn: the same for every value of a sweep."""
    count = len(train.questions)

    def drawn(value: Any, seed: int) -> np.ndarray:
        places = np.random.default_rng(seed).integers(count, size=count)
        return np.bincount(places, minlength=count).astype(float)

    return drawn


def _measure(head: Head, test: Frozen, setting: Setting, weights: np.ndarray) -> Measured:
    if setting.share:
        return measure_grades(head, test, setting.threshold, setting.tau, weights)
    return measure_pairs(head, test, weights)


def _sweep(
    train: Frozen,
    test: Frozen,
    chosen: Mapping[Any, Setting],
    reference: object,
    seeds: int,
    draw: Callable[[Any, int], np.ndarray],
    measure: Callable[[Head, Frozen, Setting, np.ndarray], Measured],
) -> Sweep:
    """Fits every value under every seed, and measures each fit under the same draws of test."""
    weights = resampling.draws(np.arange(len(test.questions)), 0, RESAMPLES)
    found: dict[Any, list[Measured]] = {}
    for value, now in chosen.items():
        taught = targets(train, now.share, now.threshold, now.alpha, now.tau, now.temperature)
        heads = [fit(train, taught, draw(value, seed), now.decay) for seed in range(seeds)]
        found[value] = [measure(head, test, now, weights) for head in heads]
    single = [
        (value, seed, name, float(values[0]))
        for value, runs in found.items()
        for seed, run in enumerate(runs)
        for name, values in run.items()
    ]
    table = [
        (value, name, *_summary([run[name] for run in runs], [run[name] for run in against]))
        for against in [found[reference]]
        for value, runs in found.items()
        for name in runs[0]
    ]
    ends = ["mean", "low", "high", "difference", "difference_low", "difference_high"]
    return Sweep(
        reference,
        pd.DataFrame(single, columns=["value", "seed", "measure", "result"]),
        pd.DataFrame(table, columns=["value", "measure", *ends]).astype(dict.fromkeys(ends, float)),
    )


def _summary(runs: list[np.ndarray], against: list[np.ndarray]) -> tuple[float | None, ...]:
    values = np.stack(runs)
    steps = values - np.stack(against)
    return (
        float(values[:, 0].mean()),
        *resampling.span(values[:, 1:].ravel()),
        float(steps[:, 0].mean()),
        *resampling.span(steps[:, 1:].ravel()),
    )

"""One function a figure of grading. Never works out a figure that grade_measures.py should."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

from nbutils.evaluation.agreement import Card
from nbutils.figures.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    WHITE,
    canvas,
    drawn,
    row_names,
    stacked,
)
from nbutils.grading.grade_floors import GRADE_FLOORS
from nbutils.grading.graded import OUTCOMES
from nbutils.grading.loss import teacher_chances
from nbutils.grading.sweeps import Sweep

PANELS = {  # of the judges' figure: measure -> its name, the value of a coin
    "agreement": ("agreement on the class, share of all answers", None),
    "balanced_accuracy": ("balanced accuracy", 0.5),
    "auroc": ("AUROC: acceptable ranked above not acceptable", 0.5),
}


@drawn
def balance(counts: pd.DataFrame, threshold: float) -> Figure:
    """Stacked bars of graded.balance: how many answers have each outcome."""
    title = f"One score strictly above {threshold} makes an answer acceptable: how many are?"
    figure, _ = canvas(title, (9, 1.8 + 0.45 * len(counts)))
    colours = dict(zip(OUTCOMES, (BLUE, ORANGE, GREY), strict=True))
    stacked(figure, counts, "answers", colours, "answers")
    return figure


@drawn
def soft_targets(threshold: float, taus: Sequence[float]) -> Figure:
    """The teacher's score as P(acceptable), for several tau, and the class as a step."""
    figure, (ax,) = canvas("From the teacher's score to a distribution over two classes", (7, 4))
    scores = np.linspace(0, 1, 401)
    for tau, colour in zip(taus, (BLUE, GREEN, ORANGE, RED), strict=False):
        ax.plot(scores, teacher_chances(scores, threshold, tau), color=colour, label=f"tau {tau}")
    ax.step([0, threshold, 1], [0, 0, 1], color=GREY, linestyle="--", label="the class")
    ax.plot([threshold], [0.5], "o", color=INK, label="1/2 at the threshold, whatever tau")
    ax.set(xlabel="teacher's score", ylabel="P(acceptable)", xlim=(0, 1), ylim=(-0.02, 1.02))
    ax.legend(loc="upper left")
    return figure


@drawn
def judges(card: Card, subset: str = "all") -> Figure:
    """Agreement, balanced accuracy and AUROC of every judge, intervals over questions."""
    found = {name: by_subset[subset] for name, by_subset in card["judges"].items()}
    about = card["subsets"][subset]
    what = "all answers" if subset == "all" else subset
    title = f"Every judge against the teacher's classes: {what} ({about['answers']})"
    figure, axes = canvas(title, (12, 1.9 + 0.42 * len(found)), ncols=len(PANELS), sharey=True)
    never = about["not acceptable"] / about["answers"]
    for ax, (key, (label, coin)) in zip(axes, PANELS.items(), strict=True):
        line = never if coin is None else coin
        drawn_by = "always no" if coin is None else "coin"
        for place, (name, row) in enumerate(found.items()):
            value = np.nan if row[key] is None else row[key]
            ax.barh(place, value, height=0.62, color=GREY if name in GRADE_FLOORS else BLUE)
            if row[f"{key}_low"] is not None:
                for width, colour in ((4, WHITE), (1.5, INK)):
                    ax.hlines(place, row[f"{key}_low"], row[f"{key}_high"], colour, lw=width)
            ax.text(1.02, place, f"{value:.2f}" if np.isfinite(value) else "none", va="center")
        row_names(ax, list(found))
        ax.axvline(line, color=RED, linestyle="--")
        ax.set_title(f"dashed: {drawn_by}, {line:.2f}", color=RED, size=9, loc="right")
        ax.set(xlim=(0, 1.14), xticks=np.linspace(0, 1, 6))
        ax.set_xlabel(fill(label, 34))
    return figure


@drawn
def reliability(card: Card, names: Sequence[str]) -> Figure:
    """Share acceptable against the chance that was given, in bins, for each judge named."""
    title = "Of the answers that a judge calls acceptable with chance p, is a share p acceptable?"
    size = (4.6 * len(names), 5.6)
    figure, axes = canvas(title, size, nrows=2, ncols=len(names), sharex=True, height_ratios=[3, 1])
    for place, name in enumerate(names):
        row = card["judges"][name]["all"]
        bins = pd.DataFrame(row["bins"])
        top, bottom = axes[place], axes[len(names) + place]
        top.plot([0, 1], [0, 1], "--", color=GREY, label="as often as said")
        error = f"{name}\n(calibration error {row['calibration_error']:.2f})"
        top.plot(bins["said"], bins["observed"], "o-", color=BLUE, label=error)
        top.set(ylim=(0, 1.03), ylabel="share acceptable" if not place else "")
        top.legend(loc="upper left")
        bars = bottom.bar(bins["low"], bins["count"], width=0.1, align="edge", color=SKY, ec=WHITE)
        bottom.bar_label(bars, size=9)
        bottom.margins(y=0.3)
        bottom.set(xlim=(0, 1), xlabel="P(acceptable)", ylabel="answers" if not place else "")
    return figure


@drawn
def sweep(found: Mapping[str, Sweep], label: str, title: str) -> Figure:
    """A row a reading ("grades", "pairs"), a panel a measure, on the sweep's values at even steps.

    The interval is that of the value; a red point is one whose difference from the reference, under
    the same seeds and draws, has an interval that leaves out zero.
    """
    measures = {name: list(dict.fromkeys(one.table["measure"])) for name, one in found.items()}
    most = max(map(len, measures.values()))
    size = (3.2 * most, 0.6 + 2.9 * len(found))
    figure, axes = canvas(title, size, nrows=len(found), ncols=most)
    for row, (name, one) in enumerate(found.items()):
        panels = axes[row * most : (row + 1) * most]
        for ax, measure in zip(panels, measures[name], strict=False):
            _panel(ax, one, measure)
            ax.set_title(f"{name}: {measure}", size=10, loc="left")
            ax.set_xlabel(label)
        for ax in panels[len(measures[name]) :]:
            ax.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _panel(ax: Axes, one: Sweep, measure: str) -> None:
    rows = one.table[one.table["measure"] == measure].reset_index(drop=True)
    dots = one.seeds[one.seeds["measure"] == measure]
    place = {value: number for number, value in enumerate(rows["value"])}
    named = any(isinstance(value, str) for value in place)  # names have no order to draw a line by
    if named:
        ax.vlines(
            rows.index, rows["low"], rows["high"], SKY, lw=8, alpha=0.4, label="95 % interval"
        )
    else:
        band = ax.fill_between(rows.index, rows["low"], rows["high"], color=SKY, alpha=0.35, lw=0)
        band.set_label("95 % interval")
    ax.plot(dots["value"].map(place), dots["result"], ".", color=GREY, ms=4, label="one seed")
    ax.plot(rows.index, rows["mean"], "o" if named else "o-", color=BLUE, label="mean of seeds")
    apart = rows[(rows["difference_low"] > 0) | (rows["difference_high"] < 0)]
    told = f"differs from {_text(one.reference)}"
    ax.plot(apart.index, apart["mean"], "o", color=RED, ms=8, label=told)
    ax.set_xticks(rows.index, [_text(value) for value in place])
    ax.margins(x=0.12)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@drawn
def cut(curves: Mapping[str, pd.DataFrame], chosen: float) -> Figure:
    """Precision and recall over cuts, and the cost below; cuts are log-odds, shown as chances.

    `curves` holds cutoffs.curve of each split by name; `chosen` the cut of least cost on train.
    """
    title = "Precision, recall and cost over the cut (red: the cut of least cost on train)"
    size = (4.8 * len(curves), 5.6)
    figure, axes = canvas(title, size, nrows=2, ncols=len(curves), sharex=True, sharey="row")
    for place, (name, rows) in enumerate(curves.items()):
        top, bottom = axes[place], axes[len(curves) + place]
        at = expit(rows["cut"])
        top.plot(at, rows["precision"], color=BLUE, label="precision")
        top.plot(at, rows["recall"], color=ORANGE, label="recall")
        bottom.plot(at, rows["cost"], color=INK)
        for ax in (top, bottom):
            ax.axvline(expit(chosen), color=RED, linestyle="--")
        top.set_title(name, size=10, loc="left")
        top.set(ylim=(0, 1.03), xlim=(0, 1))
        bottom.set_xlabel("accepted above this P(acceptable)")
    axes[0].legend(loc="lower left")
    axes[len(curves)].set_ylabel("cost an answer")
    return figure

"""One function a figure of the series. Never works out a figure that measures.py should."""

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nbutils.evaluation.agreement import Card, Judge, orders
from nbutils.evaluation.floors import FLOORS
from nbutils.figures.drawing import (
    BLUE,
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
from nbutils.records import Pair

ENDS = ("difference", "low", "high")
SPAN = ("", "_low", "_high")


def _bars(ax: Axes, names: Sequence[str], values: Sequence[float], label: str) -> None:
    """Horizontal bars, the first name on top, floors in grey."""
    colours = [GREY if name in FLOORS else BLUE for name in names]
    ax.barh(range(len(names)), values, color=colours, height=0.62)
    row_names(ax, names)
    ax.set_xlabel(fill(label, 48))


def _share(ax: Axes, values: Sequence[float], line: float, what: str) -> None:
    """Makes an axis of shares: values written at the right, a dashed line named above."""
    for place, value in enumerate(values):
        ax.text(1.02, place, f"{value:.2f}" if np.isfinite(value) else "none", va="center")
    ax.axvline(line, color=RED, linestyle="--")
    ax.set_title(f"dashed: {what}, {line:.2f}", color=RED, size=9, loc="right")
    ax.set(xlim=(0, 1.12), xticks=np.linspace(0, 1, 6))


@drawn
def agreement(card: Card, subset: str = "all") -> Figure:
    """Agreement and preference accuracy of every judge on a subset, with 95 % intervals."""
    found = {name: by_subset[subset] for name, by_subset in card["judges"].items()}
    frame = pd.DataFrame(found).T
    teacher, ceiling = card["teacher_name"], card["teacher"][subset]["same_in_both"]
    title = f"How often each judge decides as the {teacher} does: {_named(subset)}"
    figure, axes = canvas(title, (10, 1.7 + 0.45 * len(frame)), ncols=2, sharey=True)
    pairs, preferred = frame[["pairs", "preferred"]].iloc[0]
    many = f"same verdict (a, b or tie), share of {pairs} pairs"
    some = f"preferred answer found, share of the {preferred} pairs where the {teacher} prefers one"
    own = f"{teacher} with itself"
    panels = (("agreement", many, ceiling, own), ("preference", some, 0.5, "coin toss"))
    for ax, (key, label, line, what) in zip(axes, panels, strict=True):
        middle, low, high = frame[[key, f"{key}_low", f"{key}_high"]].astype(float).to_numpy().T
        _bars(ax, list(frame.index), list(middle), label)
        for width, colour in ((4, WHITE), (1.5, INK)):
            ax.hlines(range(len(frame)), low, high, color=colour, linewidth=width)
        _share(ax, list(middle), line, what)
    return figure


@drawn
def by_answerers(card: Card, measure: str = "preference") -> Figure:
    """Heat table of "preference" or "agreement": pairs of answerers by judges."""
    judges = list(card["judges"])
    subsets = ["all", *(name for name in card["subsets"] if " vs " in name)]
    cells = [[card["judges"][judge][subset][measure] for judge in judges] for subset in subsets]
    grid = np.array(cells, dtype=float)
    what = {"preference": "Preferred answers found", "agreement": "Same verdict"}[measure]
    title = f"{what}, by who answered: share of the pairs that count (their number in brackets)"
    figure, (ax,) = canvas(title, (4.4 + 0.95 * len(judges), 1.6 + 0.4 * len(subsets)))
    image = ax.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    count = {"preference": "preferred", "agreement": "pairs"}[measure]
    sizes = [card["judges"][judges[0]][subset][count] for subset in subsets]
    row_names(ax, [f"{_named(s)} ({size})" for s, size in zip(subsets, sizes, strict=True)])
    ax.set_xticks(range(len(judges)), [fill(judge, 10) for judge in judges], size=9)
    ax.tick_params(bottom=False, left=False, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.xaxis.set_label_position("top")
    ax.set(xlabel="judge", ylabel="pair of answerers")
    for (row, column), value in np.ndenumerate(grid):
        text = f"{value:.2f}" if np.isfinite(value) else "none"
        ax.text(column, row, text, ha="center", va="center", color=WHITE if value > 0.6 else INK)
    ax.axhline(0.5, color=WHITE, linewidth=5)
    figure.colorbar(image, ax=ax, label="share, 0 to 1")
    return figure


@drawn
def verdict_flow(judge: Judge, pairs: list[Pair]) -> Figure:
    """4 x 4 table of a judge's verdicts in the original and the flipped order, with counts."""
    names = ("a", "b", "tie", "unreadable")
    said = orders(judge, pairs)
    flow: Counter[tuple[str, str]] = Counter((o or names[3], f or names[3]) for o, f in said)
    title = f"{judge.name}: its verdicts on {len(pairs)} pairs when the two answers change places"
    figure, (ax,) = canvas(title, (7.6, 5))
    for row, original in enumerate(names):
        for column, flipped in enumerate(names):
            fate, colour = "conflict", RED
            if "unreadable" in (original, flipped):
                fate, colour = "unreadable", GREY
            elif original == flipped:
                fate, colour = "same", BLUE
            elif "tie" in (original, flipped):
                fate, colour = "leaning", ORANGE
            count = flow[original, flipped]
            alpha, ink = (0.85, WHITE if colour == BLUE else INK) if count else (0.12, INK)
            ax.add_patch(Rectangle((column, row), 1, 1, fc=colour, ec=WHITE, lw=3, alpha=alpha))
            for text, down, size in ((str(count), 0.42, 15), (fate, 0.76, 9)):
                ax.text(
                    column + 0.5, row + down, text, ha="center", va="center", size=size, color=ink
                )
    ax.set_xticks(np.arange(4) + 0.5, names)
    ax.set_yticks(np.arange(4) + 0.5, names)
    ax.set(xlim=(0, 4), ylim=(4, 0))
    ax.set_xlabel("verdict in the flipped order (b shown first)")
    ax.set_ylabel("verdict in the original order (a shown first)")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return figure


@drawn
def reliability(card: Card, judge: str) -> Figure:
    """Agreement against confidence in bins of confidence, with the number of pairs in each."""
    found = card["judges"][judge]["all"]
    bins = pd.DataFrame(found["bins"])
    title = f"Is {judge} right as often as it is sure? All pairs, by its own probability"
    figure, (top, bottom) = canvas(title, (7, 6), nrows=2, sharex=True, height_ratios=[3, 1])
    error = f"{judge} (calibration error {found['calibration_error']:.2f})"
    top.plot([0, 1], [0, 1], "--", color=GREY, label="right as often as sure")
    top.plot(bins["confidence"], bins["agreement"], "o-", color=BLUE, label=error)
    top.set(ylim=(0, 1.03), ylabel=f"share with the {card['teacher_name']}'s verdict")
    top.legend(loc="lower right")
    bars = bottom.bar(bins["low"], bins["count"], width=0.1, align="edge", color=SKY, ec=WHITE)
    bottom.bar_label(bars, size=9)
    bottom.margins(y=0.3)
    bottom.set(xlim=(0, 1), xlabel="probability of the verdict given", ylabel="pairs")
    return figure


@drawn
def time_and_cost(seconds: Mapping[str, float]) -> Figure:
    """Seconds a judgement of each judge on a log scale, and how long a thousand take."""
    names, values = list(seconds), list(seconds.values())
    figure, (ax,) = canvas("Time of one judgement, and of a thousand", (9, 1.5 + 0.45 * len(names)))
    _bars(ax, names, values, "seconds a judgement (log scale: ten times as long at each mark)")
    low, high = np.floor(np.log10(min(values) / 2)), np.ceil(np.log10(max(values)))
    ax.set(xscale="log", xlim=(10**low, 10**high), xticks=10 ** np.arange(low, high + 1))
    ax.minorticks_off()
    for place, value in enumerate(values):
        text = f"{_duration(value)}; a thousand take {_duration(1000 * value)}"
        ax.text(1.02, place, text, va="center", transform=ax.get_yaxis_transform())
    return figure


@drawn
def differences(card: Card, judge: str, subset: str = "all") -> Figure:
    """One judge minus every other in agreement and preference, with bootstrap intervals."""
    rows = {}
    for row in card["comparisons"]:
        if row["subset"] == subset and judge in (row["first"], row["second"]):
            sign = 1 if row["first"] == judge else -1
            rows[row["second"] if sign == 1 else row["first"]] = (sign, row)
    title = f"{judge} minus every other judge: {_named(subset)} (95 % intervals over questions)"
    figure, axes = canvas(title, (10, 1.8 + 0.5 * len(rows)), ncols=2, sharey=True)
    for ax, key in zip(axes, ("agreement", "preference"), strict=True):
        for place, (sign, row) in enumerate(rows.values()):
            found = {k: np.nan if row[key][k] is None else sign * row[key][k] + 0.0 for k in ENDS}
            middle, low, high = found.values()
            colour = BLUE if low * high > 0 else GREY
            ax.plot([low, high], [place, place], color=colour, linewidth=2.5)
            ax.plot([middle], [place], "o", color=colour)
            text = ax.text(middle, place - 0.2, f"{middle:+.2f}", ha="center", va="bottom", size=9)
            text.set_bbox({"facecolor": WHITE, "edgecolor": "none", "pad": 0.8})
        row_names(ax, [f"minus {name}" for name in rows])
        ax.axvline(0, color=INK)
        ax.margins(x=0.1)
        ax.set_xlabel(fill(f"difference in {key} (right of zero: {judge} is better)", 48))
        ax.set_title("blue: the interval leaves out zero", size=9, loc="right")
    return figure


@drawn
def people(card: Card) -> Figure:
    """Agreement of every judge with a person and, beside it, with the teacher on the same pairs."""
    who = _plain(card["reviewer"])
    judges, pairs = card["judges"], card["labels"]["drawn"]
    title = f"How often each judge says what {who} says, and what the teacher says"
    figure, (ax,) = canvas(f"{title} (95 % intervals)", (9, 1.9 + 0.5 * len(judges)))
    for shift, key, name, colour in (
        (-0.16, "person", who, BLUE),
        (0.16, "teacher", "the teacher", ORANGE),
    ):
        rows = [(n, row[key]) for n, row in enumerate(judges.values()) if row[key]]
        places = [place + shift for place, _ in rows]
        middle, low, high = ([row[f"agreement{end}"] for _, row in rows] for end in SPAN)
        ax.hlines(places, low, high, color=colour, linewidth=2.5)
        ax.plot(middle, places, "o", color=colour, label=f"with {name}")
        for place, value in zip(places, middle, strict=True):
            ax.text(1.02, place, f"{value:.2f}", va="center", size=9)
    row_names(ax, list(judges))
    ax.set(xlim=(0, 1.1), xticks=np.linspace(0, 1, 6))
    label = f"same verdict (a, b or tie), share of the {pairs} pairs that {who} labelled"
    ax.set_xlabel(fill(label, 90))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@drawn
def win_rates(rates: pd.DataFrame, judge: str) -> Figure:
    """Shares of won, tied, lost and undecided pairs of each answerer, from agreement.win_rates."""
    title = f"Who wins in the {judge}'s eyes: what became of each answerer's pairs"
    figure, _ = canvas(title, (9, 1.8 + 0.45 * len(rates)))
    fates = {"won": BLUE, "tied": SKY, "lost": ORANGE, "undecided": GREY}
    stacked(figure, rates, "pairs", fates, "pairs")
    return figure


@drawn
def position_and_length(
    first: Mapping[str, float | None], longer: Mapping[str, float | None]
) -> Figure:
    """Share of choices that fall on the answer shown first, and on the longer one, by judge."""
    title = "What else may sway a judge: the place and the length of an answer"
    figure, axes = canvas(title, (10, 1.7 + 0.45 * len(first)), ncols=2, sharey=True)
    panels = (
        (first, "the answer shown first, share of choices"),
        (longer, "the longer answer, share of winners"),
    )
    for ax, (shares, label) in zip(axes, panels, strict=True):
        values = [np.nan if (share := shares[name]) is None else share for name in first]
        _bars(ax, list(first), values, label)
        _share(ax, values, 0.5, "no sway")
    return figure


def _named(subset: str) -> str:
    named = {"contrast": "contrast pairs", "like strength": "pairs of like strength"}
    return "all pairs" if subset == "all" else named.get(subset, _plain(subset))


def _plain(name: str) -> str:
    """A name as it is, never read as a formula."""
    return name.replace("$", r"\$")


def _duration(seconds: float) -> str:
    """0.0042 -> 4.2 ms; 90 -> 1.5 min."""
    for size, unit in ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"

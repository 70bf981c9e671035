"""How every figure of the series looks. Never draws one."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from textwrap import fill
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito 2008: colours that stay apart for the colour-blind.
BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
GREY, INK, WHITE = "#999999", "#222222", "#FFFFFF"
STYLE: dict[Any, Any] = {
    "figure.facecolor": WHITE,
    "axes.facecolor": WHITE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "text.color": INK,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in the style of the series, and closes the figure so that a notebook shows it once."""

    @wraps(draw)
    def closed(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return closed


def canvas(title: str, size: tuple[float, float], **grid: Any) -> tuple[Figure, list[Axes]]:
    """A titled figure of a size in inches and its axes, left to right or top to bottom."""
    figure, axes = plt.subplots(figsize=size, squeeze=False, layout="constrained", **grid)
    figure.suptitle(fill(title, int(size[0] * 10)), x=0.01, ha="left", weight="bold", size=12)
    return figure, list(axes.flat)


def stacked(
    figure: Figure, counts: pd.DataFrame, whole: str, colours: Mapping[str, str], what: str
) -> None:
    """A bar a row of counts: the share of each column of `colours` in the column `whole`.

    The numbers stand in the bars, and the row's whole behind its name; `what` is counted.
    """
    (ax,) = figure.axes
    start = np.zeros(len(counts))
    for name, colour in colours.items():
        share = (counts[name] / counts[whole]).to_numpy()
        bars = ax.barh(range(len(counts)), share, left=start, color=colour, label=name)
        both = zip(counts[name], share, strict=True)
        shown = [str(number) if part > 0.025 else "" for number, part in both]
        ax.bar_label(bars, shown, label_type="center", color=WHITE if colour == BLUE else INK)
        start += share
    row_names(ax, [f"{name} ({many} {what})" for name, many in counts[whole].items()])
    ax.set(xlim=(0, 1), xlabel=f"share of the {what} (their number in the bar)")
    figure.legend(loc="outside lower center", ncols=len(colours))


def row_names(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")

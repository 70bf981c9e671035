"""How every figure of the series looks. Never draws one."""

from collections.abc import Callable, Sequence
from functools import wraps
from textwrap import fill
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
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


def row_names(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")

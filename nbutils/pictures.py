"""Figures of the document, the answers and the student inside. Never draws a scorecard."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nbutils.backbone import Tree
from nbutils.plots import BLUE, GREY, ORANGE, SKY, WHITE, _axes, _drawn


@_drawn
def attention(tree: Tree, names: Sequence[str]) -> Figure:
    """Which token (row) sees which (column) in a tree: the shared text and each named branch."""
    total = tree.ends[-1] + 1
    sees = (tree.mask[0, 0, :total, :total] == 0).numpy().astype(int)
    sees[tree.shared :, tree.shared :] *= 2  # a branch that sees itself: a colour of its own
    figure, (ax,) = _axes("One pass, all answers: who sees whom", (7.5, 6.2))
    ax.imshow(sees, cmap=ListedColormap([WHITE, SKY, BLUE]), interpolation="nearest")
    starts = [0, *(start for start, _ in tree.spans)]
    ends = [tree.shared - 1, *tree.ends]
    middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
    ax.set_yticks(middles, ["question, source, question", *names])
    ax.set_xticks([tree.shared / 2], [f"{tree.shared} shared tokens"])
    for end in ends:
        ax.axhline(end + 0.5, color=GREY, linewidth=0.6)
        ax.axvline(end + 0.5, color=GREY, linewidth=0.6)
    ax.set_ylabel("the token that reads")
    ax.set_xlabel("light: what it sees of the shared text; dark: of its own answer")
    ax.grid(False)
    return figure


@_drawn
def surprisal(answers: Sequence[tuple[str, Sequence[str], Sequence[float]]]) -> Figure:
    """Bars of -log p of each token: one (name, tokens, nats) an answer."""
    figure, axes = _axes(
        "How little the base expected each token, having read the source",
        (9, 2.4 * len(answers)),
        nrows=len(answers),
        sharey=True,
    )
    for ax, (name, tokens, nats) in zip(axes, answers, strict=True):
        top = int(np.argmax(nats))
        colours = [ORANGE if place == top else BLUE for place in range(len(tokens))]
        ax.bar(range(len(tokens)), nats, color=colours)
        ax.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right")
        ax.set_ylabel("nats")
        ax.set_title(name, size=10, loc="left")
    return figure

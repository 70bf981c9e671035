"""Figures of the document, the answers and the student inside. Never draws a scorecard."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nbutils.figures.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    WHITE,
    canvas,
    drawn,
    row_names,
)
from nbutils.records import Chunk, Question

if TYPE_CHECKING:  # it imports torch, which takes seconds, and most figures do without
    from nbutils.scoring.backbone import Tree


@drawn
def attention(tree: "Tree", names: Sequence[str]) -> Figure:
    """Which token (row) sees which (column) in a tree: the shared text and each named branch."""
    total = tree.ends[-1] + 1
    sees = (tree.mask[0, 0, :total, :total] == 0).numpy().astype(int)
    sees[tree.shared :, tree.shared :] *= 2  # a branch that sees itself: a colour of its own
    figure, (ax,) = canvas("One pass, all answers: who sees whom", (7.5, 6.2))
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


@drawn
def surprisal(answers: Sequence[tuple[str, Sequence[str], Sequence[float]]]) -> Figure:
    """Bars of -log p of each token: one (name, tokens, nats) an answer.

    Orange: tokens that no other answer has.
    """
    figure, axes = canvas(
        "How little the base expected each token, having read the source",
        (9, 2.4 * len(answers)),
        nrows=len(answers),
        sharey=True,
    )
    for ax, (name, tokens, nats) in zip(axes, answers, strict=True):
        elsewhere = {token for other, those, _ in answers if other != name for token in those}
        colours = [BLUE if token in elsewhere else ORANGE for token in tokens]
        ax.bar(range(len(tokens)), nats, color=colours)
        ax.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right")
        ax.set_ylabel("nats")
        ax.set_title(name, size=10, loc="left")
    return figure


@drawn
def chunk_map(chunks: Sequence[Chunk]) -> Figure:
    """The document's sections from top to bottom, each cut into its chunks, with their ids."""
    sections = list(dict.fromkeys(chunk.section for chunk in chunks))
    title = f"The document: {len(sections)} sections cut into {len(chunks)} chunks"
    figure, (ax,) = canvas(title, (10, 1.3 + 0.27 * len(sections)))
    start = [0] * len(sections)
    for chunk in chunks:
        row, words = sections.index(chunk.section), len(chunk.text.split())
        first = start[row] == 0
        ax.barh(row, words, left=start[row], color=BLUE if first else SKY, ec=WHITE, height=0.8)
        place, ink = start[row] + words / 2, WHITE if first else INK
        ax.text(place, row, chunk.chunk_id, ha="center", va="center", size=8, color=ink)
        start[row] += words
    row_names(ax, [_short(section) for section in sections])
    ax.set_xlabel("words")
    return figure


@drawn
def answer_styles(styles: pd.DataFrame) -> Figure:
    """Spread of each answerer's answers in words and in the share taken from the source.

    Columns: answerer, words (a count) and copied (share of word trigrams, 0 to 1); a row an answer.
    """
    names = list(dict.fromkeys(styles["answerer"]))
    title = "How long the answers are, and how much of them stands in the source word for word"
    figure, axes = canvas(title, (10, 1.7 + 0.45 * len(names)), ncols=2, sharey=True)
    panels = (
        ("words", "words of the answer"),
        ("copied", "share of its word trigrams that stand in the source"),
    )
    for ax, (key, label) in zip(axes, panels, strict=True):
        values = [styles.loc[styles["answerer"] == name, key] for name in names]
        boxes = ax.boxplot(
            values,
            positions=range(len(names)),
            orientation="horizontal",
            patch_artist=True,
            widths=0.6,
            boxprops={"facecolor": SKY, "edgecolor": BLUE},
            medianprops={"color": INK, "linewidth": 2},
            flierprops={"marker": ".", "markersize": 4, "markeredgecolor": GREY},
        )
        boxes["boxes"][0].set_label("middle half of the answers; line: the median")
        row_names(ax, [f"{name} ({len(part)})" for name, part in zip(names, values, strict=True)])
        ax.set_xlabel(label)
    axes[1].set_xlim(-0.03, 1.03)
    figure.legend(handles=[boxes["boxes"][0]], loc="outside lower center")
    return figure


@drawn
def split_map(questions: Sequence[Question], chunks: Sequence[Chunk]) -> Figure:
    """Questions of each section by split, and how long the section's chunks are."""
    sections = list(dict.fromkeys(chunk.section for chunk in chunks))
    counts: Counter[tuple[str, str]] = Counter((q.section, q.split) for q in questions)
    title = f"Which sections train and which test: {len(questions)} questions, {len(chunks)} chunks"
    figure, (left, right) = canvas(title, (10, 1.6 + 0.27 * len(sections)), ncols=2, sharey=True)
    start = np.zeros(len(sections))
    for split, colour in (("train", BLUE), ("test", ORANGE), ("mixed", GREY)):
        width = np.array([counts[section, split] for section in sections])
        left.barh(range(len(sections)), width, left=start, color=colour, label=split)
        start += width
    rows = [sections.index(chunk.section) for chunk in chunks]
    right.plot([len(chunk.text.split()) for chunk in chunks], rows, "o", color=GREEN, alpha=0.6)
    row_names(left, [_short(section) for section in sections])
    right.grid(True, axis="y")
    left.set_xlabel("questions on the section")
    figure.legend(loc="outside lower left", ncols=3)
    right.set_xlabel("words of each chunk of the section")
    right.set_xlim(left=0)
    return figure


@drawn
def training_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """The training loss and its two terms, each batch faint and their running mean bold."""
    frame = pd.DataFrame(history)
    frame.index += 1  # steps of the whole training, wherever an epoch starts to count
    title = "The student's training loss and its two terms (faint: each batch, bold: running mean)"
    figure, (ax,) = canvas(title, (9, 4.5))
    window = max(1, len(frame) // 12)
    terms = (
        ("loss", "loss", INK),
        ("ce", "CE: the verdict", BLUE),
        ("kl", "KL: the soft target", ORANGE),
    )
    for key, label, colour in terms:
        ax.plot(frame.index, frame[key], color=colour, alpha=0.22)
        mean = frame[key].rolling(window, center=True, min_periods=1).mean()
        ax.plot(frame.index, mean, color=colour, linewidth=2.2, label=label)
    for epoch, start in frame.reset_index().groupby("epoch")["index"].min().items():
        ax.axvline(start, color=GREY, linestyle=":")
        ax.annotate(f" epoch {epoch}", (start, 1), xycoords=("data", "axes fraction"), va="top")
    ax.set_xlabel("training step (one batch of questions)")
    ax.set_ylabel("mean over the batch's pairs, nats")
    ax.set_ylim(bottom=0)
    ax.margins(y=0.12)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    return figure


def _short(section: str) -> str:
    return section if len(section) < 48 else section[:45] + "..."

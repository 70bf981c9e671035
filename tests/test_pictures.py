import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nbutils.figures import drawing, pictures
from nbutils.records import Chunk, Question
from nbutils.scoring.backbone import Base, Group
from tests.drawn import rows, texts, title, widths

matplotlib.use("Agg")

GEMMA, BM25 = "gemma-3-270m", "extractive-bm25"


def test_training_curve_draws_loss_and_terms_over_all_steps() -> None:
    history = [
        {"epoch": 1 + n // 12, "step": n % 12, "loss": 2 - n / 24, "ce": 1.0, "kl": 3 - n / 12}
        for n in range(24)
    ]
    ax = pictures.training_curve(history).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "loss", "CE: the verdict", "KL: the soft target",
    ]  # fmt: skip
    raw, mean = ax.lines[:2]
    assert raw.get_xdata().tolist() == list(range(1, 25))  # epochs count on
    assert raw.get_ydata().tolist() == [2 - n / 24 for n in range(24)]
    # The window is 24 // 12 = 2: a step and the one before it.
    assert mean.get_ydata()[5] == pytest.approx(2 - (4 + 5) / 2 / 24)
    assert texts(ax) == [" epoch 1", " epoch 2"]
    assert [line.get_xdata()[0] for line in ax.lines[6:]] == [1, 13]


def test_chunk_map_lays_each_sections_chunks_end_to_end() -> None:
    chunks = [Chunk("c0", "Boats", "one two three"), Chunk("c1", "Boats", "one two"),
              Chunk("c2", "Moss", "one")]  # fmt: skip
    figure = pictures.chunk_map(chunks)
    (ax,) = figure.axes
    assert title(figure) == "The document: 2 sections cut into 3 chunks"
    assert rows(ax) == ["Boats", "Moss"]
    assert widths(ax) == [3, 2, 1]
    assert [bar.get_x() for bar in ax.patches] == [0, 3, 0]  # c1 starts where c0 ends
    assert texts(ax) == ["c0", "c1", "c2"]


def test_answer_styles_show_the_spread_of_each_answerer() -> None:
    styles = pd.DataFrame(
        [(GEMMA, 3, 0.0), (GEMMA, 5, 0.5), (GEMMA, 9, 0.25), (BM25, 20, 1.0)],
        columns=["answerer", "words", "copied"],
    )
    words, copied = pictures.answer_styles(styles).axes
    assert rows(words) == [f"{GEMMA} (3)", f"{BM25} (1)"]
    # medians: of 3, 5, 9 words it is 5; of 0, 0.25, 0.5 it is 0.25
    assert [line.get_xdata()[0] for line in words.lines if line.get_linewidth() == 2] == [5, 20]
    assert [line.get_xdata()[0] for line in copied.lines if line.get_linewidth() == 2] == [0.25, 1]


def test_split_map_stacks_the_splits_of_each_section_in_the_documents_order() -> None:
    chunks = [Chunk("c0", "Boats", "one two three"), Chunk("c1", "Moss", "one"),
              Chunk("c2", "Boats", "one two")]  # fmt: skip
    questions = [
        Question(f"q{n}", split, section, "fact", "?", "!", "c", "c", "s")
        for n, (split, section) in enumerate(
            [("train", "Boats"), ("mixed", "Boats"), ("train", "Boats"), ("test", "Moss")]
        )
    ]
    left, right = pictures.split_map(questions, chunks).axes
    assert rows(left) == ["Boats", "Moss"]
    assert widths(left) == [2, 0, 0, 1, 1, 0]  # train, test, mixed
    assert [bar.get_x() for bar in left.patches][4] == 2  # mixed starts where train ends
    assert right.lines[0].get_xydata().tolist() == [[3, 0], [1, 1], [2, 0]]


def test_attention_draws_what_the_mask_says(tiny: Base) -> None:
    tree = tiny.encode(Group("Who?", "The warden.", ("The cook.", "The warden.")))
    ax = pictures.attention(tree, ["one", "other"]).axes[0]
    drawn = np.asarray(ax.images[0].get_array())
    last = tree.ends[-1]
    assert drawn[last, 0] == 1  # the last answer's end sees the shared text
    assert drawn[last, last] == 2  # and itself
    assert drawn[last, tree.spans[0][0]] == 0  # but not the first answer
    assert [label.get_text() for label in ax.get_yticklabels()][1:] == ["one", "other"]


def test_surprisal_marks_the_tokens_that_the_other_answer_lacks() -> None:
    parts = [
        ("right", ["It", "is", "4"], [1.0, 0.5, 0.2]),
        ("wrong", ["It", "is", "7"], [1, 0.5, 3]),
    ]
    for ax, (_, _, nats) in zip(pictures.surprisal(parts).axes, parts, strict=True):
        assert [bar.get_height() for bar in ax.patches] == nats
        colours = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
        assert colours == [drawing.BLUE, drawing.BLUE, drawing.ORANGE]

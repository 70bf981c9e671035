import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nbutils.figures.drawing import BLUE, GREY, RED
from nbutils.grading import cutoffs, grade_card, grade_floors, grade_plots, graded
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.sweeps import Sweep
from tests.drawn import rows, texts, title, widths
from tests.rows import table

matplotlib.use("Agg")

FRAME = table(
    {("q1", "x"): 1.0, ("q1", "y"): 0.1, ("q2", "x"): 0.9, ("q2", "y"): 0.2, ("q3", "x"): None}
)
KEYS = list(zip(FRAME["question_id"], FRAME["answerer"], strict=True))
CHANCES = [0.95, 0.15, 0.35, 0.32, 0.9]
STUDENT = GradeJudge(
    "student", {k: Mark(p > 0.5, p, p, p) for k, p in zip(KEYS, CHANCES, strict=True)}
)


@pytest.fixture(scope="module")
def card():
    judges = [STUDENT, grade_floors.always_no(FRAME)]
    return grade_card.scorecard(FRAME, judges, 0.8, 0.1, seed=0)


def test_balance_writes_the_counts_in_the_bars():
    figure = grade_plots.balance(graded.balance(FRAME, "answerer"), 0.8)
    (ax,) = figure.axes
    assert "strictly above 0.8" in title(figure)
    assert rows(ax) == ["x (3 answers)", "y (2 answers)"]
    # acceptable 2 of 3 and 0 of 2; not 0 and 2; unreadable 1 of 3 and 0
    assert widths(ax) == pytest.approx([2 / 3, 0, 0, 1, 1 / 3, 0])
    assert texts(ax) == ["2", "", "", "2", "1", ""]


def test_soft_targets_meet_at_one_half():
    (ax,) = grade_plots.soft_targets(0.8, (0.05, 0.2)).axes
    curves = ax.lines[:2]
    for line in curves:
        place = np.argmin(np.abs(line.get_xdata() - 0.8))
        assert line.get_ydata()[place] == pytest.approx(0.5)
    assert ax.lines[-1].get_xydata().tolist() == [[0.8, 0.5]]
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["tau 0.05", "tau 0.2"]


def test_judges_have_a_panel_a_measure(card):
    figure = grade_plots.judges(card)
    left, middle, right = figure.axes
    assert title(figure) == "Every judge against the teacher's classes: all answers (5)"
    assert rows(left) == ["student", "always no"]
    # right: q1/x, q1/y, q2/y of five; always no: q1/y, q2/y
    assert widths(left) == [0.6, 0.4]
    assert texts(left) == ["0.60", "0.40"]
    assert widths(middle) == [0.75, 0.5]
    assert texts(right) == ["1.00", "none"]
    assert [to_hex(bar.get_facecolor()) for bar in left.patches] == [BLUE.lower(), GREY]
    assert "always no, 0.40" in left.get_title(loc="right")
    assert "coin, 0.50" in right.get_title(loc="right")


def test_judges_of_a_subset(card):
    assert title(grade_plots.judges(card, "y")).endswith("y (2)")


def test_reliability_draws_bins_and_their_counts(card):
    figure = grade_plots.reliability(card, ["student"])
    top, bottom = figure.axes
    # bins [.1, .2): .15, bad; [.3, .4): .35 good and .32 bad; [.9, 1]: .95, good
    assert top.lines[1].get_xydata() == pytest.approx(
        np.array([[0.15, 0], [0.335, 0.5], [0.95, 1]])
    )
    assert texts(bottom) == ["1", "2", "1"]
    # (.15 + 2 * |.5 - .335| + .05) / 4
    assert "(calibration error 0.13)" in top.get_legend().get_texts()[1].get_text()
    assert top.get_ylabel() == "share acceptable"


def sweep(values):
    lines = [
        (value, name, mean, mean - 0.1, mean + 0.1, 0.0, *ends)
        for value in values
        for name, mean, ends in (("agreement", 0.7, (-0.1, 0.1)), ("KL", 0.3, (0.01, 0.2)))
    ]
    ends = ["mean", "low", "high", "difference", "difference_low", "difference_high"]
    seeds = [
        (value, seed, name, 0.5)
        for value in values
        for seed in (0, 1)
        for name in ("agreement", "KL")
    ]
    return Sweep(
        values[0],
        pd.DataFrame(seeds, columns=["value", "seed", "measure", "result"]),
        pd.DataFrame(lines, columns=["value", "measure", *ends]),
    )


def test_a_sweep_has_a_row_a_reading_and_a_panel_a_measure():
    found = {"grades": sweep([0.0, 0.5, 1.0]), "pairs": sweep([0.0, 0.5, 1.0])}
    figure = grade_plots.sweep(found, "alpha", "What alpha does")
    assert title(figure).startswith("What alpha does")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "grades: agreement", "grades: KL", "pairs: agreement", "pairs: KL",
    ]  # fmt: skip
    calm, apart = figure.axes[:2]
    assert [label.get_text() for label in calm.get_xticklabels()] == ["0", "0.5", "1"]
    assert calm.get_xlabel() == "alpha"
    dots, means, marked = calm.lines
    assert dots.get_xdata().tolist() == [0, 0, 1, 1, 2, 2]
    assert means.get_ydata().tolist() == [0.7] * 3
    assert len(marked.get_xdata()) == 0  # the interval of the difference holds 0
    assert len(apart.lines[2].get_xdata()) == 3 and apart.lines[2].get_color() == RED
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "95 % interval", "one seed", "mean of seeds", "differs from 0",
    ]  # fmt: skip


def test_a_sweep_over_names_and_whole_numbers():
    names = grade_plots.sweep({"heads": sweep(["pairs alone", "both"])}, "taught", "t").axes[0]
    assert [label.get_text() for label in names.get_xticklabels()] == ["pairs alone", "both"]
    assert names.lines[1].get_linestyle() == "None"  # names have no order
    counts = grade_plots.sweep({"heads": sweep([11, 177])}, "questions", "t").axes[0]
    assert [label.get_text() for label in counts.get_xticklabels()] == ["11", "177"]


def test_the_cut_stands_in_every_panel():
    good, ranks = np.array([0.0, 1, 0, 1]), np.array([-1.0, 0, 0, 2])
    curve = cutoffs.curve(good, ranks, cutoffs.Costs(3, 1))
    figure = grade_plots.cut({"train": curve, "test": curve}, 1.0)
    assert title(figure).endswith("the cut of least cost on train)")
    assert len(figure.axes) == 4
    for ax in figure.axes:
        assert ax.lines[-1].get_xdata()[0] == pytest.approx(0.7311, abs=1e-4)  # 1 / (1 + e^-1)
    assert figure.axes[2].lines[0].get_ydata().tolist() == curve["cost"].tolist()
    assert figure.axes[2].get_ylabel() == "cost an answer"

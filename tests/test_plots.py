import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from nbutils.evaluation import floors
from nbutils.evaluation.agreement import Card, Judge, scorecard, win_rates
from nbutils.evaluation.people import Reviewer
from nbutils.evaluation.people_card import people_card
from nbutils.figures import plots
from nbutils.records import Answer, Judgement, Pair, Resolution
from nbutils.review.labels import HumanLabel
from tests.drawn import rows, texts, title, widths

matplotlib.use("Agg")

SMOL, GEMMA, BM25 = "smollm2-135m-instruct", "gemma-3-270m", "extractive-bm25"
PAIRS = [
    Pair("p1", "test", "q1", GEMMA, SMOL),
    Pair("p2", "test", "q2", GEMMA, SMOL),
    Pair("p3", "test", "q2", SMOL, BM25),
    Pair("p4", "test", "q3", GEMMA, SMOL),
]
LENGTHS = {("q1", GEMMA): 9, ("q1", SMOL): 4, ("q2", GEMMA): 2, ("q2", SMOL): 2, ("q2", BM25): 5,
           ("q3", GEMMA): 1, ("q3", SMOL): 6}  # fmt: skip


def teacher() -> Judge:
    """Verdicts a, b, tie and a conflict."""
    rows, judgements = {}, []
    for pair, said in zip(PAIRS, ("aa", "bb", "tt", "ab"), strict=True):
        for order, letter in zip(("original", "flipped"), said, strict=True):
            verdict = {"a": "a", "b": "b", "t": "tie"}[letter]
            judgements.append(Judgement(pair.pair_id, order, "teacher", "p", "", verdict))
        verdict = {"aa": "a", "bb": "b", "tt": "tie", "ab": "conflict"}[said]
        rows[pair.pair_id] = Resolution(pair.pair_id, "teacher", verdict)
    return Judge("teacher", rows, judgements)


def student() -> Judge:
    """Scores for a, b, b and a: right on both preferred pairs, 2 of 4 in all."""
    rows = {}
    for pair, margin in zip(PAIRS, (1.0, -2.0, -0.5, 0.3), strict=True):
        sure = (0.85, 0.1, 0.05) if margin > 0 else (0.25, 0.65, 0.1)
        verdict = "a" if margin > 0 else "b"
        rows[pair.pair_id] = Resolution(pair.pair_id, "student", verdict, False, sure, margin)
    return Judge("student", rows)


@pytest.fixture(scope="module")
def card() -> Card:
    answers = [Answer(*key, "x" * length) for key, length in LENGTHS.items()]
    judges = [student(), floors.longest(PAIRS, answers), floors.always_first(PAIRS)]
    return scorecard(teacher(), judges, PAIRS, seed=0)


def test_agreement_draws_each_judge_its_interval_and_the_ceiling(card: Card) -> None:
    figure = plots.agreement(card)
    left, right = figure.axes
    assert title(figure) == "How often each judge decides as the teacher does: all pairs"
    assert rows(left) == ["student", "longest answer", "always first"]
    # Longest: a right, equal (tie), b, b: 1 of 4 and (1 + 0.5) / 2.
    assert widths(left) == [0.5, 0.25, 0]
    assert widths(right) == [1, 0.75, 0]
    assert texts(right) == ["1.00", "0.75", "0.00"]
    assert "510" not in left.get_xlabel() and "4 pairs" in left.get_xlabel()
    assert "2 pairs" in right.get_xlabel().replace("\n", " ")
    # The teacher has the same verdict in both orders in three of four pairs.
    assert [line.get_xdata()[0] for line in left.lines] == [0.75]
    assert "teacher with itself, 0.75" in left.get_title(loc="right")
    whiskers = np.array(left.collections[-1].get_segments())
    low = card["judges"]["student"]["all"]["agreement_low"]
    assert whiskers[0, :, 0].tolist() == [low, card["judges"]["student"]["all"]["agreement_high"]]


def test_floors_are_grey(card: Card) -> None:
    colours = [to_hex(bar.get_facecolor()) for bar in plots.agreement(card).axes[0].patches]
    assert colours == [plots.BLUE.lower(), plots.GREY, plots.GREY]


def test_agreement_of_a_subset(card: Card) -> None:
    figure = plots.agreement(card, "like strength")
    assert title(figure).endswith("pairs of like strength")
    assert widths(figure.axes[0])[0] == pytest.approx(2 / 3, abs=1e-6)


def test_by_answerers_writes_each_figure_and_the_number_of_pairs(card: Card) -> None:
    ax = plots.by_answerers(card).axes[0]
    # The pair of smol and bm25 is the teacher's tie: nothing to find there.
    assert rows(ax) == ["all pairs (2)", f"{BM25} vs {SMOL} (0)", f"{GEMMA} vs {SMOL} (2)"]
    assert texts(ax) == ["1.00", "0.75", "0.00", "none", "none", "none", "1.00", "0.75", "0.00"]
    ax = plots.by_answerers(card, "agreement").axes[0]
    assert rows(ax)[0] == "all pairs (4)"
    assert texts(ax)[:3] == ["0.50", "0.25", "0.00"]


def test_verdict_flow_counts_both_orders() -> None:
    figure = plots.verdict_flow(teacher(), PAIRS)
    cells = texts(figure.axes[0])
    assert cells[:8] == ["1", "same", "1", "conflict", "0", "leaning", "0", "unreadable"]
    assert [int(text) for text in cells[::2]] == [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    fates = np.array(cells[1::2]).reshape(4, 4)
    assert fates[2].tolist() == ["leaning", "leaning", "same", "unreadable"]
    assert set(fates[3]) == set(fates[:, 3]) == {"unreadable"}
    assert "4 pairs" in title(figure)


def test_reliability_draws_the_bins_and_their_counts(card: Card) -> None:
    figure = plots.reliability(card, "student")
    top, bottom = figure.axes
    # Sure by 0.85: right on p1 alone, of p1 and p4. Sure by 0.65: right on p2, of p2 and p3.
    assert top.lines[1].get_xydata().tolist() == [[0.65, 0.5], [0.85, 0.5]]
    assert [bar.get_height() for bar in bottom.patches] == [2, 2]
    assert [bar.get_x() for bar in bottom.patches] == pytest.approx([0.6, 0.8])
    assert "error 0.25" in top.get_legend().get_texts()[1].get_text()  # (0.15 + 0.35) / 2


def test_time_is_on_a_log_scale_with_words() -> None:
    ax = plots.time_and_cost({"student": 0.07, "reasoned": 7.2, "longest answer": 2e-6}).axes[0]
    assert ax.get_xscale() == "log"
    assert widths(ax) == [0.07, 7.2, 2e-6]
    assert texts(ax) == [
        "70 ms; a thousand take 1.17 min",
        "7.2 s; a thousand take 2 h",
        "2 µs; a thousand take 2 ms",
    ]
    low, high = ax.get_xlim()
    assert low < 2e-6 and high > 7.2


def test_differences_are_the_named_judge_minus_the_others(card: Card) -> None:
    figure = plots.differences(card, "longest answer")
    left, right = figure.axes
    assert rows(left) == ["minus student", "minus always first"]
    # 0.25 - 0.5 and 0.25 - 0; 0.75 - 1 and 0.75 - 0.
    assert texts(left) == ["-0.25", "+0.25"]
    assert texts(right) == ["-0.25", "+0.75"]
    found = card["comparisons"][0]["agreement"]  # student minus longest
    drawn = sorted(left.lines[0].get_xdata())
    assert drawn == sorted([-found["low"], -found["high"]])


def test_a_difference_is_blue_only_where_its_interval_leaves_out_zero(card: Card) -> None:
    right = plots.differences(card, "longest answer").axes[1]
    # Preference by question: half ahead of always first on q2 and one on q1: above 0 always.
    colours = [to_hex(right.lines[place].get_color()) for place in (0, 2)]
    assert colours == [plots.GREY, plots.BLUE.lower()]


def test_win_rates_stack_to_all_pairs() -> None:
    figure = plots.win_rates(win_rates(teacher(), PAIRS), "teacher")
    ax = figure.axes[0]
    # By rate: bm25 tied its one, 0.5; smol won, tied, lost and p4 undecided, 1.5 / 4; gemma 1 / 3.
    assert rows(ax) == [f"{BM25} (1 pairs)", f"{SMOL} (4 pairs)", f"{GEMMA} (3 pairs)"]
    shares = np.array(widths(ax)).reshape(4, 3)
    assert shares[:, 1].tolist() == [0.25, 0.25, 0.25, 0.25]
    assert shares.sum(axis=0) == pytest.approx([1, 1, 1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "won", "tied", "lost", "undecided",
    ]  # fmt: skip


def test_position_and_length_draw_both_shares() -> None:
    figure = plots.position_and_length(
        {"teacher": 0.5, "always first": 1.0}, {"teacher": 0.42, "always first": None}
    )
    left, right = figure.axes
    assert (widths(left), texts(left)) == ([0.5, 1], ["0.50", "1.00"])
    assert texts(right) == ["0.42", "none"]


def test_figures_are_closed_and_leave_the_style_of_others_alone(card: Card) -> None:
    before = plt.rcParams["axes.grid"]
    figure = plots.agreement(card)
    assert plt.get_fignums() == []
    assert plt.rcParams["axes.grid"] == before
    assert to_hex(figure.get_facecolor()) == plots.WHITE.lower()


def test_no_text_is_cut_off_or_over_its_neighbour(card: Card) -> None:
    long = {"a judge of a rather long name": 0.07, "longest answer": 2e-6}
    for figure in (
        plots.agreement(card),
        plots.by_answerers(card),
        plots.differences(card, "student"),
        plots.time_and_cost(long),
        plots.reliability(card, "student"),
        plots.win_rates(win_rates(teacher(), PAIRS), "teacher"),
    ):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01
        assert drawn.x1 <= width + 0.01 and drawn.y1 <= height + 0.01
        below = [ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.get_xlabel()]
        ax = figure.axes[0]
        across = [label.get_window_extent() for label in ax.get_xticklabels()]
        down = [label.get_window_extent() for label in ax.get_yticklabels()]
        for boxes in (below, across, down):
            assert not any(one.overlaps(two) for one, two in zip(boxes, boxes[1:], strict=False))


def test_people_stand_beside_the_teacher_on_the_pairs_that_they_labelled() -> None:
    labels = {
        pair.pair_id: HumanLabel(
            pair.pair_id, "0" * 16, said, 1.0, "", True, True, "2026-01-31T08:15:00Z"
        )
        for pair, said in zip(PAIRS, ("a", "b", "b", "can't tell"), strict=True)
    }
    person = Reviewer("a$b$", labels, {})
    card = people_card([person], teacher(), [student()], PAIRS, seed=0)
    figure = plots.people(card)
    (ax,) = figure.axes
    assert rows(ax) == ["teacher", "student"]
    # Person a, b, b, can't tell. Teacher a, b, tie, conflict: 2 of 4. Student a, b, b, a: 3 of 4
    # with the person, 2 of 4 with the teacher.
    assert texts(ax) == ["0.50", "0.75", "0.50"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.5, 0.75], [0.5]]
    wilson = card["judges"]["student"]["person"]
    spans = np.array(ax.collections[0].get_segments())
    assert spans[1, :, 0].tolist() == [wilson["agreement_low"], wilson["agreement_high"]]
    assert "4 pairs" in ax.get_xlabel() and r"a\$b\$" in title(figure)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [r"with a\$b\$", "with the teacher"]
    figure.canvas.draw()  # the name is drawn, not read as a formula
    found = plots.differences(card, "student", card["subset"])
    assert rows(found.axes[0]) == ["minus teacher"]
    assert texts(found.axes[0]) == ["+0.25"]

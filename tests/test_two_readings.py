import numpy as np
import pytest

from nbutils.grading.two_readings import two_readings
from nbutils.records import Pair, Resolution

PAIRS = [
    Pair("p1", "test", "q1", "x", "y"),
    Pair("p2", "test", "q1", "y", "z"),
    Pair("p3", "test", "q1", "x", "z"),
    Pair("p4", "test", "q2", "x", "y"),
    Pair("p5", "test", "q2", "x", "z"),
    Pair("p6", "test", "q3", "x", "y"),
]
GRADES = {
    ("q1", "x"): 0.9, ("q1", "y"): 0.5, ("q1", "z"): 0.5,
    ("q2", "x"): 0.2, ("q2", "y"): 1.0, ("q2", "z"): None,
    ("q3", "x"): 0.4, ("q3", "y"): 0.3,
}  # fmt: skip
# by grades: a, tie, a, b, unreadable, a
VERDICTS = ["a", "tie", "conflict", "a", "a", "b"]
RESOLUTIONS = [
    Resolution(pair.pair_id, "t", verdict) for pair, verdict in zip(PAIRS, VERDICTS, strict=True)
]


def test_every_pair_stands_in_the_table() -> None:
    found = two_readings(PAIRS, reversed(RESOLUTIONS), GRADES, seed=0)
    assert found.table.to_numpy().tolist() == [
        [1, 1, 0, 1, 0],  # by grades a: the verdicts a (p1), b (p6), conflict (p3)
        [1, 0, 0, 0, 0],  # b: a (p4)
        [0, 0, 1, 0, 0],  # tie: tie (p2)
        [1, 0, 0, 0, 0],  # unreadable: a (p5)
    ]
    assert list(found.table.index) == ["a", "b", "tie", "unreadable"]
    assert list(found.table.columns) == ["a", "b", "tie", "conflict", "unreadable"]


def test_shares_by_hand() -> None:
    figures = two_readings(PAIRS, RESOLUTIONS, GRADES, seed=0).figures
    # the same reading: p1 and p2 of six; both prefer one: p1, p4 and p6, and p1 alone agrees
    assert (figures["pairs"], figures["same"], figures["both_prefer"]) == (6, 2, 3)
    assert figures["same_share"] == pytest.approx(1 / 3, abs=1e-5)
    assert (figures["same_side"], figures["same_side_share"]) == (1, pytest.approx(1 / 3, abs=1e-5))
    # q1 alone drawn: 2 of 3 the same; q2 or q3 alone: none
    assert (figures["same_low"], figures["same_high"]) == (0, pytest.approx(2 / 3, abs=1e-5))
    assert (figures["same_side_low"], figures["same_side_high"]) == (0, 1)


def test_where_they_part_the_widest_gap_comes_first() -> None:
    parted = two_readings(PAIRS, RESOLUTIONS, GRADES, seed=0).parted
    assert parted["pair_id"].tolist() == ["p4", "p6"]  # 0.8 apart, 0.1 apart
    row = parted.iloc[0]
    assert (row["question_id"], row["grade_a"], row["grade_b"]) == ("q2", 0.2, 1.0)
    assert row["verdict"] == "a"


def test_an_answer_without_a_grade_is_unreadable() -> None:
    found = two_readings(PAIRS[:1], RESOLUTIONS, {("q1", "x"): 0.9}, seed=0)
    assert found.table.loc["unreadable", "a"] == 1 and len(found.parted) == 0
    assert found.figures["same_side_share"] is None
    assert found.figures["same_share"] == 0


def test_a_judge_of_scores_never_parts_from_itself() -> None:
    draw = np.random.default_rng(0)
    scores = {key: float(draw.normal()) for key in GRADES}
    said = []
    for pair in PAIRS:
        a, b = (scores[pair.question_id, who] for who in (pair.answerer_a, pair.answerer_b))
        said.append(Resolution(pair.pair_id, "s", "a" if a > b else "b"))
    figures = two_readings(PAIRS, said, scores, seed=0).figures
    assert figures["same_share"] == figures["same_side_share"] == 1

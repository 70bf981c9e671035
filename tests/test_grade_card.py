import json

import numpy as np
import pytest

from nbutils.grading import grade_card, resampling
from nbutils.grading import grade_measures as measures
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.graded import GradingError
from tests.rows import table

GEMMA, SMOL, BM25 = "gemma-3-270m", "smollm2-135m-instruct", "extractive-bm25"
SCORES = {
    ("q1", GEMMA): 1.0, ("q1", SMOL): 0.1, ("q1", BM25): 0.9,
    ("q2", GEMMA): 0.0, ("q2", SMOL): 0.9,
    ("q3", GEMMA): 0.2, ("q3", SMOL): None,
}  # fmt: skip
FRAME = table(SCORES)


def judge(name, said, chances):
    marks = [Mark(s, c, c, c) for s, c in zip(said, chances, strict=True)]
    return GradeJudge(name, dict(zip(SCORES, marks, strict=True)))


# right: q1 gemma, q1 smol, q1 bm25, q2 gemma; wrong: q2 smol, q3 gemma
GOOD = judge(
    "good", [True, False, True, False, False, True, True], [0.9, 0.2, 0.8, 0.1, 0.4, 0.6, 0.7]
)
# right: q1 smol, q2 gemma, q3 gemma, q2 smol; wrong: q1 gemma, q1 bm25
POOR = judge(
    "poor", [False, False, False, False, True, False, False], [0.3, 0.4, 0.2, 0.1, 0.7, 0.4, 0.4]
)
NO = GradeJudge("always no", dict.fromkeys(SCORES, Mark(False)))


@pytest.fixture(scope="module")
def card():
    return grade_card.scorecard(FRAME, [GOOD, POOR, NO], 0.8, 0.1, seed=0)


def test_subsets_are_named_and_counted(card):
    assert list(card["subsets"]) == ["all", "like strength", BM25, GEMMA, SMOL]
    assert card["subsets"]["all"] == {
        "answers": 7, "questions": 3, "acceptable": 3, "not acceptable": 3, "unreadable": 1,
    }  # fmt: skip
    assert card["subsets"]["like strength"]["answers"] == 6
    assert card["subsets"][BM25]["acceptable"] == 1


def test_a_subset_needs_both_of_its_answerers():
    some = {key: score for key, score in SCORES.items() if key[1] != SMOL}
    found = grade_card.scorecard(table(some), [NO], 0.8, 0.1, seed=0)
    assert list(found["subsets"]) == ["all", BM25, GEMMA]


def test_every_judge_has_every_subset(card):
    assert list(card["judges"]) == ["good", "poor", "always no"]
    assert card["judges"]["good"]["all"]["agreement"] == pytest.approx(4 / 7, abs=1e-6)
    assert card["judges"]["good"][GEMMA]["agreement"] == pytest.approx(2 / 3, abs=1e-6)
    assert card["judges"]["good"][BM25]["balanced_accuracy"] is None  # one class


def test_a_comparison_by_hand(card):
    (row,) = [
        row for row in card["comparisons"]
        if (row["subset"], row["first"], row["second"]) == ("all", "good", "poor")
    ]  # fmt: skip
    # only good: q1 gemma, q1 bm25; only poor: q2 smol, q3 gemma; so 4 - 4, p = 1
    assert (row["only_first"], row["only_second"], row["mcnemar_p"]) == (2, 2, 1)
    assert row["agreement"]["difference"] == 0
    # q1 alone drawn: 3 of 3 minus 1 of 3; q3 alone: 0 of 2 minus 1 of 2
    assert row["agreement"]["low"] == -0.5
    assert row["agreement"]["high"] == pytest.approx(2 / 3, abs=1e-6)
    # balanced: good (2/3 + 2/3) / 2, poor (1/3 + 3/3) / 2
    assert row["balanced_accuracy"]["difference"] == 0
    # AUROC: good .9 .8 .4 against .2 .1 .6: 8 of 9; poor .3 .2 .7 against .4 .1 .4: 5 of 9
    assert row["auroc"]["difference"] == pytest.approx(3 / 9, abs=1e-6)


def test_a_judge_that_ranks_nothing_is_compared_by_class_alone(card):
    (row,) = [
        row for row in card["comparisons"]
        if (row["subset"], row["first"], row["second"]) == ("all", "good", "always no")
    ]  # fmt: skip
    assert row["auroc"] == {"difference": None, "low": None, "high": None}
    # good is right on 4, always no on 3: only good q1 gemma, q1 bm25; only no: q3 gemma
    assert (row["only_first"], row["only_second"]) == (2, 1)
    assert row["mcnemar_p"] == 1  # of 2 and 1: 2 * P(at most 1 of 3) = 2 * 4 / 8


def test_mcnemar_s_exact_p_by_hand():
    # 5 answers that only the first has right, none only the second: 2 / 2^5 = 0.0625
    frame = table({(f"q{n}", "x"): 1.0 for n in range(5)})
    keys = [(f"q{n}", "x") for n in range(5)]
    weights = resampling.draws(frame["question_id"].to_numpy(), 0, 50)
    yes, no = (
        measures.rows(frame, GradeJudge(str(said), dict.fromkeys(keys, Mark(said))))
        for said in (True, False)
    )
    found = grade_card.compare(yes, no, weights)
    assert found["mcnemar_p"] == 0.0625
    assert found["agreement"] == {"difference": 1, "low": 1, "high": 1}
    assert found["balanced_accuracy"]["difference"] is None  # one class


def test_auroc_is_compared_on_what_both_rank():
    frame = table({("q1", "x"): 1.0, ("q1", "y"): 0.0, ("q2", "x"): 1.0, ("q2", "y"): 0.1})
    keys = list(zip(frame["question_id"], frame["answerer"], strict=True))
    weights = resampling.draws(frame["question_id"].to_numpy(), 0, 50)
    ranks = {"full": [4.0, 3, 1, 2], "part": [1.0, 2, None, 3]}
    full, part = (
        measures.rows(
            frame, GradeJudge(name, {k: Mark(True, r) for k, r in zip(keys, of, strict=True)})
        )
        for name, of in ranks.items()
    )
    # On q1/x, q1/y and q2/y: full has 4 above 3 and 2 (2 of 2), part 1 above none (0 of 2).
    assert grade_card.compare(full, part, weights)["auroc"]["difference"] == 1


def test_comparisons_are_of_the_named_subsets_alone(card):
    assert {row["subset"] for row in card["comparisons"]} == {"all", "like strength"}
    assert len(card["comparisons"]) == 2 * 3


def test_it_is_ready_for_json_and_the_same_again(card):
    text = json.dumps(card, allow_nan=False)
    again = grade_card.scorecard(FRAME, [GOOD, POOR, NO], 0.8, 0.1, seed=0)
    assert json.dumps(again) == text
    other = grade_card.scorecard(FRAME, [GOOD, POOR, NO], 0.8, 0.1, seed=1)
    assert json.dumps(other) != text  # other draws
    assert card["judges"]["good"]["all"]["agreement"] == 0.571429  # six digits


def test_the_table_for_people(card):
    frame = grade_card.table(card)
    assert list(frame.index) == ["good", "poor", "always no"]
    row = card["judges"]["good"]["all"]
    span = f"{row['agreement_low']:.2f} to {row['agreement_high']:.2f}"
    assert frame.loc["good", "agreement, 95 %"] == span
    assert frame.loc["good", "said yes"] == 4
    assert np.isnan(frame.loc["always no", "AUROC"])
    assert grade_card.table(card, GEMMA).loc["poor", "agreement"] == pytest.approx(2 / 3, abs=1e-6)


def test_differences_turn_round_with_the_judge(card):
    ours = grade_card.differences(card, "good", "auroc")
    theirs = grade_card.differences(card, "poor", "auroc")
    assert ours.loc["poor", "difference"] == -theirs.loc["good", "difference"]
    assert ours.loc["poor", "low"] == -theirs.loc["good", "high"]
    assert list(ours.index) == ["poor", "always no"]
    assert np.isnan(ours.loc["always no", "difference"])


def test_a_judge_twice_and_no_rows_are_refused():
    with pytest.raises(ValueError, match="pass each judge once"):
        grade_card.scorecard(FRAME, [NO, NO], 0.8, 0.1, seed=0)
    with pytest.raises(GradingError, match="no graded answer to score judges on; grade answers"):
        grade_card.scorecard(FRAME.iloc[:0], [NO], 0.8, 0.1, seed=0)


@pytest.mark.filterwarnings("error")
def test_one_answer_and_one_class_work():
    frame = table({("q", "x"): 1.0})
    one = GradeJudge("j", {("q", "x"): Mark(True, 1.0, 1.0, 1.0)})
    found = grade_card.scorecard(
        frame, [one, GradeJudge("n", {("q", "x"): Mark(None)})], 0.8, 0.1, 0
    )
    assert found["judges"]["j"]["all"]["agreement"] == 1
    assert found["judges"]["n"]["all"]["said unreadable"] == 1
    json.dumps(found, allow_nan=False)
    assert len(grade_card.table(found)) == 2

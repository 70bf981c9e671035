import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.evaluation import measures
from nbutils.records import Label, Probabilities, Resolution, Resolved

TARGET = (0.9, 0.05, 0.05)


def row(
    verdict: Resolved,
    margin: float | None = None,
    target: Probabilities | None = None,
    leaning: bool = False,
) -> Resolution:
    return Resolution("p", "judge", verdict, leaning, target, margin)


def both(*verdicts: tuple[Resolved, Resolved]) -> measures.Both:
    return [(row(teacher), row(judge)) for teacher, judge in verdicts]


@pytest.mark.parametrize("verdict", ["a", "b", "tie"])
def test_the_same_verdict_is_a_hit(verdict: Label) -> None:
    assert measures.hit(row(verdict), row(verdict)) == 1


@pytest.mark.parametrize("verdict", ["conflict", "unreadable"])
@pytest.mark.parametrize("other", ["a", "b", "tie", "conflict", "unreadable"])
def test_an_undecided_pair_agrees_with_nothing(verdict: Resolved, other: Resolved) -> None:
    assert measures.hit(row(verdict), row(other)) == 0
    assert measures.hit(row(other), row(verdict)) == 0


def test_leaning_counts_as_its_winner() -> None:
    assert measures.hit(row("a", leaning=True), row("a")) == 1
    assert measures.credit(row("b", leaning=True), row("b")) == 1


@pytest.mark.parametrize(
    ("verdict", "margin", "credit"),
    [
        ("a", None, 1),
        ("b", None, 0),
        ("tie", None, 0),
        ("conflict", None, 0),
        ("unreadable", None, 0),
        ("tie", 0.1, 1),  # its tie term says tie, but a has the higher score
        ("tie", -0.1, 0),
        ("tie", 0.0, 0.5),
    ],
)
def test_credit_where_the_teacher_prefers_a(
    verdict: Resolved, margin: float | None, credit: float
) -> None:
    assert measures.credit(row("a"), row(verdict, margin)) == credit


@pytest.mark.parametrize("verdict", ["tie", "conflict", "unreadable"])
def test_no_credit_is_asked_where_the_teacher_prefers_neither(verdict: Resolved) -> None:
    assert measures.credit(row(verdict), row("a", 1.0)) is None


def test_agreement_keeps_every_pair_in_the_denominator() -> None:
    found = measures.agreement(
        both(("a", "a"), ("b", "b"), ("a", "b"), ("tie", "conflict"), ("conflict", "a"))
    )
    assert found["agreement"] == 2 / 5
    assert found["coverage"] == 4 / 5  # the judge's conflict is not covered
    assert found["both_decide"] == 3
    assert found["agreement_where_both_decide"] == 2 / 3


def test_wilson_interval() -> None:
    # 3 of 4, z = 1.96: middle (0.75 + 0.4802) / 1.9604 = 0.6275,
    # half width 1.96 / 1.9604 * sqrt(0.75 * 0.25 / 4 + 0.9604 / 16) = 0.3269
    found = measures.agreement(both(("a", "a"), ("b", "b"), ("a", "a"), ("a", "b")))
    assert found["agreement_low"] == pytest.approx(0.6275 - 0.3269, abs=2e-4)
    assert found["agreement_high"] == pytest.approx(0.6275 + 0.3269, abs=2e-4)


def test_kappa() -> None:
    # 3 of 4 agree; chance 3/4 * 2/4 (a) + 1/4 * 2/4 (b) = 0.5; kappa (0.75 - 0.5) / 0.5 = 0.5
    found = measures.agreement(both(("a", "a"), ("a", "a"), ("b", "b"), ("a", "b")))
    assert found["kappa"] == pytest.approx(0.5)


def test_kappa_holds_two_conflicts_for_different_labels() -> None:
    # 1 of 2 agrees; chance 1/2 * 1/2 (a), nothing else shared; kappa (0.5 - 0.25) / 0.75 = 1/3
    found = measures.agreement(both(("a", "a"), ("conflict", "conflict")))
    assert found["kappa"] == pytest.approx(1 / 3)


def test_kappa_is_undefined_where_one_label_is_all_there_is() -> None:
    assert measures.agreement(both(("a", "a"), ("a", "a")))["kappa"] is None


def test_preference_counts_halves_and_leaves_out_the_teachers_ties() -> None:
    rows = [(row("a"), row("a", 1.0)), (row("b"), row("tie", 0.0)), (row("tie"), row("a", 1.0))]
    found = measures.preference(rows, ["q1", "q2", "q3"], seed=0, resamples=200)
    assert (found["preferred"], found["preference"]) == (2, 0.75)  # (1 + 0.5) / 2


def test_preference_that_is_all_right_still_has_an_interval() -> None:
    # Wilson for 4 of 4 questions: n / (n + z^2) = 4 / (4 + 3.8415) = 0.5101
    found = measures.preference(both(*[("a", "a")] * 4), list("wxyz"), seed=0, resamples=200)
    assert found["preference"] == 1
    assert found["preference_low"] == pytest.approx(0.5101, abs=1e-4)
    assert found["preference_high"] == pytest.approx(1)


def test_preference_without_a_preferred_answer_is_none() -> None:
    found = measures.preference(both(("tie", "a")), ["q"], seed=0, resamples=200)
    assert set(found.values()) == {0, None}


def test_position_of_a_judge_that_reads() -> None:
    orders: measures.Orders = [("a", "a"), ("a", "b"), ("tie", "b"), ("a", None), ("tie", "tie")]
    found = measures.position(orders)
    # Choices of the first shown: a in original (3), b in flipped (2); of 3 + 3 choices in all.
    assert found["first_choice"] == 5 / 6
    assert found["same_in_both"] == 2 / 5
    assert found["flips"] == 1
    assert found["flip_rate"] == 1 / 4  # one pair of five is not readable in both orders


def test_position_without_a_readable_reply() -> None:
    found = measures.position([(None, None)])
    assert found["first_choice"] is None
    assert found["flip_rate"] is None
    assert found["same_in_both"] == 0


def test_kl_is_the_teachers_against_the_judges() -> None:
    told: Probabilities = (0.5, 0.25, 0.25)
    found = measures.calibration([(row("a", target=(1, 0, 0)), row("a", target=told))])
    assert found["kl"] == pytest.approx(math.log(2))  # 1 * ln(1 / 0.5); 0 * ln 0 is 0
    assert found["kl_pairs"] == 1


def test_kl_of_a_judge_that_rules_out_the_teachers_verdict_is_finite() -> None:
    found = measures.calibration([(row("a", target=(1, 0, 0)), row("b", target=(0, 1, 0)))])
    assert found["kl"] == pytest.approx(math.log(1 / measures.LEAST))


def test_calibration_error_by_hand() -> None:
    sure: Probabilities = (0.95, 0.03, 0.02)
    unsure: Probabilities = (0.45, 0.3, 0.25)
    rows = [
        (row("a"), row("a", target=sure)),
        (row("b"), row("a", target=sure)),
        (row("a"), row("a", target=unsure)),
        (row("a"), row("conflict", target=unsure)),
    ]
    found = measures.calibration(rows)
    # 2 of 4 in bin 0.9: |1/2 - 0.95| = 0.45; 2 of 4 in bin 0.4: |1/2 - 0.45| = 0.05
    assert found["calibration_error"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert [(one["low"], one["count"]) for one in found["bins"]] == [(0.4, 2), (0.9, 2)]
    assert found["kl"] is None  # the teacher gives no target here
    assert json.dumps(found)


def test_the_confidence_is_that_of_the_verdict_given() -> None:
    found = measures.calibration([(row("tie"), row("tie", target=(0.4, 0.4, 0.2)))])
    assert found["bins"][0]["confidence"] == 0.2
    certain = measures.calibration([(row("a"), row("a", target=(1, 0, 0)))])
    assert certain["bins"][0]["low"] == 0.9  # the last bin holds 1 too


def test_pairs_without_a_target_are_not_in_the_calibration() -> None:
    found = measures.calibration(both(("a", "a")))
    assert found == {"kl": None, "kl_pairs": 0, "calibration_error": None, "bins": []}
    half = measures.calibration(
        [*both(("a", "a")), (row("a", target=TARGET), row("a", target=TARGET))]
    )
    assert (half["kl_pairs"], half["bins"][0]["count"]) == (1, 1)


def test_counts() -> None:
    found = measures.counts([row("a", leaning=True), row("a"), row("conflict"), row("tie")])
    assert found == {"a": 2, "b": 0, "tie": 1, "conflict": 1, "unreadable": 0, "leaning": 1}


def test_the_bootstrap_draws_whole_questions() -> None:
    # One question all right, one all wrong, ten pairs each. Both drawn alike half of the time, so
    # the interval is 0 to 1; twenty independent pairs would give about 0.3 to 0.7.
    values = [1.0] * 10 + [0.0] * 10
    clustered = measures.mean_by_question(values, ["q1"] * 10 + ["q2"] * 10, 0, 1000)
    assert clustered == (0.5, 0.0, 1.0)
    apart = measures.mean_by_question(values, [f"q{n}" for n in range(20)], 0, 1000)
    assert apart[1] is not None and apart[1] > 0.2
    assert apart[2] is not None and apart[2] < 0.8


def test_one_question_gives_no_interval() -> None:
    assert measures.mean_by_question([1.0, 0.0], ["q", "q"], 0, 100) == (0.5, None, None)


def test_the_seed_decides_the_interval() -> None:
    values = [0.1, 0.9, 2.3, 4.7, 8.8, 15.1, 31.9]
    runs = [measures.mean_by_question(values, list("abcdefg"), seed, 50) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "tie", "conflict", "unreadable"])] * 2)))
def test_renaming_a_and_b_changes_no_figure(verdicts: list[tuple[Resolved, Resolved]]) -> None:
    verdicts = [("a", "a"), *verdicts]
    swap: dict[Resolved, Resolved] = {"a": "b", "b": "a"}
    other = [(swap.get(t, t), swap.get(j, j)) for t, j in verdicts]
    assert measures.agreement(both(*verdicts)) == pytest.approx(measures.agreement(both(*other)))

import json
from dataclasses import replace

import pytest

from nbutils.evaluation.agreement import (
    Judge,
    compare,
    longer_wins,
    orders,
    scorecard,
    table,
    win_rates,
)
from nbutils.records import Judgement, Label, Pair, Probabilities, Resolution, Resolved

RIGHT, WRONG = "frontier-llm", "frontier-llm-one-error"
SMOL, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
# Two questions: a contrast pair, a pair of like strength (a and b either way), and another.
PAIRS = [
    Pair("p1", "test", "q1", RIGHT, WRONG),
    Pair("p2", "test", "q1", SMOL, GEMMA),
    Pair("p3", "test", "q2", GEMMA, SMOL),
    Pair("p4", "test", "q2", RIGHT, GEMMA),
]


def verdict_judge(name: str, *both: tuple[Label | None, Label | None]) -> Judge:
    """A judge of verdicts (original, flipped), in the order of PAIRS."""
    resolutions, judgements = {}, []
    for pair, said in zip(PAIRS, both, strict=True):
        for order, verdict in zip(("original", "flipped"), said, strict=True):
            reason = None if verdict else "cut off"
            judgements.append(Judgement(pair.pair_id, order, name, "p", "", verdict, reason))
        first, second = said
        verdict = "conflict" if first != second else first or "unreadable"
        leaning = first != second and "tie" in said
        if None in said:
            verdict = "unreadable"
        elif leaning:
            verdict = second if first == "tie" else first
        resolutions[pair.pair_id] = Resolution(pair.pair_id, name, verdict, leaning)
    return Judge(name, resolutions, judgements)


def score_judge(name: str, *margins: float, target: Probabilities | None = None) -> Judge:
    found = {}
    for pair, margin in zip(PAIRS, margins, strict=True):
        verdict: Resolved = "tie" if margin == 0 else "a" if margin > 0 else "b"
        found[pair.pair_id] = Resolution(pair.pair_id, name, verdict, False, target, margin)
    return Judge(name, found)


TEACHER = verdict_judge("teacher", ("a", "a"), ("tie", "b"), ("tie", "tie"), ("a", "b"))
STUDENT = score_judge("student", 2.0, -1.0, 1.0, 0.5, target=(0.7, 0.2, 0.1))
PROMPTED = verdict_judge("prompted", ("a", "a"), (None, "b"), ("a", "b"), ("a", "a"))


def test_scorecard_by_hand() -> None:
    card = scorecard(TEACHER, [STUDENT, PROMPTED], PAIRS, seed=0)
    student, prompted = (card["judges"][name]["all"] for name in ("student", "prompted"))
    # Teacher: a, b (leaning), tie, conflict. Student: a, b, a, a: 2 of 4, and 2 of 2 preferred.
    assert (student["agreement"], student["preference"]) == (0.5, 1.0)
    assert (student["preferred"], student["both_decide"], student["coverage"]) == (2, 3, 1.0)
    # Prompted: a, unreadable, conflict, a: 1 of 4, and 1 of 2; covers 2 of 4.
    assert (prompted["agreement"], prompted["preference"]) == (0.25, 0.5)
    assert (prompted["unreadable"], prompted["conflict"], prompted["coverage"]) == (1, 1, 0.5)
    # Readable in both orders: p1, p3 and p4, of which p3 goes to the other answer.
    assert prompted["flip_rate"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_teacher_stands_there_with_its_own_consistency() -> None:
    teacher = scorecard(TEACHER, [], PAIRS, seed=0)["teacher"]["all"]
    assert (teacher["same_in_both"], teacher["flips"]) == (0.5, 1)  # p1 and p3 of four; p4
    assert (teacher["leaning"], teacher["conflict"], teacher["tie"]) == (1, 1, 1)


def test_subsets_go_by_who_answered_on_either_side() -> None:
    card = scorecard(TEACHER, [STUDENT], PAIRS, seed=0)
    assert card["subsets"] == {
        "all": {"pairs": 4, "questions": 2},
        "contrast": {"pairs": 1, "questions": 1},
        "like strength": {"pairs": 2, "questions": 2},
        f"{RIGHT} vs {WRONG}": {"pairs": 1, "questions": 1},
        f"{RIGHT} vs {GEMMA}": {"pairs": 1, "questions": 1},
        f"{GEMMA} vs {SMOL}": {"pairs": 2, "questions": 2},
    }
    assert card["judges"]["student"].keys() == card["teacher"].keys() == card["subsets"].keys()
    assert card["judges"]["student"]["like strength"]["agreement"] == 0.5


def test_a_subset_that_the_pairs_do_not_hold_is_not_there() -> None:
    card = scorecard(TEACHER, [STUDENT, PROMPTED], PAIRS[3:], seed=0)
    assert list(card["subsets"]) == ["all", f"{RIGHT} vs {GEMMA}"]
    assert {row["subset"] for row in card["comparisons"]} == {"all"}


def test_the_scorecard_is_json_and_the_same_for_the_same_seed() -> None:
    cards = [
        json.dumps(scorecard(TEACHER, [STUDENT, PROMPTED], pairs, seed=3), allow_nan=False)
        for pairs in (PAIRS, PAIRS)
    ]
    assert cards[0] == cards[1]
    assert "0.333333," in cards[0]  # six digits


def test_a_missing_pair_is_an_error() -> None:
    gap = Judge("gap", {key: row for key, row in STUDENT.resolutions.items() if key != "p3"})
    with pytest.raises(ValueError, match=r"'gap' has no resolution of 1 pairs, 'p3' first"):
        scorecard(TEACHER, [gap], PAIRS, seed=0)
    with pytest.raises(ValueError, match="never left out"):
        scorecard(gap, [STUDENT], PAIRS, seed=0)


def test_a_score_that_is_no_number_is_an_error() -> None:
    broken = dict(STUDENT.resolutions, p2=replace(STUDENT.resolutions["p2"], margin=float("nan")))
    with pytest.raises(ValueError, match="pair 'p2': margin nan"):
        scorecard(TEACHER, [Judge("broken", broken)], PAIRS, seed=0)


def test_no_pairs_or_two_judges_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="0 pairs"):
        scorecard(TEACHER, [STUDENT], [], seed=0)
    with pytest.raises(ValueError, match="each judge once"):
        scorecard(TEACHER, [STUDENT, STUDENT], PAIRS, seed=0)


def test_a_scoring_judge_does_not_know_the_order() -> None:
    figures = scorecard(TEACHER, [STUDENT], PAIRS, seed=0)["judges"]["student"]["all"]
    assert (figures["first_choice"], figures["flip_rate"], figures["same_in_both"]) == (0.5, 0, 1)
    assert orders(STUDENT, PAIRS[:2]) == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize(
    "judge",
    [
        Judge("mute", PROMPTED.resolutions),  # verdicts without margins or judgements
        Judge("mute", PROMPTED.resolutions, PROMPTED.judgements[:-1]),  # p4's flipped order lacks
    ],
)
def test_a_judge_whose_orders_are_not_known_is_an_error(judge: Judge) -> None:
    with pytest.raises(ValueError, match="'mute' has neither a margin nor a judgement"):
        orders(judge, PAIRS)


def test_calibration_only_for_judges_that_give_probabilities() -> None:
    target = (0.9, 0.05, 0.05)
    smoothed = {key: replace(row, target=target) for key, row in PROMPTED.resolutions.items()}
    verdicts = Judge("verdicts", smoothed, PROMPTED.judgements)
    told = [replace(row, probabilities=target) for row in PROMPTED.judgements if row.verdict]
    told += [row for row in PROMPTED.judgements if not row.verdict]
    card = scorecard(TEACHER, [STUDENT, verdicts, Judge("told", smoothed, told)], PAIRS, seed=0)
    errors = {name: card["judges"][name]["all"]["calibration_error"] for name in card["judges"]}
    assert errors["verdicts"] is None
    assert errors["student"] is not None
    assert errors["told"] is not None


def test_compare_by_hand() -> None:
    found = compare(TEACHER, STUDENT, PROMPTED, PAIRS, seed=0, resamples=500)
    # Agreement: both have p1, only the student p2, neither the rest: (1 - 0) / 4.
    # McNemar's exact test, 1 against 0: p = 2 * 0.5 ** 1 = 1.
    agreement = found["agreement"]
    assert (agreement["only_first"], agreement["only_second"]) == (1, 0)
    assert (agreement["difference"], agreement["mcnemar_p"]) == (0.25, 1.0)
    # Questions q1 (difference 1/2) and q2 (0) drawn alike: the interval is 0 to 1/2.
    assert (agreement["low"], agreement["high"]) == (0.0, 0.5)
    # Preference: 2 of 2 against 1 of 2, both preferred pairs of one question: no interval.
    assert found["preference"]["difference"] == 0.5
    assert found["preference"]["low"] is None


def test_compare_turned_round_is_the_same_with_the_other_sign() -> None:
    forth = compare(TEACHER, STUDENT, PROMPTED, PAIRS, seed=0, resamples=500)["agreement"]
    back = compare(TEACHER, PROMPTED, STUDENT, PAIRS, seed=0, resamples=500)["agreement"]
    assert back["difference"] == -forth["difference"]
    assert (back["only_first"], back["only_second"]) == (0, 1)
    assert back["mcnemar_p"] == forth["mcnemar_p"]


def test_mcnemar_is_too_sure_where_one_question_holds_the_pairs() -> None:
    """Ten pairs that only the first judge has right: one question of two, or ten of twenty."""
    pairs = [Pair(f"p{n}", "test", f"q{n // 10}", RIGHT, WRONG) for n in range(20)]
    spread = [replace(pair, question_id=f"q{n}") for n, pair in enumerate(pairs)]

    def judge(name: str, right: int) -> Judge:
        sides = [("a" if n < right else "b", 1.0 if n < right else -1.0) for n in range(20)]
        return Judge(
            name,
            {
                pair.pair_id: Resolution(pair.pair_id, name, verdict, margin=margin)
                for pair, (verdict, margin) in zip(pairs, sides, strict=True)
            },
        )

    truth, half, none = judge("teacher", 20), judge("half", 10), judge("none", 0)
    few = compare(truth, half, none, pairs, seed=0)["agreement"]
    many = compare(truth, half, none, spread, seed=0)["agreement"]
    assert few["mcnemar_p"] == many["mcnemar_p"] == pytest.approx(2 * 0.5**10, rel=1e-5)
    assert few["low"] == 0  # in a quarter of the draws the question is not there
    assert many["low"] > 0.2


def test_comparisons_hold_every_two_judges_on_every_named_subset() -> None:
    third = score_judge("third", 0.0, 0.0, 0.0, 0.0)
    card = scorecard(TEACHER, [STUDENT, PROMPTED, third], PAIRS, seed=0)
    names = [(row["subset"], row["first"], row["second"]) for row in card["comparisons"]]
    assert len(names) == len(set(names)) == 9  # three subsets by three couples
    assert names[:2] == [("all", "student", "prompted"), ("all", "student", "third")]
    # p1, "contrast": the third judge's equal scores earn one half of one.
    one = next(
        row
        for row in card["comparisons"]
        if row["subset"] == "contrast" and row["first"] == "student" and row["second"] == "third"
    )
    assert one["preference"]["difference"] == 0.5


def test_table_has_one_row_a_judge_and_the_ceiling() -> None:
    card = scorecard(TEACHER, [STUDENT, PROMPTED], PAIRS, seed=0)
    found = table(card)
    assert list(found.index) == ["student", "prompted", "teacher, both orders (ceiling)"]
    assert list(found["agreement"]) == [0.5, 0.25, 0.5]
    # Wilson for 2 of 4: middle 0.5, half width 1.96 / 1.9604 * sqrt(0.25 / 4 + 0.9604 / 16) = 0.35
    assert found.loc["student", "agreement, 95 %"] == "0.15 to 0.85"
    assert list(table(card, "contrast")["agreement"]) == [1, 1, 1]


def test_win_rates() -> None:
    found = win_rates(TEACHER, PAIRS)
    # frontier-llm won p1, and p4 is a conflict; gemma won p2, tied p3, p4; smol lost p2, tied p3.
    assert found.loc[RIGHT].tolist() == [2, 1, 0, 0, 1, 0.5]
    assert found.loc[GEMMA].tolist() == [3, 1, 1, 0, 1, 0.5]  # (1 + 0.5) / 3
    assert found.loc[SMOL].tolist() == [2, 0, 1, 1, 0, 0.25]
    assert found.index[-1] == WRONG  # lost its only pair


def test_longer_wins() -> None:
    long = score_judge("longest", 10, -5, 3, 0)
    # Of the teacher's winners: p1 to a, the longer; p2 to b, the longer.
    assert longer_wins(TEACHER, long, PAIRS) == 1
    # Of the student's a, b, a, a: longer, longer, longer, of equal length: 3.5 of 4.
    assert longer_wins(STUDENT, long, PAIRS) == 0.875
    assert longer_wins(score_judge("ties", 0, 0, 0, 0), long, PAIRS) is None

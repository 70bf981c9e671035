import json

import pytest

from nbutils.evaluation.agreement import Judge, compare
from nbutils.evaluation.people import Reviewer
from nbutils.evaluation.people_card import between, overruled, people_card, summary, table
from nbutils.records import Pair, Resolution
from tests.test_people import PAIRS, label, said_by


def verdicts(name, *said):
    """A judge that gives verdicts, in the order of PAIRS."""
    rows = zip(PAIRS, said, strict=True)
    return Judge(name, {p.pair_id: Resolution(p.pair_id, name, verdict) for p, verdict in rows})


def scores(name, *margins):
    found = {}
    for pair, margin in zip(PAIRS, margins, strict=True):
        verdict = "a" if margin > 0 else "b"
        found[pair.pair_id] = Resolution(pair.pair_id, name, verdict, margin=margin)
    return Judge(name, found)


TEACHER = verdicts("teacher", "a", "b", "tie", "conflict")
STUDENT = scores("student", 1.0, 1.0, -1.0, 0.5)  # a, a, b, a
ANA = Reviewer("ana", said_by(p1="a", p2="a", p3="tie", p4="can't tell"), {"p2": "no boat"})


@pytest.fixture(scope="module")
def card():
    return people_card([ANA], TEACHER, [STUDENT], PAIRS, seed=0)


def test_the_teacher_is_measured_like_any_judge(card):
    found = card["judges"]["teacher"]["person"]
    # Person a, a, tie, can't tell; teacher a, b, tie, conflict: p1 and p3 of four alike, and of
    # the three where both decide.
    assert (found["pairs"], found["agree"], found["agreement"]) == (4, 2, 0.5)
    assert (found["both_decide"], found["agreement_where_both_decide"]) == (3, 0.666667)
    # Chance 2/4 * 1/4 for a, 1/4 * 1/4 for tie: 3/16. Kappa (8/16 - 3/16) / (13/16).
    assert found["kappa"] == pytest.approx(5 / 13, abs=1e-6)
    assert (found["agreement_low"], found["agreement_high"]) == (0.150039, 0.849961)  # Wilson
    # One of two alike in either question: so in every draw of questions.
    assert (found["by_question_low"], found["by_question_high"]) == (0.5, 0.5)
    # The person prefers one in p1 and p2, and the teacher names it in p1.
    assert (found["preferred"], found["preference"]) == (2, 0.5)
    assert found["undecided"] == 1  # p4's conflict
    assert card["judges"]["teacher"]["teacher"] is None


def test_a_student_stands_beside_the_teacher_on_the_same_pairs(card):
    found = card["judges"]["student"]
    # a, a, b, a: with the person p1 and p2, with the teacher p1; the highest-scored is the
    # person's choice in both.
    assert (found["person"]["agreement"], found["teacher"]["agreement"]) == (0.5, 0.25)
    assert found["person"]["preference"] == 1
    (row,) = card["comparisons"]
    assert (row["first"], row["second"], row["subset"]) == ("teacher", "student", card["subset"])
    # Teacher minus student: p3 to the teacher, p2 to the student.
    figures = row["agreement"]
    assert (figures["difference"], figures["only_first"], figures["only_second"]) == (0, 1, 1)
    assert figures["mcnemar_p"] == 1
    expected = compare(ANA.as_judge(), TEACHER, STUDENT, PAIRS, seed=0)
    assert row == {"subset": card["subset"]} | expected


def test_where_all_are_alike_only_wilson_s_interval_has_a_width():
    ana = Reviewer("ana", said_by(p1="a", p3="tie"), {})
    found = people_card([ana], TEACHER, [], PAIRS, seed=0)["judges"]["teacher"]["person"]
    assert (found["agreement"], found["by_question_low"]) == (1, None)
    assert found["agreement_low"] == pytest.approx(0.342380, abs=1e-6)  # 2 of 2, Wilson


def test_labels_are_counted_and_every_label_meets_every_verdict(card):
    assert card["labels"] == {
        "pairs": 4,
        "labelled": 4,
        "questions": 2,
        "a": 2,
        "b": 0,
        "tie": 1,
        "can't tell": 1,
        "blind": 4,
        "drawn": 4,
        "changed": [],
        "elsewhere": 0,
    }
    none = {"a": 0, "b": 0, "tie": 0, "conflict": 0, "unreadable": 0}
    assert card["confusion"] == {
        "a": none | {"a": 1, "b": 1},
        "b": none,
        "tie": none | {"tie": 1},
        "can't tell": none | {"conflict": 1},
    }


def test_only_what_came_up_by_lot_makes_a_share():
    said = {"p1": label("p1", "a"), "p2": label("p2", "a", drawn=False)}
    ana, ben = Reviewer("ana", said, {}), Reviewer("ben", said_by(p1="a", p2="b"), {})
    card = people_card([ana, ben], TEACHER, [], PAIRS, seed=0)
    assert (card["labels"]["labelled"], card["labels"]["drawn"]) == (2, 1)
    figures = card["judges"]["teacher"]["person"]
    assert (figures["pairs"], figures["agreement"]) == (1, 1)  # p1; p2 had been chosen
    assert card["reviewers"][0]["pairs"] == 1
    assert [row["pair_id"] for row in card["overruled"]] == ["p2"]  # to read again all the same


def test_chosen_labels_alone_make_no_figure():
    ana = Reviewer("ana", {"p2": label("p2", "a", drawn=False)}, {})
    card = people_card([ana], TEACHER, [STUDENT], PAIRS, seed=0)
    assert (card["judges"], card["confusion"]) == ({}, {})
    assert summary(card).endswith("1 of them blind, 0 drawn by lot.")


def test_a_pair_is_overruled_where_both_decide_and_not_alike(card):
    assert card["overruled"] == [
        {"pair_id": "p2", "person": "a", "teacher": "b", "note": "no boat"}
    ]
    bold = Reviewer("bold", said_by(p3="can't tell", p4="a"), {})
    assert overruled(bold, TEACHER, PAIRS[2:]) == []  # nothing decided, nothing to overrule


def test_only_labelled_pairs_of_those_given_count():
    card = people_card([ANA], TEACHER, [STUDENT], PAIRS[:1], seed=0)
    assert card["labels"]["labelled"] == card["judges"]["student"]["person"]["pairs"] == 1


def test_two_people_by_hand():
    ben = Reviewer("ben", said_by(p1="a", p2="b", p3="tie"), {})
    found = between(ANA, ben, PAIRS, seed=0)
    # a, a, tie against a, b, tie: 2 of 3; chance 2/3 * 1/3 + 1/3 * 1/3 = 1/3.
    assert (found["pairs"], found["agree"]) == (3, 2)
    assert found["kappa"] == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))
    # Draws of two questions: the first twice (a, a against a, b: kappa 0), one of each (0.5), the
    # second twice (ties alone: no kappa).
    assert (found["kappa_low"], found["kappa_high"]) == pytest.approx((0, 0.5))


def test_two_people_who_cannot_tell_do_not_agree_on_it():
    ana = Reviewer("ana", said_by(p1="a", p2="can't tell"), {})
    ben = Reviewer("ben", said_by(p1="a", p2="can't tell"), {})
    found = between(ana, ben, PAIRS, seed=0)
    # 1 of 2; chance 1/2 * 1/2: kappa (1/2 - 1/4) / (3/4). One question has no interval.
    assert found["kappa"] == pytest.approx(1 / 3)
    assert (found["kappa_low"], found["kappa_high"]) == (None, None)


def test_people_without_a_pair_in_common_have_no_kappa():
    ben = Reviewer("ben", {}, {})
    assert between(ANA, ben, PAIRS, seed=0) == {"first": "ana", "second": "ben", "pairs": 0}
    card = people_card([ANA, ben], TEACHER, [], PAIRS, seed=0)
    assert card["reviewers"] == [{"first": "ana", "second": "ben", "pairs": 0}]


def test_the_card_is_json_and_the_same_for_the_same_seed(card):
    again = people_card([ANA], TEACHER, [STUDENT], PAIRS, seed=0)
    assert json.dumps(again, allow_nan=False) == json.dumps(card)


@pytest.mark.parametrize("people", [[], [Reviewer("ana", {}, {}, ("p1",), 7)]])
def test_without_a_label_there_is_a_card_that_says_so(people):
    card = people_card(people, TEACHER, [STUDENT], PAIRS, seed=0)
    assert (card["judges"], card["comparisons"], card["confusion"]) == ({}, [], {})
    assert summary(card).startswith("No person has labelled one of these 4 pairs yet.")
    assert ("1 labels are not used" in summary(card)) == bool(people)


def test_the_summary_counts_what_was_said():
    led = Reviewer("ana", {"p1": label("p1", "a", blind=False), "p3": label("p3", "b")}, {})
    said = summary(people_card([led], TEACHER, [], PAIRS, seed=0))
    assert said == (
        "ana labelled 2 of 4 pairs, on 2 questions: 1 a, 1 b, 0 tie, 0 can't tell; "
        "1 of them blind, 2 drawn by lot."
    )


def test_the_table_has_a_row_a_judge_and_can_t_tell_in_its_column(card):
    found = table(card)
    assert list(found.index) == ["teacher", "student"]
    assert list(found["agreement"]) == [0.5, 0.5]
    assert list(found["person can't tell"]) == [1, 1]
    assert found.loc["student", "with the teacher"] == 0.25
    assert found.loc["teacher", "95 %"] == "0.15 to 0.85"


def test_a_judge_without_a_labelled_pair_is_refused():
    gap = Judge("gap", {})
    with pytest.raises(ValueError, match="'gap' has no resolution of 4 pairs, 'p1' first"):
        people_card([ANA], TEACHER, [gap], [*PAIRS, Pair("p9", "test", "q1", "x", "z")], seed=0)

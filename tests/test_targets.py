import random
from dataclasses import replace
from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbutils.records import Answer, Grade, Pair, Question, Resolution
from nbutils.resolution import soft_target
from nbutils.scoring.backbone import Group
from nbutils.scoring.student import Settings
from nbutils.scoring.targets import (
    FEWEST,
    Example,
    Target,
    TooFewError,
    check_decided,
    examples,
    folds,
    pair_loss,
)

QUESTIONS = [
    Question("q1", "train", "Boats", "fact", "Which?", "Dunlin.", "c1", "c1", "A source."),
    Question("q2", "train", "Seals", "fact", "Where?", "North.", "c2", "c2", "Another."),
    Question("q3", "train", "Seals", "fact", "When?", "Noon.", "c2", "c2", "Another."),
]
ANSWERS = [
    Answer("q2", "x", "North."),
    Answer("q1", "x", "Dunlin."),
    Answer("q1", "y", "Plover."),
    Answer("q1", "z", "A boat."),
    Answer("q2", "y", "South.", error="not south"),
]
PAIRS = [
    Pair("p2", "train", "q2", "y", "x"),
    Pair("p1", "train", "q1", "z", "x"),
    Pair("p3", "train", "q1", "x", "y"),
    Pair("p4", "train", "q1", "y", "z"),
]
RESOLUTIONS = [
    Resolution("p1", "teacher", "b", target=soft_target("b", "b")),
    Resolution("p2", "teacher", "unreadable"),
    Resolution("p3", "teacher", "conflict", target=soft_target("a", "b")),
    Resolution("p4", "teacher", "tie", target=soft_target("tie", "tie")),
]


def test_twenty_decided_pairs_are_enough_and_fewer_are_refused_with_a_remedy():
    enough = [Resolution(f"p{n}", "teacher", "tie") for n in range(FEWEST)]
    said = check_decided([*enough, *RESOLUTIONS[1:3]], "teacher")
    assert said == "20 of 22 train pairs are decided (1 conflicts, 1 unreadable)"
    few = "19 of 19 train pairs are decided .*, and a student needs 20: "
    with pytest.raises(TooFewError, match=few + "take a teacher that decides more of them, or"):
        check_decided(enough[1:], "teacher")
    with pytest.raises(TooFewError, match=few + "label more train pairs in notebook 04, or set"):
        check_decided(enough[1:], "human")
    with pytest.raises(TooFewError, match="0 of 0 train pairs"):
        check_decided([], "human")


def test_examples_point_into_the_group_and_leave_out_what_trains_nothing():
    grades = [
        Grade("q1", "x", "teacher", "g:0", "", 1.0),
        Grade("q1", "z", "teacher", "g:0", "", None, "no score"),
    ]
    # q2's only pair is unreadable and q3 has none.
    (row,) = examples(QUESTIONS, ANSWERS, PAIRS, RESOLUTIONS, grades)
    assert (row.question_id, row.section) == ("q1", "Boats")
    assert row.group == Group("Which?", "A source.", ("Dunlin.", "Plover.", "A boat."))
    # x, y, z are at 0, 1, 2; p1 is (z, x) and went to b, which is place 1 of (a, b, tie).
    assert [(t.pair_id, t.first, t.second, t.verdict) for t in row.pairs] == [
        ("p1", 2, 0, 1),
        ("p3", 0, 1, None),  # the orders conflict
        ("p4", 1, 2, 2),
    ]
    assert row.pairs[1].target == soft_target("a", "b")
    assert row.grades == (1.0, None, None)  # y has none, z's cannot be read


def test_rows_are_matched_by_id_and_not_by_position():
    plain = examples(QUESTIONS, ANSWERS, PAIRS, RESOLUTIONS)
    draw = random.Random(0)
    pairs, resolutions = draw.sample(PAIRS, 4), draw.sample(RESOLUTIONS, 4)
    (row,) = examples(QUESTIONS, ANSWERS, pairs, resolutions)
    assert sorted(row.pairs, key=lambda t: t.pair_id) == list(plain[0].pairs)


def example(*pairs, section="s", grades=()) -> Example:
    count = 1 + max([0, *(end for pair in pairs for end in (pair.first, pair.second))])
    return Example("q", section, Group("", "", ("",) * count), pairs, grades or (None,) * count)


def test_grades_far_enough_apart_have_an_order():
    row = example(grades=(0.5, None, 0.9, 0.55, 0.0))
    # (0, 3) lie 0.05 apart, which is too close; every other two of the four lie far apart.
    assert row.order() == [(2, 0), (0, 4), (2, 3), (2, 4), (3, 4)]


ONE = Target("p", 0, 1, 0, (0.8, 0.1, 0.1))
PLAIN = Settings(alpha=0.5, grade_weight=0.3)
SCORES = torch.tensor([1.0, 0.0], dtype=torch.float64)
TIE = torch.tensor(-1.0, dtype=torch.float64)
# Logits of a, b, tie: 1, 0 and (1 + 0) / 2 - 1 = -0.5.
WHOLE = log(exp(1) + 1 + exp(-0.5))
LOGGED = (1 - WHOLE, -WHOLE, -0.5 - WHOLE)
KL = sum(p * (log(p) - q) for p, q in zip(ONE.target, LOGGED, strict=True))


def test_the_loss_of_one_pair_by_hand():
    loss = pair_loss(SCORES, example(ONE), TIE, PLAIN)
    assert loss.ce.item() == pytest.approx(WHOLE - 1)
    assert loss.kl.item() == pytest.approx(KL)
    assert loss.grades.item() == 0
    assert loss.total.item() == pytest.approx(0.5 * (WHOLE - 1) + 0.5 * KL)


@pytest.mark.parametrize(("alpha", "total"), [(0.0, KL), (1.0, WHOLE - 1)])
def test_alpha_is_the_share_of_the_verdict(alpha, total):
    settings = replace(PLAIN, alpha=alpha)
    assert pair_loss(SCORES, example(ONE), TIE, settings).total.item() == pytest.approx(total)


def test_a_conflict_trains_by_its_soft_target_alone():
    conflict = replace(ONE, verdict=None)
    loss = pair_loss(SCORES, example(conflict), TIE, PLAIN)
    assert (loss.ce.item(), loss.total.item()) == (0, pytest.approx(0.5 * KL))
    # Its even target draws two unequal scores together: down with a, up with b.
    scores = SCORES.clone().requires_grad_()
    even = replace(conflict, target=soft_target("a", "b"))
    pair_loss(scores, example(even), TIE, PLAIN).total.backward()
    assert scores.grad[0] > 0 > scores.grad[1]


def test_a_question_sums_its_pairs():
    other = Target("r", 2, 1, 2, soft_target("tie", "tie"))
    scores = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64)
    both = pair_loss(scores, example(ONE, other), TIE, PLAIN)
    first = pair_loss(scores, example(ONE), TIE, PLAIN)
    second = pair_loss(scores, example(other), TIE, PLAIN)
    for term in ("ce", "kl", "total"):
        assert getattr(both, term) == pytest.approx(getattr(first, term) + getattr(second, term))


def test_the_order_of_two_grades_weighs_what_the_settings_say():
    row = example(ONE, grades=(0.2, 0.9))  # the better-graded answer has the lower score
    loss = pair_loss(SCORES, row, TIE, PLAIN)
    # log(1 + exp(1)), as the margin is 0 - 1.
    assert loss.grades.item() == pytest.approx(log(1 + exp(1)))
    assert loss.total.item() == pytest.approx(0.5 * (WHOLE - 1) + 0.5 * KL + 0.3 * loss.grades)


def test_the_loss_is_least_where_the_student_says_what_the_teacher_says():
    # alpha 0: the gradient is student minus teacher, so it is 0 at log-odds of the target.
    # Davidson at equal scores with tie term log(8): .1, .1, .8.
    settings = replace(PLAIN, alpha=0.0)
    same = replace(ONE, target=(0.1, 0.1, 0.8))
    scores = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    tie = torch.tensor(log(8), dtype=torch.float64, requires_grad=True)
    loss = pair_loss(scores, example(same), tie, settings)
    loss.total.backward()
    assert loss.kl.item() == pytest.approx(0, abs=1e-12)
    assert [*scores.grad.tolist(), tie.grad.item()] == pytest.approx([0, 0, 0], abs=1e-12)


def test_gradients_are_those_of_finite_differences():
    rows = example(
        ONE,
        Target("r", 2, 1, None, soft_target("a", "b")),
        Target("s", 0, 2, 2, soft_target("tie", "a")),
        grades=(0.9, 0.1, 0.5),
    )
    scores = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)
    tie = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda scores, tie: pair_loss(scores, rows, tie, PLAIN).total, (scores, tie)
    )


numbers = st.floats(-5, 5)
shares = st.sampled_from([soft_target(x, y) for x in ("a", "b", "tie") for y in ("a", "tie")])


@given(numbers, numbers, numbers, shares, st.sampled_from([0, 1, 2, None]))
def test_naming_the_answers_the_other_way_round_changes_no_loss(a, b, tie, target, told):
    scores = torch.tensor([a, b], dtype=torch.float64)
    plain = example(Target("p", 0, 1, told, target))
    swapped = Target("p", 1, 0, {0: 1, 1: 0}.get(told, told), (target[1], target[0], target[2]))
    one = pair_loss(scores, plain, torch.tensor(tie), PLAIN)
    other = pair_loss(scores, example(swapped), torch.tensor(tie), PLAIN)
    assert one.total.item() == pytest.approx(other.total.item())


def rows_of(sections):
    return [example(section=section) for section in sections]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=40), st.integers(0, 99))
def test_folds_keep_sections_whole(sections, seed):
    count = min(3, len(set(sections)))
    found = folds(rows_of(sections), count, seed)
    homes = {section: set() for section in sections}
    for section, fold in zip(sections, found, strict=True):
        homes[section].add(fold)
    assert all(len(home) == 1 for home in homes.values())
    held = [sum(home == {fold} for home in homes.values()) for fold in range(count)]
    assert max(held) - min(held) <= 1  # no fold has two sections more than another
    assert found == folds(rows_of(sections), count, seed)


def test_folds_are_drawn_by_the_seed():
    rows = rows_of("abcdefgh")
    drawn = {tuple(folds(rows, 2, seed)) for seed in range(5)}
    assert len(drawn) > 1
    # The rows' order does not matter.
    assert folds(rows[::-1], 2, 0) == folds(rows, 2, 0)[::-1]


def test_too_few_sections_are_an_error():
    with pytest.raises(ValueError, match="2 sections do not make 3 folds; set folds lower"):
        folds(rows_of("aabb"), 3, 0)

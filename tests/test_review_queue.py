from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.records import Resolution
from nbutils.review.items import PairItem, ReviewError
from nbutils.review.labels import HumanLabel
from nbutils.review.queue import EVERYTHING, Filter, build_queue
from tests.reviewed import answer_item, pair_item

TEACHER = ["a", "b", "tie", "conflict", "unreadable", "a", "b", "tie"]
ITEMS = [
    pair_item(
        number,
        teacher=Resolution(f"p{number}", "teacher", verdict, leaning=number == 5),
        split="train" if number < 2 else "test",
        answerers=("small", "large") if number % 2 else ("large", "tiny"),
    )
    for number, verdict in enumerate(TEACHER)
]


def label(number: int, act: str) -> HumanLabel:
    time = "2026-01-31T08:15:00Z"
    return HumanLabel(f"p{number}", "0123456789abcdef", act, 1.0, "", True, True, time)


DECIDED = {"p0": label(0, "a"), "p1": label(1, "a"), "p3": label(3, "b"), "p7": label(7, "tie")}


def ids(items: list[PairItem], keep: Filter = EVERYTHING, order: str = "shuffled", seed: int = 0):
    return [item.item_id for item in build_queue(items, keep, order, seed, DECIDED)]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (Filter(), "01234567"),
        (Filter(split="train"), "01"),
        (Filter(answerers="large vs small"), "1357"),
        (Filter(answerers="large vs tiny"), "0246"),
        (Filter(kind="a"), "05"),
        (Filter(kind="tie"), "27"),
        (Filter(kind="conflict"), "3"),
        (Filter(kind="unreadable"), "4"),
        (Filter(kind="leaning"), "5"),
        (Filter(kind="teacher and student disagree"), ""),
        (Filter(kind="student least sure"), ""),
        (Filter(review="decided"), "0137"),
        (Filter(review="undecided"), "2456"),
        (Filter(review="overruled"), "1"),  # b against a; 3 is a conflict
        (Filter(split="test", kind="tie", review="decided"), "7"),
        (Filter("train", "large vs tiny", "b", "undecided"), ""),
    ],
)
def test_a_filter_keeps_what_all_of_it_allows(keep: Filter, kept: str) -> None:
    assert sorted(ids(ITEMS, keep)) == [f"p{number}" for number in kept]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Filter(split="exam"), "split 'exam' is not known: choose one of 'test', 'train'"),
        (Filter(answerers="small vs large"), "choose one of 'large vs small', 'large vs tiny'"),
        (Filter(kind="A"), "kind 'A' is not known: choose one of 'a', 'b', 'conflict', 'leaning'"),
        (Filter(review="skipped"), "choose one of 'decided', 'overruled', 'undecided'"),
    ],
)
def test_an_unknown_choice_is_named(keep: Filter, message: str) -> None:
    with pytest.raises(ReviewError, match=message):
        ids(ITEMS, keep)
    with pytest.raises(ReviewError, match="order '' is not known: choose one of 'disagreement', "):
        ids(ITEMS, order="")
    with pytest.raises(ReviewError, match="kind 'tie' is not known: choose one of 'student least"):
        ids([answer_item()], Filter(kind="tie"))


@given(st.integers(0, 9), st.permutations(ITEMS), st.integers(0, 8))
def test_a_shuffle_is_by_seed_and_id_alone(seed: int, items: list[PairItem], size: int) -> None:
    whole = ids(ITEMS, seed=seed)
    some = {item.item_id for item in items[:size]}
    if some:
        assert ids(items[:size], seed=seed) == [name for name in whole if name in some]


def test_seeds_shuffle_otherwise() -> None:
    orders = {tuple(ids(ITEMS, seed=seed)) for seed in range(20)}
    assert len(orders) == 20  # of 8! = 40320
    assert len({order[0] for order in orders}) > 3


def student(number: int, *target: float) -> PairItem:
    said = Resolution(f"p{number}", "student", "a", target=target)
    return replace(ITEMS[number], student=said)


def test_disagreement_puts_the_furthest_apart_first() -> None:
    # distances 1 - P(teacher's verdict): p0 (a) 0.5, p1 (b) 0.7, p2 (tie) 0.8; p3 and p6 have no
    # student: a conflict before a plain verdict
    items = [ITEMS[6], ITEMS[3], *(student(n, 0.5, 0.3, 0.2) for n in (0, 1, 2))]
    assert ids(items, order="disagreement") == ["p2", "p1", "p0", "p3", "p6"]
    # without a student: conflict, unreadable, leaning, and the rest as shuffled
    rest = [name for name in ids(ITEMS) if name not in ("p3", "p4", "p5")]
    assert ids(ITEMS, order="disagreement") == ["p3", "p4", "p5", *rest]


def test_least_sure_is_a_tenth_and_at_least_ten() -> None:
    def least(count: int) -> list[str]:
        target = [(0.4 + n / 1000, 0.6 - n / 1000, 0.0) for n in range(count)]  # 100: 0.5 each
        said = [Resolution(f"p{n}", "student", "a", target=t) for n, t in enumerate(target)]
        items = [pair_item(n, student=s) for n, s in enumerate(said)]
        items.append(pair_item(999))  # of which the student says nothing
        items += [pair_item(1000 + n, student=said[0], split="train") for n in range(50)]
        return sorted(ids(items, Filter(split="test", kind="student least sure")))

    assert least(201) == sorted(f"p{n}" for n in range(90, 111))  # a tenth: 20.1, so 21
    assert least(12) == sorted(f"p{n}" for n in range(2, 12))  # 0 and 1 are surest
    assert least(3) == ["p0", "p1", "p2"]
    answers = [answer_item(n, student=n / 100) for n in range(40, 52)]  # 0.5 is least sure
    found = build_queue(answers, Filter(kind="student least sure"), "shuffled", 0, {})
    assert {item.student for item in found} == {n / 100 for n in range(42, 52)}

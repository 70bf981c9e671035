from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.jsonl import RecordError, line_of, row_of
from nbutils.records import Answer
from nbutils.review.labels import (
    HumanGrade,
    HumanLabel,
    answer_fingerprint,
    in_force,
    pair_fingerprint,
    reviewers,
    standing,
    usable,
)
from tests.reviewed import question

NOW, OLD = "0123456789abcdef", "f" * 16
TIME = "2026-01-31T08:15:00Z"
LABEL = HumanLabel("p1", NOW, "a", 2.5, "anna", True, True, TIME)
GRADE = HumanGrade("q1", "small", NOW, "grade", 0.7, True, 2.5, "anna", True, True, TIME)


def said(item: str, act: str, reviewer: str = "anna", fingerprint: str = NOW) -> HumanLabel:
    note = "text" if act == "note" else None
    return HumanLabel(item, fingerprint, act, 1.0, reviewer, True, True, TIME, note)


def acts(rows: dict[str, HumanLabel]) -> dict[str, str]:
    return {item: row.act for item, row in rows.items()}


def test_a_row_is_a_line() -> None:
    line = (
        '{"pair_id": "p1", "fingerprint": "0123456789abcdef", "label": "a", "seconds": 2.5, '
        '"reviewer": "anna", "blind": true, "drawn": true, "time": "2026-01-31T08:15:00Z"}\n'
    )
    assert line_of(LABEL).decode() == line
    assert row_of(line.encode(), HumanLabel) == LABEL
    assert row_of(line_of(GRADE), HumanGrade) == GRADE
    assert (LABEL.item_id, LABEL.act, GRADE.item_id) == ("p1", "a", "q1/small")


@pytest.mark.parametrize(
    ("row", "wrong", "message"),
    [
        (LABEL, {"fingerprint": "0123"}, "field 'fingerprint': value '0123' is not 16 hex digits"),
        (LABEL, {"fingerprint": NOW.upper()}, "is not 16 hex digits"),
        (LABEL, {"seconds": -0.1}, "field 'seconds': value -0.1 is below 0"),
        (LABEL, {"seconds": float("nan")}, "is below 0"),
        (LABEL, {"time": "2026-01-31 08:15"}, "is not a time in UTC; write it such as 2026-01-31T"),
        (LABEL, {"time": "2026-02-30T08:15:00Z"}, "is not a time in UTC"),
        (LABEL, {"note": "why"}, "field 'note': value 'why' does not go with the act 'a'"),
        (LABEL, {"label": "note"}, "field 'note': value None does not go with the act 'note'"),
        (GRADE, {"score": 1.2}, "field 'score': value 1.2 is not from 0 to 1"),
        (GRADE, {"score": float("nan")}, "is not from 0 to 1"),
        (GRADE, {"score": None}, "field 'score': value None does not go with the act 'grade'"),
        (GRADE, {"acceptable": None}, "field 'acceptable': value None does not go with"),
        (GRADE, {"act": "skip"}, "field 'score': value 0.7 does not go with the act 'skip'"),
        (GRADE, {"act": "undo", "score": None}, "field 'acceptable': value True does not go with"),
    ],
)
def test_a_broken_row_is_named(row: HumanLabel | HumanGrade, wrong: dict, message: str) -> None:
    with pytest.raises(RecordError) as error:
        replace(row, **wrong)
    assert message in str(error.value)


def test_a_fingerprint_is_of_what_is_read_and_of_nothing_else() -> None:
    asked, a, b = question(1), Answer("q1", "small", "one"), Answer("q1", "large", "two")
    print_ = pair_fingerprint(asked, a, b)
    assert len(print_) == 16 and int(print_, 16) >= 0
    assert pair_fingerprint(replace(asked, split="train"), replace(a, answerer="x"), b) == print_
    others = [
        pair_fingerprint(asked, b, a),
        pair_fingerprint(asked, replace(a, text="one "), b),
        pair_fingerprint(asked, replace(a, text="onet"), replace(b, text="wo")),
        pair_fingerprint(replace(asked, question="Q?"), a, b),
        pair_fingerprint(replace(asked, source="S."), a, b),
        answer_fingerprint(asked, a),
        answer_fingerprint(asked, b),
        answer_fingerprint(replace(asked, source="S."), a),
        answer_fingerprint(asked, replace(a, text="\ud800")),  # no UTF-8 has that one
    ]
    assert len({print_, *others}) == 1 + len(others)
    assert answer_fingerprint(asked, replace(a, answerer="x")) == answer_fingerprint(asked, a)


def test_the_latest_decision_stands_and_an_undo_gives_the_one_before_back() -> None:
    rows = [said("p1", "a"), said("p2", "tie"), said("p1", "b")]
    assert acts(standing(rows, "anna")) == {"p1": "b", "p2": "tie"}
    rows.append(said("p1", "undo"))
    assert acts(standing(rows, "anna")) == {"p1": "a", "p2": "tie"}
    rows.append(said("p1", "undo"))
    assert acts(standing(rows, "anna")) == {"p2": "tie"}
    rows.append(said("p1", "undo"))  # of nothing: it takes back nothing else
    assert acts(standing(rows, "anna")) == {"p2": "tie"}


def test_a_skip_decides_nothing_and_takes_no_decision_back() -> None:
    rows = [said("p1", "can't tell"), said("p1", "skip"), said("p2", "skip"), said("p2", "note")]
    assert acts(standing(rows, "anna")) == {"p1": "can't tell"}
    assert [row.act for row in in_force(rows, "anna")] == ["can't tell", "skip", "skip"]
    rows.append(said("p1", "undo"))  # takes back the skip
    assert acts(standing(rows, "anna")) == {"p1": "can't tell"}
    assert [row.item_id for row in in_force(rows, "anna")] == ["p1", "p2"]


def test_reviewers_do_not_touch_each_other() -> None:
    rows = [said("p1", "a"), said("p1", "b", ""), said("p1", "undo", "ben"), said("p2", "skip")]
    assert acts(standing(rows, "anna")) == {"p1": "a"}
    assert acts(standing(rows, "")) == {"p1": "b"}
    assert standing(rows, "ben") == {}
    assert reviewers(rows) == ["anna", "", "ben"]


def test_only_labels_of_what_reads_the_same_are_usable() -> None:
    rows = [said("p1", "a"), said("p2", "a", fingerprint=OLD), said("p9", "a"), said("p3", "b")]
    prints = dict.fromkeys(["p1", "p2", "p3", "p4"], NOW)
    found = usable(rows, "anna", prints)
    assert acts(found.labels) == {"p1": "a", "p3": "b"}
    assert (found.changed, found.unknown) == (("p2",), 1)
    rows += [said("p2", "tie"), said("p9", "undo")]  # decided again; no longer decided
    found = usable(rows, "anna", prints)
    assert acts(found.labels) == {"p1": "a", "p3": "b", "p2": "tie"}
    assert (found.changed, found.unknown) == ((), 0)


def test_two_readings_of_one_id_do_not_hide_each_other() -> None:
    # Two profiles may use one pair id for two texts: each run finds its own label again.
    rows = [said("p1", "a", fingerprint=OLD), said("p1", "b"), said("p1", "undo", fingerprint=OLD)]
    assert acts(usable(rows[:2], "anna", {"p1": OLD}).labels) == {"p1": "a"}
    assert acts(usable(rows[:2], "anna", {"p1": NOW}).labels) == {"p1": "b"}
    assert acts(usable(rows, "anna", {"p1": NOW}).labels) == {"p1": "b"}
    assert usable(rows, "anna", {"p1": OLD}).changed == ("p1",)
    assert acts(standing(rows, "anna")) == {"p1": "b"}  # the undo was of the other reading


steps = st.tuples(
    st.sampled_from(["p1", "p2"]),
    st.sampled_from(["a", "b", "skip", "undo", "note"]),
    st.sampled_from(["anna", "ben"]),
)


@given(st.lists(steps))
def test_standing_is_what_stacks_of_acts_give(done: list[tuple[str, str, str]]) -> None:
    stacks: dict[tuple[str, str], list[str]] = {}
    for item, act, reviewer in done:
        stack = stacks.setdefault((item, reviewer), [])
        if act == "undo":
            del stack[-1:]
        elif act != "note":
            stack.append(act)
    for name in ("anna", "ben"):
        own = {
            item: [x for x in s if x != "skip"] for (item, who), s in stacks.items() if who == name
        }
        rows = [said(*step) for step in done]
        assert acts(standing(rows, name)) == {item: s[-1] for item, s in own.items() if s}
        left = sum(len(stack) for (_, who), stack in stacks.items() if who == name)
        assert len(in_force(rows, name)) == left

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.evaluation.people import FILE, SECOND, Reviewer, read_people, training_labels
from nbutils.jsonl import write_jsonl
from nbutils.records import Answer, Pair, Question, Resolution
from nbutils.resolution import soft_target
from nbutils.review.labels import HumanLabel, LabelFile, pair_fingerprint

QUESTIONS = [
    Question("q1", "train", "s", "fact", "Which boat?", "Dunlin.", "c", "c", "A source."),
    Question("q2", "train", "s", "fact", "When?", "Noon.", "c", "c", "A source."),
]
ANSWERS = [Answer(q, who, f"{q} by {who}") for q in ("q1", "q2") for who in ("x", "y", "z")]
PAIRS = [
    Pair("p1", "train", "q1", "x", "y"),
    Pair("p2", "train", "q1", "y", "z"),
    Pair("p3", "train", "q2", "x", "y"),
    Pair("p4", "train", "q2", "y", "z"),
]
TIME = "2026-01-31T08:15:00Z"


def label(pair_id, said, reviewer="", note=None, blind=True, text=None, drawn=True):
    """A row as the review writes it; `text` is what question 1 or 2 read like then."""
    pair = next(p for p in PAIRS if p.pair_id == pair_id)
    question = next(q for q in QUESTIONS if q.question_id == pair.question_id)
    shown = [Answer(pair.question_id, w, f"{pair.question_id} by {w}") for w in "xyz"]
    a, b = (next(s for s in shown if s.answerer == w) for w in (pair.answerer_a, pair.answerer_b))
    mark = pair_fingerprint(replace(question, question=text or question.question), a, b)
    return HumanLabel(pair_id, mark, said, 4.0, reviewer, blind, drawn, TIME, note)


def said_by(**labels):
    return {key: label(key, said) for key, said in labels.items()}


def people(folder, reviewer="", pairs=PAIRS):
    return read_people(pairs, QUESTIONS, ANSWERS, reviewer, folder)


# Who said what.


def test_without_a_file_there_is_nobody(tmp_path):
    assert people(tmp_path / "labels") == []
    assert not (tmp_path / "labels").exists()  # asking leaves nothing behind


def test_each_reviewer_s_labels_in_force_are_found_and_the_fullest_comes_first(tmp_path):
    rows = [
        label("p1", "a"),
        label("p1", "b", "ana"),
        label("p2", "tie", "ana"),
        label("p2", "undo", "ana"),  # p2 is open again
        label("p3", "can't tell", "ana"),
        label("p4", "skip", "ana"),
        label("p1", "note", "ana", note="first"),
        label("p1", "note", "ana", note="second"),
    ]
    write_jsonl(tmp_path / FILE, rows)
    ana, unnamed = people(tmp_path)
    assert (ana.name, unnamed.name) == ("ana", "unnamed")
    assert {key: row.label for key, row in ana.labels.items()} == {"p1": "b", "p3": "can't tell"}
    assert ana.notes == {"p1": "second"}
    assert list(unnamed.labels) == ["p1"] and unnamed.notes == {}
    assert [person.name for person in people(tmp_path, "unnamed")] == ["unnamed", "ana"]


def test_a_second_person_s_file_counts_beside_the_first(tmp_path):
    write_jsonl(tmp_path / FILE, [label("p1", "a"), label("p2", "a")])
    write_jsonl(tmp_path / SECOND, [label("p1", "b")])  # no name there either
    assert [(person.name, len(person.labels)) for person in people(tmp_path)] == [
        ("unnamed", 2),
        ("unnamed (second file)", 1),
    ]


def test_labels_of_changed_pairs_and_of_other_pairs_are_counted_and_not_used(tmp_path):
    rows = [label("p1", "a", text="Which ship?"), label("p2", "b"), label("p3", "a")]
    write_jsonl(tmp_path / FILE, rows)
    (person,) = people(tmp_path, pairs=PAIRS[:2])
    assert (list(person.labels), person.changed, person.elsewhere) == (["p2"], ("p1",), 1)


def test_a_reviewer_without_a_row_is_refused_with_the_names_there_are(tmp_path):
    write_jsonl(tmp_path / FILE, [label("p1", "a", "ana"), label("p1", "a")])
    with pytest.raises(ValueError, match=r"reviewer 'ben' has no row in .*: ana, unnamed"):
        people(tmp_path, "ben")
    with pytest.raises(ValueError, match="who has: nobody"):
        people(tmp_path / "none", "ben")


def test_a_person_who_cannot_tell_agrees_with_nothing_as_a_judge():
    person = Reviewer("ana", said_by(p1="a", p2="tie", p3="can't tell"), {})
    judge = person.as_judge()
    assert judge.name == "ana" and judge.judgements == []
    verdicts = {key: (row.judge, row.verdict) for key, row in judge.resolutions.items()}
    assert verdicts == {
        "p1": ("human", "a"),
        "p2": ("human", "tie"),
        "p3": ("human", "unreadable"),
    }


# What a student learns.

RESOLUTIONS = [
    Resolution("p1", "t", "a", target=soft_target("a", "a")),
    Resolution("p2", "t", "b", target=soft_target("b", "b")),
    Resolution("p3", "t", "conflict", target=soft_target("a", "b")),
    Resolution("p4", "t", "unreadable"),
]
LABELS = said_by(p1="a", p2="tie", p3="can't tell")


def test_the_teacher_s_word_is_left_as_it_is():
    found, said = training_labels(RESOLUTIONS, {}, "teacher")
    assert found == RESOLUTIONS
    assert said == "4 train pairs, all as the teacher resolved them"


def test_a_person_s_word_alone_is_smoothed_and_the_rest_is_counted():
    found, said = training_labels(RESOLUTIONS, LABELS, "human")
    assert [(row.pair_id, row.judge, row.verdict) for row in found] == [
        ("p1", "human", "a"),
        ("p2", "human", "tie"),
    ]
    # epsilon .1, spread evenly: .9 + .1 / 3 on the verdict, .1 / 3 on each other one.
    assert found[1].target == pytest.approx((0.1 / 3, 0.1 / 3, 2.8 / 3))
    assert said == (
        "2 of 4 train pairs have a person's verdict; 1 could not be told, 1 have no label: "
        "these train nothing"
    )


def test_a_person_s_word_replaces_the_teacher_s_where_there_is_one():
    found, said = training_labels(RESOLUTIONS, LABELS, "human where given")
    assert [(row.pair_id, row.judge, row.verdict) for row in found] == [
        ("p1", "human", "a"),
        ("p2", "human", "tie"),
        ("p3", "t", "conflict"),  # the person could not tell
        ("p4", "t", "unreadable"),
    ]
    assert said == (
        "2 of 4 train pairs have a person's verdict, in 1 not the teacher's; 2 keep the "
        "teacher's, 1 of them since the person could not tell"
    )


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="labels is 'people': give 'teacher', 'human', 'human wh"):
        training_labels(RESOLUTIONS, LABELS, "people")


@given(
    st.dictionaries(
        st.sampled_from(["p1", "p2", "p3", "p4"]),
        st.sampled_from(["a", "b", "tie", "can't tell"]),
    )
)
def test_no_pair_is_lost_or_doubled_and_no_verdict_is_made_up(labels):
    given_labels = said_by(**labels)
    alone, _ = training_labels(RESOLUTIONS, given_labels, "human")
    mixed, _ = training_labels(RESOLUTIONS, given_labels, "human where given")
    told = {key: said for key, said in labels.items() if said != "can't tell"}
    assert {row.pair_id: row.verdict for row in alone} == told
    assert len(alone) == len(told)
    assert [row.pair_id for row in mixed] == [row.pair_id for row in RESOLUTIONS]
    for before, row in zip(RESOLUTIONS, mixed, strict=True):
        assert row in alone if row.pair_id in told else row is before


def test_a_pair_that_is_read_again_counts_in_shares_by_its_word_before(tmp_path):
    labels = LabelFile(tmp_path / FILE, HumanLabel)
    for row in (label("p1", "a"), label("p1", "b", drawn=False), label("p2", "tie", drawn=False)):
        labels.append(row)
    (ana,) = read_people(PAIRS, QUESTIONS, ANSWERS, folder=tmp_path)
    assert {key: row.label for key, row in ana.labels.items()} == {"p1": "b", "p2": "tie"}
    assert {key: row.label for key, row in ana.sample.items()} == {"p1": "a"}
    assert {key: row.verdict for key, row in ana.as_judge().resolutions.items()} == {"p1": "a"}
    labels.append(label("p1", "undo"))  # of the second reading: the first stands again
    (ana,) = read_people(PAIRS, QUESTIONS, ANSWERS, folder=tmp_path)
    assert ana.labels["p1"].label == ana.sample["p1"].label == "a"
    labels.append(label("p1", "undo"))  # of the word that was drawn
    (ana,) = read_people(PAIRS, QUESTIONS, ANSWERS, folder=tmp_path)
    assert set(ana.labels) == {"p2"} and ana.sample == {}

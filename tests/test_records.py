import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbutils.records import (
    Grade,
    Judgement,
    Pair,
    Question,
    RecordError,
    Resolution,
    load_dataset,
    read_jsonl,
    write_jsonl,
)

Rows = dict[str, list[dict[str, Any]]]


def small() -> Rows:
    """One question, two answers, one pair: the least that is a data set."""
    return {
        "chunks": [{"chunk_id": "c1", "section": "Fog", "text": "The fog came in Year Three."}],
        "questions": [
            {
                "question_id": "q1",
                "split": "train",
                "section": "Fog",
                "kind": "fact",
                "question": "When did the fog come?",
                "reference": "In Year Three.",
                "chunk_id": "c1",
                "source_chunk_id": "c1",
                "source": "The fog came in Year Three.",
            }
        ],
        "answers": [
            {"question_id": "q1", "answerer": "x", "text": "Year Three."},
            {"question_id": "q1", "answerer": "y", "text": "Year Four.", "error": "the year"},
        ],
        "pairs": [
            {
                "pair_id": "p1",
                "split": "train",
                "question_id": "q1",
                "answerer_a": "x",
                "answerer_b": "y",
            }
        ],
        "judgements": [
            {"pair_id": "p1", "order": "original", "reply": "A is right.\n[[A]]"},
            {"pair_id": "p1", "order": "flipped", "reply": "B is ri"},  # unreadable, and loads
        ],
        "grades": [{"question_id": "q1", "answerer": "x", "reply": "[[1]]"}],
    }


def save(folder: Path, rows: Rows) -> Path:
    (folder / "document.md").write_text("# Fog\n\nThe fog came in Year Three.\n")
    for name, some in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in some)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def test_a_small_data_set_loads(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path, small()))
    assert data.document.startswith("# Fog")
    assert [answer.error for answer in data.answers] == [None, "the year"]
    assert data.judgements[1].reply == "B is ri"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: d["pairs"][0].update(split="tst"),
            "pairs.jsonl line 1: field 'split': value 'tst' is not train, test or mixed",
        ),
        (
            lambda d: d["pairs"][0].update(split="test"),
            "pairs.jsonl line 1: field 'split': value 'test' is not its question's: train",
        ),
        (
            lambda d: d["pairs"][0].update(answerer_b="z"),
            "pairs.jsonl line 1: field 'answerer_b': value 'z' has no answer to q1 in answers",
        ),
        (
            lambda d: d["pairs"][0].update(answerer_b="x"),
            "pairs.jsonl line 1: field 'answerer_b': value 'x' is answerer_a too",
        ),
        (
            lambda d: d["pairs"][0].update(question_id="q2"),
            "pairs.jsonl line 1: field 'question_id': value 'q2' is not in questions.jsonl",
        ),
        (
            lambda d: d["questions"][0].update(kind=None),
            "questions.jsonl line 1: field 'kind': value None is missing, and a data set must",
        ),
        (
            lambda d: d["questions"][0].update(reference=None),
            "questions.jsonl line 1: field 'reference': value None is missing, and a data set",
        ),
        (
            lambda d: d["judgements"][1].update(order="reversed"),
            "judgements.jsonl line 2: field 'order': value 'reversed' is not original or flipped",
        ),
        (
            lambda d: d["judgements"].pop(),
            "pairs.jsonl line 1: field 'pair_id': value 'p1' has no reply for order 'flipped'",
        ),
        (
            lambda d: d["judgements"].append(d["judgements"][0]),
            "judgements.jsonl line 3: field 'pair_id + order': value 'p1 + original' stands on",
        ),
        (
            lambda d: d["judgements"].append(d["judgements"][0] | {"pair_id": "p9"}),
            "judgements.jsonl line 3: field 'pair_id': value 'p9' is not in pairs.jsonl",
        ),
        (
            lambda d: d["answers"].append({"question_id": "q7", "answerer": "x", "text": ""}),
            "answers.jsonl line 3: field 'question_id': value 'q7' is not in questions.jsonl",
        ),
        (
            lambda d: d["answers"].append(d["answers"][1]),
            "answers.jsonl line 3: field 'question_id + answerer': value 'q1 + y' stands on line 2",
        ),
        (
            lambda d: d["grades"][0].update(answerer="z"),
            "grades.jsonl line 1: field 'answerer': value 'z' has no answer to q1",
        ),
        (
            lambda d: d["questions"][0].update(source="Another text."),
            "questions.jsonl line 1: field 'source': value 'Another text.' is not the text of c1",
        ),
        (
            lambda d: d["questions"][0].update(chunk_id="c2"),
            "questions.jsonl line 1: field 'chunk_id': value 'c2' is not in chunks.jsonl",
        ),
        (
            lambda d: d["questions"][0].update(source_chunk_id="c2"),
            "questions.jsonl line 1: field 'source_chunk_id': value 'c2' is not in chunks.jsonl",
        ),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    tmp_path: Path, spoil: Callable[[Rows], object], message: str
) -> None:
    rows = small()
    spoil(rows)
    with pytest.raises(RecordError) as error:
        load_dataset(save(tmp_path, rows))
    assert f"{tmp_path.name}/{message}" in str(error.value)
    assert ";" in str(error.value)  # what to do about it


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, small()) / "judgements.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RecordError, match=r"judgements\.jsonl line 2: not a whole JSON object"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["document.md", "grades.jsonl"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    (save(tmp_path, small()) / name).unlink()
    with pytest.raises(RecordError, match=f"{name}: there is no such file"):
        load_dataset(tmp_path)


def test_an_unreadable_judgement_is_kept_with_its_reason(tmp_path: Path) -> None:
    row = Judgement("p1", "flipped", "student", "pairwise-v1:0", "B is ri", None, "no marker")
    write_jsonl(tmp_path / "judgements.jsonl", [row])
    assert read_jsonl(tmp_path / "judgements.jsonl", Judgement) == [row]


@pytest.mark.parametrize(("verdict", "reason"), [(None, None), ("a", "no marker")])
def test_a_reason_goes_with_an_unreadable_reply_and_with_no_other(
    verdict: Any, reason: str | None
) -> None:
    with pytest.raises(RecordError, match="field 'verdict'"):
        Judgement("p1", "flipped", "student", "pairwise-v1:0", "", verdict, reason)
    with pytest.raises(RecordError, match="field 'score'"):
        Grade("q1", "x", "student", "grade-v1:0", "", verdict and 1.0, reason)


def test_a_judgement_says_what_its_soft_target_is_made_from(tmp_path: Path) -> None:
    told = ("p1", "original", "teacher", "pairwise-v1:0", "[[A]]", "a")
    shares = (0.7, 0.2, 0.1)
    rows = [
        Judgement(*told, probabilities=shares, source="log-probabilities"),
        Judgement(*told[:1], "flipped", *told[2:], source="votes", fallback="none came"),
    ]
    write_jsonl(tmp_path / "judgements.jsonl", rows)
    assert read_jsonl(tmp_path / "judgements.jsonl", Judgement) == rows
    # a student's own probabilities, and rows from before there was a choice
    write_jsonl(tmp_path / "judgements.jsonl", [Judgement(*told, probabilities=shares)])
    assert "source" not in (tmp_path / "judgements.jsonl").read_text()
    for wrong in (
        {"source": "log-probabilities"},
        {"source": "log-probabilities", "probabilities": shares, "fallback": "none came"},
        {"source": "votes"},
        {"source": "votes", "probabilities": shares, "fallback": "none came"},
        {"fallback": "none came"},
    ):
        with pytest.raises(RecordError, match="field '(source|fallback)'"):
            Judgement(*told, **wrong)
    with pytest.raises(RecordError, match="field 'source': value 'votes' does not go with"):
        Judgement(*told[:5], None, "no marker", source="votes", fallback="none came")


def test_a_question_of_a_user_s_own_has_neither_kind_nor_reference(tmp_path: Path) -> None:
    own = Question("q1", "train", "Fog", None, "When?", None, "s000", "s000", "The fog came.")
    write_jsonl(tmp_path / "questions.jsonl", [own])
    assert '"kind": null' in (tmp_path / "questions.jsonl").read_text()
    assert read_jsonl(tmp_path / "questions.jsonl", Question) == [own]


@pytest.mark.parametrize("name", ["c01", "c01+c04", "c01+c04+c02"])
def test_a_source_names_the_chunks_that_it_is_made_of(name: str) -> None:
    q = Question("q1", "train", "Fog", "fact", "When?", "r", "c01", name, "text")
    assert list(q.source_chunk_ids) == name.split("+")


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan")])
def test_a_score_is_from_0_to_1(score: float) -> None:
    with pytest.raises(RecordError, match="field 'score'"):
        Grade("q1", "x", "student", "grade-v1:0", "", score)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.5, -0.5, 0.0), (float("nan"), 0.5, 0.5)])
def test_probabilities_sum_to_one(shares: tuple[float, float, float]) -> None:
    with pytest.raises(RecordError, match="field 'target'"):
        Resolution("p1", "student", "a", target=shares)
    with pytest.raises(RecordError, match="field 'probabilities'"):
        Judgement("p1", "original", "s", "x:0", "", "a", probabilities=shares)


def test_a_file_of_results_is_strict_too(tmp_path: Path) -> None:
    path = tmp_path / "resolutions.jsonl"
    write_jsonl(path, [Resolution("p1", "teacher", "a", target=(0.9, 0.05, 0.05))])
    text = path.read_text()
    path.write_text(text.replace('"a"', '"A"'))
    with pytest.raises(RecordError, match="value 'A' is not a, b, tie, conflict or unreadable"):
        read_jsonl(path, Resolution)
    path.write_text(text.replace("0.9", "0.8"))
    with pytest.raises(RecordError, match="line 1: field 'target'"):
        read_jsonl(path, Resolution)


def test_rows_go_by_their_names_and_not_by_their_places(tmp_path: Path) -> None:
    # In 2023 events and rows were matched by position: 19 events against 18 rows, so every row
    # after the gap got its neighbour's. Here the order of a file says nothing.
    rows = small()
    for some in rows.values():
        some.reverse()
    mixed = load_dataset(save(tmp_path, rows))
    assert {row.order: row.reply[:1] for row in mixed.judgements} == {
        "original": "A",
        "flipped": "B",
    }
    assert mixed.pairs == [Pair("p1", "train", "q1", "x", "y")]

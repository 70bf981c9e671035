"""The data card's counts and hashes, and the promises it makes, held to the files."""

import hashlib
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from nbutils.records import Dataset, Judgement, Resolution, load_dataset
from nbutils.resolution import resolve_all
from nbutils.verdicts import in_pair_labels, read_score, read_verdict

DATA = Path(__file__).parent.parent / "data"
SPLITS = ("train", "test", "mixed")


@cache
def kestrel() -> Dataset:
    return load_dataset(DATA / "kestrel")


@cache
def resolutions() -> dict[str, Resolution]:
    rows = []
    for row in kestrel().judgements:
        letter = read_verdict(row.reply).letter
        assert letter is not None, row
        verdict = in_pair_labels(letter, row.order)
        rows.append(Judgement(row.pair_id, row.order, "teacher", "x:0", row.reply, verdict))
    return {resolution.pair_id: resolution for resolution in resolve_all(rows)}


def card(first_column: str) -> dict[str, list[str]]:
    """The rows of the data card's table whose head starts with that column, by first cell."""
    lines = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} "))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


def test_the_card_lists_every_file_with_its_rows_and_hash() -> None:
    files = {path.name: path.read_bytes() for path in (DATA / "kestrel").iterdir()}
    del files["LICENSE"]
    table = card("file")
    assert set(table) == set(files)
    for name, content in files.items():
        rows = str(content.count(b"\n")) if name.endswith(".jsonl") else "-"
        assert table[name][:2] == [rows, f"`{hashlib.sha256(content).hexdigest()}`"], name


def test_the_cards_split_counts() -> None:
    data = kestrel()
    table = card("split | questions")
    for split in SPLITS:
        questions = sum(question.split == split for question in data.questions)
        sides = [{p.answerer_a, p.answerer_b} for p in data.pairs if p.split == split]
        contrast = sides.count({"frontier-llm", "frontier-llm-one-error"})
        like = sides.count({"gemma-3-270m", "smollm2-135m-instruct"})
        assert table[split] == [str(n) for n in (questions, len(sides), contrast, like)]


def test_the_cards_answerers() -> None:
    counts = Counter(answer.answerer for answer in kestrel().answers)
    assert {name: cells[0] for name, cells in card("answerer").items()} == {
        name: str(count) for name, count in counts.items()
    }


def test_the_cards_verdicts() -> None:
    table = card("split | orders agree")
    for split in SPLITS:
        found = [resolutions()[pair.pair_id] for pair in kestrel().pairs if pair.split == split]
        verdicts = Counter(resolution.verdict for resolution in found)
        lean = sum(resolution.leaning for resolution in found)
        agree = len(found) - lean - verdicts["conflict"]
        cells = [agree, lean, verdicts["conflict"], verdicts["a"], verdicts["b"], verdicts["tie"]]
        assert table[split] == [str(n) for n in cells]


def test_the_cards_sentences() -> None:
    data = kestrel()
    text = " ".join((DATA / "README.md").read_text(encoding="utf-8").split())
    found = sum(question.chunk_id == question.source_chunk_id for question in data.questions)
    assert (found, len(data.questions)) == (226, 264)  # 85.6 %
    assert "in 226 of 264 cases (86 %)" in text
    assert Counter(question.kind for question in data.questions) == dict.fromkeys(
        ("fact", "why", "combine"), 88
    )
    splits = {pair.pair_id: pair.split for pair in data.pairs}
    letters = Counter(
        read_verdict(row.reply).letter for row in data.judgements if splits[row.pair_id] == "test"
    )
    # 464 of 927 replies that prefer one: 50.054 %
    assert (letters["A"], letters["A"] + letters["B"]) == (464, 927)
    assert "got 50.1 %" in text
    contrast = [
        (pair, resolutions()[pair.pair_id].verdict)
        for pair in data.pairs
        if pair.split == "test"
        and {pair.answerer_a, pair.answerer_b} == {"frontier-llm", "frontier-llm-one-error"}
    ]
    right = sum(
        verdict == ("a" if pair.answerer_a == "frontier-llm" else "b") for pair, verdict in contrast
    )
    assert right == len(contrast) == 63


def test_the_split_keeps_test_apart() -> None:
    questions = kestrel().questions
    train = [question for question in questions if question.split == "train"]
    test = [question for question in questions if question.split == "test"]
    assert len({question.section for question in train}) == 16
    assert len({question.section for question in test}) == 6
    assert not {question.section for question in train} & {question.section for question in test}
    sections = {chunk.chunk_id: chunk.section for chunk in kestrel().chunks}
    for rows in (train, test):
        retrieved = {sections[question.source_chunk_id] for question in rows}
        assert retrieved <= {question.section for question in rows}
    assert not {question.source for question in train} & {question.source for question in test}
    assert not {question.question for question in train} & {question.question for question in test}


def test_no_question_keeps_a_label() -> None:
    # In 2023 some questions kept a number or a "Question:" of the reply that they were read from.
    label = re.compile(r"(question|q)?\s*\d*\s*[:.)]", re.IGNORECASE)
    assert label.match("Question: Who?") and label.match("Q3. Who?") and label.match("2) Who?")
    assert not [q.question for q in kestrel().questions if label.match(q.question)]


def test_every_answer_of_a_pair_is_graded_readably_and_no_other() -> None:
    data = kestrel()
    in_pairs = {
        (pair.question_id, name)
        for pair in data.pairs
        for name in (pair.answerer_a, pair.answerer_b)
    }
    assert {(grade.question_id, grade.answerer) for grade in data.grades} == in_pairs
    assert all(read_score(grade.reply).value is not None for grade in data.grades)


def test_only_contrast_answers_name_an_error() -> None:
    for answer in kestrel().answers:
        assert (answer.error is not None) == (answer.answerer == "frontier-llm-one-error")


def test_every_chunk_stands_in_the_document() -> None:
    assert all(chunk.text in kestrel().document for chunk in kestrel().chunks)


@pytest.mark.parametrize("file", ["README.md", "kestrel/LICENSE"])
def test_the_licence_is_said(file: str) -> None:
    text = (DATA / file).read_text(encoding="utf-8")
    assert "CC BY 4.0" in text and "https://creativecommons.org/licenses/by/4.0/" in text


def test_the_verdict_cases_are_whole() -> None:
    path = Path(__file__).parent / "data" / "verdict_cases.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == 41
    assert all(set(case) == {"reply", "verdict"} for case in cases)

"""Rows of a user's own into a run folder: `python -m nbutils.own FILE`. Never mends a row.

A line of the file is one question as a JSON object: {"question": ..., "source": ..., "answers":
{"name": ..., "other name": ...}}, with optional "id", "section" and "split". The run then starts at
notebook 03.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nbutils.corpus.own_rows import OwnRow, read_rows, row_id, same_source
from nbutils.corpus.splits import Pairing, SplitError, make_pairs, split_sections
from nbutils.files import aside
from nbutils.jsonl import RecordError, Row, short, write_jsonl
from nbutils.profiles import load_profile
from nbutils.records import Answer, Question, Split
from nbutils.roles import ProfileError
from nbutils.runs import RunError, RunFolder

ORIGIN = "own.json"  # in a run folder: the file that its rows were imported from


@dataclass(frozen=True)
class Imported:
    """What an import has written."""

    questions: list[Question]
    answers: list[Answer]
    pairing: Pairing

    def summary(self) -> str:
        """What there is, in one line a thing."""
        sources = len({q.source_chunk_id for q in self.questions})
        sections = len({q.section for q in self.questions})
        who = Counter(row.answerer for row in self.answers)
        splits = Counter(q.split for q in self.questions)
        return "\n".join(
            (
                f"{len(self.questions):,} questions on {sources:,} sources, {sections:,} sections",
                f"train {splits['train']:,}, test {splits['test']:,}",
                "answers: " + ", ".join(f"{name} {count:,}" for name, count in who.items()),
                self.pairing.summary(),
            )
        )


def import_rows(file: str | Path, run: RunFolder, seed: int) -> Imported:
    """Writes questions.jsonl, answers.jsonl and pairs.jsonl (every two answers) of a file.

    All three or none. Where rows have no split, whole sections are drawn by the seed. Raises
    RecordError that lists the file's faults, and RunError where the run holds other rows.
    """
    file = Path(file)
    rows = read_rows(file)
    questions = _questions(file, rows, seed)
    answers = [
        Answer(q.question_id, name, text)
        for q, row in zip(questions, rows, strict=True)
        for name, text in row.answers.items()
    ]
    pairing = make_pairs(questions, answers, seed, "all")
    if not pairing.pairs:
        raise RecordError(f"{short(file)}: no row has two answers; a pair needs two")
    with run.lock():
        _check_origin(run, file)
        _write(run, file, {"pairs": pairing.pairs, "answers": answers, "questions": questions})
    return Imported(questions, answers, pairing)


def refuse_own_rows(run: RunFolder) -> None:
    """Raises RunError where the run holds rows of a user's own, which a notebook would replace."""
    if (run.folder / ORIGIN).exists():
        what = f"runs/{run.run_id} holds rows of {_origin(run)}"
        raise RunError(f"{what}, which this notebook would replace; start at 03: --from 03")


def main(arguments: Sequence[str] | None = None) -> int:
    """Imports a file. Returns 0, or 2 where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.own", description=__doc__)
    parser.add_argument("file", type=Path, help="JSONL: question, source and answers a line")
    parser.add_argument("--run-id", required=True, help="the run folder's name")
    parser.add_argument("--profile", default="open", help="whose teacher is to judge")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the pairs' order")
    options = parser.parse_args(arguments)
    try:
        load_profile(options.profile)
        imported = import_rows(options.file, RunFolder(options.run_id), options.seed)
    except (RecordError, RunError, ProfileError) as error:
        print(f"nbutils.own: {error}", file=sys.stderr)
        return 2
    command = f"--profile {options.profile} --run-id {options.run_id} --seed {options.seed}"
    print(f"{imported.summary()}\nNext: python -m nbutils.run {command} --from 03")
    return 0


def _questions(file: Path, rows: Sequence[OwnRow], seed: int) -> list[Question]:
    """The rows as questions, each source numbered as it first appears."""
    numbers: dict[str, str] = {}
    for row in rows:
        numbers.setdefault(same_source(row.source), f"s{len(numbers):03d}")
    named = {same_source(row.source): row.section for row in rows if row.section}
    sections = [
        named.get(same_source(row.source), numbers[same_source(row.source)]) for row in rows
    ]
    sides: dict[str, Split] = {}
    if not rows[0].split:
        try:
            sides = split_sections(sections, seed)
        except SplitError:
            why = "all rows have one source or section, and a split needs two"
            raise RecordError(f"{short(file)}: {why}; add rows on another source") from None
    return [
        Question(
            question_id=row_id(place, row),
            split=row.split or sides[section],
            section=section,
            kind=None,
            question=row.question,
            reference=None,
            chunk_id=numbers[same_source(row.source)],
            source_chunk_id=numbers[same_source(row.source)],
            source=row.source,
        )
        for place, (row, section) in enumerate(zip(rows, sections, strict=True))
    ]


def _check_origin(run: RunFolder, file: Path) -> None:
    """Raises RunError where the run holds rows that are not from that file."""
    there = [name for name in ("questions", "answers", "pairs") if _path(run, name).exists()]
    if not there:
        return
    origin = _origin(run) if (run.folder / ORIGIN).exists() else "a notebook"
    if origin != file.name:
        what = f"runs/{run.run_id}/{there[0]}.jsonl comes from {origin}, not from {file.name}"
        raise RunError(f"{what}; choose another run id")


def _origin(run: RunFolder) -> str:
    return str(json.loads((run.folder / ORIGIN).read_text(encoding="utf-8"))["file"])


def _path(run: RunFolder, name: str) -> Path:
    return run.path(f"{name}.jsonl")


def _write(run: RunFolder, file: Path, parts: dict[str, Sequence[Row]]) -> None:
    """Writes all parts beside their places; only then do they take their names, the pairs last.

    A process that dies half way leaves no pairs, which notebook 03 misses, and never old pairs
    beside new answers.
    """
    with aside(run.path(ORIGIN)) as part:
        part.write_text(json.dumps({"file": file.name}) + "\n", encoding="utf-8")
    with ExitStack() as stack:
        beside = {name: stack.enter_context(aside(_path(run, name))) for name in parts}
        for name, rows in parts.items():
            write_jsonl(beside[name], rows)
        _path(run, "pairs").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

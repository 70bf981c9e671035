"""The rows of a user's own file, and all that can be wrong with them. Never mends a row."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nbutils.jsonl import RecordError, fault, read_object, short

LISTED = 20  # faults that a message lists
FIELDS = ("question", "source", "answers", "id", "section", "split")
REQUIRED = FIELDS[:3]
Fault = tuple[int, RecordError]  # of a line


@dataclass(frozen=True)
class OwnRow:
    """One line of the file."""

    line: int
    question: str
    source: str
    answers: dict[str, str]  # by the answerer's name
    id: str = ""  # "": numbered by the row
    section: str = ""  # "": all rows with the same source are a section
    split: Literal["train", "test", ""] = ""  # "": drawn by the seed


def read_rows(file: Path) -> list[OwnRow]:
    """The rows of a file. Raises RecordError that lists the first 20 faults by line."""
    if not file.is_file():
        raise RecordError(f"{short(file)}: there is no such file; mend the path")
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows: list[OwnRow] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines[:-1] if not lines[-1].strip() else lines, 1):
        try:
            values = read_object(line)
        except RecordError as error:
            faults.append((number, error))
            continue
        found = list(_row_faults(values))
        faults += [(number, error) for error in found]
        if not found:
            rows.append(OwnRow(number, **values))
    faults = sorted([*faults, *_file_faults(rows)], key=lambda one: one[0])
    if faults:
        listed = [f"{short(file)} line {number}: {error}" for number, error in faults[:LISTED]]
        more = [f"and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
        raise RecordError("\n".join(listed + more))
    if not rows:
        raise RecordError(f"{short(file)}: holds no row; write one JSON object a line")
    return rows


def row_id(place: int, row: OwnRow) -> str:
    return row.id or f"q{place:03d}"


def same_source(source: str) -> str:
    """A source as it counts when two are compared: spaces and line ends make no difference."""
    return " ".join(source.split())


def _row_faults(values: dict[str, Any]) -> Iterator[RecordError]:
    """What is wrong with one row by itself."""
    for name in REQUIRED:
        if name not in values:
            yield RecordError(f"field '{name}' is missing; a row must have it")
    for name, value in values.items():
        if name not in FIELDS:
            yield fault(name, value, "is not known", f"the fields are {', '.join(FIELDS)}")
        elif name == "answers":
            yield from _answer_faults(value)
        elif why := _why_no_text(value):
            yield fault(name, value, why, "mend that value")
        elif name == "id" and not re.fullmatch(r"[\w.-]{1,64}", value):
            yield fault(name, value, "is no plain name", "use letters, digits, '-', '_' and '.'")
        elif name == "split" and value not in ("train", "test"):
            yield fault(name, value, "is not train or test", "mend it or leave all splits out")


def _answer_faults(answers: Any) -> Iterator[RecordError]:
    if not isinstance(answers, dict) or not answers:
        remedy = 'write them like {"name": "text", "other name": "text"}'
        yield fault("answers", answers, "is not an object of answers by name", remedy)
        return
    for name, text in answers.items():
        if not re.fullmatch(r"[^\s/]([^\n/]{0,62}[^\s/])?", name):
            remedy = "use at most 64 characters in one line, no '/'"
            yield fault("answers", name, "is no plain name of an answerer", remedy)
        if why := _why_no_text(text):
            yield fault(f"answers.{name}", text, why, "mend that answer or leave it out")


def _why_no_text(value: Any) -> str:
    if not isinstance(value, str):
        return "is not text"
    if re.search(r"[\ud800-\udfff]", value):
        return "holds half a character"
    return "" if value.strip() else "is blank"


def _file_faults(rows: Sequence[OwnRow]) -> Iterator[Fault]:
    """What is wrong between rows."""
    ids: dict[str, int] = {}
    asked: dict[tuple[str, str], int] = {}
    sections: dict[str, OwnRow] = {}  # the first row of each source with a section
    sides: dict[tuple[str, str], OwnRow] = {}  # the first row of each source and section
    for place, row in enumerate(rows):
        name = row_id(place, row)
        if (line := ids.setdefault(name, row.line)) != row.line:
            yield row.line, fault("id", name, f"stands on line {line} already", "rename one")
        key = (row.question, same_source(row.source))
        if (line := asked.setdefault(key, row.line)) != row.line:
            why = f"is asked of the same source on line {line}"
            yield row.line, fault("question", row.question, why, "put all answers into one row")
        if row.section:
            first = sections.setdefault(same_source(row.source), row)
            if first.section != row.section:
                why = f"is not that of the same source on line {first.line}: {first.section}"
                yield row.line, fault("section", row.section, why, "give a source one section")
        for what in [("source", same_source(row.source)), ("section", row.section)]:
            first = sides.setdefault(what, row)
            if what[1] and row.split and first.split and first.split != row.split:
                why = f"stands in {first.split} on line {first.line} with the same {what[0]}"
                yield row.line, fault("split", row.split, why, "keep it on one side")
    yield from _split_faults(rows)


def _split_faults(rows: Sequence[OwnRow]) -> Iterator[Fault]:
    """Splits that are given for some rows alone, or leave one side empty."""
    given = [row for row in rows if row.split]
    if given and len(given) < len(rows):
        bare = next(row.line for row in rows if not row.split)
        why = f"is missing, and {len(given)} other rows have it"
        yield bare, RecordError(f"field 'split' {why}; give it to all or to none")
    elif given and len({row.split for row in given}) < 2:
        remedy = "put some sources on the other side, or leave all splits out"
        yield given[0].line, fault("split", given[0].split, "is that of all rows", remedy)

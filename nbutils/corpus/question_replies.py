"""A question writer's reply to questions, line by line. Never drops a line in silence."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, get_args

from nbutils.callpath.exchange import Reply
from nbutils.records import Kind

FIELDS = ("question", "kind", "reference")
# Question: | Q3. | 1) | **Question 2:** | 4 - ; but not 3.5 percent, 5-year or Q fever
LABEL = re.compile(
    r"^(?:[*_#(\[]*(?:(?:question|q)\s*\d{0,3}|\d{1,2})[*_\])]*"
    r"(?:\s*[.:)\]]+[*_]*(?!\d)|\s+[-\u2013\u2014]\s)\s*)+",
    re.IGNORECASE,
)
BULLET = re.compile(r"^[-*\u2022]\s+")
DRESSING = ("[", "]", "```")  # around the lines: a list, a code block
SHOWN = 80  # characters of a line that could not be read


@dataclass(frozen=True)
class Broken:
    """A line of a reply that is no question."""

    line: int  # counted from 1
    text: str  # its start
    why: str


@dataclass(frozen=True)
class Line:
    """A line of a reply that is a question, without its label."""

    question: str
    kind: Kind
    reference: str


@dataclass(frozen=True)
class Read:
    """What a reply says."""

    rows: list[Line]
    broken: list[Broken]
    cleaned: int  # rows that had a label or number, or a line that had one


def read_questions(reply: Reply) -> Read:
    """Reads a reply line by line: one JSON object a line, with question, kind and reference.

    Blank lines, a code block's fences, a list's brackets and the comma after an object are passed
    over. A label or number in front of an object or a question is taken off and counted. Every
    other line is broken, and counted with the reason.
    """
    rows, broken, cleaned = [], [], 0
    lines = reply.text.rstrip().split("\n")
    for number, line in enumerate(lines, 1):
        text = line.strip().rstrip(",").rstrip()
        if not text or text in DRESSING[:2] or text.startswith(DRESSING[2]):
            continue
        bare = without_label(BULLET.sub("", text))
        try:
            row = _read_line(bare)
        except ValueError as error:
            cut = reply.finish_reason == "length" and number == len(lines)
            why = "is cut off at the reply's token limit: raise it" if cut else str(error)
            broken.append(Broken(number, text[:SHOWN], why))
            continue
        clean = without_label(row.question)
        cleaned += clean != row.question or bare != text
        rows.append(replace(row, question=clean))
    return Read(rows, broken, cleaned)


def without_label(question: str) -> str:
    """The question without a leading label or number.

    >>> without_label("Q3. Question: Who counts seals?")
    'Who counts seals?'
    """
    question = question.strip()
    found = LABEL.match(question[:SHOWN])  # no longer: its time grows with the square of a text's
    return question[found.end() :] if found else question


def _read_line(text: str) -> Line:
    """One line as a question. Raises ValueError with the reason."""
    try:
        values = json.loads(text, object_pairs_hook=_no_field_twice)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no whole JSON object ({error.msg})") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(values, dict) or set(values) != set(FIELDS):
        have = (
            f"the fields {', '.join(values)[:SHOWN]}" if isinstance(values, dict) else "no object"
        )
        raise ValueError(f"has {have}, not {', '.join(FIELDS)}")
    for name, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"its {name} is {repr(value)[:SHOWN]}, not a text")
        if re.search(r"[\ud800-\udfff]", value):
            raise ValueError(f"its {name} holds half a character")
    if values["kind"] not in get_args(Kind):
        raise ValueError(
            f"its kind is {values['kind'][:SHOWN]!r}, not {' or '.join(get_args(Kind))}"
        )
    if not without_label(values["question"]):
        raise ValueError(f"its question is {values['question']!r}, a label alone")
    return Line(values["question"].strip(), values["kind"], values["reference"])


def _no_field_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(items)) < len(items):
        raise ValueError("has a field twice")
    return dict(items)

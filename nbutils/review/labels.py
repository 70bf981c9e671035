"""What people said of pairs and answers, act by act, and what stands of it. Never drops a row."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from nbutils.jsonl import Row, fault
from nbutils.profiles import ROOT
from nbutils.records import Answer, Question
from nbutils.review.label_file import LabelFile as LabelFile

LABELS = ROOT / "labels"  # outside the run folders: a person's work outlasts a run
TIME = "%Y-%m-%dT%H:%M:%SZ"  # of `time`, in UTC


@dataclass(frozen=True)
class HumanLabel(Row):
    """One thing that a person did with one pair: a decision, a skip, an undo or a note."""

    pair_id: str
    fingerprint: str  # of the pair as it was shown: pair_fingerprint
    label: Literal["a", "b", "tie", "can't tell", "skip", "undo", "note"]  # the pair's own labels
    seconds: float  # from being shown to the act; 0 where another item was on show
    reviewer: str  # "" where no name was given
    blind: bool  # hidden were models and verdicts, in that session and by the rows before it
    drawn: bool  # it came up by lot, in a queue that no verdict had chosen
    time: str  # UTC, ISO 8601, such as 2026-01-31T08:15:00Z
    note: str | None = None  # the text of a note; "" takes the note away
    key = ()
    optional = ("note",)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def item_id(self) -> str:
        """The pair's id."""
        return self.pair_id

    @property
    def act(self) -> str:
        """The label."""
        return self.label


@dataclass(frozen=True)
class HumanGrade(Row):
    """One thing that a person did with one answer: a grade, a skip, an undo or a note."""

    question_id: str
    answerer: str
    fingerprint: str  # of the answer as it was shown: answer_fingerprint
    act: Literal["grade", "can't tell", "skip", "undo", "note"]
    score: float | None  # 0 to 1, of a grade only
    acceptable: bool | None  # of a grade only
    seconds: float  # this and what follows: as in HumanLabel
    reviewer: str
    blind: bool
    drawn: bool
    time: str
    note: str | None = None
    key = ()
    optional = ("note",)

    def __post_init__(self) -> None:
        _check(self)
        for field in ("score", "acceptable"):
            value = getattr(self, field)
            if (value is not None) != (self.act == "grade"):
                why = f"does not go with the act {self.act!r}"
                raise fault(field, value, why, "a grade has one, no other act has")
        if self.score is not None and not 0 <= self.score <= 1:
            raise fault("score", self.score, "is not from 0 to 1", "mend that value")

    @property
    def item_id(self) -> str:
        """Question and answerer: they name an answer."""
        return f"{self.question_id}/{self.answerer}"


SaidT = TypeVar("SaidT", bound=HumanLabel | HumanGrade)


def pair_fingerprint(question: Question, answer_a: Answer, answer_b: Answer) -> str:
    """16 hex digits of SHA-256 over question, source and both texts; the models do not count."""
    return _digest(question.question, question.source, answer_a.text, answer_b.text)


def answer_fingerprint(question: Question, answer: Answer) -> str:
    """16 hex digits of SHA-256 over question, source and text; the model does not count."""
    return _digest(question.question, question.source, answer.text)


def in_force(rows: Iterable[SaidT], reviewer: str) -> list[SaidT]:
    """The decisions and skips of a reviewer that no undo took back, oldest first.

    An undo takes back the latest that is in force of its item, as that item read at the time.
    """
    found: dict[int, SaidT] = {}
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        if row.reviewer != reviewer or row.act == "note":
            continue
        own = numbers.setdefault((row.item_id, row.fingerprint), [])
        if row.act != "undo":
            own.append(number)
            found[number] = row
        elif own:
            del found[own.pop()]
    return list(found.values())


def standing(rows: Iterable[SaidT], reviewer: str) -> dict[str, SaidT]:
    """The decision in force of each item that a reviewer decided, by item id: the latest."""
    return {row.item_id: row for row in in_force(rows, reviewer) if row.act != "skip"}


@dataclass(frozen=True)
class Usable(Generic[SaidT]):
    """A reviewer's decisions, sorted by whether they speak of what is here today."""

    labels: dict[str, SaidT]  # by item id: the item reads as it did
    changed: tuple[str, ...]  # items that read otherwise now, and were not decided again since
    unknown: int  # items decided that are not here


def usable(rows: Iterable[SaidT], reviewer: str, fingerprints: Mapping[str, str]) -> Usable[SaidT]:
    """The decisions in force on items as they read now; `fingerprints` has them by item id.

    Two runs may use one id for two texts: a decision on the one never hides one on the other.
    """
    rows = list(rows)
    now = standing((r for r in rows if fingerprints.get(r.item_id) == r.fingerprint), reviewer)
    ever = standing(rows, reviewer)
    changed = tuple(item for item in ever if item in fingerprints and item not in now)
    return Usable(now, changed, sum(item not in fingerprints for item in ever))


def reviewers(rows: Iterable[SaidT]) -> list[str]:
    """Who said something, in the order of their first rows."""
    return list(dict.fromkeys(row.reviewer for row in rows))


def _check(row: HumanLabel | HumanGrade) -> None:
    if not re.fullmatch("[0-9a-f]{16}", row.fingerprint):
        raise fault("fingerprint", row.fingerprint, "is not 16 hex digits", "mend that value")
    if not row.seconds >= 0:
        raise fault("seconds", row.seconds, "is below 0", "mend that value")
    try:
        datetime.strptime(row.time, TIME)
    except ValueError:
        remedy = "write it such as 2026-01-31T08:15:00Z"
        raise fault("time", row.time, "is not a time in UTC", remedy) from None
    if (row.note is not None) != (row.act == "note"):
        why = f"does not go with the act {row.act!r}"
        raise fault("note", row.note, why, "a note has a text, no other act has")


def _digest(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

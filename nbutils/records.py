"""The typed rows that notebooks hand over, and the data set. Never admits a broken row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nbutils.jsonl import RecordError as RecordError
from nbutils.jsonl import Row, fault, short
from nbutils.jsonl import read_jsonl as read_jsonl
from nbutils.jsonl import write_jsonl as write_jsonl

Split = Literal["train", "test", "mixed"]
Kind = Literal["fact", "why", "combine"]
Order = Literal["original", "flipped"]  # original: the pair's a is shown as A; flipped: as B
Label = Literal["a", "b", "tie"]  # in the pair's own labels, whichever order was shown
Resolved = Literal["a", "b", "tie", "conflict", "unreadable"]
Probabilities = tuple[float, float, float]  # of a, b and tie, in the pair's own labels
Source = Literal["log-probabilities", "votes"]  # what a teacher's soft target is made from
HUMAN = "human"  # the judge of a resolution that a person made


@dataclass(frozen=True)
class Chunk(Row):
    """One piece of the document, as the retriever sees it."""

    chunk_id: str
    section: str  # heading of the section that the chunk belongs to
    text: str
    key = ("chunk_id",)


@dataclass(frozen=True)
class Question(Row):
    """One question on the document, with the source that answerers and judges see."""

    question_id: str
    split: Split
    section: str  # section of the gold chunk
    kind: Kind | None  # None: a user's own question, of which it is not known
    question: str
    reference: str | None  # short gold answer; None as above
    chunk_id: str  # the gold chunk: the question was written from it
    source_chunk_id: str  # the chunk that the retriever found; c01+c04 where it found several
    source: str  # the text of that chunk; of several, best first, with a blank line between
    key = ("question_id",)

    @property
    def source_chunk_ids(self) -> tuple[str, ...]:
        """The ids of the chunks that the source is made of, best first."""
        return tuple(self.source_chunk_id.split("+"))


@dataclass(frozen=True)
class Answer(Row):
    """One answerer's answer to one question."""

    question_id: str
    answerer: str
    text: str
    error: str | None = None  # the planted error of a contrast answer; no judge sees it
    key = ("question_id", "answerer")
    optional = ("error",)


@dataclass(frozen=True)
class Pair(Row):
    """Two answers to one question, to be compared."""

    pair_id: str
    split: Split  # that of the question
    question_id: str
    answerer_a: str
    answerer_b: str
    key = ("pair_id",)

    def __post_init__(self) -> None:
        if self.answerer_a == self.answerer_b:
            raise fault("answerer_b", self.answerer_b, "is answerer_a too", "name two answerers")


@dataclass(frozen=True)
class RecordedJudgement(Row):
    """The teacher's whole reply on one pair in one order."""

    pair_id: str
    order: Order
    reply: str
    key = ("pair_id", "order")


@dataclass(frozen=True)
class RecordedGrade(Row):
    """The teacher's whole reply on one answer."""

    question_id: str
    answerer: str
    reply: str
    key = ("question_id", "answerer")


@dataclass(frozen=True)
class Judgement(Row):
    """What one judge said of one pair in one order, and how it was read."""

    pair_id: str
    order: Order
    judge: str
    prompt: str  # the prompt's fingerprint, such as pairwise-v1:ab12cd34ef56
    reply: str
    verdict: Label | None  # None: unreadable
    reason: str | None = None  # why it is unreadable
    recovered: bool = False  # the marker stood on the line before the last
    probabilities: Probabilities | None = None  # where the judge gives them
    source: Source | None = None  # of its share in a teacher's soft target; None: it has none
    fallback: str | None = None  # why that is votes and not log-probabilities
    key = ("pair_id", "order", "judge")
    optional = ("source", "fallback")

    def __post_init__(self) -> None:
        _check_reason("verdict", self.verdict, self.reason)
        _check_probabilities("probabilities", self.probabilities)
        _check_source(self)


@dataclass(frozen=True)
class Resolution(Row):
    """What one judge's two orders of one pair come to."""

    pair_id: str
    judge: str
    verdict: Resolved
    leaning: bool = False  # won in one order, tied in the other
    target: Probabilities | None = None  # a teacher's soft target or a student's prediction
    margin: float | None = None  # score of a minus score of b, for judges that score
    key = ("pair_id", "judge")

    def __post_init__(self) -> None:
        _check_probabilities("target", self.target)


@dataclass(frozen=True)
class Grade(Row):
    """What one judge said of one answer, and how it was read."""

    question_id: str
    answerer: str
    judge: str
    prompt: str  # the prompt's fingerprint
    reply: str
    score: float | None  # 0 to 1; None: unreadable
    reason: str | None = None  # why it is unreadable
    key = ("question_id", "answerer", "judge")

    def __post_init__(self) -> None:
        _check_reason("score", self.score, self.reason)
        if self.score is not None and not 0 <= self.score <= 1:
            raise fault("score", self.score, "is not from 0 to 1", "mend the judge's scale")


@dataclass(frozen=True)
class Dataset:
    """A document and all that was recorded on it."""

    document: str
    chunks: list[Chunk]
    questions: list[Question]
    answers: list[Answer]
    pairs: list[Pair]
    judgements: list[RecordedJudgement]
    grades: list[RecordedGrade]


def load_dataset(folder: str | Path) -> Dataset:
    """The data set of a folder such as data/kestrel, each file checked and then file against file.

    Raises RecordError where a row names what another file does not hold, a pair's split is not its
    question's, a source is not its chunk's text, or a pair lacks its reply in one of the orders.
    """
    folder = Path(folder)
    document = folder / "document.md"
    if not document.is_file():
        raise RecordError(f"{short(document)}: there is no such file; restore the folder")
    data = Dataset(
        document=document.read_text(encoding="utf-8"),
        chunks=read_jsonl(folder / "chunks.jsonl", Chunk),
        questions=read_jsonl(folder / "questions.jsonl", Question),
        answers=read_jsonl(folder / "answers.jsonl", Answer),
        pairs=read_jsonl(folder / "pairs.jsonl", Pair),
        judgements=read_jsonl(folder / "judgements.jsonl", RecordedJudgement),
        grades=read_jsonl(folder / "grades.jsonl", RecordedGrade),
    )
    for file, number, row, field, why in _broken_links(data):
        where = f"{short(folder / file)} line {number}"
        remedy = "mend that row or restore the folder"
        raise RecordError(f"{where}: {fault(field, getattr(row, field), why, remedy)}")
    return data


def _broken_links(data: Dataset) -> Iterator[tuple[str, int, Row, str, str]]:
    """Each place where files contradict each other: file, line, row, field and what is wrong."""
    texts = {chunk.chunk_id: chunk.text for chunk in data.chunks}
    splits = {question.question_id: question.split for question in data.questions}
    answers = {(answer.question_id, answer.answerer) for answer in data.answers}
    pairs = {pair.pair_id for pair in data.pairs}
    replies = {(row.pair_id, row.order) for row in data.judgements}
    for n, q in enumerate(data.questions, 1):
        for field in ("chunk_id", "source_chunk_id"):
            if getattr(q, field) not in texts:
                yield "questions.jsonl", n, q, field, "is not in chunks.jsonl"
        if q.source != texts.get(q.source_chunk_id):
            yield "questions.jsonl", n, q, "source", f"is not the text of {q.source_chunk_id}"
        for field in ("kind", "reference"):
            if getattr(q, field) is None:
                yield "questions.jsonl", n, q, field, "is missing, and a data set must have it"
    for n, a in enumerate(data.answers, 1):
        if a.question_id not in splits:
            yield "answers.jsonl", n, a, "question_id", "is not in questions.jsonl"
    for n, p in enumerate(data.pairs, 1):
        if p.question_id not in splits:
            yield "pairs.jsonl", n, p, "question_id", "is not in questions.jsonl"
        elif p.split != splits[p.question_id]:
            yield "pairs.jsonl", n, p, "split", f"is not its question's: {splits[p.question_id]}"
        for field in ("answerer_a", "answerer_b"):
            if (p.question_id, getattr(p, field)) not in answers:
                why = f"has no answer to {p.question_id} in answers.jsonl"
                yield "pairs.jsonl", n, p, field, why
        for order in get_args(Order):
            if (p.pair_id, order) not in replies:
                why = f"has no reply for order '{order}' in judgements.jsonl"
                yield "pairs.jsonl", n, p, "pair_id", why
    for n, j in enumerate(data.judgements, 1):
        if j.pair_id not in pairs:
            yield "judgements.jsonl", n, j, "pair_id", "is not in pairs.jsonl"
    for n, g in enumerate(data.grades, 1):
        if (g.question_id, g.answerer) not in answers:
            why = f"has no answer to {g.question_id} in answers.jsonl"
            yield "grades.jsonl", n, g, "answerer", why


def _check_reason(field: str, value: object, reason: str | None) -> None:
    if (value is None) != (reason is not None):
        why = f"does not go with the reason {reason!r}"
        raise fault(field, value, why, "an unreadable reply has a reason, no other has")


def _check_source(row: Judgement) -> None:
    votes, given = row.source == "votes", row.probabilities is not None
    if row.source is not None and (row.verdict is None or votes == given):
        why = "does not go with the verdict and the probabilities"
        remedy = "log-probabilities give probabilities, votes none, an unreadable reply neither"
        raise fault("source", row.source, why, remedy)
    if votes != (row.fallback is not None):
        why = f"does not go with the source {row.source!r}"
        raise fault("fallback", row.fallback, why, "votes have a reason, nothing else has")


def _check_probabilities(field: str, value: Probabilities | None) -> None:
    if value is not None and not (min(value) >= 0 and math.isclose(sum(value), 1, abs_tol=1e-3)):
        raise fault(field, value, "is not three shares that sum to 1", "normalise it")

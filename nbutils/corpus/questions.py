"""Chunks to questions with their sources and their split. Never asks about a section left out."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nbutils.callpath.exchange import Call, Failure
from nbutils.corpus.question_replies import Broken
from nbutils.corpus.question_replies import read_questions as read_questions
from nbutils.corpus.retrieval import NO_HEADING, Retriever, says_something
from nbutils.corpus.splits import SplitError, like_texts, question_split, split_sections
from nbutils.models import ChatModel
from nbutils.profiles import DocumentChoice, SplitChoice
from nbutils.prompts import QUESTIONS, render_questions
from nbutils.records import Chunk, Kind, Question, Split


class QuestionError(ValueError):
    """A document that no questions can be asked on as chosen; the message names the remedy."""


@dataclass(frozen=True)
class Draft:
    """A question before it has a source."""

    chunk_id: str  # it was written from that chunk
    number: int  # its place in the reply, from 0
    question: str
    kind: Kind
    reference: str


@dataclass(frozen=True)
class Written:
    """All that a question writer wrote on a document, and what went wrong."""

    drafts: list[Draft]  # in the document's order
    asked: dict[str, int]  # questions asked for, by chunk id
    failed: dict[str, str]  # why there was no reply, by chunk id
    broken: list[tuple[str, Broken]]  # with the chunk's id
    cleaned: int
    surplus: int  # questions beyond those asked for, dropped
    short: dict[str, int]  # readable questions of a chunk, where they are fewer than asked for
    duplicates: list[tuple[Draft, Draft]]  # (dropped, kept): the same question twice
    alike: list[tuple[Draft, Draft, float]]  # kept both: they read alike; cosine

    def table(self) -> pd.DataFrame:
        """Counts, each with its first case; a row an outcome."""
        first_broken = [f"{name} line {bad.line}: {bad.why}" for name, bad in self.broken]
        rows = [
            ("asked for", sum(self.asked.values()), [f"{len(self.asked)} chunks"]),
            ("chunks whose call failed", len(self.failed), _pairs(self.failed)),
            ("chunks with fewer than asked for", len(self.short), _pairs(self.short)),
            ("surplus questions, dropped", self.surplus, []),
            ("broken lines, dropped", len(self.broken), first_broken),
            ("duplicates, dropped", len(self.duplicates), [a.question for a, _ in self.duplicates]),
            ("labels removed", self.cleaned, []),
            ("pairs that read alike, kept", len(self.alike), [a.question for a, *_ in self.alike]),
            ("questions", len(self.drafts), []),
        ]
        cells = [(what, count, "; ".join(some[:1])) for what, count, some in rows]
        return pd.DataFrame(cells, columns=["what", "count", "first"]).set_index("what")


@dataclass(frozen=True)
class Placed:
    """Questions with sources and split, and what retrieval made of them."""

    questions: list[Question]
    sides: dict[str, Split]  # of each section that has questions
    found: dict[str, list[str]]  # ids of the retrieved chunks, by question id
    missed: list[str]  # ids of questions whose gold chunk is not among them; they are kept
    failed: dict[str, str]  # why a question has no source, by its id; it is left out


def asked_chunks(chunks: Sequence[Chunk], choice: DocumentChoice) -> list[Chunk]:
    """The chunks that may be asked about: all but the preamble, bare headings and what is left out.

    The preamble is the title's own text before the first section, or text before any heading, where
    there are other sections. Raises QuestionError on a section to leave out that is not there, and
    where nothing is left.
    """
    sections = list(dict.fromkeys(piece.section for piece in chunks))
    if unknown := [name for name in choice.leave_out if name not in sections]:
        have = f"leave_out names {unknown}, which the document does not have"
        raise QuestionError(f"{have}; its sections are {', '.join(sections)}")
    out = {*choice.leave_out, _preamble(chunks)}
    asked = [piece for piece in chunks if piece.section not in out and says_something(piece)]
    if not asked:
        why = f"none of the {len(chunks)} chunks is left to ask about"
        raise QuestionError(f"{why}; shorten leave_out or give a longer document")
    return asked


def plan(chunks: Sequence[Chunk], choice: DocumentChoice, seed: int) -> dict[str, int]:
    """How many questions to ask for, by chunk id, in the document's order.

    A cap in total takes chunks in an order shuffled by the seed, so that few questions sample the
    whole document and a higher cap adds to them. With 6 a chunk and a cap of 8: 6 and 2.
    """
    asked = asked_chunks(chunks, choice)
    left = choice.max_questions or len(asked) * choice.questions_per_chunk
    order = random.Random(seed).sample(asked, len(asked)) if choice.max_questions else asked
    shares = {}
    for piece in order:
        shares[piece.chunk_id] = min(choice.questions_per_chunk, left)
        left -= shares[piece.chunk_id]
    return {piece.chunk_id: shares[piece.chunk_id] for piece in asked if shares[piece.chunk_id]}


def write_questions(
    chunks: Sequence[Chunk], writer: ChatModel, choice: DocumentChoice, seed: int
) -> Written:
    """Has questions written on the planned chunks, one call each, and reads them.

    Raises QuestionError where not one question came of it.
    """
    asked = plan(chunks, choice, seed)
    texts = {piece.chunk_id: piece.text for piece in chunks}
    calls = [
        Call("question_writer", name, QUESTIONS.fingerprint, render_questions(texts[name], n))
        for name, n in asked.items()
    ]
    replies = writer.ask(calls, "questions", lambda reply: bool(read_questions(reply).rows))
    failed, broken, short, drafts = {}, [], {}, []
    cleaned = surplus = 0
    for (name, n), reply in zip(asked.items(), replies, strict=True):
        if isinstance(reply, Failure):
            failed[name] = reply.why
            continue
        read = read_questions(reply)
        broken += [(name, line) for line in read.broken]
        cleaned += read.cleaned
        surplus += max(0, len(read.rows) - n)
        if len(read.rows) < n:
            short[name] = len(read.rows)
        drafts += [Draft(name, place, **vars(row)) for place, row in enumerate(read.rows[:n])]
    if not drafts:
        lines = [f"{name} line {bad.line}: {bad.why}" for name, bad in broken]
        first = [*_pairs(failed), *lines, "the replies are empty"][0]
        why = f"{len(failed)} of {len(asked)} calls failed, {len(broken)} lines are broken"
        raise QuestionError(f"no question came: {why}; the first: {first}; try another writer")
    kept, duplicates = _without_duplicates(drafts)
    near = [(kept[i], kept[j], like) for i, j, like in like_texts([d.question for d in kept])]
    return Written(kept, asked, failed, broken, cleaned, surplus, short, duplicates, near)


def place_questions(
    drafts: Sequence[Draft],
    chunks: Sequence[Chunk],
    retriever: Retriever,
    choice: DocumentChoice,
    split: SplitChoice,
    seed: int,
) -> Placed:
    """Gives each question its id, its source by the retriever, and its side of the split.

    The id counts through the document as if every chunk from the first that may be asked had its
    full number of questions, so that it stays the same under another cap. The source is the
    retrieved chunks' texts, best first, with a blank line between. Raises SplitError where there
    is no split, or a side of it is left without a question.
    """
    pieces = {piece.chunk_id: piece for piece in chunks}
    base = 0 if asked_chunks(chunks, choice)[0] == chunks[0] else 1
    names = [_question_id(draft, choice.questions_per_chunk, base) for draft in drafts]
    texts = {name: draft.question for name, draft in zip(names, drafts, strict=True)}
    found, failed = retriever.find(texts)
    sides = _sides([pieces[d.chunk_id].section for d in drafts], pieces, split, seed)
    questions = []
    for name, draft in zip(names, drafts, strict=True):
        if name in failed:
            continue
        section = pieces[draft.chunk_id].section
        sources = [pieces[source] for source in found[name]]
        questions.append(
            Question(
                question_id=name,
                split=question_split(section, [piece.section for piece in sources], sides),
                section=section,
                kind=draft.kind,
                question=draft.question,
                reference=draft.reference,
                chunk_id=draft.chunk_id,
                source_chunk_id="+".join(found[name]),
                source="\n\n".join(piece.text for piece in sources),
            )
        )
    for side in ("train", "test"):
        if not any(q.split == side for q in questions):
            why = f"no question is left in {side}: the sources of all cross the border"
            raise SplitError(f"{why}; lower top_k, take another seed or more questions")
    missed = [q.question_id for q in questions if q.chunk_id not in found[q.question_id]]
    return Placed(questions, sides, found, missed, failed)


def _preamble(chunks: Sequence[Chunk]) -> str | None:
    """The name of the document's preamble, as chunk() names it; None where there is none."""
    levels: dict[str, int] = {}
    for piece in chunks:
        marks = re.match(r"(#+)\s", piece.text)
        levels.setdefault(piece.section, len(marks[1]) if marks else 0)
    if len(levels) < 2:
        return None
    (name, level), *others = levels.items()
    above = all(level < other for _, other in others)
    return name if name == NO_HEADING or above else None


def _without_duplicates(
    drafts: Sequence[Draft],
) -> tuple[list[Draft], list[tuple[Draft, Draft]]]:
    """The first of each question, and the later ones that say the same but for case and marks."""
    first: dict[str, Draft] = {}
    dropped = []
    for draft in drafts:
        said = " ".join(re.findall(r"\w+", draft.question.casefold()))
        if first.setdefault(said, draft) is not draft:
            dropped.append((draft, first[said]))
    return list(first.values()), dropped


def _question_id(draft: Draft, per_chunk: int, base: int) -> str:
    return f"q{per_chunk * (int(draft.chunk_id[1:]) - base) + draft.number:03d}"


def _sides(
    sections: Sequence[str], pieces: Mapping[str, Chunk], split: SplitChoice, seed: int
) -> dict[str, Split]:
    """The side of each section that has questions: named by the profile, or drawn by the seed."""
    if not split.test:
        return split_sections(sections, seed)
    known = dict.fromkeys(piece.section for piece in pieces.values())
    if unknown := [name for name in split.test if name not in known]:
        have = f"split.test names {unknown}, which the document does not have"
        raise SplitError(f"{have}; its sections are {', '.join(known)}")
    sides: dict[str, Split] = {name: "test" if name in split.test else "train" for name in sections}
    if set(sides.values()) != {"train", "test"}:
        side = " and ".join(sorted(set(sides.values()))) or "no section"
        raise SplitError(f"split.test leaves {side} alone with questions; name other sections")
    return sides


def _pairs(some: Mapping[str, object]) -> list[str]:
    return [f"{name}: {value}" for name, value in some.items()]

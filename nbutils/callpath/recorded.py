"""The recorded replies of data/kestrel as calls of a store. Never changes a recorded text."""

import json
from collections.abc import Iterable, Iterator, Sequence

from nbutils.callpath.exchange import UNRECORDED, Call
from nbutils.jsonl import Row
from nbutils.prompts import Messages, render_grade, render_pairwise, render_questions
from nbutils.records import Dataset, Question
from nbutils.roles import Role

# The prompts, by role, under which the rows of data/kestrel were made.
RECORDED_PROMPTS = {
    "question_writer": "questions-v1:1b4fb00fdf6c",
    "teacher": "pairwise-v1:a5edebcfc0ff",
    "grader": "grade-v1:9f0af09b6763",
}
QUESTIONS_A_CHUNK = 6
LIVE_ANSWERER = "extractive-bm25"  # runs on any machine, so its recorded answers are not replayed


class ReplayDiffers(RuntimeError):
    """Rows of a replay that are not the recorded ones; names the first and a remedy."""


def recorded_answer(data_id: str, question: Question) -> Call:
    """The call that a recorded answer replies to.

    Its prompt was not kept, so it is known by what was asked about: another question or source
    under the same id is a miss.
    """
    about = {"question": question.question, "source": question.source}
    messages = [{"role": name, "content": text} for name, text in about.items()]
    return Call("answerer", data_id, UNRECORDED, messages)


def as_recorded(roles: Iterable[Role], rows: Sequence[Row], recorded: Sequence[Row]) -> str:
    """Says whether rows that these roles made are the recorded ones, whatever their order.

    A live role makes rows of its own, and nothing is compared. Raises ReplayDiffers where a replay
    came out otherwise.
    """
    if any(role.live for role in roles):
        return f"{len(rows):,} rows, live"
    found, there = ({_key(row): row for row in side} for side in (rows, recorded))
    for key in found | there:
        if found.get(key) != there.get(key):
            remedy = "restore data/kestrel and the profile, or ask a live model"
            raise ReplayDiffers(f"{' '.join(key)}: not as recorded in data/kestrel; {remedy}")
    return f"{len(rows):,} rows, all as recorded"


def recorded_calls(data: Dataset) -> Iterator[tuple[Call, str]]:
    """Every recorded row as a call and its reply, prompts rendered from the data.

    A question writer's reply is set again from the question rows, in the form that its prompt asks
    for: one JSON object a line.
    """
    questions = {row.question_id: row for row in data.questions}
    answers = {(row.question_id, row.answerer): row.text for row in data.answers}
    pairs = {row.pair_id: row for row in data.pairs}
    for chunk in data.chunks:
        rows = [q for q in data.questions if q.chunk_id == chunk.chunk_id]
        if rows:
            messages = render_questions(chunk.text, QUESTIONS_A_CHUNK)
            reply = "\n".join(_question_line(q) for q in rows)
            yield _recorded("question_writer", chunk.chunk_id, messages), reply
    for row in data.answers:
        if row.answerer != LIVE_ANSWERER:
            data_id = f"{row.question_id}/{row.answerer}"
            yield recorded_answer(data_id, questions[row.question_id]), row.text
    for j in data.judgements:
        pair = pairs[j.pair_id]
        q = questions[pair.question_id]
        a, b = answers[q.question_id, pair.answerer_a], answers[q.question_id, pair.answerer_b]
        messages = render_pairwise(q.question, q.source, a, b, j.order)
        yield _recorded("teacher", f"{j.pair_id}/{j.order}", messages), j.reply
    for g in data.grades:
        q = questions[g.question_id]
        messages = render_grade(q.question, q.source, answers[g.question_id, g.answerer])
        yield _recorded("grader", f"{g.question_id}/{g.answerer}", messages), g.reply


def _question_line(question: Question) -> str:
    names = ("question", "kind", "reference")
    return json.dumps({name: getattr(question, name) for name in names}, ensure_ascii=False)


def _recorded(role: str, data_id: str, messages: Messages) -> Call:
    return Call(role, data_id, RECORDED_PROMPTS[role], messages)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(getattr(row, name)) for name in row.key)

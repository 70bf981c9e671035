"""The store of model calls, one row a call. Never makes up a reply that it does not hold.

A row's key is the SHA-256 of the canonical request, so a reply is found again only by the request
that it answers. Recorded rows enter from data/kestrel as calls of the model "recorded".
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nbutils.prompts import Messages, render_grade, render_pairwise, render_questions
from nbutils.records import Dataset, Question

RECORDED = "recorded"  # the model of every recorded row
UNRECORDED = "unrecorded"  # the prompt of answers, whose prompts were not recorded
# The prompts, by role, under which the rows of data/kestrel were made.
RECORDED_PROMPTS = {
    "question_writer": "questions-v1:1b4fb00fdf6c",
    "teacher": "pairwise-v1:a5edebcfc0ff",
    "grader": "grade-v1:9f0af09b6763",
}
QUESTIONS_A_CHUNK = 6
LIVE_ANSWERER = "extractive-bm25"  # runs on any machine, so its recorded answers are not replayed
APPLICATION_ID = 0x6E627563  # marks an SQLite file as a store of calls
LAYOUT = 1
TABLE = """CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, role TEXT NOT NULL, data_id TEXT NOT NULL,
    prompt TEXT NOT NULL, reply TEXT NOT NULL)"""


class StoreError(RuntimeError):
    """A store that cannot be used; the message names the file and the remedy."""


class ReplayMiss(LookupError):
    """A request that no recorded reply answers; the message names role, data id and remedy."""


@dataclass(frozen=True)
class Request:
    """All that decides a reply."""

    model: str
    role: str  # question_writer, answerer, teacher or grader
    data_id: str  # c01; q000/gemma-3-270m; p182/flipped: see chunk, answer and pair ids
    prompt: str = UNRECORDED  # the prompt's fingerprint
    messages: Messages | None = None  # the rendered prompt; None where it was not recorded

    def key(self) -> str:
        """SHA-256 (hex) of the request as JSON with sorted names and no spaces."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


class Store:
    """An SQLite file of calls (write-ahead log, so that readers and a writer do not wait)."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file or makes it. Raises StoreError if it is torn or is something else."""
        self.path = Path(path)
        with self._guard():
            self._db = sqlite3.connect(self.path, timeout=30)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def fill(self, calls: Iterable[tuple[Request, str]]) -> None:
        """Puts the recorded calls in place of those there, in one transaction."""
        rows = [
            (request.key(), request.model, request.role, request.data_id, request.prompt, reply)
            for request, reply in calls
        ]
        with self._guard(), self._db:
            self._db.execute("DELETE FROM calls WHERE model = ?", (RECORDED,))
            self._db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", rows)

    def replay(self, request: Request) -> str:
        """The reply that was recorded for exactly this request.

        Raises ReplayMiss where there is none: nothing under that role and data id, another prompt,
        or the same prompt about another text.
        """
        with self._guard():
            found = self._db.execute("SELECT reply FROM calls WHERE key = ?", (request.key(),))
            row = found.fetchone()
            if row is None:
                raise ReplayMiss(self._why_missing(request))
        return row[0]

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        if self.path.is_file() and 0 < self.path.stat().st_size < 512:
            raise sqlite3.DatabaseError("too short")  # SQLite takes it for an empty file
        (mark,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and (mark, layout) != (APPLICATION_ID, LAYOUT):
            why = "another program's SQLite file or an older store"
            raise StoreError(f"{self.path}: {why}; move it away or choose another path")
        (state,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._db:
            self._db.execute(TABLE)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {LAYOUT}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turns SQLite's errors into StoreError."""
        try:
            yield
        except sqlite3.OperationalError as error:  # locked, full, no such folder
            remedy = "close what else uses it, and see that its folder exists and has room"
            raise StoreError(f"{self.path}: {error}; {remedy}") from error
        except sqlite3.DatabaseError as error:
            remedy = "move it away, its -wal and -shm files too, and run again"
            why = " ".join(str(error).split())
            raise StoreError(f"{self.path}: no whole store of calls ({why}); {remedy}") from error

    def _why_missing(self, request: Request) -> str:
        sql = "SELECT prompt FROM calls WHERE model = ? AND role = ? AND data_id = ?"
        row = self._db.execute(sql, (request.model, request.role, request.data_id)).fetchone()
        what = f"{request.role} {request.data_id}"
        if row is None:
            remedy = "replay answers only for rows of data/kestrel; ask for one of those"
            return f"{what}: no reply is recorded; {remedy}"
        if row[0] != request.prompt:
            remedy = "restore that prompt in nbutils/prompts.py"
            return f"{what}: recorded under {row[0]}, asked under {request.prompt}; {remedy}"
        remedy = "restore the question, source and answers of data/kestrel"
        return f"{what}: the text asked about is not the recorded one; {remedy}"


def recorded_store(path: str | Path, data: Dataset) -> Store:
    """A store in replay mode: the file at `path`, filled with the recorded calls of the data."""
    store = Store(path)
    store.fill(recorded_calls(data))
    return store


def recorded_calls(data: Dataset) -> Iterator[tuple[Request, str]]:
    """Every recorded row as a request and its reply, prompts rendered from the data.

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
            yield Request(RECORDED, "answerer", f"{row.question_id}/{row.answerer}"), row.text
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


def _recorded(role: str, data_id: str, messages: Messages) -> Request:
    return Request(RECORDED, role, data_id, RECORDED_PROMPTS[role], messages)

"""The store of model calls, one row a call, and the ledger of spending. Never makes up a reply.

A row's key is the SHA-256 of the canonical request, so a reply is found again only by the request
that it answers. Rows are committed as they arrive; a process that is killed loses none of them.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from nbutils.callpath.exchange import Call, Reply, Token, request_key

STORE = "calls.sqlite"  # in a run folder
RECORDED = "recorded"  # endpoint and model of every recorded row
APPLICATION_ID = 0x6E627563  # marks an SQLite file as a store of calls
LAYOUT = 2
TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, role TEXT NOT NULL,
    data_id TEXT NOT NULL, prompt TEXT NOT NULL, reply TEXT NOT NULL, finish_reason TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, tokens TEXT, time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS errors (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, role TEXT NOT NULL, data_id TEXT NOT NULL,
    why TEXT NOT NULL, time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY, role TEXT NOT NULL, calls INTEGER NOT NULL, cost REAL NOT NULL,
    settled INTEGER NOT NULL);
"""
PAID = ("role", "replies", "failed", "sent", "tokens in", "tokens out", "cost")
WAIT_S = 30  # for another process that holds the file
NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


class StoreError(RuntimeError):
    """A store that cannot be used; the message names the file and the remedy."""


class ReplayMiss(LookupError):
    """A call that no recorded reply answers; the message names role, data id and remedy."""


@dataclass(frozen=True)
class Spent:
    """What a store's ledger comes to; calls in flight when a process died count in full."""

    calls: int = 0  # requests sent, retries counted
    cost: float = 0.0


class Store:
    """An SQLite file of calls (write-ahead log, so that readers and a writer do not wait)."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file or makes it. Raises StoreError if it is torn or is something else."""
        self.path = Path(path)
        with self._guard():
            # The call path writes from its own thread, and only while its caller waits for it.
            self._db = sqlite3.connect(self.path, timeout=WAIT_S, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def find(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The stored replies among those keys."""
        sql = (
            "SELECT key, reply, finish_reason, prompt_tokens, completion_tokens, tokens FROM calls "
            "WHERE key IN (SELECT value FROM json_each(?))"
        )
        with self._guard():
            rows = self._db.execute(sql, (json.dumps(list(keys)),)).fetchall()
            return {key: _reply(*columns) for key, *columns in rows}

    def reserve(self, role: str, calls: int, cost: float) -> int:
        """Enters in the ledger what is about to be sent, at the most that it may cost."""
        with self._guard(), self._db:
            sql = "INSERT INTO ledger (role, calls, cost, settled) VALUES (?, ?, ?, 0)"
            return self._db.execute(sql, (role, calls, cost)).lastrowid or 0

    def settle(
        self,
        entry: int,
        cost: float,
        replies: Iterable[tuple[str, str, str, Call, Reply]] = (),
    ) -> None:
        """What the entry came to, and its replies as (key, endpoint, model, call, reply).

        All in one transaction, so that a reply is neither kept unpaid nor paid and lost.
        """
        rows = [_row(*reply) for reply in replies]
        with self._guard(), self._db:
            sql = "UPDATE ledger SET cost = ?, settled = 1 WHERE id = ?"
            self._db.execute(sql, (cost, entry))
            if rows:
                places = ", ".join("?" * 11)
                self._db.executemany(f"INSERT OR IGNORE INTO calls VALUES ({places}, {NOW})", rows)
                self._db.executemany("DELETE FROM errors WHERE key = ?", [row[:1] for row in rows])

    def keep_error(self, key: str, model: str, call: Call, why: str) -> None:
        """Keeps what a call ended in, once; it is asked again next time."""
        row = (key, model, call.role, call.data_id, why)
        with self._guard(), self._db:
            self._db.execute(f"INSERT OR REPLACE INTO errors VALUES (?, ?, ?, ?, ?, {NOW})", row)

    def failed(self) -> set[tuple[str, str]]:
        """Key and time of each call whose last try failed."""
        with self._guard():
            return set(self._db.execute("SELECT key, time FROM errors").fetchall())

    def spent(self) -> Spent:
        """All that the ledger holds."""
        with self._guard():
            sql = "SELECT coalesce(sum(calls), 0), coalesce(sum(cost), 0) FROM ledger"
            return Spent(*self._db.execute(sql).fetchone())

    def roles(self) -> list[dict[str, Any]]:
        """A row a role: replies kept, calls that failed, requests sent, and what they came to."""
        sql = """
            SELECT role, sum(replies), sum(errors), sum(sent), sum(tokens_in), sum(tokens_out),
                sum(cost) FROM (
              SELECT role, 1 AS replies, 0 AS errors, 0 AS sent,
                coalesce(prompt_tokens, 0) AS tokens_in, coalesce(completion_tokens, 0) AS
                tokens_out, 0.0 AS cost FROM calls WHERE endpoint <> ?
              UNION ALL SELECT role, 0, 1, 0, 0, 0, 0.0 FROM errors
              UNION ALL SELECT role, 0, 0, calls, 0, 0, cost FROM ledger)
            GROUP BY role ORDER BY role"""
        with self._guard():
            found = self._db.execute(sql, (RECORDED,)).fetchall()
        return [dict(zip(PAID, row, strict=True)) for row in found]

    def fill(self, calls: Iterable[tuple[Call, str]]) -> None:
        """Puts the recorded calls in place of those there, in one transaction."""
        rows = []
        for call, text in calls:
            key = request_key(RECORDED, RECORDED, {}, call, recorded=True)
            rows.append(_row(key, RECORDED, RECORDED, call, Reply(text)))
        with self._guard(), self._db:
            self._db.execute("DELETE FROM calls WHERE endpoint = ?", (RECORDED,))
            places = ", ".join("?" * 11)
            self._db.executemany(f"INSERT INTO calls VALUES ({places}, {NOW})", rows)

    def replay(self, calls: Sequence[Call]) -> list[Reply]:
        """The replies that were recorded for exactly these calls.

        Raises ReplayMiss at the first that has none: nothing under that role and data id, another
        prompt, or the same prompt about another text.
        """
        keys = [request_key(RECORDED, RECORDED, {}, call, recorded=True) for call in calls]
        found = self.find(keys)
        for key, call in zip(keys, calls, strict=True):
            if key not in found:
                raise ReplayMiss(self._why_missing(call))
        return [found[key] for key in keys]

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        if self.path.is_file() and 0 < self.path.stat().st_size < 512:
            raise sqlite3.DatabaseError("too short")  # SQLite takes it for an empty file
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (mark,) = self._db.execute("PRAGMA application_id").fetchone()
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and (mark, layout) != (APPLICATION_ID, LAYOUT):
            why = "another program's SQLite file or an older store"
            raise StoreError(f"{self.path}: {why}; move it away or choose another path")
        (state,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        again = Retrying(  # where others make the same file, SQLite does not wait for its turn here
            retry=retry_if_exception(lambda error: "locked" in str(error)),
            stop=stop_after_delay(WAIT_S),
            wait=wait_random(0.01, 0.1),
            reraise=True,
        )
        again(self._db.execute, "PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # outlives the process, whatever ends it
        if not tables:  # whole or not at all: tables without the marks are another program's
            marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {LAYOUT};"
            self._db.executescript(f"BEGIN IMMEDIATE; {TABLES} {marks} COMMIT;")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turns SQLite's errors into StoreError."""
        try:
            yield
        except sqlite3.ProgrammingError as error:  # closed
            raise StoreError(f"{self.path}: {error} Open the models again") from error
        except sqlite3.OperationalError as error:  # locked, full, no such folder
            remedy = "close what else uses it, and see that its folder exists and has room"
            raise StoreError(f"{self.path}: {error}; {remedy}") from error
        except sqlite3.DatabaseError as error:
            remedy = "move it away, its -wal and -shm files too, and run again"
            why = " ".join(str(error).split())
            raise StoreError(f"{self.path}: no whole store of calls ({why}); {remedy}") from error

    def _why_missing(self, call: Call) -> str:
        sql = "SELECT prompt FROM calls WHERE endpoint = ? AND role = ? AND data_id = ?"
        row = self._db.execute(sql, (RECORDED, call.role, call.data_id)).fetchone()
        what = f"{call.role} {call.data_id}"
        if row is None:
            remedy = "replay answers only for rows of data/kestrel; ask for one of those"
            return f"{what}: no reply is recorded; {remedy}"
        if row[0] != call.prompt:
            remedy = "restore that prompt in nbutils/prompts.py"
            return f"{what}: recorded under {row[0]}, asked under {call.prompt}; {remedy}"
        remedy = "restore the question, source and answers of data/kestrel"
        return f"{what}: the text asked about is not the recorded one; {remedy}"


def _row(key: str, endpoint: str, model: str, call: Call, reply: Reply) -> tuple[Any, ...]:
    """A reply as the columns of its row, but for the time."""
    tokens = json.dumps([astuple(token) for token in reply.tokens]) if reply.tokens else None
    return (
        key, endpoint, model, call.role, call.data_id, call.prompt, reply.text,
        reply.finish_reason, reply.prompt_tokens, reply.completion_tokens, tokens,
    )  # fmt: skip


def _reply(
    text: str, finish_reason: str | None, told: int | None, said: int | None, tokens: str | None
) -> Reply:
    read = [
        Token(token, logprob, tuple((other, share) for other, share in top))
        for token, logprob, top in json.loads(tokens or "[]")
    ]
    return Reply(text, finish_reason, told, said, tuple(read))

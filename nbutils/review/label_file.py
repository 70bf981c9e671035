"""A file to which rows are added, each on disk at once. Never changes or loses a row."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Generic

from filelock import FileLock

from nbutils.jsonl import RecordError, RowT, line_of, row_of, short

WAIT_S = 10.0  # for another process to finish its row


class LabelFile(Generic[RowT]):
    """A file of one kind of row to which any number of processes append."""

    def __init__(self, path: str | Path, cls: type[RowT]) -> None:
        self.path = Path(path)
        self.cls = cls
        self.cut = b""  # of a last line that was cut off while it was written, as last read
        self._lock = FileLock(f"{self.path}.lock", timeout=WAIT_S)
        self._lines = b""  # whole lines read so far, which `_rows` are made of
        self._rows: list[RowT] = []

    def read(self) -> list[RowT]:
        """Every whole row; none where there is no file yet. Parses only what it has not seen.

        A last line without its end that is not whole is a write that was cut off: its bytes are in
        `cut`, and it is no error. Raises RecordError on any other broken line, with file, line,
        field, value and remedy, and OSError where the file cannot be read.
        """
        lines, tail, whole = _parted(self.path.read_bytes() if self.path.exists() else b"")
        if not lines.startswith(self._lines):  # another file, or an older or edited one
            self._lines, self._rows = b"", []
        seen = len(self._rows)
        fresh = lines[len(self._lines) :].split(b"\n")[:-1]
        rows = self._rows + [self._row(line, n) for n, line in enumerate(fresh, seen + 1)]
        last = [self._row(tail, len(rows) + 1)] if whole else []
        self._lines, self._rows = lines, rows
        self.cut = b"" if whole else tail
        return rows + last

    def append(self, row: RowT) -> None:
        """Adds one row, on disk and whole when this returns.

        The bytes of a line that was cut off go to <name>.cut first, so that they are not lost and
        do not spoil the new row. Raises OSError where the file cannot be written or stays locked
        for WAIT_S, and RecordError on a row that could not be read again: then it is not in it.
        """
        line = line_of(row)
        row_of(line, self.cls)
        with self.lock(), self.path.open("a+b", buffering=0) as file:
            size, start = self._mended(file)
            try:
                _write(file, start + line)
            except BaseException:
                with suppress(OSError):
                    file.truncate(size)
                raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the file against other writers, who wait. Raises OSError as append does."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    def _mended(self, file: FileIO) -> tuple[int, bytes]:
        """The file's length without a cut-off line, and what a new row must begin with."""
        file.seek(0)
        lines, tail, whole = _parted(file.readall())
        if whole:
            return len(lines) + len(tail), b"\n"
        if tail:
            with self.path.with_name(self.path.name + ".cut").open("ab", buffering=0) as kept:
                _write(kept, tail + b"\n")
            file.truncate(len(lines))
        return len(lines), b""

    def _row(self, line: bytes, number: int) -> RowT:
        try:
            return row_of(line, self.cls)
        except RecordError as error:
            raise RecordError(f"{short(self.path)} line {number}: {error}") from None


def _parted(data: bytes) -> tuple[bytes, bytes, bool]:
    """Lines with their ends, the rest, and whether that is a whole line that only lacks its end.

    No beginning of a JSON object is JSON, so a line cut short by a byte is told from a whole one.
    """
    end = data.rfind(b"\n") + 1
    lines, tail = data[:end], data[end:]
    try:
        json.loads(tail.decode("utf-8"))
    except (ValueError, RecursionError):
        return lines, tail, False
    return lines, tail, True


def _write(file: FileIO, data: bytes) -> None:
    """All of it, and on disk. One write, unless the system takes only a part of it."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())

"""hosted_job.json, the record of one fine-tuning job and the way to it. Never holds a key."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbutils.files import aside

STATE = "hosted_job.json"


class HostedError(RuntimeError):
    """A job that cannot be had; the message says what the service said, and the way on."""


@dataclass
class State:
    """What the file holds."""

    request: dict[str, Any]  # endpoint, base model, epochs and the SHA-256 of both files
    files: dict[str, str] = field(default_factory=dict)  # the service's id of each file
    asked: bool = False  # a job was asked for, or was about to be
    entry: int = 0  # of the store's ledger
    job: str = ""
    model: str = ""  # the fine-tuned one


class JobFile:
    """The file in a run's folder. It is on disk, and whole, when `keep` returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE

    def load(self) -> State | None:
        """What was kept; None where nothing was. Raises HostedError on a damaged file."""
        if not self._path.exists():
            return None
        try:
            table = json.loads(self._path.read_text(encoding="utf-8"))
            if set(table) != {one.name for one in fields(State)}:
                raise ValueError
            return State(**table)
        except (ValueError, TypeError):
            remedy = "restore it, or move it away once the service shows no job that it stood for"
            raise HostedError(f"{STATE} is no whole record of a job; {remedy}") from None

    def begun(self) -> State:
        """What was kept of a job that exists. Raises HostedError where none was started."""
        state = self.load()
        if state is None or not state.job:
            raise HostedError(f"{STATE} names no job; run finetune() first")
        return state

    def keep(self, state: State) -> None:
        with aside(self._path) as part:
            part.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")

    def drop(self) -> None:
        """Forgets a job that was refused."""
        self._path.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes out. Raises HostedError where one is in."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._path.with_name(".hosted_job.lock"), timeout=0):
                yield
        except Timeout:
            raise HostedError(f"another process is at {STATE}; wait until it ends") from None

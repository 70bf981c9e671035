"""Profiles (which model plays which role) and run folders. Never starts or asks a model.

A profile is a TOML file of nbutils/profile_files. The code of the series does not change with it.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbutils.jsonl import Row, RowT, read_jsonl, write_jsonl

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "kestrel"
PROFILE_FILES = Path(__file__).resolve().parent / "profile_files"
WRITTEN_BY = {
    "questions.jsonl": "01_questions",
    "answers.jsonl": "02_answers",
    "pairs.jsonl": "02_answers",
    "judgements.jsonl": "03_teacher_judgements",
    "resolutions.jsonl": "03_teacher_judgements",
    "student": "05_distil",
    "finetuning_events.jsonl": "05_distil",
    "scorecard.json": "06_evaluate",
}


class ProfileError(ValueError):
    """A profile that does not exist or breaks the rules; names file, field, value and remedy."""


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message names the remedy."""


@dataclass(frozen=True)
class Role:
    """Who plays one role."""

    model: str  # "recorded" (replayed), "extractive" (live, no model) or a student's base model


@dataclass(frozen=True)
class Profile:
    """The model of each role."""

    name: str
    question_writer: Role
    answerers: dict[str, Role]  # by the answerer's name, as in the answers' rows
    teacher: Role  # judges pairs and grades answers
    student: Role


class RunFolder:
    """The files of one run, runs/<run_id>: notebooks hand over through them alone."""

    def __init__(self, run_id: str, root: Path = ROOT / "runs") -> None:
        """Raises RunError where the id is not a plain name of at most 64 characters."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", run_id):
            rule = "letters, digits, '-' and '_' only, at most 64, no path"
            raise RunError(f"run id {run_id!r} is not a plain name: use {rule}")
        self.run_id = run_id
        self.folder = root / run_id

    def path(self, name: str) -> Path:
        """Where to write the file `name`. Makes the run folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def need(self, name: str) -> Path:
        """Where the file or folder `name` is. Raises RunError where no notebook has written it."""
        path = self.folder / name
        if not path.exists():
            writer = WRITTEN_BY.get(name)
            remedy = f"run notebook {writer} first" if writer else "run the notebook that writes it"
            raise RunError(f"runs/{self.run_id}/{name}: there is no such file yet; {remedy}")
        return path

    def read(self, name: str, cls: type[RowT]) -> list[RowT]:
        """The rows of a JSONL file. Raises RunError where it is missing, RecordError if broken."""
        return read_jsonl(self.need(name), cls)

    def write(self, name: str, rows: Iterable[Row]) -> None:
        """Writes a JSONL file whole or not at all."""
        write_jsonl(self.path(name), rows)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder, and lets go by itself should the process die.

        Raises RunError where another holds it. The runner takes the lock for the whole series; the
        notebooks that it starts do not.
        """
        lock = FileLock(self.path(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remedy = "wait until that ends or choose another run id"
            raise RunError(f"run '{self.run_id}' is in use by another process; {remedy}") from None
        try:
            yield
        finally:
            lock.release()


def load_profile(name: str) -> Profile:
    """The profile of nbutils/profile_files/<name>.toml.

    Raises ProfileError on an unknown name, a field that is unknown or missing, and a value that is
    not text.
    """
    known = sorted(file.stem for file in PROFILE_FILES.glob("*.toml"))
    if name not in known:
        raise ProfileError(f"profile {name!r} is not known: choose one of {', '.join(known)}")
    file = PROFILE_FILES / f"{name}.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{file.name}: {error}; mend that line") from None
    roles = ("question_writer", "teacher", "student")
    _check_fields(file.name, table, ("name", "answerers", *roles))
    answerers = _table(file.name, "answerers", table["answerers"])
    return Profile(
        name=_text(file.name, "name", table["name"]),
        answerers={who: _role(file.name, f"answerers.{who}", x) for who, x in answerers.items()},
        **{role: _role(file.name, role, table[role]) for role in roles},
    )


def open_run(profile: str, run_id: str) -> tuple[Profile, RunFolder]:
    """A notebook's profile and run folder; run_id "" stands for the profile's name."""
    chosen = load_profile(profile)
    return chosen, RunFolder(run_id or chosen.name)


def _role(file: str, where: str, value: Any) -> Role:
    table = _table(file, where, value)
    _check_fields(f"{file}: [{where}]", table, ("model",))
    return Role(_text(file, f"{where}.model", table["model"]))


def _check_fields(where: str, table: dict[str, Any], fields: tuple[str, ...]) -> None:
    for name in table:
        if name not in fields:
            raise ProfileError(f"{where}: field '{name}' is unknown; known are {', '.join(fields)}")
    for name in fields:
        if name not in table:
            raise ProfileError(f"{where}: field '{name}' is missing; add it")


def _table(file: str, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ProfileError(f"{file}: field '{field}': value {value!r} is no table; write [{field}]")
    return value


def _text(file: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ProfileError(f"{file}: field '{field}': value {value!r} is not text; name a model")
    return value

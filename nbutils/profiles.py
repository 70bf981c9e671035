"""Profiles: which document is asked about, and which model plays which role. Never asks a model.

A profile is a TOML file: one of nbutils/profile_files, by name, or a user's own, by its path. The
code of the series does not change with it.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from nbutils.roles import (
    LONGEST,
    REQUEST,
    Asked,
    Endpoint,
    GenerativeRole,
    HostedRole,
    Part,
    ProfileError,
    Role,
    StudentRole,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "kestrel"
PROFILE_FILES = Path(__file__).resolve().parent / "profile_files"
Names = Annotated[tuple[str, ...], Strict(False)]  # a list, in the file


class DocumentChoice(Part):
    """What is asked about."""

    path: Path  # a .md, .txt or .pdf file or a folder of them
    leave_out: Names = ()  # sections that nobody is asked about
    questions_per_chunk: int = Field(default=6, ge=1)
    max_questions: int = Field(default=0, ge=0)  # in all; 0: no cap


class RetrievalChoice(Part):
    """How sources are found."""

    index: Literal["bm25", "vector"] = "bm25"
    top_k: int = Field(default=1, ge=1)


class SplitChoice(Part):
    """Which sections are the examination."""

    test: Names = ()  # empty: drawn by the seed


class PairChoice(Part):
    """Which answers are compared."""

    choose: Literal["recorded", "two", "all"] = "two"


class Limits(Part):
    """How calls are sent."""

    concurrency: int = Field(default=32, ge=1)  # calls in flight
    timeout_s: float = Field(default=120.0, gt=0)  # of one attempt
    deadline_s: float = Field(default=600.0, gt=0)  # of one call with all its attempts


class Budget(Part):
    """What a run may spend, over all its notebooks and restarts."""

    money: float | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)  # requests sent, retries counted


class Profile(Part):
    """The whole of one profile."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    file: Path
    currency: str = "USD"
    document: DocumentChoice
    retrieval: RetrievalChoice = RetrievalChoice()
    split: SplitChoice = SplitChoice()
    pairs: PairChoice = PairChoice()
    question_writer: Role
    answerers: dict[str, Role]  # by the answerer's name, as in the answers' rows
    teacher: Role  # judges pairs and grades answers
    embedder: Role | None = None  # wanted where retrieval.index is "vector"
    student: StudentRole
    hosted_student: HostedRole | None = None
    generative_student: GenerativeRole | None = None
    calls: Limits = Limits()
    budget: Budget = Budget()

    @field_validator("answerers")
    @classmethod
    def _two(cls, answerers: dict[str, Role]) -> dict[str, Role]:
        if len(answerers) < 2:
            raise ValueError("names fewer than two answerers, and a pair needs two")
        told: dict[str, str] = {}
        for name, role in answerers.items():
            twin = told.setdefault(role.model_dump_json(include=REQUEST), name)
            if role.live and twin != name:
                why = f"names one model twice, asked in the same way: {twin} and {name}"
                raise ValueError(f"{why}; take one out or change its sampling")
        return answerers

    @model_validator(mode="after")
    def _whole(self) -> "Profile":
        if self.retrieval.index == "vector" and self.embedder is None:
            raise ValueError("retrieval.index is vector, but there is no [embedder]: add it")
        asked: dict[str, Asked] = {k: role for k, role in self.chat_roles().items() if role.live}
        if self.hosted_student is not None:
            asked["hosted_student"] = self.hosted_student
        for name, part in asked.items():
            if not any(n in part.sampling for n in LONGEST):
                want = f"[{name}.sampling] names no {' or '.join(LONGEST)}"
                raise ValueError(f"{want}: without it nobody knows what a reply may cost; add it")
        for name, end in self.endpoints().items():
            if end.base_url and not end.key:
                why = f"[{name}] names a base_url and no key"
                raise ValueError(f'{why}: name the variable of its key, or write key = "none"')
        for name, role in self.chat_roles().items():
            if role.service == "extractive" and not name.startswith("answerers."):
                raise ValueError(f"[{name}] is extractive, which can only answer questions")
        return self

    def chat_roles(self) -> dict[str, Role]:
        """The roles that are asked in chat messages, by the name of their table."""
        answerers = {f"answerers.{name}": role for name, role in self.answerers.items()}
        return {"question_writer": self.question_writer, **answerers, "teacher": self.teacher}

    def endpoints(self) -> dict[str, Endpoint]:
        """Every role that may want a key, by the name of its table."""
        more = {"embedder": self.embedder, "hosted_student": self.hosted_student}
        return self.chat_roles() | {name: role for name, role in more.items() if role is not None}


def load_profile(name: str) -> Profile:
    """The profile of that name, or the one in the file of that path.

    A relative path in the file starts at the file's folder; in a shipped profile, at the
    repository. Raises ProfileError on an unknown name and on each field that is unknown, missing
    or has a value that it does not take.
    """
    known = sorted(file.stem for file in PROFILE_FILES.glob("*.toml"))
    own = name.endswith(".toml")
    file = Path(name).expanduser() if own else PROFILE_FILES / f"{name}.toml"
    if not own and name not in known:
        remedy = f"choose one of {', '.join(known)}, or give the path of a .toml file"
        raise ProfileError(f"profile {name!r} is not known: {remedy}")
    if not file.is_file():
        raise ProfileError(f"profile {name!r}: there is no such file; mend the path")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file.name}: {error}; mend that line") from None
    base = file.resolve().parent if own else ROOT
    if "file" in table:
        raise ProfileError(f"{file.name}: field 'file' is unknown; take it out or mend its name")
    _anchor(table, base)
    try:
        return Profile.model_validate(table | {"file": file.resolve()})
    except ValidationError as error:
        raise ProfileError("\n".join(_faults(file.name, error))) from None


def _anchor(table: dict[str, Any], base: Path) -> None:
    """Makes the relative paths of the file absolute."""
    document = table.get("document")
    if isinstance(document, dict) and isinstance(document.get("path"), str):
        document["path"] = base / Path(document["path"]).expanduser()
    answerers = table.get("answerers")
    roles = [*table.values(), *(answerers.values() if isinstance(answerers, dict) else ())]
    for part in filter(lambda role: isinstance(role, dict), roles):
        model, adapter = str(part.get("model", "")), part.get("adapter")
        if part.get("service", "local") == "local" and model.startswith((".", "/", "~")):
            part["model"] = str(base / Path(model).expanduser())
        if adapter and isinstance(adapter, str):
            part["adapter"] = str(base / Path(adapter).expanduser())


def _faults(file: str, error: ValidationError) -> list[str]:
    """One line a fault: file, field, value, what is wrong."""
    lines = []
    for fault in error.errors(include_url=False):
        field = ".".join(map(str, fault["loc"]))
        why = re.sub("^(?:Value error,|Input|String) ", "", fault["msg"])
        match fault["type"]:
            case "missing":
                lines.append(f"{file}: field '{field}' is missing; add it")
            case "extra_forbidden":
                lines.append(f"{file}: field '{field}' is unknown; take it out or mend its name")
            case _:
                secret = field.endswith(("key", "base_url"))  # somebody may have put a key there
                hidden = secret or isinstance(fault["input"], dict)
                value = "" if hidden else f"value {fault['input']!r} "
                lines.append(f"{file}: " + (f"field '{field}': " if field else "") + value + why)
    return lines

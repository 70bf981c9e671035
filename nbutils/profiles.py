"""Profiles: which document is asked about, and which model plays which role. Never holds a key.

A profile is a TOML file: one of nbutils/profile_files, by name, or a user's own, by its path. The
code of the series does not change with it. Keys stay in the environment: a role names the variable.
"""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "kestrel"
PROFILE_FILES = Path(__file__).resolve().parent / "profile_files"
NO_KEY = "none"
OPENAI_URL = "https://api.openai.com/v1"
KEYS = {"openai": ("OPENAI_API_KEY",), "huggingface": ("HF_TOKEN", "HUGGING_FACE_TOKEN")}
OWN_FIELDS = (
    *("model", "messages", "stream", "n", "logprobs", "top_logprobs"),
    *("extra_headers", "extra_query", "timeout"),  # of the client, not of the request
)
LONGEST = ("max_tokens", "max_completion_tokens")
# What a reply depends on: two roles that are alike in it get one reply.
REQUEST = {"service", "model", "base_url", "provider", "adapter", "sampling", "logprobs"}


class ProfileError(ValueError):
    """A profile that does not exist or breaks the rules; names file, field, value and remedy."""


class KeyMissing(ProfileError):
    """A key that is not in the environment, or is none; the message names role and variable."""


class Part(BaseModel):
    """A table of the file: frozen, and no field that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Names = Annotated[tuple[str, ...], Strict(False)]  # a list, in the file


class Endpoint(Part):
    """Where a model is asked, and which variable of the environment holds the key for it."""

    service: Literal["recorded", "extractive", "openai", "huggingface", "local"]
    model: str = Field(min_length=1)
    base_url: str = ""  # "": OPENAI_BASE_URL, or the service's own
    key: str = ""  # the variable's NAME; "": the service's default; "none": no key is wanted

    @field_validator("base_url")
    @classmethod
    def _no_credentials(cls, url: str) -> str:
        return _address(url)

    @field_validator("key")
    @classmethod
    def _name_of_a_variable(cls, key: str) -> str:
        if not re.fullmatch(r"(?:none|[A-Z][A-Z0-9_]*)?", key):
            raise ValueError("is not the name of a variable such as OPENAI_API_KEY")
        return key


class Asked(Endpoint):
    """How a model is asked, and what that costs."""

    sampling: dict[str, Any] = {}  # passed on as it is: temperature, max_tokens and so on
    logprobs: int = Field(default=0, ge=0, le=20)  # alternatives to ask for at each token; 0: none
    price_in: float = Field(default=0.0, ge=0)  # of a million prompt tokens
    price_out: float = Field(default=0.0, ge=0)  # of a million tokens of replies

    @property
    def longest(self) -> int:
        """The most tokens that a reply may have."""
        return max(int(self.sampling[name]) for name in LONGEST if name in self.sampling)

    @field_validator("sampling")
    @classmethod
    def _can_be_sent(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        more = sampling.get("extra_body", {})
        if not isinstance(more, dict):
            raise ValueError("has an extra_body that is no table: mend it")
        for name in OWN_FIELDS:
            if name in sampling or name in more:
                raise ValueError(f"has '{name}', which is set elsewhere: take it out")
        for name in LONGEST:
            if name in sampling and not (type(sampling[name]) is int and sampling[name] > 0):
                raise ValueError(f"has '{name}', which is no whole number above 0: mend it")
        try:
            json.dumps(sampling, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("has a date, inf or nan, which no request can hold: mend it") from None
        return sampling


class Role(Asked):
    """Who plays one role, and how it is asked."""

    provider: str = ""  # of Hugging Face Inference Providers; "": its own choice
    adapter: str = ""  # of a local model: the folder of a LoRA adapter
    only_where_found: bool = False  # an answerer that is asked only where retrieval found the gold

    @property
    def live(self) -> bool:
        return self.service in ("openai", "huggingface", "local")


class HostedRole(Asked):
    """A student that a service fine-tunes."""

    service: Literal["openai"] = "openai"
    epochs: int = Field(default=3, ge=1)
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)  # of the train questions
    price_training: float = Field(default=0.0, ge=0)  # of a million training tokens
    sampling: dict[str, Any] = {"max_tokens": 400, "temperature": 0}


class GenerativeRole(Part):
    """A student that writes its reasons, trained here; sizes are for a small base."""

    model: str = Field(min_length=1)  # smollm2-135m-instruct, a folder or a hub id
    epochs: int = Field(default=3, ge=1)
    rank: int = Field(default=16, ge=1)
    rate: float = Field(default=2e-4, gt=0)
    batch: int = Field(default=8, ge=1)
    alpha: float = Field(default=0.5, ge=0, le=1)
    max_tokens: int = Field(default=2048, ge=64)  # of the longest event


class StudentRole(Part):
    """The scoring student, trained here."""

    model: str = Field(min_length=1)  # smollm2-135m-instruct, a folder or a hub id
    grades: bool = True  # whether the teacher also grades answers, one call each


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


def read_key(role: Endpoint, where: str) -> str:
    """The role's key from the environment; "" where it wants none.

    `where` names the role in the message. Raises KeyMissing, which names the variable, where it is
    not set or holds what no header can: a blank, a line break, a character that is not ASCII.
    """
    if role.key == NO_KEY or role.service not in KEYS:
        return ""
    names = (role.key,) if role.key else KEYS[role.service]
    for name in names:
        if key := os.environ.get(name, "").strip():
            if not re.fullmatch(r"[!-~]+", key):
                why = "has a blank, a line break or a character that is not ASCII in it"
                raise KeyMissing(f"[{where}] wants a key, and {name} {why}: set it again")
            return key
    remedy = 'set it, or write key = "none" where the server wants no key'
    raise KeyMissing(f"[{where}] wants a key in {' or '.join(names)}, which is not set: {remedy}")


def base_url(role: Endpoint) -> str:
    """Where the role's requests go. OPENAI_BASE_URL goes with OPENAI_API_KEY and no other key.

    Raises ProfileError where that is wanted and is no address.
    """
    if role.base_url or role.service != "openai":
        return role.base_url
    if role.key not in ("", *KEYS["openai"]):
        return OPENAI_URL
    try:
        return _address(os.environ.get("OPENAI_BASE_URL", "").strip()) or OPENAI_URL
    except ValueError as error:
        raise ProfileError(f"OPENAI_BASE_URL {error}") from None


def _address(url: str) -> str:
    """The address without its last slash; "" is none. The errors do not show it."""
    try:
        parts = urlsplit(url)
        whole = not url or (parts.scheme in ("http", "https") and parts.hostname)
        parts.port  # noqa: B018 (raises where it is no number)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("is not a web address: write it like http://127.0.0.1:8080/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("holds more than an address: keys belong into the environment")
    return url.rstrip("/")


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

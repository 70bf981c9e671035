"""The roles of a profile: who is asked, where, how, and under which key. Never holds a key.

Keys stay in the environment: a role names the variable.
"""

import json
import os
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

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

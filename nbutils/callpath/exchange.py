"""What is asked and what comes back: call, reply, failure, key. Never asks anything.

The key is the SHA-256 of the canonical request, so a reply is found again only by the request that
it answers.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbutils.prompts import Messages

UNRECORDED = "unrecorded"  # the prompt of recorded answers, whose prompts were not kept


@dataclass(frozen=True)
class Call:
    """One thing to be asked, before it is known of whom."""

    role: str  # question_writer, answerer, teacher, grader, embedder or student
    data_id: str  # c01; q000/gemma-3-270m; p182/flipped: names the row in messages and summaries
    prompt: str = UNRECORDED  # the prompt's fingerprint
    messages: Messages | None = None  # the rendered prompt; None where it was not recorded
    replicate: int = 0  # to ask the same again, as if it were another call


@dataclass(frozen=True)
class Token:
    """One token of a reply with the likeliest tokens in its place (natural logarithms)."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str | None = None  # stop, length, content_filter, refusal or None: unknown
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens: tuple[Token, ...] = ()  # the last ones of the text, where log-probabilities are given


@dataclass(frozen=True)
class Failure:
    """What a call ended in that got no reply."""

    why: str  # one line


def request_key(
    endpoint: str, model: str, sampling: Mapping[str, Any], call: Call, recorded: bool = False
) -> str:
    """SHA-256 (hex) of the canonical request: JSON with sorted names and no spaces.

    It covers all that decides a reply and neither credentials nor time-outs. A recorded row is
    known by its role, id and prompt as well, since the messages of some were not kept.
    """
    whole = {
        "endpoint": endpoint,
        "model": model,
        "sampling": dict(sampling),
        "messages": call.messages,
        "replicate": call.replicate,
    }
    if recorded:
        whole |= {"role": call.role, "data_id": call.data_id, "prompt": call.prompt}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()

"""Chat models behind an endpoint that speaks OpenAI's protocol. Never retries, logs or keeps a key.

A cloud, vLLM, Ollama and llama.cpp's server all speak it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from nbutils.callpath.exchange import Call, Reply, Token
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price
from nbutils.roles import HostedRole, Role, base_url
from nbutils.services.clients import async_client, redact

PASSING = (408, 409, 429)  # and all from 500: trying again may help
NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
SIDES = ("prompt", "completion")
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
TAIL = 24  # tokens kept from a reply's end: the verdict's line and what may follow it
SHORT = 300  # characters of a service's own words


class OpenAIChat:
    """A chat model of an endpoint. Sends one call at a time, and each once."""

    batch = 1
    concurrency: int | None = None

    def __init__(self, role: Role | HostedRole, key: str, timeout_s: float) -> None:
        self.endpoint, self.model = base_url(role), role.model
        self.sampling = dict(role.sampling)
        if role.logprobs:
            self.sampling |= {"logprobs": True, "top_logprobs": role.logprobs}
        self.longest = role.longest
        self.price = Price(role.price_in, role.price_out)
        self._role, self._key, self._timeout = role, key, timeout_s
        self._client: openai.AsyncOpenAI | None = None  # made in the loop that uses it

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        (call,) = calls
        if self._client is None:
            self._client = async_client(self._role, self._key, self._timeout)
        post = self._client.post
        # The client's own method for chat completions would refuse fields that it does not know,
        # and spend a quarter of a call's CPU time on taking request and reply apart.
        fields = self.sampling | self.sampling.get("extra_body", {})
        fields.pop("extra_body", None)
        request = {"model": self.model, "messages": call.messages, **fields}
        body = await asked(
            lambda: post("/chat/completions", cast_to=httpx2.Response, body=request),
            self._timeout,
            self._key,
        )
        return [read_completion(body, self._key)]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


async def asked(
    send: Callable[[], Awaitable[Any]], timeout_s: float, key: str
) -> Mapping[str, Any]:
    """The JSON object that a raw request brought. Raises CallError for everything else.

    The time-out is of the whole attempt: a server that sends a byte a minute gets no longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            raw = await send()
    except TimeoutError:
        why = f"no reply within {timeout_s:g} s"
        raise CallError(why, "passing", charged=True) from None
    except openai.APIStatusError as error:
        raise refusal(error, key) from None
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        why = redact(f"the connection failed ({type(cause).__name__}: {cause})", key)
        raise CallError(why, "passing", charged=not isinstance(cause, UNSENT)) from None
    except ValueError as error:  # of the messages, such as half a character
        why = redact(f"the request cannot be written: {error}", key)
        raise CallError(why, "row") from None
    try:
        body = json.loads(raw.content)
    except (ValueError, RecursionError):
        raise odd("is not JSON", raw.text, key) from None
    if not isinstance(body, dict):
        raise odd("is no JSON object", raw.text, key)
    return body


def odd(why: str, body: str, key: str) -> CallError:
    """A reply that came, and makes no sense."""
    shown = redact(body, key)[:80]
    return CallError(f"the reply {why}: {shown!r}", "odd", charged=True)


def refusal(error: openai.APIStatusError, key: str) -> CallError:
    """A status that is no success, as the call path takes it."""
    status, body = error.status_code, error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    fields = inner if isinstance(inner, dict) else {"message": inner}
    codes = [str(fields[name]) for name in ("code", "type") if fields.get(name)]
    said = str(fields.get("message") or error.response.text or error.message)
    why = redact(f"{' '.join([str(status), *codes[:1]])}: {said}", key)[:SHORT]
    if status in (401, 402) or not set(codes).isdisjoint(NO_QUOTA):
        return CallError(why, "service", status)
    if status in PASSING or status >= 500:
        after = _seconds(error.response.headers)
        return CallError(why, "passing", status, after, charged=status >= 500)
    return CallError(why, "row", status)


def read_completion(body: Mapping[str, Any], key: str) -> Reply:
    """The first choice of a chat completion. Raises CallError where there is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        refused = message.get("refusal")
        text = refused or message.get("content") or ""
        finish = "refusal" if refused else choice.get("finish_reason")
        if not isinstance(text, str) or not isinstance(finish, str | None):
            raise TypeError
        told, said = (_count(body.get("usage"), f"{side}_tokens") for side in SIDES)
        tokens = read_tokens(choice.get("logprobs"))
        return Reply(_whole(text), _whole(finish or "") or None, told, said, tokens)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
        raise odd("is no chat completion", json.dumps(body), key) from None


def read_tokens(logprobs: Any) -> tuple[Token, ...]:
    """The last tokens of a choice with their alternatives; () where the endpoint gives none."""
    content = (logprobs or {}).get("content") or []
    return tuple(
        Token(
            _whole(str(token["token"])),
            float(token["logprob"]),
            tuple(
                (_whole(str(other["token"])), float(other["logprob"]))
                for other in token.get("top_logprobs") or ()
            ),
        )
        for token in content[-TAIL:]
    )


def _count(usage: Any, name: str) -> int | None:
    """A number of tokens; None, unknown, where what is told is none."""
    told = usage.get(name) if isinstance(usage, dict) else None
    return told if type(told) is int and 0 <= told < 2**63 else None


def _whole(text: str) -> str:
    """The text with U+FFFD for each half of a character, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After, or retry-after-ms, in seconds from now."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        told = headers.get("retry-after")
        if told is None:
            return None
        if told.replace(".", "", 1).isdigit():
            return float(told)
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None

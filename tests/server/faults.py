"""What goes wrong, for which requests, and how it looks. Never decides by chance alone.

A share is drawn by the hash of seed, request and attempt, so a run can be repeated.
"""

import asyncio
import hashlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

BAD = "invalid_request_error"
# kind: status, message, type and code of the body, as OpenAI's service words them
ERRORS: dict[str, tuple[int, str, str, str | None]] = {
    "400": (400, "Invalid value: 'x'. Supported values are: 'y'.", BAD, "invalid_value"),
    "402": (402, "Insufficient balance.", "insufficient_balance", None),
    "403": (403, "Project `proj_x` does not have access to model `m`.", BAD, "model_not_found"),
    "404": (404, "The model `m` does not exist or you do not have access to it.", BAD, None),
    "408": (408, "Request timed out.", "timeout", None),
    "409": (409, "The resource was changed by another request.", BAD, "conflict"),
    "429": (429, "Rate limit reached for m in organization org-x.", "requests", "rate_limit"),
    "500": (500, "The server had an error while processing your request.", "server_error", None),
    "503": (503, "The engine is currently overloaded, try again later.", "server_error", None),
    "model_not_found": (404, "The model `m` does not exist.", BAD, "model_not_found"),
    "context_length": (
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens. Please reduce the length of the messages.",
        BAD,
        "context_length_exceeded",
    ),
    "insufficient_quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "invalid_key": (401, "Incorrect API key provided: {masked}.", BAD, "invalid_api_key"),
    "leak": (500, "proxy error; request headers: Authorization: {key}", "server_error", None),
}
# kind: what is laid over choices[0] of a good completion
CHOICES: dict[str, dict[str, object]] = {
    "empty": {"message": {"role": "assistant", "content": ""}},
    "null": {"message": {"role": "assistant", "content": None}},
    "refusal": {
        "message": {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    },
    "length": {"finish_reason": "length"},
    "content_filter": {
        "finish_reason": "content_filter",
        "message": {"role": "assistant", "content": ""},
    },
}
# kind: a whole body, with status 200
BODIES = {
    "html": ("text/html", "<html><h1>Proxy</h1><pre>Authorization: Bearer {key}</pre></html>"),
    "no_json": ("application/json", '{"id": "chatcmpl-1", "choices": ['),
    "wrong_schema": ("application/json", '{"ok": true}'),
    "no_choices": ("application/json", '{"id": "c", "object": "chat.completion", "choices": []}'),
}
AROUND = ("slow", "hung", "reset", "early_reset", "truncated", "redirect")
KINDS = (*ERRORS, *CHOICES, *BODIES, *AROUND)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """One rule: what goes wrong, and for which requests (all conditions that are set must hold)."""

    kind: str  # one of KINDS
    every: int = 0  # each n-th request that the other conditions leave
    share: float = 0.0  # this share of the requests, each attempt drawn anew
    seed: int = 0  # of that draw
    marker: str = ""  # requests whose body holds this text (ASCII)
    attempts: int = 0  # only the first so many attempts of a request; 0: always
    after: int = 0  # only when so many requests have come to the path
    path: str = "/v1/chat/completions"
    retry_after: float | None = None  # seconds, sent as Retry-After
    as_date: bool = False  # Retry-After as an HTTP date: whole seconds, rounded up
    seconds: float = 0.0  # slow: what it takes beyond the latency
    to: str = ""  # redirect: the other origin

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault {self.kind!r} is none of {', '.join(KINDS)}")

    def fits(self, path: str, nth: int, body: bytes, body_hash: str, attempt: int) -> bool:
        """Whether all conditions but `every` hold for the nth request to the path."""
        if path != self.path or nth <= self.after or (self.attempts and attempt > self.attempts):
            return False
        if self.marker and self.marker.encode() not in body:
            return False
        return not self.share or drawn(self.seed, body_hash, attempt) < self.share


def drawn(seed: int, body_hash: str, attempt: int) -> float:
    """A number from 0 to 1 that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}/{body_hash}/{attempt}".encode()).digest()
    return struct.unpack(">Q", digest[:8])[0] / 2**64


def error_response(kind: str, key: str = "", fault: Fault | None = None) -> web.Response:
    """The error of that kind; some echo the request's key, masked as the real service does."""
    status, message, type_, code = ERRORS[kind]
    masked = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"
    message = message.replace("{masked}", masked).replace("{key}", f"Bearer {key}")
    headers = {}
    if fault is not None and fault.retry_after is not None:
        date = formatdate(int(time.time() + fault.retry_after) + 1, usegmt=True)
        headers["Retry-After"] = date if fault.as_date else f"{fault.retry_after:g}"
    return problem(status, message, type_, code, headers)


def problem(
    status: int,
    message: str,
    type_: str = BAD,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """An error body as OpenAI's service gives it."""
    body = {"error": {"message": message, "type": type_, "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


async def inflict(
    fault: Fault, request: web.Request, handler: Handler, key: str
) -> web.StreamResponse:
    """Answers the request as the fault would have it."""
    if fault.kind in ERRORS:
        return error_response(fault.kind, key, fault)
    if fault.kind == "redirect":
        raise web.HTTPTemporaryRedirect(fault.to + request.path)
    if fault.kind == "hung":
        await asyncio.sleep(3600)
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    if fault.kind == "early_reset":
        return _reset(request)
    done = await handler(request)  # the work is done, and paid for
    if fault.kind == "reset":
        return _reset(request)
    if fault.kind == "truncated":
        return await _truncated(request, done)
    if fault.kind in BODIES:
        content_type, text = BODIES[fault.kind]
        return web.Response(text=text.replace("{key}", key), content_type=content_type)
    if fault.kind in CHOICES and isinstance(done, web.Response) and done.status == 200:
        body = json.loads(done.text or "")
        body["choices"][0] |= CHOICES[fault.kind]
        return web.json_response(body)
    return done


def _reset(request: web.Request) -> web.Response:
    """Cuts the connection, so that the client's machine is told of a reset (SO_LINGER 0)."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()  # goes nowhere


async def _truncated(request: web.Request, done: web.StreamResponse) -> web.StreamResponse:
    """Sends half of the body under the whole one's length, then closes."""
    assert isinstance(done, web.Response) and isinstance(done.body, bytes)
    cut = web.StreamResponse(headers={"Content-Type": "application/json"})
    cut.content_length = len(done.body)
    await cut.prepare(request)
    await cut.write(done.body[: len(done.body) // 2])
    assert request.transport is not None
    request.transport.close()
    return cut

"""The application: keeps each request, checks the key, lets a fault act, answers. Never streams.

Paths: chat completions, embeddings, files and fine-tuning jobs as OpenAI's client calls them, and
/control (POST settings, GET counts) and /control/requests for tests.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from aiohttp import web

from tests.server import chat, jobs
from tests.server.faults import Fault, Handler, error_response, inflict, problem
from tests.server.recorded import read_replies


@dataclass
class Settings:
    """What a test may set."""

    latency: float = 0.0  # seconds from a request to its good answer; errors come at once
    key: str = ""  # Authorization must be Bearer and this; empty: any or none
    faults: list[Fault] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=lambda: {"": "echo"})  # by start of the model
    recorded: dict[str, str] = field(default_factory=dict)  # reply by hash of the messages
    letters: dict[str, float] = field(default_factory=dict)  # shares at the verdict's letter
    choice: dict[str, Any] = field(default_factory=dict)  # laid over choices[0]
    logprobs: str = "given"  # ignored: as if not asked; refused: 400, as some servers do
    models: list[str] | None = None  # other chat models are not found; None: any name will do
    refuse_jobs: int = 0  # 403 or 400: status of the refusal of new fine-tuning jobs
    job_polls: int = 3  # retrievals until a job has succeeded
    job_error: str = ""  # the job fails with this message instead


@dataclass
class State:
    """What has happened since the last reset."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)  # of the faults that act every n-th time
    in_flight: int = 0
    most_in_flight: int = 0
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)


def make_app() -> web.Application:
    """The application with fresh settings and state, not yet started."""
    app = web.Application(middlewares=[_watch], client_max_size=2**28)
    app["settings"], app["state"] = Settings(), State()
    app.add_routes(
        [
            web.get("/control", _counts),
            web.post("/control", _control),
            web.get("/control/requests", _requests),
            web.post("/v1/chat/completions", chat.completions),
            web.post("/v1/embeddings", chat.embeddings),
            web.get("/v1/models", chat.models),
            *jobs.routes(),
        ]
    )
    return app


@web.middleware
async def _watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keeps the request and counts it, whatever becomes of it."""
    if request.path.startswith("/control"):
        return await handler(request)
    state: State = request.app["state"]
    body = await request.read()
    seen = _keep(state, request, body)
    state.in_flight += 1
    state.most_in_flight = max(state.most_in_flight, state.in_flight)
    try:
        response = await _answer(request, handler, state, seen)
        # A cut connection was answered by nothing whole.
        lost = request.transport is None or request.transport.is_closing()
        seen["status"] = 0 if lost else response.status
        return response
    except web.HTTPException as other:  # a redirect, or no such path
        seen["status"] = other.status
        raise
    finally:
        state.in_flight -= 1


def _keep(state: State, request: web.Request, body: bytes) -> dict[str, Any]:
    """The request's own row among those kept."""
    whole = f"{request.method} {request.path_qs}\n".encode() + body
    body_hash = hashlib.sha256(whole).hexdigest()
    state.paths[request.path] += 1
    state.bodies[body_hash] += 1
    seen = {
        "number": len(state.requests) + 1,
        "time": time.monotonic(),
        "method": request.method,
        "path": request.path,
        "headers": request.raw_headers,
        "body": body,
        "body_hash": body_hash,
        "attempt": state.bodies[body_hash],
        "status": 0,
    }
    state.requests.append(seen)
    return seen


async def _answer(
    request: web.Request, handler: Handler, state: State, seen: dict[str, Any]
) -> web.StreamResponse:
    settings: Settings = request.app["settings"]
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.key and key != settings.key:
        return error_response("invalid_key", key)

    async def after_latency(request: web.Request) -> web.StreamResponse:
        if settings.latency:
            await asyncio.sleep(settings.latency)
        return await handler(request)

    fault = _fault(settings, state, seen)
    if fault is None:
        return await after_latency(request)
    return await inflict(fault, request, after_latency, key)


def _fault(settings: Settings, state: State, seen: dict[str, Any]) -> Fault | None:
    """The first rule that fits."""
    nth = state.paths[seen["path"]]
    for number, fault in enumerate(settings.faults):
        if fault.fits(seen["path"], nth, seen["body"], seen["body_hash"], seen["attempt"]):
            state.turns[number] += 1
            if not fault.every or state.turns[number] % fault.every == 0:
                return fault
    return None


async def _control(request: web.Request) -> web.Response:
    """Sets what the body names; `reset` comes first."""
    app = request.app
    wanted = await request.json()
    if wanted.pop("reset", False):
        app["state"] = State()
        for one in fields(Settings):
            setattr(app["settings"], one.name, getattr(Settings(), one.name))
    settings: Settings = app["settings"]
    if "script" in wanted:
        script = wanted.pop("script")
        kind, _, path = script["reply"].partition(":")
        if kind == "file":
            settings.recorded = read_replies(path)
            script["reply"] = "recorded"
        settings.replies[script["model"]] = script["reply"]
    if "faults" in wanted:
        wanted["faults"] = [Fault(**fault) for fault in wanted["faults"]]
        app["state"].turns.clear()
    for name, value in wanted.items():
        if name not in {one.name for one in fields(Settings)}:
            return problem(400, f"there is no setting {name!r}")
        setattr(settings, name, value)
    return web.json_response({})


async def _counts(request: web.Request) -> web.Response:
    state: State = request.app["state"]
    counts = {
        "paths": state.paths,
        "bodies": state.bodies,
        "in_flight": state.in_flight,
        "most_in_flight": state.most_in_flight,
        "answered": sum(seen["status"] == 200 for seen in state.requests),
    }
    return web.json_response(counts)


async def _requests(request: web.Request) -> web.Response:
    rows = [
        seen
        | {
            "headers": {name.decode().lower(): value.decode() for name, value in seen["headers"]},
            "body": seen["body"].decode("utf-8", "replace"),
        }
        for seen in request.app["state"].requests
    ]
    return web.Response(text=json.dumps(rows), content_type="application/json")

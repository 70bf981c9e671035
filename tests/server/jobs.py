"""Files and fine-tuning jobs, as OpenAI's client calls them. Never trains anything.

A job is queued, runs and succeeds, one step each time it is retrieved; its model id then answers
chat completions. The refusal's wording is ours: users report a 403 "permission denied" since May
2026, and the words were not to be had.
"""

import json
import re
import time
from typing import Any

from aiohttp import web

from tests.server.faults import problem

FEWEST = 10  # examples in a training file
REFUSAL = (
    "Your organization can no longer create fine-tuning jobs: the self-serve fine-tuning platform "
    "is being wound down. See https://platform.openai.com/docs/deprecations."
)
ENDED = ("succeeded", "failed", "cancelled")


def routes() -> list[web.RouteDef]:
    one = "/v1/fine_tuning/jobs/{id}"
    return [
        web.post("/v1/files", _upload),
        web.get("/v1/files", _list_files),
        web.get("/v1/files/{id}", _file),
        web.get("/v1/files/{id}/content", _content),
        web.post("/v1/fine_tuning/jobs", _create),
        web.get("/v1/fine_tuning/jobs", _list_jobs),
        web.get(one, _retrieve),
        web.get(f"{one}/events", _events),
        web.post(f"{one}/cancel", _cancel),
    ]


async def _upload(request: web.Request) -> web.Response:
    files, form = request.app["state"].files, _form(request, await request.read())
    if "file" not in form or "purpose" not in form:
        return problem(400, "Missing required parameter: 'file' or 'purpose'.")
    name, content = form["file"]
    entry = {
        "id": f"file-{len(files) + 1:04d}",
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": name,
        "purpose": form["purpose"][1].decode(),
        "status": "processed",
    }
    files[entry["id"]] = {"entry": entry, "content": content}
    return web.json_response(entry)


def _form(request: web.Request, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The fields of a multipart body: name -> (file name or "", content)."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("Content-Type", ""))
    fields = {}
    for part in body.split(b"--" + boundary[1].encode())[1:-1] if boundary else ():
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        fields[names["name"]] = names.get("filename", ""), content.removesuffix(b"\r\n")
    return fields


async def _list_files(request: web.Request) -> web.Response:
    return _page(request, [kept["entry"] for kept in request.app["state"].files.values()])


async def _file(request: web.Request) -> web.Response:
    kept = request.app["state"].files.get(request.match_info["id"])
    return web.json_response(kept["entry"]) if kept else _missing(request, "File")


async def _content(request: web.Request) -> web.Response:
    kept = request.app["state"].files.get(request.match_info["id"])
    return web.Response(body=kept["content"]) if kept else _missing(request, "File")


async def _create(request: web.Request) -> web.Response:
    settings, state = request.app["settings"], request.app["state"]
    if settings.refuse_jobs:
        return problem(settings.refuse_jobs, REFUSAL, code="training_not_available")
    asked = json.loads(await request.read())
    for name in ("training_file", "validation_file"):
        if asked.get(name) and asked[name] not in state.files:
            return problem(400, f"invalid {name}: {asked[name]}", code="invalid_file")
    if not asked.get("training_file") or not asked.get("model"):
        return problem(400, "Missing required parameter: 'training_file' or 'model'.")
    number = len(state.jobs) + 1
    job = _new_job(f"ftjob-{number:04d}", asked)
    state.jobs[job["id"]] = job
    _event(job, f"Created fine-tuning job: {job['id']}")
    _event(job, f"Validating training file: {job['training_file']}")
    return web.json_response(_shown(job))


def _new_job(job_id: str, asked: dict[str, Any]) -> dict[str, Any]:
    method = asked.get("method") or {}
    given = asked.get("hyperparameters") or method.get("supervised", {}).get("hyperparameters", {})
    automatic = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    return {
        "object": "fine_tuning.job",
        "id": job_id,
        "model": asked["model"],
        "created_at": int(time.time()),
        "finished_at": None,
        "fine_tuned_model": None,
        "organization_id": "org-loopback",
        "result_files": [],
        "status": "validating_files",
        "validation_file": asked.get("validation_file"),
        "training_file": asked["training_file"],
        "hyperparameters": automatic | given,
        "trained_tokens": None,
        "error": None,
        "seed": asked.get("seed", 0),
        "metadata": asked.get("metadata"),
        "suffix": asked.get("suffix") or "",
        "_polls": 0,
        "_events": [],
    }


async def _retrieve(request: web.Request) -> web.Response:
    job = request.app["state"].jobs.get(request.match_info["id"])
    if job is None:
        return _missing(request, "Fine-tuning job")
    if job["status"] not in ENDED:
        _advance(job, request.app)
    return web.json_response(_shown(job))


def _advance(job: dict[str, Any], app: web.Application) -> None:
    """One step on: queued, running, then succeeded at the retrieval that the settings name."""
    job["_polls"] += 1
    content = app["state"].files[job["training_file"]]["content"]
    examples = sum(1 for line in content.splitlines() if line.strip())
    if examples < FEWEST:
        why = f"Training file has {examples} example(s), but must have at least {FEWEST} examples"
        return _end(job, "failed", why)
    if job["_polls"] < app["settings"].job_polls:
        job["status"] = "queued" if job["_polls"] == 1 else "running"
        return _event(job, f"The job is {job['status']}")
    if app["settings"].job_error:
        return _end(job, "failed", app["settings"].job_error)
    epochs = job["hyperparameters"]["n_epochs"]
    job["trained_tokens"] = len(content) // 4 * (3 if epochs == "auto" else epochs)
    job["fine_tuned_model"] = f"ft:{job['model']}:loopback:{job['suffix']}:{job['id'][6:]}"
    _event(job, f"Step {examples}: training loss=0.50", {"step": examples, "train_loss": 0.5})
    _end(job, "succeeded", f"New fine-tuned model created: {job['fine_tuned_model']}")


def _end(job: dict[str, Any], status: str, why: str) -> None:
    job["status"], job["finished_at"] = status, int(time.time())
    if status == "failed":
        job["error"] = {"code": "invalid_training_file", "message": why, "param": "training_file"}
    _event(job, why)


def _event(job: dict[str, Any], message: str, data: dict[str, Any] | None = None) -> None:
    event = {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{job['id'][6:]}-{len(job['_events']) + 1:03d}",
        "created_at": int(time.time()),
        "level": "error" if job["status"] == "failed" else "info",
        "message": message,
        "data": data or {},
        "type": "metrics" if data else "message",
    }
    job["_events"].append(event)


async def _list_jobs(request: web.Request) -> web.Response:
    return _page(request, [_shown(job) for job in request.app["state"].jobs.values()])


async def _events(request: web.Request) -> web.Response:
    job = request.app["state"].jobs.get(request.match_info["id"])
    return _page(request, job["_events"]) if job else _missing(request, "Fine-tuning job")


async def _cancel(request: web.Request) -> web.Response:
    job = request.app["state"].jobs.get(request.match_info["id"])
    if job is None:
        return _missing(request, "Fine-tuning job")
    if job["status"] in ENDED:
        return problem(400, f"Job {job['id']} has already ended: {job['status']}")
    _end(job, "cancelled", "The job was cancelled")
    return web.json_response(_shown(job))


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if not name.startswith("_")}


def _page(request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
    """Newest first, `limit` rows that come after the row named by `after`."""
    newest = rows[::-1]
    ids = [row["id"] for row in newest]
    after = request.query.get("after")
    start = ids.index(after) + 1 if after in ids else 0
    stop = start + int(request.query.get("limit", 20))
    body = {"object": "list", "data": newest[start:stop], "has_more": stop < len(newest)}
    return web.json_response(body)


def _missing(request: web.Request, what: str) -> web.Response:
    return problem(404, f"No such {what} object: {request.match_info['id']}", code="not_found")

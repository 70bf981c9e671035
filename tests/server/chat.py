"""What the models say: chat completions, log-probabilities, embeddings. Never draws at random.

Replies and vectors depend on the request alone.
"""

import base64
import hashlib
import json
import math
import re
import struct
import time
from typing import Any

from aiohttp import web

from tests.server.faults import problem
from tests.server.recorded import messages_key

TOKEN = re.compile(r"\s*\[\[|\]\]|\s*\w+|\s*[^\w\s]|\s+")
DIMENSIONS = 64


class Refused(Exception):
    """A request that the service answers with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.response = problem(status, message, code=code)


async def completions(request: web.Request) -> web.Response:
    """One choice, in full, with log-probabilities where asked."""
    settings = request.app["settings"]
    try:
        asked = await _asked(request)
        text = reply_text(asked, settings)
        return web.json_response(_completion(asked, text, settings))
    except Refused as refused:
        return refused.response


async def _asked(request: web.Request) -> dict[str, Any]:
    """The request's body, checked."""
    try:
        asked = json.loads(await request.read())
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    settings = request.app["settings"]
    if asked.get("stream") or asked.get("n", 1) != 1:
        raise Refused(400, "this server neither streams nor gives more than one choice")
    if not asked.get("messages"):
        raise Refused(400, "Missing required parameter: 'messages'.")
    if asked.get("top_logprobs") and not asked.get("logprobs"):
        raise Refused(400, "'top_logprobs' needs 'logprobs' to be true.")
    if asked.get("logprobs") and settings.logprobs == "refused":
        raise Refused(400, "logprobs is not supported by this model", "unsupported_parameter")
    _check_model(asked.get("model"), request)
    return asked


def _check_model(model: object, request: web.Request) -> None:
    """Refuses a model that the service does not have; fine-tuned ones come from its own jobs."""
    tuned = [job["fine_tuned_model"] for job in request.app["state"].jobs.values()]
    listed = request.app["settings"].models
    known = tuned if str(model).startswith("ft:") or listed is not None else [model]
    if not isinstance(model, str) or model not in [*known, *(listed or ())]:
        why = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(404, why, "model_not_found")


def reply_text(asked: dict[str, Any], settings: Any) -> str:
    """The reply of the script with the longest fitting start of the model's name.

    echo: the last message. verdict:[[A]]: a line of reasons, then the verdict. text:...: just that.
    recorded: by the hash of the messages, from data/kestrel or from a file (script "file:PATH").
    """
    start = max((s for s in settings.replies if asked["model"].startswith(s)), key=len)
    kind, _, rest = settings.replies[start].partition(":")
    if kind == "echo":
        return asked["messages"][-1]["content"]
    if kind == "verdict":
        return f"The first answer says more of what the passage says.\n{rest}"
    if kind == "text":
        return rest
    reply = settings.recorded.get(messages_key(asked["messages"]))
    if reply is None:
        raise Refused(400, f"no reply is recorded for these messages (script {kind!r})")
    return reply


def _completion(asked: dict[str, Any], text: str, settings: Any) -> dict[str, Any]:
    tokens = TOKEN.findall(text)
    most = asked.get("max_completion_tokens") or asked.get("max_tokens") or len(tokens)
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(tokens[:most]), "refusal": None},
        "logprobs": None,
        "finish_reason": "length" if len(tokens) > most else "stop",
    }
    if asked.get("logprobs") and settings.logprobs == "given":
        top = asked.get("top_logprobs") or 0
        choice["logprobs"] = {"content": logprobs(tokens[:most], top, settings.letters)}
    sent = sum(4 + len(str(message["content"])) // 4 for message in asked["messages"])
    spent = min(most, len(tokens))
    return {
        "id": f"chatcmpl-{messages_key(asked['messages'])[:12]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked["model"],
        "choices": [choice | settings.choice],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": spent,
            "total_tokens": sent + spent,
        },
    }


def logprobs(tokens: list[str], top: int, letters: dict[str, float]) -> list[dict[str, Any]]:
    """One entry a token, each with `top` alternatives, as OpenAI gives them.

    A letter between double brackets has the shares of `letters` (default: 0.9 for itself, 0.06 and
    0.03 for the others); any other token has 0.99, and unlikely ones besides it.
    """
    entries = []
    for i, token in enumerate(tokens):
        at_letter = i and tokens[i - 1].strip() == "[[" and token in ("A", "B", "C")
        shares = {token: 0.99}
        if at_letter:
            others = [letter for letter in "ABC" if letter != token]
            shares = letters or {token: 0.9, others[0]: 0.06, others[1]: 0.03}
        filled = shares | {f"~{n}": 1e-6 / (n + 1) for n in range(max(0, top - len(shares)))}
        best = sorted(filled.items(), key=lambda item: -item[1])[:top]
        entry = _entry(token, shares.get(token, 1e-6))
        entries.append(entry | {"top_logprobs": [_entry(*item) for item in best]})
    return entries


def _entry(token: str, share: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": math.log(share) if share > 0 else -9999.0,  # as the service writes never
        "bytes": list(token.encode()),
    }


async def embeddings(request: web.Request) -> web.Response:
    """One vector an input: floats, or base64 of little-endian float32."""
    asked = json.loads(await request.read())
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        return problem(400, "'$.input' is invalid.")
    size = asked.get("dimensions", DIMENSIONS)
    rows = []
    for index, text in enumerate(texts):
        vector: Any = embed(text, size)
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    spent = sum(1 + len(text) // 4 for text in texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    return web.json_response(
        {"object": "list", "data": rows, "model": asked["model"], "usage": usage}
    )


def embed(text: str, size: int = DIMENSIONS) -> list[float]:
    """A unit vector: each word's count lands on the place, and under the sign, that its hash says.

    So texts that share words are near each other, and retrieval by it means something.
    """
    vector = [0.0] * size
    for word in re.findall(r"\w+", text.lower()):
        digest = hashlib.sha256(word.encode()).digest()
        vector[int.from_bytes(digest[:4], "big") % size] += 1.0 if digest[4] % 2 else -1.0
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


async def models(request: web.Request) -> web.Response:
    """The listed models, as openai's client reads them."""
    names = request.app["settings"].models or ["any-model"]
    rows = [{"id": n, "object": "model", "created": 0, "owned_by": "loopback"} for n in names]
    return web.json_response({"object": "list", "data": rows})

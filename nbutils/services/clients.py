"""openai's clients, each bound to one key and one address. Never lets a key go elsewhere.

Not to where a redirect points, nor to a proxy between here and here, nor with what the client would
add from the environment.
"""

import ipaddress
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from nbutils.roles import Endpoint, base_url

HIDDEN = "[key]"
MASK = "(?:\u2026|[*.xX#\u2022]{2,})"  # what services write for the middle of a key
# What a request needs; the client would add others from the environment.
OWN_HEADERS = {
    *("host", "accept", "accept-encoding", "connection", "content-length", "content-type"),
    *("transfer-encoding", "user-agent", "authorization"),
}

# They log a line a request, which a library that switches logging on would put into the notebook.
for _name in ("httpx", "httpx2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def client_arguments(role: Endpoint, key: str) -> dict[str, Any]:
    """What openai's clients are made with, sync or async, so that they use this key alone.

    A role that names no base_url speaks through the whole OPENAI_* environment (organisation,
    project, custom headers); one that does gets nothing of it.
    """
    named = "" if role.base_url else None  # None: the client may read the environment
    return {
        "base_url": base_url(role),
        "api_key": key or "none",
        "admin_api_key": "",
        "webhook_secret": "",
        "organization": named,
        "project": named,
        "default_headers": {"Authorization": f"Bearer {key or 'none'}"},
        "max_retries": 0,
    }


def http_arguments(role: Endpoint, hook: Callable[[httpx2.Request], Any]) -> dict[str, Any]:
    """What the HTTP client under openai's is made with; `hook` strips the headers."""
    host = urlsplit(base_url(role)).hostname or ""
    return {
        "follow_redirects": False,
        "trust_env": not _is_here(host),  # else a proxy would see what is said on this machine
        "event_hooks": {"request": [hook] if role.base_url else []},
    }


def own_headers_only(request: httpx2.Request) -> None:
    """Takes off what the client put there from the environment."""
    for name in list(request.headers):
        if name not in OWN_HEADERS and not name.startswith("x-stainless-"):
            del request.headers[name]


def async_client(role: Endpoint, key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """openai's client for one role, on its own HTTP client."""

    async def hook(request: httpx2.Request) -> None:
        own_headers_only(request)

    http = openai.DefaultAsyncHttpx2Client(
        **http_arguments(role, hook),
        timeout=timeout_s,
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=1000),
    )
    return openai.AsyncOpenAI(**client_arguments(role, key), http_client=http, timeout=timeout_s)


def redact(text: str, key: str) -> str:
    """The text without the key: whole, cut short, or masked as services like to quote it."""
    return _quotes(key).sub(HIDDEN, text) if len(key) > 3 else text


@lru_cache
def _quotes(key: str) -> re.Pattern[str]:
    """What of a key may stand in a message: all of it, 8 letters or more of either end, or 3 or
    more beside a mask."""
    heads = [re.escape(key[:n]) for n in range(len(key), 2, -1)]
    tails = [re.escape(key[-n:]) for n in range(len(key), 2, -1)]
    head, tail = "|".join(heads), "|".join(tails)
    long = "|".join([heads[0], *heads[1:-5], *tails[1:-5]])
    masked = f"(?:{head}){MASK}(?:{tail})|(?:{head}){MASK}|{MASK}(?:{tail})"
    return re.compile(f"{masked}|{long}")


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""A model service on loopback, as a process of its own, and its handle. Never part of the package.

`python -m tests.server` starts one by hand; a test takes the fixture `server`, and a second one
with `other_server`. It speaks real HTTP as OpenAI's service does (see app.py), keeps every request,
and does on demand what services do on bad days (see faults.py).

>>> with Server() as server:
...     server.script("verdict:[[A]]")
...     server.faults(Fault("429", share=0.2, retry_after=0.05))
...     client = openai.OpenAI(base_url=server.url, api_key="any")
"""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.server.faults import Fault as Fault

ROOT = Path(__file__).parent.parent.parent
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    number: int  # from 1 on, in order of arrival
    time: float  # seconds of the server's clock (time.monotonic)
    method: str
    path: str
    headers: dict[str, str]  # names in small letters
    body: str
    body_hash: str  # SHA-256 (hex) of method, path and body: equal requests share it
    attempt: int  # 1 for the first request with that hash
    status: int  # what was sent back; 0: nothing whole (reset, hung, truncated, still working)


class Server:
    """A running server; leave the `with` block or call stop() to end it."""

    def __init__(self, key: str = "", latency: float = 0.0) -> None:
        """Starts it, demanding the key (none if empty), each answer taking latency seconds."""
        command = [sys.executable, "-m", "tests.server", "--while-stdin", "--latency", str(latency)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start; its error is above")
        self.origin = f"http://127.0.0.1:{json.loads(line)['port']}"
        self.url = f"{self.origin}/v1"
        if key:
            self.set(key=key)

    def set(self, **settings: Any) -> None:
        """Changes settings of app.Settings, such as latency, key, models or refuse_jobs."""
        self._post(settings)

    def script(
        self,
        reply: str = "echo",
        model: str = "",
        letters: Mapping[str, float] | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> None:
        """What chat completions answer, for models whose name begins so: see chat.reply_text.

        `letters` are the shares that log-probabilities give at the verdict's letter. `choice` is
        laid over choices[0] as it is, for a reply of any other shape.
        """
        self._post({"script": {"model": model, "reply": reply}})
        if letters is not None:
            self._post({"letters": dict(letters)})
        if choice is not None:
            self._post({"choice": dict(choice)})

    def faults(self, *faults: Fault) -> None:
        """Puts these rules in place of those before; the first that fits a request acts."""
        self._post({"faults": [asdict(fault) for fault in faults]})

    def reset(self) -> None:
        """Forgets requests, faults, replies, jobs, files and settings (the latency too)."""
        self._post({"reset": True})

    def counts(self) -> dict[str, Any]:
        """paths and bodies (requests by path, by hash), in_flight, most_in_flight, answered."""
        return self._get("/control")

    def requests(self) -> list[Seen]:
        """Every request since the last reset, in order of arrival."""
        return [Seen(**row) for row in self._get("/control/requests")]

    @property
    def calls(self) -> Counter[str]:
        """How many requests each path has had: server.calls[CHAT]."""
        return Counter(self.counts()["paths"])

    @property
    def repeated(self) -> int:
        """How many requests were the same as an earlier one, to the byte."""
        return sum(count - 1 for count in self.counts()["bodies"].values())

    def stop(self) -> None:
        """Ends the process and waits for its end; open connections are cut."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _post(self, settings: dict[str, Any]) -> None:
        body = json.dumps(settings).encode()
        urllib.request.urlopen(f"{self.origin}/control", data=body, timeout=30).close()

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.origin + path, timeout=30) as answer:
            return json.load(answer)

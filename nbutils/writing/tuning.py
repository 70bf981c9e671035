"""The requests of a fine-tuning service: files, jobs, events. Never asks twice for one job.

The protocol is OpenAI's. What may be asked twice (a file, a look) is asked until it is answered;
the request for a job is sent once, whatever comes of it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import openai
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay
from tenacity import wait_random_exponential as exponential

from nbutils.callpath.service import CallError
from nbutils.roles import HostedRole, base_url
from nbutils.services.clients import client_arguments, http_arguments, own_headers_only, redact
from nbutils.services.endpoints import refusal

TIMEOUT = 120.0  # seconds of one request
PATIENCE = 180.0  # seconds in which a file or a look is tried again
LOOKS, LOOK_PAUSE = 3, 3.0  # at the list of jobs, after a creation without an answer
UNREADY = ("uploaded", "pending", "running")  # of a file that the service still works on
PAGE = 100

Body = dict[str, Any]
Send = Callable[[openai.OpenAI], Any]


class TuningService:
    """One service as one role sees it. Every method raises CallError in words without the key."""

    def __init__(self, role: HostedRole, key: str) -> None:
        self.endpoint = base_url(role)
        self._role, self._key = role, key

    def upload(self, name: str, lines: bytes) -> str:
        """Sends a file and waits until the service has taken it in: its id."""

        def send(client: openai.OpenAI) -> Any:
            files = client.files.with_raw_response
            return files.create(file=(name, lines), purpose="fine-tune")

        body = self._patiently(send)
        file_id = _id(body)
        while body.get("status") in UNREADY:
            time.sleep(LOOK_PAUSE)
            body = self._patiently(lambda c: c.files.with_raw_response.retrieve(file_id))
        return file_id

    def create(self, training_file: str, validation_file: str) -> str:
        """Asks for a job, once: its id. An error of kind passing or odd may have made one."""

        def send(client: openai.OpenAI) -> Any:
            return client.fine_tuning.jobs.with_raw_response.create(
                model=self._role.model,
                training_file=training_file,
                validation_file=validation_file,
                # OpenAI would now have it under `method`, which fewer services know.
                hyperparameters={"n_epochs": self._role.epochs},
            )

        return _id(self._once(send))

    def listed(self, training_file: str) -> str:
        """The id of the job that has this training file; "" where none has."""
        for look in range(LOOKS):
            time.sleep(LOOK_PAUSE if look else 0)
            for job in self._jobs():
                if job.get("training_file") == training_file:
                    return _id(job)
        return ""

    def job(self, job_id: str) -> Body:
        """The job as the service sees it now."""
        body = self._patiently(lambda c: c.fine_tuning.jobs.with_raw_response.retrieve(job_id))
        return {"id": job_id, "status": "unknown"} | body

    def events(self, job_id: str) -> list[Body]:
        """The newest hundred that the service reports of the job, oldest first."""

        def send(client: openai.OpenAI) -> Any:
            return client.fine_tuning.jobs.with_raw_response.list_events(job_id, limit=PAGE)

        return list(reversed(self._patiently(send).get("data") or []))

    def redact(self, text: object) -> str:
        """A service's words as one line, without the key."""
        return redact(" ".join(str(text).split()), self._key)

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        """Every job that the service lists, page by page."""
        after: dict[str, str] = {}

        def send(client: openai.OpenAI) -> Any:
            jobs = client.fine_tuning.jobs.with_raw_response
            return jobs.list(limit=PAGE, after=after["id"]) if after else jobs.list(limit=PAGE)

        while True:
            body = self._patiently(send)
            page = body.get("data") or []
            yield from page
            if not page or not body.get("has_more"):
                return
            after = {"id": _id(page[-1])}

    def _patiently(self, send: Send) -> Body:
        """The answer to what may be asked twice."""
        return Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_pause,
            stop=stop_before_delay(PATIENCE),
            reraise=True,
        )(self._once, send)

    def _once(self, send: Send) -> Body:
        """The JSON object that one request brought."""
        http = openai.DefaultHttpx2Client(
            **http_arguments(self._role, own_headers_only), timeout=TIMEOUT
        )
        arguments = client_arguments(self._role, self._key)
        try:
            with openai.OpenAI(**arguments, http_client=http, timeout=TIMEOUT) as client:
                body = json.loads(send(client).content)
        except openai.APIStatusError as error:
            raise refusal(error, self._key) from None
        except openai.APIConnectionError as error:
            why = self.redact(f"the connection failed ({error.__cause__ or error})")
            raise CallError(why, "passing") from None
        except ValueError:
            raise CallError("the reply is not JSON", "odd") from None
        if not isinstance(body, dict):
            raise CallError("the reply is no JSON object", "odd")
        return body


def _id(body: Mapping[str, Any]) -> str:
    if not isinstance(body.get("id"), str):
        raise CallError("the reply names no id", "odd")
    return str(body["id"])


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.kind in ("passing", "odd")


def _pause(state: RetryCallState) -> float:
    """What the service asked for, else ever longer."""
    error = state.outcome.exception() if state.outcome else None
    told = getattr(error, "retry_after", None)
    return float(told) if told is not None else exponential(multiplier=0.5, max=30)(state)

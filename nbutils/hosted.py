"""The hosted student: uploads events, has a service fine-tune on them. Never starts a second job.

All that has happened stands in hosted_job.json of the run folder, each step before the next can
fail, so that the same command attaches to the job that it once started.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import openai
import pandas as pd
from filelock import FileLock, Timeout
from openai.types.fine_tuning import FineTuningJob
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay
from tenacity import wait_random_exponential as exponential

from nbutils.calls import CallError
from nbutils.endpoints import client_arguments, http_arguments, own_headers_only, redact, refusal
from nbutils.events import Event, as_lines, check_events
from nbutils.files import aside
from nbutils.profiles import Budget, HostedRole, base_url
from nbutils.store import Store

STATE = "hosted_job.json"
TRAIN, VALIDATION = "finetuning_train.jsonl", "finetuning_validation.jsonl"
LARGEST = 512 * 2**20  # bytes of a file that OpenAI takes
TIMEOUT = 120.0  # seconds of one request
PATIENCE = 180.0  # seconds in which a read or an upload is tried again
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 120.0  # seconds between two looks at a job
LOOKS, LOOK_PAUSE = 3, 3.0  # at the list of jobs, after a creation without an answer
UNREADY = ("uploaded", "pending", "running")  # of a file that a service still works on
WAY_OUT = "train the students of this machine instead, as the profile 'open' does"


class HostedError(RuntimeError):
    """A job that cannot be had; the message says what the service said and the way on."""


@dataclass
class State:
    """What hosted_job.json holds. No key."""

    request: dict[str, Any]  # endpoint, base model, epochs and the SHA-256 of both files
    files: dict[str, str] = field(default_factory=dict)  # the service's id of each file
    asked: bool = False  # a job was asked for, or was about to be
    entry: int = 0  # of the ledger
    job: str = ""
    model: str = ""  # the fine-tuned one


class HostedStudent:
    """A student that a service fine-tunes, under the names of llama_index's fine-tuning engines."""

    def __init__(
        self,
        role: HostedRole,
        key: str,
        folder: Path,
        store: Store,
        budget: Budget,
        currency: str,
    ) -> None:
        """`folder` is the run's; the job's cost goes into the store's ledger."""
        self._role, self._key, self._folder = role, key, folder
        self._store, self._budget, self._currency = store, budget, currency
        self._path = folder / STATE

    def finetune(self, train: Sequence[Event], validation: Sequence[Event]) -> None:
        """Starts the job, or attaches to the one that was started from the same events.

        Prints an estimate of the cost before anything is sent. Raises EventError on events that a
        service would refuse; HostedError where a job exists for other events, the estimate breaks
        the budget, another process is at it, or the service refuses.
        """
        tokens = check_events(train, validation, (TRAIN, VALIDATION))
        data = {TRAIN: as_lines(train), VALIDATION: as_lines(validation)}
        with self._alone():
            state = self._state_for(data)
            if not state.job and state.asked:
                state.job = self._listed(state)
                self._keep(state)
            if state.job:
                print(f"hosted student: attached to job {state.job}; nothing was sent")
                return
            cost = tokens * self._role.epochs * self._role.price_training / 1e6
            what = f"{len(train)} events to teach, {len(validation)} to validate"
            size = f"about {tokens:,} tokens x {self._role.epochs} epochs"
            price = f"an estimated {cost:.2f} {self._currency}" if cost else "no price set"
            print(f"hosted student: {what}; {size}, {price}")
            if not state.asked:
                self._check_money(cost)
            self._upload(state, data)
            self._create(state, cost)
            print(f"hosted student: job {state.job} is at {base_url(self._role)}")

    def get_current_job(self) -> FineTuningJob:
        """The job as the service sees it now. Raises HostedError where there is none."""
        state = self._begun()
        with self._in_words("does not show the job"):
            body = self._read(lambda c: c.fine_tuning.jobs.with_raw_response.retrieve(state.job))
        job = FineTuningJob.construct(**body)
        if job.status == "succeeded" and not state.model:
            if job.trained_tokens is not None:
                self._store.settle(
                    state.entry, job.trained_tokens * self._role.price_training / 1e6
                )
            state.model = job.fine_tuned_model or ""
            self._keep(state)
        return job

    def get_finetuned_model(self) -> str:
        """The name under which the tuned model answers; asks the service only until it is known.

        Raises HostedError where the job has not succeeded.
        """
        if not self._begun().model:
            job = self.get_current_job()
            if not job.fine_tuned_model:
                raise HostedError(self._why_no_model(job))
        return self._begun().model

    def wait(self) -> str:
        """Looks at the job until it has ended, ever more rarely: the tuned model's name.

        Prints each change of its status. Raises HostedError where it fails or is cancelled.
        """
        pause, before = FIRST_PAUSE, ""
        try:
            while not self._begun().model:
                job = self.get_current_job()
                if job.status != before:
                    print(f"{time.strftime('%H:%M:%S')} job {job.id}: {job.status}", flush=True)
                if job.status in ("succeeded", "failed", "cancelled"):
                    break
                before = job.status
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST_PAUSE)
        except KeyboardInterrupt:
            print("The job goes on at the service. Run this again to attach to it.", flush=True)
            raise
        return self.get_finetuned_model()

    def events(self) -> pd.DataFrame:
        """What the service reports of the job, oldest first: columns time, level, message."""
        job = self._begun().job
        with self._in_words("does not show the job's events"):
            body = self._read(
                lambda c: c.fine_tuning.jobs.with_raw_response.list_events(job, limit=100)
            )
        rows = [
            {
                "time": pd.to_datetime(row.get("created_at"), unit="s"),
                "level": row.get("level"),
                "message": redact(str(row.get("message")), self._key),
            }
            for row in reversed(body.get("data") or [])
        ]
        return pd.DataFrame(rows, columns=["time", "level", "message"])

    def _state_for(self, data: Mapping[str, bytes]) -> State:
        """The state of these files; a fresh one where no job was asked for."""
        request = {
            "endpoint": base_url(self._role),
            "model": self._role.model,
            "epochs": self._role.epochs,
        } | {name: hashlib.sha256(lines).hexdigest() for name, lines in data.items()}
        state = self._load()
        if state is None or (state.request != request and not (state.job or state.asked)):
            return State(request)
        if state.request != request:
            other = [name for name in request if state.request.get(name) != request[name]]
            which = f"job {state.job}" if state.job else "a job"
            remedy = f"restore that to attach to it, or move {STATE} away to pay for a new job"
            why = f"{which} was started with other {', '.join(other)}, and nothing was sent now"
            raise HostedError(f"{self._path.name}: {why}; {remedy}")
        return state

    def _check_money(self, cost: float) -> None:
        spent, most = self._store.spent().cost, self._budget.money
        if most is not None and spent + cost > most:
            sums = f"about {cost:.2f} {self._currency} on top of {spent:.2f}"
            remedy = "raise [budget] in the profile, or teach fewer pairs or epochs"
            raise HostedError(f"the job would cost {sums}, and budget.money is {most}; {remedy}")

    def _upload(self, state: State, data: Mapping[str, bytes]) -> None:
        """Sends the files that are not there yet, and keeps their ids."""
        for name, lines in data.items():
            if len(lines) > LARGEST:
                remedy = "teach fewer pairs"
                raise HostedError(f"{name}: {len(lines):,} bytes, {LARGEST:,} at most; {remedy}")
        for name, lines in data.items():
            if name in state.files:
                continue
            with aside(self._folder / name) as part:
                part.write_bytes(lines)
            with self._in_words(f"refuses the file {name}"):
                body = self._read(
                    lambda c, name=name, lines=lines: c.files.with_raw_response.create(
                        file=(name, lines), purpose="fine-tune"
                    )
                )
                while body.get("status") in UNREADY:
                    time.sleep(LOOK_PAUSE)
                    file_id = str(body["id"])
                    body = self._read(lambda c, i=file_id: c.files.with_raw_response.retrieve(i))
            state.files[name] = str(body["id"])
            self._keep(state)

    def _create(self, state: State, cost: float) -> None:
        """Asks for the job, once. Where no answer comes, looks whether it was made."""
        if not state.asked:
            state.entry = self._store.reserve("hosted_student", 0, cost)
            state.asked = True
            self._keep(state)
        try:
            body = self._once(
                lambda client: client.fine_tuning.jobs.with_raw_response.create(
                    model=self._role.model,
                    training_file=state.files[TRAIN],
                    validation_file=state.files[VALIDATION],
                    # OpenAI would now have it under `method`, which fewer services know.
                    hyperparameters={"n_epochs": self._role.epochs},
                )
            )
            state.job = str(body["id"])
        except CallError as error:
            if error.kind in ("row", "service"):
                self._store.settle(state.entry, 0.0)
                self._path.unlink()
                where = f"{base_url(self._role)} refuses the job: {error}."
                raise HostedError(f"{where} Nothing was started or paid for; {WAY_OUT}.") from None
            state.job = self._listed(state)
            if not state.job:
                why = f"no answer to the request for a job ({error}), and none is listed"
                raise HostedError(f"{why}; run again, which looks once more first") from None
        self._keep(state)

    def _listed(self, state: State) -> str:
        """The id of the job that the service has for our training file; "" where it has none."""
        for look in range(LOOKS):
            time.sleep(LOOK_PAUSE if look else 0)
            with self._in_words("does not list its jobs"):
                for job in self._jobs():
                    if job.get("training_file") == state.files[TRAIN]:
                        return str(job["id"])
        return ""

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        """Every job of the service, page by page."""
        last: dict[str, Any] = {}
        while True:
            body = self._read(
                lambda c, last=last: c.fine_tuning.jobs.with_raw_response.list(limit=100, **last)
            )
            page = body.get("data") or []
            yield from page
            if not page or not body.get("has_more"):
                return
            last = {"after": page[-1]["id"]}

    def _read(self, send: Callable[[openai.OpenAI], Any]) -> dict[str, Any]:
        """What may be asked twice, asked until it is answered. Raises CallError."""
        return Retrying(
            retry=retry_if_exception(_passing),
            wait=_pause,
            stop=stop_after_delay(PATIENCE),
            reraise=True,
        )(self._once, send)

    def _once(self, send: Callable[[openai.OpenAI], Any]) -> dict[str, Any]:
        """The JSON object that one request brought. Raises CallError."""
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
            why = redact(f"the connection failed ({error.__cause__ or error})", self._key)
            raise CallError(why, "passing") from None
        except ValueError:
            raise CallError("the reply is not JSON", "odd") from None
        if not isinstance(body, dict):
            raise CallError("the reply is no JSON object", "odd")
        return body

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        """Turns a CallError into what a user can act on."""
        try:
            yield
        except CallError as error:
            way = WAY_OUT if error.kind in ("row", "service") else "run again to go on from here"
            raise HostedError(f"{base_url(self._role)} {what}: {error}; {way}") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / ".hosted_job.lock", timeout=0):
                yield
        except Timeout:
            raise HostedError(f"another process is at {self._path.name}; wait for it") from None

    def _begun(self) -> State:
        state = self._load()
        if state is None or not state.job:
            raise HostedError(f"{self._path.name} names no job; run finetune() first")
        return state

    def _load(self) -> State | None:
        if not self._path.exists():
            return None
        try:
            table = json.loads(self._path.read_text(encoding="utf-8"))
            if set(table) != {one.name for one in fields(State)}:
                raise ValueError
            return State(**table)
        except (ValueError, TypeError):
            remedy = f"restore it, or move it away and look at {base_url(self._role)} for its job"
            raise HostedError(f"{self._path.name} is no record of a job; {remedy}") from None

    def _keep(self, state: State) -> None:
        with aside(self._path) as part:
            part.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")

    def _why_no_model(self, job: FineTuningJob) -> str:
        if job.status == "succeeded":
            return f"job {job.id} has succeeded and names no model: deploy it at the service"
        if job.status in ("failed", "cancelled"):
            said = redact(
                getattr(job.error, "message", None) or "the service says no more", self._key
            )
            remedy = f"mend that and move {STATE} away to pay for a new job, or {WAY_OUT}"
            return f"job {job.id} {job.status}: {said}; {remedy}"
        return f"job {job.id} is {job.status}: wait() for it, or run again later"


def _passing(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.kind in ("passing", "odd")


def _pause(state: RetryCallState) -> float:
    """What the service asked for, else ever longer."""
    error = state.outcome.exception() if state.outcome else None
    told = getattr(error, "retry_after", None)
    return float(told) if told is not None else exponential(multiplier=0.5, max=30)(state)

"""The hosted student, a model that a service fine-tunes on events. Never pays for a job twice.

What has happened stands in hosted_job.json of the run folder, each step before the next one can
fail, so that the same command attaches to the job that it once started.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from openai.types.fine_tuning import FineTuningJob

from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price
from nbutils.callpath.store import Store
from nbutils.files import aside
from nbutils.profiles import Budget
from nbutils.roles import HostedRole
from nbutils.writing.events import Event, as_lines, check_events
from nbutils.writing.jobfile import STATE, HostedError, JobFile, State
from nbutils.writing.tuning import TuningService

TRAIN, VALIDATION = "finetuning_train.jsonl", "finetuning_validation.jsonl"
LARGEST = 512 * 2**20  # bytes of a file that OpenAI takes
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 120.0  # seconds between two looks at a job
ENDED = ("succeeded", "failed", "cancelled")
WAY_OUT = (
    "the way out: the profile 'open', or this one without [hosted_student]; the students of this "
    "machine learn from the same judgements"
)


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
        """`folder` is the run's. The job's cost goes into the store's ledger."""
        self._role, self._service, self._folder = role, TuningService(role, key), folder
        self._store, self._budget, self._currency = store, budget, currency
        self._file = JobFile(folder)

    def finetune(self, train: Sequence[Event], validation: Sequence[Event]) -> None:
        """Starts the job, or attaches to the one that was started from the same events.

        Prints an estimate of the cost before anything is sent. Raises EventError on events that a
        service would refuse; HostedError where a job exists for other events, the estimate breaks
        the budget, another process is at it, or the service refuses.
        """
        tokens = check_events(train, validation, (TRAIN, VALIDATION))
        data = {TRAIN: as_lines(train), VALIDATION: as_lines(validation)}
        with self._file.alone():
            state = self._state_for(data)
            if state.asked and not state.job:
                with self._acting("does not list its jobs"):
                    state.job = self._service.listed(state.files[TRAIN])
                self._file.keep(state)
            if state.job:
                print(f"hosted student: attached to job {state.job}; nothing was sent")
                return
            cost = Price(self._role.price_training).of(tokens * self._role.epochs, 0)
            self._say_estimate(len(train), len(validation), tokens, cost)
            if not state.asked:
                self._check_limits(data, cost)
            self._upload(state, data)
            self._create(state, cost)
            print(f"hosted student: started job {state.job} at {self._service.endpoint}")

    def get_current_job(self) -> FineTuningJob:
        """The job as the service sees it now. Raises HostedError where there is none."""
        state = self._file.begun()
        with self._acting("does not show the job"):
            job = FineTuningJob.construct(**self._service.job(state.job))
        if job.status == "succeeded" and not state.model:
            if job.trained_tokens is not None:
                paid = Price(self._role.price_training).of(job.trained_tokens, 0)
                self._store.settle(state.entry, paid)
            state.model = job.fine_tuned_model or ""
            self._file.keep(state)
        return job

    def get_finetuned_model(self) -> str:
        """The name under which the tuned model answers; asks the service only until it is known.

        Raises HostedError where the job has not succeeded.
        """
        known = self._file.begun().model
        if known:
            return known
        job = self.get_current_job()
        if job.status == "succeeded" and job.fine_tuned_model:
            return job.fine_tuned_model
        raise HostedError(self._service.redact(_why_no_model(job)))

    def wait(self) -> str:
        """Looks at the job, ever more rarely, until it has ended: the tuned model's name.

        Prints each change of its status. Raises HostedError where it fails or is cancelled.
        """
        pause, before = FIRST_PAUSE, ""
        try:
            while not self._file.begun().model:
                job = self.get_current_job()
                if job.status != before:
                    line = f"{time.strftime('%H:%M:%S')} job {job.id}: {job.status}"
                    print(self._service.redact(line), flush=True)
                if job.status in ENDED:
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
        with self._acting("does not show the job's events"):
            found = self._service.events(self._file.begun().job)
        rows = [
            {
                "time": pd.to_datetime(row.get("created_at"), unit="s"),
                "level": row.get("level"),
                "message": self._service.redact(row.get("message")),
            }
            for row in found
        ]
        return pd.DataFrame(rows, columns=["time", "level", "message"])

    def _state_for(self, data: Mapping[str, bytes]) -> State:
        """The state of these files; a fresh one where no job was asked for."""
        request: dict[str, Any] = {
            "endpoint": self._service.endpoint,
            "model": self._role.model,
            "epochs": self._role.epochs,
        }
        request |= {name: hashlib.sha256(lines).hexdigest() for name, lines in data.items()}
        state = self._file.load()
        if state is None or (state.request != request and not state.asked):
            return State(request)
        if state.request != request:
            other = [name for name in request if state.request.get(name) != request[name]]
            which = f"job {state.job}" if state.job else "a job"
            why = f"{which} was started with other {', '.join(other)}, and nothing was sent now"
            remedy = f"restore that to attach to it, or move {STATE} away to pay for a new job"
            raise HostedError(f"{STATE}: {why}; {remedy}")
        return state

    def _say_estimate(self, train: int, validation: int, tokens: int, cost: float) -> None:
        what = f"{train} events to teach, {validation} to validate"
        size = f"about {tokens:,} tokens x {self._role.epochs} epochs"
        price = f"an estimated {cost:.2f} {self._currency}" if cost else "no price set"
        print(f"hosted student: {what}; {size}, {price}")

    def _check_limits(self, data: Mapping[str, bytes], cost: float) -> None:
        """Raises HostedError where a file is too large or the budget too small."""
        for name, lines in data.items():
            if len(lines) > LARGEST:
                size = f"{len(lines):,} bytes, and {LARGEST:,} are the most"
                raise HostedError(f"{name}: {size}; teach fewer pairs")
        spent, most = self._store.spent().cost, self._budget.money
        if most is not None and spent + cost > most:
            sums = f"about {cost:.2f} {self._currency} on top of {spent:.2f} spent"
            remedy = "raise [budget] in the profile, or teach fewer pairs or epochs"
            raise HostedError(f"the job would cost {sums}, and budget.money is {most}; {remedy}")

    def _upload(self, state: State, data: Mapping[str, bytes]) -> None:
        """Sends the files that are not there yet, and keeps the id of each."""
        for name, lines in data.items():
            if name not in state.files:
                with aside(self._folder / name) as part:
                    part.write_bytes(lines)
                with self._acting(f"refuses the file {name}"):
                    state.files[name] = self._service.upload(name, lines)
                self._file.keep(state)

    def _create(self, state: State, cost: float) -> None:
        """Asks for the job, once. Where no answer comes, looks whether it was made."""
        if not state.asked:
            state.entry = self._store.reserve("hosted_student", 0, cost)
            state.asked = True
            self._file.keep(state)
        try:
            state.job = self._service.create(state.files[TRAIN], state.files[VALIDATION])
        except CallError as error:
            if error.kind in ("row", "service"):
                self._store.settle(state.entry, 0.0)
                self._file.drop()
                said = f"{self._service.endpoint} refuses the job: {error}"
                raise HostedError(f"{said}. Nothing was started or paid for; {WAY_OUT}") from None
            with self._acting("does not list its jobs"):
                state.job = self._service.listed(state.files[TRAIN])
            if not state.job:
                why = f"no answer to the request for a job ({error}), and none is listed"
                raise HostedError(f"{why}; run again, which looks once more first") from None
        self._file.keep(state)

    @contextmanager
    def _acting(self, what: str) -> Iterator[None]:
        """Turns a CallError into what a user can act on."""
        try:
            yield
        except CallError as error:
            way = WAY_OUT if error.kind in ("row", "service") else "run again to go on from here"
            raise HostedError(f"{self._service.endpoint} {what}: {error}; {way}") from None


def _why_no_model(job: FineTuningJob) -> str:
    if job.status == "succeeded":
        return f"job {job.id} has succeeded and names no model; deploy it at the service"
    if job.status in ENDED:
        said = getattr(job.error, "message", None) or "the service says no more"
        remedy = f"mend that and move {STATE} away to pay for a new job; {WAY_OUT}"
        return f"job {job.id} {job.status}: {said}; {remedy}"
    return f"job {job.id} is {job.status}; wait() for it, or run again later"

"""The call path, which every model call of every role goes through. Never pays for a reply twice.

What the store holds is not asked again. The rest is sent at a bounded rate, tried again where that
can help, and kept as it arrives; a row that cannot be answered is one recorded failure.
"""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential
from tqdm import tqdm

from nbutils.profiles import Limits
from nbutils.spend import BudgetReached, Price, Purse, bound, cost, estimate
from nbutils.store import Call, Failure, Reply, Store, request_key

ODD_TRIES = 3  # attempts at a reply that came and made no sense
BACKING_OFF = 4  # calls alive, in flight or backing off, for each call that may be in flight
HOPELESS = 20  # failures in a row, from the first call on, after which the stage stops
NAMED = 5  # failed rows that the summary names
CLOSING_SECONDS = 10.0  # that Ctrl-C waits for connections to close
LOG_SECONDS = 10.0  # between two lines of progress in a file; in a notebook or terminal 0.5

Asked = tuple[str, Call]  # the key and the call


class CallError(Exception):
    """Why a call got no reply, in words that hold no key."""

    def __init__(
        self,
        why: str,
        kind: Literal["passing", "odd", "row", "service"],
        status: int | None = None,
        retry_after: float | None = None,
        charged: bool = False,
    ) -> None:
        """`kind`: passing (try again), odd (a reply without sense: try a few times), row (this
        call's own fault) or service (nobody will be answered). `retry_after` is in seconds;
        `charged` says that the request may have been paid for all the same."""
        super().__init__(why)
        self.kind, self.status, self.retry_after = kind, status, retry_after
        self.charged = charged


class StageStopped(RuntimeError):
    """A stage that cannot go on; what arrived is kept, and the message says how to go on."""


class Service(Protocol):
    """Whoever answers."""

    endpoint: str  # where, without credentials
    model: str
    longest: int  # tokens of a reply
    price: Price
    batch: int  # calls sent together
    concurrency: int | None  # sends at a time, where it is fewer than the profile's limit

    @property
    def sampling(self) -> Mapping[str, Any]: ...

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        """One outcome a call, in order. Raises CallError where all of them failed alike."""
        ...

    async def close(self) -> None: ...


class CallPath:
    """One store, one budget and one event loop for all calls of a run."""

    def __init__(self, store: Store, limits: Limits, purse: Purse) -> None:
        self.store, self._limits, self.purse = store, limits, purse
        self._loop = asyncio.new_event_loop()
        # A notebook's kernel has a loop of its own, which a cell must not block.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._services: list[Service] = []

    def run(
        self,
        service: Service,
        calls: Sequence[Call],
        what: str,
        readable: Callable[[Reply], bool] | None = None,
    ) -> list[Reply | Failure]:
        """The reply, or what went wrong, of each call in order; `what` names the stage.

        Says before what will be asked and after what was paid. The same request twice is asked
        once. Raises StageStopped where the budget is reached or the service answers nobody; run
        again, it goes on from what is kept. Ctrl-C stops it likewise.
        """
        keys = [self.key(service, call) for call in calls]
        found = self.store.find(keys)
        todo = {key: call for key, call in zip(keys, calls, strict=True) if key not in found}
        if service not in self._services:
            self._services.append(service)
        print(self._before(service, len(found), list(todo.values()), what), flush=True)
        stage = Stage(service, self.store, self.purse, self._limits, todo, found, readable)
        if todo:
            try:
                self._watch(stage, what)
            finally:
                print(stage.summary(what), flush=True)
        return [stage.found[key] if key in stage.found else stage.failed[key] for key in keys]

    @staticmethod
    def key(service: Service, call: Call) -> str:
        return request_key(service.endpoint, service.model, service.sampling, call)

    def close(self) -> None:
        """Ends the loop and its clients. The store stays open."""
        if self._thread.is_alive():
            for service in self._services:
                asyncio.run_coroutine_threadsafe(service.close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _before(self, service: Service, kept: int, todo: Sequence[Call], what: str) -> str:
        head = f"{what}: {service.model} at {service.endpoint}: {kept:,} in the store"
        if not todo:
            return f"{head}, none to ask"
        costs = estimate(service.price, todo, service.longest, self.purse.currency)
        left = self.purse.left()
        return f"{head}, {len(todo):,} to ask: {costs}" + (f" (so far {left})" if left else "")

    def _watch(self, stage: "Stage", what: str) -> None:
        """Runs the stage in the loop's thread, and shows its progress from this one."""
        if not self._thread.is_alive():
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(stage.run(), self._loop)
        # A kernel is no terminal, and rewrites its line as one does.
        seconds = 0.5 if sys.stdout.isatty() or "ipykernel" in sys.modules else LOG_SECONDS
        try:
            with tqdm(
                total=len(stage.todo), desc=what, file=sys.stdout, mininterval=seconds
            ) as bar:
                while not future.done():
                    concurrent.futures.wait([future], timeout=0.25)
                    bar.set_postfix_str(stage.state(), refresh=False)
                    bar.update(stage.done - bar.n)
            future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended = asyncio.run_coroutine_threadsafe(stage.ended(), self._loop)
            concurrent.futures.wait([ended], timeout=CLOSING_SECONDS)
            raise


class Stage:
    """The calls of one stage on their way."""

    def __init__(
        self,
        service: Service,
        store: Store,
        purse: Purse,
        limits: Limits,
        todo: Mapping[str, Call],
        kept: Mapping[str, Reply],
        readable: Callable[[Reply], bool] | None,
    ) -> None:
        self.service, self.store, self.purse, self.todo = service, store, purse, todo
        self.found = dict(kept)  # and what arrives
        self.failed: dict[str, Failure] = {}
        self.arrived = 0
        self._readable = readable or (lambda reply: True)
        self._deadline = limits.deadline_s
        self._width = min(limits.concurrency, service.concurrency or limits.concurrency)
        self._slots = asyncio.Semaphore(self._width)
        self._stop = asyncio.Event()
        self._stopped = ""  # why
        self._ended = asyncio.Event()
        self._unreadable = sum(not self._readable(reply) for reply in kept.values())
        self._sent = 0
        self._tokens = [0, 0]
        self._cost = 0.0
        self._pause = wait_random_exponential(multiplier=0.5, max=30)

    async def run(self) -> None:
        """Asks all; raises StageStopped after what is in flight has ended."""
        live: set[asyncio.Task[None]] = set()
        try:
            rest = iter(self.todo.items())
            while (group := list(islice(rest, self.service.batch))) and not self._stopped:
                if len(live) >= BACKING_OFF * self._width:
                    await asyncio.wait(live, return_when=asyncio.FIRST_COMPLETED)
                await self._slots.acquire()
                # The result of a task is None, or raises what stopped it: a store that is full.
                live = {task for task in live if not task.done() or task.result()}
                live.add(asyncio.create_task(self._one(group)))
            await asyncio.gather(*live)
        finally:
            for task in live:
                task.cancel()
            await asyncio.gather(*live, return_exceptions=True)
            self._ended.set()
        if self._stopped:
            raise StageStopped(self._stopped)

    async def ended(self) -> None:
        await self._ended.wait()

    @property
    def done(self) -> int:
        return self.arrived + len(self.failed)

    def state(self) -> str:
        """`3 failed, 1 unreadable, 0.12 USD`"""
        return f"{len(self.failed)} failed, {self._unreadable} unreadable, {self._money()}"

    def summary(self, what: str) -> str:
        """What was used, and the rows that failed."""
        kept = len(self.found) - self.arrived
        lines = [
            f"{what}: {self.arrived:,} replies paid for, {kept:,} from the store, "
            f"{len(self.failed):,} failed, {self._unreadable:,} unreadable; "
            f"{self._sent:,} requests, {self._tokens[0]:,} tokens in, {self._tokens[1]:,} out, "
            f"{self._money()}"
        ]
        named = list(self.failed.items())[:NAMED]
        lines += [f"  failed: {self.todo[key].data_id}: {failure.why}" for key, failure in named]
        if len(self.failed) > NAMED:
            lines.append(f"  and {len(self.failed) - NAMED:,} more; run again to ask them again")
        return "\n".join(lines)

    def _money(self) -> str:
        return f"{self._cost:.4f} {self.purse.currency}"

    async def _one(self, group: list[Asked]) -> None:
        """One group from its slot to its outcome. Never raises but for a bug."""
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_worth_another),
                wait=self._wait,
                stop=self._too_long,
                sleep=self._back_off,
                reraise=True,
            ):
                with attempt:
                    await self._attempt(group)
        except CallError as error:
            self._fail(group, error)
        except BudgetReached as reached:
            raise_it = "raise [budget] in the profile and run again: nothing is asked twice"
            self._halt(f"The budget is reached: {reached}. To go on, {raise_it}.")
        except _Stopping:
            pass
        finally:
            self._slots.release()

    async def _attempt(self, group: list[Asked]) -> None:
        if self._stopped:
            raise _Stopping
        service, calls = self.service, [call for _, call in group]
        most = bound(service.price, calls, service.longest)
        entry = await self.purse.reserve(calls[0].role, most)
        self._sent += 1
        try:
            outcomes = await service.send(calls)
        except BaseException as error:  # after Ctrl-C nobody waits for it, paid or not
            free = isinstance(error, CallError) and not error.charged
            self.purse.settle(entry, 0.0 if free else None)
            raise
        replies = []
        for (key, call), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Reply):
                replies.append((key, service.endpoint, service.model, call, outcome))
        costs = [cost(service.price, call, reply, service.longest) for *_, call, reply in replies]
        self.purse.settle(entry, sum(costs), replies)
        self._cost += sum(costs)
        for key, *_, reply in replies:
            self.found[key] = reply
            self.arrived += 1
            self._tokens[0] += reply.prompt_tokens or 0
            self._tokens[1] += reply.completion_tokens or 0
            self._unreadable += not self._readable(reply)
        for asked, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, CallError):
                self._fail([asked], outcome)

    def _fail(self, group: list[Asked], error: CallError) -> None:
        """Records a failure a row; stops the stage where nobody will be answered."""
        # In one line, and without what a terminal obeys or a file cannot hold.
        why = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
        if error.kind == "service" or (error.status in (403, 404) and not self.arrived):
            self._halt(f"{self.service.endpoint} answers nobody: {why}. Mend that and run again.")
            return
        for key, call in group:
            self.failed[key] = Failure(why)
            self.store.keep_error(key, self.service.model, call, why)
        if not self.arrived and len(self.failed) >= HOPELESS:
            first = f"the first {len(self.failed)} calls all failed, the last with: {why}"
            self._halt(f"{self.service.endpoint}: {first}. Mend that and run again.")

    def _halt(self, why: str) -> None:
        self._stopped = self._stopped or f"{why} What arrived is kept."
        self._stop.set()

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = getattr(error, "retry_after", None)
        return self._pause(state) if told is None else told

    def _too_long(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        odd = getattr(error, "kind", "") == "odd" and state.attempt_number >= ODD_TRIES
        return odd or (state.seconds_since_start or 0) + state.upcoming_sleep > self._deadline

    async def _back_off(self, seconds: float) -> None:
        """Waits without a slot; ends early where the stage stops."""
        self._slots.release()
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            await self._slots.acquire()


class _Stopping(Exception):
    """The stage stops: this call is neither answered nor failed."""


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.kind in ("passing", "odd")

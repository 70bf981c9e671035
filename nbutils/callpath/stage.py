"""One stage of calls on its way: slots, retries, failures, the summary. Never asks what is kept."""

import asyncio
import time
from collections.abc import Callable, Mapping
from itertools import islice

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.service import CallError, Service
from nbutils.callpath.spend import BudgetReached, Purse, bound, cost
from nbutils.callpath.store import Store
from nbutils.profiles import Limits

ODD_TRIES = 3  # attempts at a reply that came and made no sense
BACKING_OFF = 4  # calls alive, in flight or backing off, for each call that may be in flight
HOPELESS = 20  # failures in a row, from the first call on, after which the stage stops
AT_ONCE = 0.1  # seconds, times the attempt, that are waited at least
NAMED = 5  # failed rows that the summary names

Asked = tuple[str, Call]  # the key and the call


class StageStopped(RuntimeError):
    """A stage that cannot go on; what arrived is kept, and the message says how to go on."""


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
            await self._ask(group)
        except BudgetReached as reached:
            raise_it = "raise [budget] in the profile and run again: nothing is asked twice"
            self._halt(f"The budget is reached: {reached}. To go on, {raise_it}.")
        except _Stopping:
            pass
        finally:
            self._slots.release()

    async def _ask(self, group: list[Asked]) -> None:
        """A group with its retries. One that is refused for a row of it is asked in halves, until
        that row stands alone."""
        try:
            await self._try(group)
        except CallError as error:
            if error.kind != "row" or error.status in (403, 404) or len(group) == 1:
                self._fail(group, error)
                return
            half = len(group) // 2
            await self._ask(group[:half])
            await self._ask(group[half:])

    async def _try(self, group: list[Asked]) -> None:
        """One attempt, and more where trying again may help.

        tenacity is called in for those alone: what it keeps of a call is garbage in a circle, and
        the whole loop stands still while Python collects it.
        """
        begun, failed = time.monotonic(), list[CallError]()
        try:
            return await self._attempt(group)
        except CallError as error:
            failed.append(error)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_worth_another),
            wait=self._wait,
            stop=self._too_long,
            sleep=self._back_off,
            reraise=True,
        ):
            attempt.retry_state.start_time = begun
            with attempt:
                if failed:
                    raise failed.pop()
                await self._attempt(group)

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
            self._cost += 0.0 if free else most
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
        """Records a failure a row; stops the stage where nobody will be answered.

        What the store holds was answered once: then a refused row says nothing of the others.
        """
        # In one line, and without what a terminal obeys or a file cannot hold.
        why = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
        if error.kind == "service" or (error.status in (403, 404) and not self.found):
            self._halt(f"{self.service.endpoint} answers nobody: {why}. Mend that and run again.")
            return
        for key, call in group:
            self.failed[key] = Failure(why)
            self.store.keep_error(key, self.service.model, call, why)
        told = not self.arrived and (error.kind != "row" or not self.found)
        if told and len(self.failed) >= HOPELESS:
            first = f"the first {len(self.failed)} calls all failed, the last with: {why}"
            self._halt(f"{self.service.endpoint}: {first}. Mend that and run again.")

    def _halt(self, why: str) -> None:
        self._stopped = self._stopped or f"{why} What arrived is kept."
        self._stop.set()

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = getattr(error, "retry_after", None)
        # A service that says "at once" again and again is not taken at its word.
        return self._pause(state) if told is None else max(told, AT_ONCE * state.attempt_number)

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

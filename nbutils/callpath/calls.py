"""The call path, which every model call of every role goes through. Never pays for a reply twice.

What the store holds is not asked again. The rest is sent at a bounded rate, tried again where that
can help, and kept as it arrives; a row that cannot be answered is one recorded failure.
"""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable, Sequence

from tqdm import tqdm

from nbutils.callpath.exchange import Call, Failure, Reply, request_key
from nbutils.callpath.service import Service
from nbutils.callpath.spend import Purse, estimate
from nbutils.callpath.stage import Stage
from nbutils.callpath.store import Store
from nbutils.profiles import Limits

CLOSING_SECONDS = 10.0  # that Ctrl-C waits for connections to close
LOG_SECONDS = 10.0  # between two lines of progress in a file; in a notebook or terminal 0.5


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

    def _watch(self, stage: Stage, what: str) -> None:
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

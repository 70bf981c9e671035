"""What the call path needs of whoever answers, and how a call can fail. Never sends anything."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.spend import Price


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

"""What calls may cost and did cost: estimates, the budget, the summary. Never sends a call."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.store import Store
from nbutils.profiles import Budget

MILLION = 1_000_000
BYTES_A_TOKEN = 4  # in an estimate; in a bound, a token is taken to be one byte
FRAME = 16  # tokens that a chat template may put around a message


class BudgetReached(RuntimeError):
    """The next request might break the budget; the message says how to go on."""


@dataclass(frozen=True)
class Price:
    """Of a million tokens; 0 where they are free or the profile names no price."""

    input: float = 0.0
    output: float = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / MILLION


def bound(price: Price, calls: Iterable[Call], longest: int) -> float:
    """The most that these calls may cost: a token a byte of the prompt, replies of full length."""
    sizes = [(_size(call) + FRAME * len(call.messages or ()), longest) for call in calls]
    return sum(price.of(told, said) for told, said in sizes)


def cost(price: Price, call: Call, reply: Reply, longest: int) -> float:
    """What a reply cost by its usage; the bound where the endpoint tells none."""
    if reply.prompt_tokens is None or reply.completion_tokens is None:
        return bound(price, [call], longest)
    return price.of(reply.prompt_tokens, reply.completion_tokens)


def estimate(price: Price, calls: Sequence[Call], longest: int, currency: str) -> str:
    """`about 812,000 tokens in, at most 452,800 out, about 3.45 USD at most`, before sending.

    The money is that of the tokens named before it.
    """
    told = round(sum(map(_size, calls)) / BYTES_A_TOKEN)
    said = longest * len(calls)
    money = (
        f"about {price.of(told, said):.2f} {currency} at most"
        if price != Price()
        else "no price set"
    )
    return f"about {told:,} tokens in, at most {said:,} out, {money}"


class Purse:
    """The budget of a run, over all its stages and restarts: money is set aside before sending."""

    def __init__(self, store: Store, budget: Budget, currency: str) -> None:
        self._store, self._budget, self.currency = store, budget, currency
        before = store.spent()
        self.calls, self.cost = before.calls, before.cost
        self._open = 0  # entries set aside and not yet settled
        self._settled = asyncio.Event()

    async def reserve(self, role: str, most: float) -> tuple[int, float]:
        """Sets `most` aside for one request and enters it in the ledger.

        Where money is short only because of what is still in flight, waits for that. Raises
        BudgetReached where nothing is.
        """
        while why := self._short(most):
            if not self._open:
                raise BudgetReached(why)
            self._settled.clear()
            await self._settled.wait()
        entry = self._store.reserve(role, 1, most)
        self.calls += 1
        self.cost += most
        self._open += 1
        return entry, most

    def settle(
        self,
        entry: tuple[int, float],
        cost: float | None,
        replies: Sequence[tuple[str, str, str, Call, Reply]] = (),
    ) -> None:
        """What a request came to, with the replies to keep; None: unknown, so it counts in full."""
        number, most = entry
        self._open -= 1
        self.cost += 0.0 if cost is None else cost - most
        self._store.settle(number, most if cost is None else cost, replies)
        self._settled.set()

    def left(self) -> str:
        """`0.40 of 5.00 USD, 1,200 of 3,000 calls`; "" where there is no budget."""
        parts = []
        if self._budget.money is not None:
            parts.append(f"{self.cost:.2f} of {self._budget.money:.2f} {self.currency}")
        if self._budget.calls is not None:
            parts.append(f"{self.calls:,} of {self._budget.calls:,} calls")
        return ", ".join(parts)

    def _short(self, most: float) -> str:
        """Why one more request cannot be paid; "" where it can."""
        budget, money = self._budget, f"{self.cost:.4f} {self.currency} spent or set aside"
        if budget.calls is not None and self.calls + 1 > budget.calls:
            return f"{self.calls} requests sent, and budget.calls is {budget.calls}"
        if budget.money is not None and self.cost + most > budget.money:
            next_one = f"the next call may cost {most:.4f}"
            return f"{money}, {next_one}, and budget.money is {budget.money}"
        return ""


def _size(call: Call) -> int:
    """Bytes of a call's messages; a lone surrogate, which UTF-8 cannot hold, counts three."""
    texts = (message["content"] for message in call.messages or ())
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

"""Four ways of judging pairs over HTTP, and the pairs. Never measures them: see call_path.py."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import openai
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.evaluation import BatchEvalRunner, PairwiseComparisonEvaluator
from llama_index.core.llms.mock import MockLLM
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.spend import Purse
from nbutils.callpath.store import Store
from nbutils.profiles import DATA, Budget, Limits
from nbutils.prompts import PAIRWISE, Messages, render_pairwise
from nbutils.records import load_dataset
from nbutils.roles import Role
from nbutils.services.endpoints import OpenAIChat

WORKERS = 32
MODEL = "judge"
LONGEST = 400  # tokens of a reply
OURS, LLAMA, PLAIN = "nbutils", "llama_index BatchEvalRunner", "plain AsyncOpenAI"
SEQUENTIAL = "one call at a time"


@dataclass(frozen=True)
class Row:
    """One pair."""

    pair_id: str
    question: str
    source: str
    answers: tuple[str, str]

    @cached_property
    def messages(self) -> tuple[Messages, Messages]:
        """The prompts of both orders, original first."""
        texts = (self.question, self.source, *self.answers)
        return render_pairwise(*texts, "original"), render_pairwise(*texts, "flipped")


def load_rows() -> list[Row]:
    """The recorded pairs, but for those that ask word for word what another asks, or both orders
    alike: every call is a request of its own."""
    data = load_dataset(DATA)
    asked = {row.question_id: row for row in data.questions}
    texts = {(row.question_id, row.answerer): row.text for row in data.answers}
    rows: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    for pair in data.pairs:
        q = asked[pair.question_id]
        a, b = (texts[q.question_id, who] for who in (pair.answerer_a, pair.answerer_b))
        alike = (q.question_id, *sorted((a, b)))
        if a != b and alike not in seen:
            rows.append(Row(pair.pair_id, q.question, q.source, (a, b)))
        seen.add(alike)
    return rows


def poisoned(row: Row, text: str) -> Row:
    """The row with that text at the end of its source."""
    return replace(row, source=f"{row.source} {text}")


class Way(Protocol):
    """One way of asking, with a client that lives from one ask to the next."""

    def ask(self, rows: Sequence[Row]) -> int:
        """Judges the pairs in both orders; how many replies the caller has in the end."""
        ...

    def close(self) -> None: ...


class Ours:
    """The call path, on a store of its own."""

    def __init__(self, url: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._store = Store(Path(self._folder.name, "calls.sqlite"))
        purse = Purse(self._store, Budget(), "USD")
        self._path = CallPath(self._store, Limits(concurrency=WORKERS), purse)
        sampling = {"max_tokens": LONGEST}
        role = Role(service="openai", model=MODEL, base_url=url, key="none", sampling=sampling)
        self._service = OpenAIChat(role, "", Limits().timeout_s)

    def ask(self, rows: Sequence[Row]) -> int:
        calls = [
            Call("teacher", f"{row.pair_id}/{order}", PAIRWISE.fingerprint, messages)
            for row in rows
            for order, messages in zip(("original", "flipped"), row.messages, strict=True)
        ]
        replies = self._path.run(self._service, calls, "judging")
        return sum(isinstance(reply, Reply) for reply in replies)

    def close(self) -> None:
        self._path.close()
        self._store.close()
        self._folder.cleanup()


class Plain:
    """AsyncOpenAI with its default two retries, behind a semaphore."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client = openai.AsyncOpenAI(base_url=url, api_key="none")

    def ask(self, rows: Sequence[Row]) -> int:
        return self._runner.run(self._ask(rows))

    async def _ask(self, rows: Sequence[Row]) -> int:
        slots = asyncio.Semaphore(WORKERS)

        async def one(messages: Any) -> str | None:
            async with slots:
                done = await self._client.chat.completions.create(
                    model=MODEL, messages=messages, max_tokens=LONGEST
                )
                return done.choices[0].message.content

        tasks = [one(messages) for row in rows for messages in row.messages]
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(reply, str) for reply in replies)

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class EndpointLLM(MockLLM):
    """A llama_index LLM that asks an endpoint, with the retries of llama-index-llms-openai.

    That class gives the client three retries and tries three times itself, 1 to 20 s apart.
    """

    client: Any = None

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__()
        self.client = client

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, model_name=MODEL, num_output=LONGEST)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        said = [{"role": str(m.role.value), "content": m.content} for m in messages]
        done = await self._create(said)
        text = done.choices[0].message.content
        return ChatResponse(message=ChatMessage(role="assistant", content=text), raw=done)

    @retry(
        reraise=True,
        stop=stop_after_attempt(3),
        wait=wait_random_exponential(min=1, max=20),
        retry=retry_if_exception_type(
            (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
        ),
    )
    async def _create(self, said: list[dict[str, Any]]) -> Any:
        return await self.client.chat.completions.create(
            model=MODEL, messages=said, max_tokens=LONGEST
        )


class LlamaIndex:
    """PairwiseComparisonEvaluator, which asks the two orders of a pair one after the other."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=3)
        evaluator = PairwiseComparisonEvaluator(llm=EndpointLLM(self._client))
        self._batch = BatchEvalRunner({"pairs": evaluator}, workers=WORKERS)

    def ask(self, rows: Sequence[Row]) -> int:
        results: list[Any] = []
        with suppress(openai.OpenAIError):  # one error, and there are no results at all
            results = self._runner.run(self._ask(rows))["pairs"]
        return sum(2 for result in results if not result.invalid_result)

    async def _ask(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        return await self._batch.aevaluate_response_strs(
            queries=[row.question for row in rows],
            response_strs=[row.answers[0] for row in rows],
            second_response=[row.answers[1] for row in rows],
            reference=[row.source for row in rows],
        )

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class Sequential:
    """The plain client with its default two retries, one call after the other."""

    def __init__(self, url: str) -> None:
        self._client = openai.OpenAI(base_url=url, api_key="none")

    def ask(self, rows: Sequence[Row]) -> int:
        return sum(self._one(messages) for row in rows for messages in row.messages)

    def _one(self, messages: Any) -> bool:
        with suppress(openai.OpenAIError):
            self._client.chat.completions.create(model=MODEL, messages=messages, max_tokens=LONGEST)
            return True
        return False

    def close(self) -> None:
        self._client.close()


WAYS: dict[str, Callable[[str], Way]] = {
    OURS: Ours,
    LLAMA: LlamaIndex,
    PLAIN: Plain,
    SEQUENTIAL: Sequential,
}

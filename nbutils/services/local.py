"""A local causal LM as a chat service: batches, on this machine. Never sends anything anywhere.

The model is loaded by the first call that the store cannot answer, and what it computes runs in a
thread of its own, so that the event loop goes on.
"""

import asyncio
import json
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbutils.callpath.exchange import Call, Reply, Token
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price
from nbutils.causal_lm import (
    SHIPPED,
    ModelFilesError,
    adapter_sha256,
    best_device,
    load_adapter,
    load_lm,
    weights_sha256,
)
from nbutils.roles import Role
from nbutils.weights import WeightsError
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.generation import Chooser, generate

TAIL = 24  # tokens kept from a reply's end: the verdict's line and what may follow it
CONTEXT = 8  # tokens before one of them, with which it is spelt
SHOWN = 12  # digits of a SHA-256 in the endpoint

Asked = tuple[Call, list[int]]  # a call and its prompt's token ids


class LocalError(ValueError):
    """A local role that cannot be played; the message names the field and the remedy."""


class Sampling(BaseModel):
    """What a local model's sampling may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_tokens: int | None = Field(None, ge=1)  # of a reply
    max_completion_tokens: int | None = Field(None, ge=1)  # the same, by another name
    temperature: float = Field(0.0, ge=0)  # 0: the likeliest token
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None  # None: drawn anew at each reply


class LocalChat:
    """A causal LM under its own chat template and, where role.adapter says so, a LoRA adapter.

    With a seed, a reply depends on its own call alone, not on its company in a batch, but for
    rounding. What the model's own settings ask for plays no part. A template without a system
    message gets it at the head of the user's (see chat_format.py).
    """

    batch = 8
    concurrency: int | None = 1
    price = Price()

    def __init__(self, role: Role) -> None:
        """`role.model` is a folder, a hub id or smollm2-135m-instruct, the shipped weights.

        The endpoint holds the SHA-256 of a folder's and an adapter's weights: replies of others are
        never taken for theirs. Loads no model. Raises LocalError where the role cannot be played.
        """
        try:
            self._sampling = Sampling(**role.sampling)
            self.endpoint = _endpoint(role.model, role.adapter)
        except ValidationError as error:
            (field, *_), why = error.errors()[0]["loc"], error.errors()[0]["msg"]
            known = ", ".join(Sampling.model_fields)
            raise LocalError(
                f"local model {role.model}: sampling.{field}: {why}; known are {known}"
            ) from None
        except (ModelFilesError, OSError) as error:
            raise LocalError(f"local model {role.model}: {error}") from None
        more = {"top_logprobs": role.logprobs} if role.logprobs else {}
        self.sampling: Mapping[str, Any] = role.sampling | more
        self.longest = role.longest
        self._where, self._adapter, self._logprobs = role.model, role.adapter, role.logprobs
        parts = [part for part in (role.model, role.adapter) if part]
        self.model = "+".join(Path(part).name if Path(part).is_dir() else part for part in parts)
        self._loaded: tuple[Any, ChatFormat] | None = None
        self._together = self.batch  # rows a pass; fewer once the memory was short
        self._worker = ThreadPoolExecutor(1, "local model")  # one batch at a time

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        """One outcome a call, in order. Raises CallError where the model cannot be loaded."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, self._answer, calls, stop)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def close(self) -> None:
        """Lets go of the model; what is still being computed is given up."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._loaded = None

    def _answer(self, calls: Sequence[Call], stop: threading.Event) -> list[Reply | CallError]:
        if self._loaded is None:
            self._loaded = _load(self._where, self._adapter)
        lm, chat = self._loaded
        prompts = [self._prompt(call, lm, chat) for call in calls]
        asked = [
            (call, ids)
            for call, ids in zip(calls, prompts, strict=True)
            if not isinstance(ids, CallError)
        ]
        replies = iter(self._replies(asked, lm, chat, stop))
        return [ids if isinstance(ids, CallError) else next(replies) for ids in prompts]

    def _prompt(self, call: Call, lm: Any, chat: ChatFormat) -> list[int] | CallError:
        """The call's token ids, or why that row cannot be asked."""
        try:
            ids = chat.prompt(call.messages or [])
        except ValueError as error:  # of the format, or a text that the tokenizer cannot keep apart
            return CallError(str(error), "row")
        window = getattr(lm.config.get_text_config(), "max_position_embeddings", None)
        if window is None or len(ids) + self.longest <= window:
            return ids
        asked = f"the prompt has {len(ids)} tokens and the reply may have {self.longest}"
        why = f"{asked}; {self.model} reads {window} in all"
        return CallError(f"{why}: shorten the source, or lower max_tokens", "row")

    def _replies(
        self, asked: Sequence[Asked], lm: Any, chat: ChatFormat, stop: threading.Event
    ) -> list[Reply | CallError]:
        """Pass after pass; where the memory is short, of half as many rows from then on."""
        found: list[Reply | CallError] = []
        while rest := asked[len(found) : len(found) + self._together]:
            try:
                found += self._pass(rest, lm, chat, stop)
                continue
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            # From here on, what the failed pass held is free.
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
            if len(rest) > 1:
                self._together = len(rest) // 2
                continue
            size = f"{len(rest[0][1])} tokens and a reply of up to {self.longest}"
            remedy = "shorten the source, lower max_tokens or take a smaller model"
            found.append(CallError(f"the memory holds no prompt of {size}: {remedy}", "row"))
        return found

    def _pass(
        self, asked: Sequence[Asked], lm: Any, chat: ChatFormat, stop: threading.Event
    ) -> list[Reply]:
        choose = Chooser(
            [_draw(self._sampling.seed, call) for call, _ in asked],
            self._sampling.temperature,
            self._sampling.top_p,
            self._logprobs,
            stop,
        )
        prompts = [ids for _, ids in asked]
        rows = generate(lm, prompts, chat.stops, self.longest, choose)
        replies = []
        for row, (ids, prompt) in enumerate(zip(rows, prompts, strict=True)):
            stopped = bool(ids) and ids[-1] in chat.stops
            own = ids[:-1] if stopped else ids
            finish = "stop" if stopped else "length"
            tokens = _tokens(own, row, choose, chat)
            replies.append(Reply(chat.text(own), finish, len(prompt), len(ids), tokens))
        return replies


def _tokens(ids: Sequence[int], row: int, choose: Chooser, chat: ChatFormat) -> tuple[Token, ...]:
    """The last tokens of a reply with the likeliest in their places; () where none were kept."""
    found = []
    for place in range(max(0, len(ids) - TAIL), len(ids)) if choose.steps else ():
        step, before = choose.steps[place], ids[max(0, place - CONTEXT) : place]
        top = zip(step.top[row].tolist(), step.top_logprob[row].tolist(), strict=True)
        others = tuple((_piece(before, other, chat), logprob) for other, logprob in top)
        logprob = step.logprob[row].item()
        found.append(Token(_piece(before, ids[place], chat), logprob, others))
    return tuple(found)


def _piece(before: Sequence[int], token: int, chat: ChatFormat) -> str:
    """What a token adds to the text: some tokenizers write its space only after another word."""
    head, whole = chat.text(before), chat.text([*before, token])
    return whole[len(head) :] if whole.startswith(head) else chat.text([token])


def _load(model: str, adapter: str) -> tuple[Any, ChatFormat]:
    """The model on the best device, and its chat format. Raises CallError where there is none."""
    device, dtype = best_device()
    try:
        lm, tokenizer = load_lm(model, dtype)
        lm = lm.to(device)
        chat = ChatFormat(tokenizer, lm.config.eos_token_id, model)
        return load_adapter(lm, adapter, model) if adapter else lm, chat
    except (OSError, ValueError, ImportError, WeightsError) as error:
        why = f"the local model {model} cannot be loaded: {' '.join(str(error).split())}"
        raise CallError(why, "service") from None


def _endpoint(model: str, adapter: str) -> str:
    """`local:b179c9523d0e` or, with an adapter, `local:b179c9523d0e+0123456789ab`.

    A hub id stands for itself: a run whose replies are all in the store needs no network.
    """
    known = model == SHIPPED or Path(model).is_dir()
    names = [weights_sha256(model)[:SHOWN] if known else model]
    return "local:" + "+".join(names + ([adapter_sha256(adapter)[:SHOWN]] if adapter else []))


def _draw(seed: int | None, call: Call) -> random.Random:
    """Where a reply's draws come from: the same for the same seed, messages and replicate."""
    if seed is None:
        return random.Random()
    return random.Random(json.dumps([seed, call.replicate, call.messages]))


def _out_of_memory(error: RuntimeError) -> bool:
    """Of an accelerator, or of the processor's memory, for which torch has no error of its own."""
    told = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(why in str(error) for why in told)

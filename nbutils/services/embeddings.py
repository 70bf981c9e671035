"""Embedding models, as services of the call path. Never cuts a text to fit.

A reply's text is a vector, packed by nbutils.corpus.vectors.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai

from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price
from nbutils.corpus.vectors import EmbeddingError, Vector, pack, unpack
from nbutils.roles import Role, base_url
from nbutils.services.clients import async_client
from nbutils.services.endpoints import asked

ENDPOINT_BATCH = 64  # texts a request
LOCAL_BATCH = 16  # texts a pass
SHOWN = 12  # digits of a SHA-256 in the endpoint


class EmbeddingEndpoint:
    """An embedding model of an endpoint that speaks OpenAI's protocol."""

    batch = ENDPOINT_BATCH
    longest = 0
    concurrency: int | None = None

    def __init__(self, role: Role, key: str, timeout_s: float) -> None:
        self.endpoint, self.model = base_url(role), role.model
        self.sampling: Mapping[str, Any] = dict(role.sampling)
        self.price = Price(role.price_in, role.price_out)
        self._role, self._key, self._timeout = role, key, timeout_s
        self._client: openai.AsyncOpenAI | None = None  # made in the loop that uses it

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        """One request."""
        if self._client is None:
            self._client = async_client(self._role, self._key, self._timeout)
        create = self._client.embeddings.with_raw_response.create
        texts = [_text(call) for call in calls]
        body = await asked(
            lambda: create(
                model=self.model,
                input=texts,
                encoding_format="float",
                extra_body=self.sampling,
            ),
            self._timeout,
            self._key,
        )
        return list(read_vectors(body, texts))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


class LocalEmbedding:
    """A model of this machine: the mean of its last hidden states over a text's tokens, normalised.

    Made for encoders that were trained for this mean, such as the all-MiniLM models. A causal LM,
    the shipped base among them, is a weak embedder: its last states foretell the next token.
    """

    batch = LOCAL_BATCH
    longest = 0
    concurrency: int | None = 1
    price = Price()

    def __init__(self, role: Role) -> None:
        """`role.model`: a folder, a hub id, or smollm2-135m-instruct for the shipped base.

        The endpoint holds the SHA-256 of a folder's weights, so that vectors of others are never
        taken for theirs. Loads no model. Raises EmbeddingError where the role cannot be played.
        """
        from nbutils.causal_lm import SHIPPED, ModelFilesError, weights_sha256

        if role.sampling:
            have = f"local embedder {role.model}: sampling has {', '.join(role.sampling)}"
            raise EmbeddingError(f"{have}, and there is nothing to sample; take [sampling] out")
        known = role.model == SHIPPED or Path(role.model).is_dir()
        try:
            self.endpoint = f"local:{weights_sha256(role.model)[:SHOWN] if known else role.model}"
        except (ModelFilesError, OSError) as error:
            raise EmbeddingError(f"local embedder {role.model}: {error}") from None
        self.model = Path(role.model).name if known else role.model
        self.sampling: Mapping[str, Any] = {}
        self._where = role.model
        self._loaded: tuple[Any, Any] | None = None  # tokenizer and model

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        """One outcome a call. Raises CallError where the model cannot be loaded."""
        return await asyncio.to_thread(self._embed, [_text(call) for call in calls])

    async def close(self) -> None:
        self._loaded = None

    def _embed(self, texts: Sequence[str]) -> list[Reply | CallError]:
        if self._loaded is None:
            try:
                self._loaded = _load(self._where)
            except Exception as error:  # whatever the files make the libraries raise
                raise CallError(f"{self._where} cannot be loaded: {error}", "service") from None
        tokenizer, model = self._loaded
        limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        ids = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in texts]
        short = [row for row in ids if 0 < len(row) <= limit]
        vectors = iter(_mean_states(model, short) if short else [])
        return [
            Reply(pack(next(vectors)), "stop", len(row), 0)
            if 0 < len(row) <= limit
            else CallError(f"the text has {len(row)} tokens, and {self.model} reads {limit}", "row")
            for row in ids
        ]


def _text(call: Call) -> str:
    [message] = call.messages or []
    return message["content"]


def read_vectors(body: Mapping[str, Any], texts: Sequence[str]) -> list[Reply]:
    """The replies to a request, in its order. Raises CallError unless each text has its vector."""
    try:
        rows = sorted(body["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(texts))):
            raise ValueError(f"{len(rows)} vectors came for {len(texts)} texts")
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused below
            vectors = [np.array(row["embedding"], np.float64).astype(np.float32) for row in rows]
        packed = [pack(vector) for vector in vectors]
        if len({unpack(vector).size for vector in packed}) > 1:
            raise ValueError("the vectors differ in length")
        told = (body.get("usage") or {}).get("prompt_tokens")
        tokens = [None] * len(texts) if told is None else _shares(told, texts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"the reply holds no embeddings ({type(error).__name__}: {error})"
        raise CallError(why, "odd", charged=True) from None
    return [Reply(text, None, count, 0) for text, count in zip(packed, tokens, strict=True)]


def _shares(total: int, texts: Sequence[str]) -> list[int]:
    """A request's tokens shared out by the texts' lengths; the shares sum to the total.

    >>> _shares(7, ["ab", "abcd"])
    [2, 5]
    """
    ends = np.cumsum([len(text) for text in texts])
    edges = np.floor(ends * total / max(ends[-1], 1)).astype(int)
    return np.diff(edges, prepend=0).tolist()


def _load(model: str) -> tuple[Any, Any]:
    """Tokenizer and model, without a head. Imported here: it takes seconds, and few need it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from nbutils.causal_lm import SHIPPED, best_device, load_lm

    device, _ = best_device()
    if model == SHIPPED:
        lm, tokenizer = load_lm(SHIPPED, torch.float32)
        return tokenizer, lm.get_decoder().to(device)
    found = AutoModel.from_pretrained(model, dtype=torch.float32, use_safetensors=True)
    return AutoTokenizer.from_pretrained(model), found.eval().to(device)


def _mean_states(model: Any, ids: Sequence[Sequence[int]]) -> list[Vector]:
    """The unit vector of each row of token ids, padded on the right for one pass."""
    import torch

    tokens = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(ids):
        tokens[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    device = next(model.parameters()).device
    with torch.no_grad():
        states = model(input_ids=tokens.to(device), attention_mask=mask.to(device))
    weights = mask.to(device)[..., None].float()
    means = (states.last_hidden_state.float() * weights).sum(1) / weights.sum(1)
    unit: torch.Tensor = torch.nn.functional.normalize(means, dim=-1)
    return list(unit.cpu().numpy())

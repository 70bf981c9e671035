"""The vectors of texts, each got once and checked. Never lets a broken one into an index.

A vector is kept in the store as a reply's text: base64 of little-endian float32.
"""

import base64
import binascii
from collections.abc import Mapping

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from numpy.typing import NDArray

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.service import Service

Vector = NDArray[np.float32]


class EmbeddingError(RuntimeError):
    """Texts without a vector that can be used; the message names them and the remedy."""


class StoredEmbedding(BaseEmbedding):
    """llama-index's embedding model over a service of the call path.

    Ask for many texts at once with `fetch` or `need`: one stage of the call path each.
    """

    _path: CallPath = PrivateAttr()
    _service: Service = PrivateAttr()
    _vectors: dict[str, Vector] = PrivateAttr()  # by text
    _first: str = PrivateAttr()  # the text that says how long a vector is

    def __init__(self, path: CallPath, service: Service) -> None:
        super().__init__(model_name=service.model)
        self._path, self._service = path, service
        self._vectors, self._first = {}, ""

    def fetch(self, texts: Mapping[str, str], what: str) -> dict[str, str]:
        """Gets the vectors of the named texts, and returns why by name where there is none.

        Raises EmbeddingError where a vector is damaged or of another length than those before.
        """
        calls = [
            Call("embedder", name, messages=[{"role": "text", "content": text}])
            for name, text in texts.items()
            if text not in self._vectors
        ]
        failed = {}
        outcomes = self._path.run(self._service, calls, what, _is_vector) if calls else []
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Failure):
                failed[call.data_id] = outcome.why
            else:
                self._keep(call, outcome)
        return failed

    def need(self, texts: Mapping[str, str], what: str) -> None:
        """As fetch. Raises EmbeddingError where a text has no vector."""
        failed = self.fetch(texts, what)
        if failed:
            name, why = next(iter(failed.items()))
            some = f"{len(failed)} of {len(texts)} texts have no vector, the first {name}: {why}"
            raise EmbeddingError(f"{what}: {some}; run again to ask for these alone")

    def _keep(self, call: Call, reply: Reply) -> None:
        [message] = call.messages or []
        try:
            vector = unpack(reply.text)
        except ValueError as error:
            remedy = "move the store of calls away and run again"
            raise EmbeddingError(f"embedder {call.data_id}: {error}; {remedy}") from None
        self._first = self._first or message["content"]
        size = len(self._vectors.get(self._first, vector))
        if len(vector) != size:
            why = f"its vector has {len(vector)} numbers, and those before have {size}"
            remedy = "the endpoint has changed its model: give it another name in the profile"
            raise EmbeddingError(f"embedder {call.data_id}: {why}; {remedy}")
        self._vectors[message["content"]] = vector

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self.need({f"text {n}": text for n, text in enumerate(texts)}, "texts")
        return [self._vectors[text].tolist() for text in texts]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]


def pack(vector: Vector) -> str:
    """A vector as text: base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def unpack(text: str) -> Vector:
    """The vector of such a text. Raises ValueError where it is none, not finite or all zero."""
    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise ValueError("the reply is no vector") from None
    if not len(vector) or not np.isfinite(vector).all() or not vector.any():
        raise ValueError("the vector is empty, not finite or all zero")
    return vector


def _is_vector(reply: Reply) -> bool:
    try:
        unpack(reply.text)
    except ValueError:
        return False
    return True

"""An embedding service without a model, and call paths, for tests of retrieval."""

import hashlib
import re
from contextlib import contextmanager

import numpy as np

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Reply
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price, Purse
from nbutils.callpath.store import Store
from nbutils.corpus.vectors import pack
from nbutils.profiles import Budget, Limits

SIZE = 64


def embed(text):
    """Each word's count, on the place that its hash says: texts that share words are near."""
    vector = np.zeros(SIZE, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        vector[hashlib.sha256(word.encode()).digest()[0] % SIZE] += 1
    return vector


class Words:
    """A service that counts words; `spoil` maps a text to what is sent in place of its vector."""

    endpoint, model, batch, longest, concurrency = "test", "words", 4, 0, None
    price = Price()

    def __init__(self, spoil=None):
        self.sampling, self.sent, self.spoil = {}, [], spoil or {}

    async def send(self, calls):
        texts = [call.messages[0]["content"] for call in calls]
        self.sent.append(texts)
        replies = [self.spoil.get(text, Reply(pack(embed(text)), None, 1, 0)) for text in texts]
        for reply in replies:
            assert isinstance(reply, Reply | CallError)
        return replies

    async def close(self):
        pass


@contextmanager
def call_path(folder):
    """A call path without a budget over the store in that folder."""
    store = Store(folder / "calls.sqlite")
    limits = Limits(concurrency=4, timeout_s=5, deadline_s=5)
    path = CallPath(store, limits, Purse(store, Budget(), "USD"))
    try:
        yield path
    finally:
        path.close()
        store.close()

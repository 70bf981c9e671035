"""The models of a profile, each asked through one method. Never asks anything by itself.

Recorded models replay rows of the store; live ones go through the call path. Whoever asks need not
know which it is.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.recorded import recorded_calls
from nbutils.callpath.service import Service
from nbutils.callpath.spend import Purse
from nbutils.callpath.store import PAID, RECORDED, STORE, Store
from nbutils.profiles import DATA, Profile
from nbutils.records import Dataset, load_dataset
from nbutils.roles import HostedRole, Role, base_url, read_key
from nbutils.runs import RunFolder

if TYPE_CHECKING:
    from nbutils.corpus.vectors import StoredEmbedding

Readable = Callable[[Reply], bool]


class ModelError(ValueError):
    """A model that is unknown or cannot do what was asked; the message names the remedy."""


class ChatModel(Protocol):
    """What judging needs of a model."""

    name: str

    def ask(
        self, calls: Sequence[Call], what: str, readable: Readable | None = None
    ) -> list[Reply | Failure]:
        """The model's whole reply to each call, or why there is none; `what` names the stage."""
        ...


class ReplayModel:
    """The recorded replies, whichever role they were given in."""

    name = RECORDED

    def __init__(self, store: Store) -> None:
        self._store = store

    def ask(
        self, calls: Sequence[Call], what: str, readable: Readable | None = None
    ) -> list[Reply | Failure]:
        """Raises ReplayMiss at the first call that no reply is recorded for."""
        replies = self._store.replay(calls)
        print(f"{what}: {len(replies):,} recorded replies are replayed; nothing is asked or paid")
        return list(replies)


class LiveModel:
    """A model that is asked through the call path."""

    def __init__(self, path: CallPath, service: Service) -> None:
        self.name = service.model
        self._path, self._service = path, service

    def ask(
        self, calls: Sequence[Call], what: str, readable: Readable | None = None
    ) -> list[Reply | Failure]:
        return self._path.run(self._service, calls, what, readable)


class Models:
    """The models of one run, behind one store and one budget."""

    def __init__(self, profile: Profile, run: RunFolder) -> None:
        """Raises ProfileError before any work where a role's key or address cannot be used."""
        self._keys = {name: read_key(role, name) for name, role in profile.endpoints().items()}
        for role in profile.endpoints().values():
            base_url(role)
        self._profile = profile
        self.store = Store(run.path(STORE))
        roles = profile.chat_roles()
        self.errors: dict[tuple[str, str], str | None] = {}
        if any(role.service == RECORDED for role in roles.values()):
            data = load_dataset(DATA)
            self.store.fill(recorded_calls(data))
            self.errors = {(a.question_id, a.answerer): a.error for a in data.answers}
        purse = Purse(self.store, profile.budget, profile.currency)
        self.path = CallPath(self.store, profile.calls, purse)
        self._services: dict[str, Service] = {}  # by the role, as JSON
        self.question_writer = self.chat("question_writer", profile.question_writer)
        self.teacher = self.chat("teacher", profile.teacher)

    def chat(self, where: str, role: Role | HostedRole) -> ChatModel:
        """The model of one role; `where` is the name of its table, which its key goes by."""
        if role.service == RECORDED:
            return ReplayModel(self.store)
        return LiveModel(self.path, self._service(where, role))

    def embedding(self) -> "StoredEmbedding | None":
        """What a vector index is made with; None where the profile's index is BM25."""
        role = self._profile.embedder
        if self._profile.retrieval.index == "bm25" or role is None:
            return None
        from nbutils.corpus.vectors import StoredEmbedding
        from nbutils.services.embeddings import EmbeddingEndpoint, LocalEmbedding

        if role.service == "local":
            return StoredEmbedding(self.path, LocalEmbedding(role))
        timeout = self._profile.calls.timeout_s
        return StoredEmbedding(self.path, EmbeddingEndpoint(role, self._keys["embedder"], timeout))

    def paid(self) -> pd.DataFrame:
        """See the function of that name."""
        return _paid(self.store)

    def close(self) -> None:
        self.path.close()
        self.store.close()

    def __enter__(self) -> "Models":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _service(self, where: str, role: Role | HostedRole) -> Service:
        """The role's service; two roles that are alike share one, and so one client."""
        timeout = self._profile.calls.timeout_s
        same = role.model_dump_json()
        if same not in self._services:
            # Each of these imports a library that the others do without.
            if role.service == "openai":
                from nbutils.services.endpoints import OpenAIChat

                made: Service = OpenAIChat(role, self._keys[where], timeout)
            elif role.service == "huggingface":
                from nbutils.services.huggingface import HuggingFaceChat

                made = HuggingFaceChat(role, self._keys[where], timeout)
            else:
                from nbutils.services.local import LocalChat

                made = LocalChat(role)
            self._services[same] = made
        return self._services[same]


def replay(data: Dataset) -> ReplayModel:
    """The recorded replies, whatever the profile, in a store that is never written to a file."""
    store = Store(":memory:")
    store.fill(recorded_calls(data))
    return ReplayModel(store)


def paid(run: RunFolder) -> pd.DataFrame:
    """What a run has asked and paid for so far, a row a role; recorded replies are free.

    Columns: replies kept, failed (calls whose last try failed), sent (requests, retries counted),
    tokens in and out, cost in the profile's currency.
    """
    with closing(Store(run.path(STORE))) as store:
        return _paid(store)


def _paid(store: Store) -> pd.DataFrame:
    return pd.DataFrame(store.roles(), columns=list(PAID)).set_index("role")

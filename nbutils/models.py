"""The models of a profile: replay of recorded replies, and the extractive answerer. Never guesses.

The extractive answerer is no language model: it draws one sentence of the source, so that the
series has an answerer that runs live on any machine.
"""

import random
import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import bm25s
import Stemmer

from nbutils.calls import RECORDED, UNRECORDED, Request, Store
from nbutils.profiles import Profile
from nbutils.prompts import Messages
from nbutils.records import Question

WEIGHTS = (0.5, 0.3, 0.2)  # chances of the best, second and third sentence


class ModelError(ValueError):
    """A model that is unknown or cannot do what was asked; the message names the remedy."""


class ChatModel(Protocol):
    """What judging needs of a model."""

    name: str

    def reply(self, data_id: str, prompt: str, messages: Messages) -> str:
        """The model's whole reply to the messages, which were rendered from the named prompt."""
        ...


class ReplayModel:
    """The recorded replies of one role, whichever it is."""

    name = RECORDED

    def __init__(self, store: Store, role: str) -> None:
        self._store = store
        self._role = role

    def reply(
        self, data_id: str, prompt: str = UNRECORDED, messages: Messages | None = None
    ) -> str:
        """The recorded reply; answers, whose prompts were not recorded, replay by data id alone.

        Raises ReplayMiss where no reply is recorded for that id, prompt and text.
        """
        return self._store.replay(Request(self.name, self._role, data_id, prompt, messages))


class ExtractiveAnswerer:
    """Answers with one sentence of the source, drawn from the three best by BM25."""

    def __init__(self) -> None:
        self._stemmer = Stemmer.Stemmer("english")

    def answer(self, question: Question) -> str:
        """A sentence of question.source, drawn with weights 0.5, 0.3, 0.2 by the question's number.

        Raises ModelError where the source has no sentence or the question's id no number.
        """
        number = re.fullmatch(r"\D*(\d+)", question.question_id)
        sentences = split_sentences(question.source)
        if number is None or not sentences:
            why = "the source has no sentence" if number else "the id has no number to draw by"
            remedy = "leave the question out" if number else "name it like q017"
            raise ModelError(f"question {question.question_id}: {why}; {remedy}")
        index = bm25s.BM25()
        index.index(self._tokens(sentences), show_progress=False)
        k = min(len(WEIGHTS), len(sentences))
        best, _ = index.retrieve(
            self._tokens([question.question]),
            k=k,
            show_progress=False,
            backend_selection="numpy",  # else ties would fall as the machine has JAX or not
        )
        drawn = random.Random(int(number[1])).choices(range(k), WEIGHTS[:k])[0]
        return sentences[best[0][drawn]]

    def _tokens(self, texts: list[str]) -> bm25s.tokenization.Tokenized:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)


def split_sentences(source: str) -> list[str]:
    """The sentences of a chunk of more than three words; heading and table lines are dropped.

    >>> split_sentences("## Boats\\n\\nOld Patience is a workboat. She leaks.\\n| a | table |")
    ['Old Patience is a workboat.']
    """
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("#", "|"))]
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(lines).strip())
    return [sentence for sentence in sentences if len(sentence.split()) > 3]


def answerers(profile: Profile, store: Store) -> dict[str, Callable[[Question], str]]:
    """For each answerer of the profile, the function from a question to that answerer's text.

    Raises ModelError where the profile names a model that cannot answer.
    """
    replay = ReplayModel(store, "answerer")
    known: dict[str, Callable[[str], Callable[[Question], str]]] = {
        "extractive": lambda name: ExtractiveAnswerer().answer,
        RECORDED: lambda name: partial(_replayed, replay, name),
    }
    for name, role in profile.answerers.items():
        if role.model not in known:
            where = f"profile {profile.name}: [answerers.{name}]: model '{role.model}'"
            raise ModelError(f"{where} cannot answer; choose one of {', '.join(known)}")
    return {name: known[role.model](name) for name, role in profile.answerers.items()}


def _replayed(replay: ReplayModel, answerer: str, question: Question) -> str:
    return replay.reply(f"{question.question_id}/{answerer}")

"""Answers to questions, by replay, by a live model or by copying. Never lends an answer to another.

The extractive answerer is no language model: it draws one sentence of the source, so that the
series has an answerer that runs live on any machine.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import bm25s
import Stemmer

from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.recorded import recorded_answer
from nbutils.models import ChatModel, ModelError, Models
from nbutils.profiles import Profile
from nbutils.prompts import ANSWER, render_answer
from nbutils.records import Answer, Question
from nbutils.roles import Role

WEIGHTS = (0.5, 0.3, 0.2)  # chances of the best, second and third sentence


@dataclass(frozen=True)
class Answered:
    """What the answerers made of the questions."""

    answers: list[Answer]  # by question, then in the answerers' order
    failed: dict[tuple[str, str], str]  # (question, answerer): why there is no answer


class Answerer(Protocol):
    """Whoever answers questions from their sources."""

    only_where_found: bool  # asked only where retrieval found the passage asked about

    def answer_all(self, questions: Sequence[Question]) -> list[str | Failure]:
        """One text a question, or why there is none."""
        ...


def answerers(profile: Profile, models: Models) -> dict[str, Answerer]:
    """The answerers of a profile, by their names."""
    found: dict[str, Answerer] = {}
    for name, role in profile.answerers.items():
        if role.service == "extractive":
            found[name] = ExtractiveAnswerer(role.only_where_found)
        else:
            found[name] = ChatAnswerer(name, role, models.chat(f"answerers.{name}", role))
    return found


def answer_questions(
    questions: Sequence[Question],
    answerers: Mapping[str, Answerer],
    errors: Mapping[tuple[str, str], str | None],
) -> Answered:
    """Every answerer's answer to every question that it is asked.

    `errors` are the planted errors of recorded contrast answers, by question and answerer.
    """
    found: dict[tuple[str, str], str | Failure] = {}
    for name, answerer in answerers.items():
        asked = [
            q
            for q in questions
            if not answerer.only_where_found or q.chunk_id in q.source_chunk_ids
        ]
        for question, text in zip(asked, answerer.answer_all(asked), strict=True):
            found[question.question_id, name] = text
    keys = [(q.question_id, n) for q in questions for n in answerers if (q.question_id, n) in found]
    answers, failed = [], {}
    for key in keys:
        text = found[key]
        if isinstance(text, Failure):
            failed[key] = text.why
        else:
            answers.append(Answer(*key, text, errors.get(key)))
    return Answered(answers, failed)


class ChatAnswerer:
    """A chat model as answerer."""

    def __init__(self, name: str, role: Role, model: ChatModel) -> None:
        self.only_where_found = role.only_where_found
        self._name, self._model, self._live = name, model, role.live

    def answer_all(self, questions: Sequence[Question]) -> list[str | Failure]:
        calls = [self._call(question) for question in questions]
        replies = self._model.ask(calls, f"answers of {self._name}", _says_something)
        return [_text(reply) for reply in replies]

    def _call(self, question: Question) -> Call:
        data_id = f"{question.question_id}/{self._name}"
        if not self._live:
            return recorded_answer(data_id, question)
        messages = render_answer(question.question, question.source)
        return Call("answerer", data_id, ANSWER.fingerprint, messages)


def _says_something(reply: Reply) -> bool:
    return bool(reply.text.strip())


def _text(reply: Reply | Failure) -> str | Failure:
    """The answer; a reply that says nothing is none."""
    if isinstance(reply, Failure):
        return reply
    empty = Failure(f"the reply is empty (finish reason {reply.finish_reason})")
    return reply.text.strip() or empty


class ExtractiveAnswerer:
    """Answers with one sentence of the source, drawn from the three best by BM25."""

    def __init__(self, only_where_found: bool = False) -> None:
        self.only_where_found = only_where_found
        self._stemmer = Stemmer.Stemmer("english")

    def answer_all(self, questions: Sequence[Question]) -> list[str | Failure]:
        found: list[str | Failure] = []
        for question in questions:
            try:
                found.append(self.answer(question))
            except ModelError as error:
                found.append(Failure(str(error)))
        return found

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

"""Judges that read nothing, which a student must beat. Never calls a model."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from nbutils.evaluation.agreement import Judge
from nbutils.records import Answer, Judgement, Label, Order, Pair, Question, Resolution

ALWAYS_FIRST = "always first"
LONGEST = "longest answer"
TRIGRAMS = "trigrams of the source"
IDENTITY = "answerer identity"
FLOORS = (ALWAYS_FIRST, LONGEST, TRIGRAMS, IDENTITY)
RIDGE = 0.1  # on the squared strengths: an answerer that always wins keeps a finite one


@dataclass(frozen=True)
class Strengths:
    """What a Bradley-Terry fit found: log-strength of each answerer, and what it used."""

    table: dict[str, float]  # strongest first; sums to about 0
    used: int  # pairs with a winner or a tie
    skipped: int  # pairs in conflict or unreadable


def always_first(pairs: list[Pair]) -> Judge:
    """Chooses the answer shown first, in both orders: every pair is a conflict."""
    sides: tuple[tuple[Order, Label], ...] = (("original", "a"), ("flipped", "b"))
    judgements = [
        Judgement(pair.pair_id, order, ALWAYS_FIRST, "none", "", verdict)
        for pair in pairs
        for order, verdict in sides
    ]
    found = {p.pair_id: Resolution(p.pair_id, ALWAYS_FIRST, "conflict") for p in pairs}
    return Judge(ALWAYS_FIRST, found, judgements)


def longest(pairs: list[Pair], answers: Iterable[Answer]) -> Judge:
    """Chooses the answer of more characters; equal lengths are a tie."""
    length = {(answer.question_id, answer.answerer): len(answer.text) for answer in answers}
    return _scored(LONGEST, pairs, lambda question_id, name: length[question_id, name])


def trigrams(pairs: list[Pair], questions: Iterable[Question], answers: Iterable[Answer]) -> Judge:
    """Chooses the answer with the larger share of word trigrams that stand in the source."""
    sources = {question.question_id: question.source for question in questions}
    share = {
        (answer.question_id, answer.answerer): trigram_share(
            answer.text, sources[answer.question_id]
        )
        for answer in answers
    }
    return _scored(TRIGRAMS, pairs, lambda question_id, name: share[question_id, name])


def trigram_share(answer: str, source: str) -> float:
    """Share of an answer's distinct word trigrams that stand in the source, 0 to 1.

    Words are runs of letters, digits and underscores in lower case, in answer and source alike:
    "3.6 km." -> 3, 6, km. An answer of fewer than three words has no trigram and gets 0.
    """
    ours, theirs = _word_trigrams(answer), _word_trigrams(source)
    return len(ours & theirs) / len(ours) if ours else 0.0


def identity(
    train_pairs: list[Pair], train_resolutions: Iterable[Resolution], pairs: list[Pair]
) -> Judge:
    """Chooses the answerer that won more on train: it knows what no judge is told.

    Raises ValueError on a pair of an answerer that train does not hold.
    """
    table = strengths(train_pairs, train_resolutions).table
    for pair in pairs:
        if unknown := {pair.answerer_a, pair.answerer_b} - table.keys():
            what = f"pair {pair.pair_id!r}: train has no answer of {sorted(unknown)}"
            raise ValueError(f"{what}; leave this floor out, or put the answerer into train")
    return _scored(IDENTITY, pairs, lambda question_id, name: table[name])


def strengths(pairs: list[Pair], resolutions: Iterable[Resolution]) -> Strengths:
    """Bradley-Terry: P(a wins) = 1 / (1 + exp(s_b - s_a)), fitted by penalised likelihood.

    A leaning counts as its winner, a tie as half a win for either, and a conflict or an unreadable
    pair is skipped and counted. Source: Bradley and Terry 1952, equation 2, on the log scale.
    """
    verdicts = {row.pair_id: row.verdict for row in resolutions}
    names = sorted({name for pair in pairs for name in (pair.answerer_a, pair.answerer_b)})
    won = {"a": 1.0, "tie": 0.5, "b": 0.0}
    used = [pair for pair in pairs if verdicts[pair.pair_id] in won]
    a = np.array([names.index(pair.answerer_a) for pair in used], dtype=int)
    b = np.array([names.index(pair.answerer_b) for pair in used], dtype=int)
    wins = np.array([won[verdicts[pair.pair_id]] for pair in used])

    def loss(s: np.ndarray) -> float:
        gap = s[a] - s[b]
        return float((np.logaddexp(0, gap) - wins * gap).sum() + RIDGE / 2 * s @ s)

    found = minimize(loss, np.zeros(len(names)), method="BFGS")
    ranked = sorted(zip(names, found.x.tolist(), strict=True), key=lambda item: -item[1])
    return Strengths(dict(ranked), len(used), len(pairs) - len(used))


def _word_trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def _scored(name: str, pairs: list[Pair], score: Callable[[str, str], float]) -> Judge:
    """A judge of scores by question and answerer; equal scores are a tie."""
    found = {}
    for pair in pairs:
        a, b = (score(pair.question_id, who) for who in (pair.answerer_a, pair.answerer_b))
        verdict: Label = "tie" if a == b else "a" if a > b else "b"
        found[pair.pair_id] = Resolution(pair.pair_id, name, verdict, margin=float(a - b))
    return Judge(name, found)

"""What a student learns from: a teacher's judgements as targets, and the loss. Never fits a thing.

The loss of a pair is alpha * CE(resolved verdict) + (1 - alpha) * KL(soft target || student); a
conflict has no verdict and trains by its KL alone. Two recorded grades of one question add, with a
smaller weight, a term for their order.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from nbutils.records import Answer, Grade, Pair, Probabilities, Question, Resolution
from nbutils.scoring.backbone import Group
from nbutils.scoring.student import Settings, davidson

LABELS = ("a", "b", "tie")
FEWEST = 20  # decided train pairs; fewer say more about chance than about the teacher
GRADE_GAP = 0.1  # two grades closer than this have no order


class TooFewError(ValueError):
    """Judgements from which nothing can be learnt; the message counts them and says what to do."""


@dataclass(frozen=True)
class Target:
    """What the teacher made of one pair; `first` and `second` are places in the group."""

    pair_id: str
    first: int
    second: int
    verdict: int | None  # place in LABELS; None: the orders conflict
    target: Probabilities


@dataclass(frozen=True)
class Example:
    """One question with all its answers, its judged pairs and its grades."""

    question_id: str
    section: str
    group: Group
    pairs: tuple[Target, ...]
    grades: tuple[float | None, ...]  # one an answer, None where it has none

    def order(self) -> list[tuple[int, int]]:
        """Places (better, worse) of any two answers whose grades lie GRADE_GAP apart."""
        known = [(place, grade) for place, grade in enumerate(self.grades) if grade is not None]
        found = []
        for (i, one), (j, other) in combinations(known, 2):
            if abs(one - other) >= GRADE_GAP:
                found.append((i, j) if one > other else (j, i))
        return found


@dataclass(frozen=True)
class Loss:
    """The terms of the loss, summed over the pairs of one question."""

    ce: Tensor
    kl: Tensor
    grades: Tensor
    total: Tensor


def check_decided(resolutions: Sequence[Resolution], labels: str) -> str:
    """Says how many train pairs are decided. Raises TooFewError below FEWEST.

    `labels` says whose word it is, as in people.training_labels: the remedy goes by it.
    """
    kinds: Counter[str] = Counter(row.verdict for row in resolutions)
    decided = sum(kinds[label] for label in LABELS)
    others = f"{kinds['conflict']} conflicts, {kinds['unreadable']} unreadable"
    said = f"{decided} of {len(resolutions)} train pairs are decided ({others})"
    if decided < FEWEST:
        remedy = "take a teacher that decides more of them, or judge more pairs"
        if labels != "teacher":
            remedy = "label more train pairs in notebook 04, or set labels to 'teacher'"
        raise TooFewError(f"{said}, and a student needs {FEWEST}: {remedy}")
    return said


def examples(
    questions: Iterable[Question],
    answers: Iterable[Answer],
    pairs: Iterable[Pair],
    resolutions: Iterable[Resolution],
    grades: Iterable[Grade] = (),
) -> list[Example]:
    """One example a question that has a readable pair; unreadable pairs train nothing."""
    resolved = {row.pair_id: row for row in resolutions}
    texts: dict[str, dict[str, str]] = {}
    for answer in answers:
        texts.setdefault(answer.question_id, {})[answer.answerer] = answer.text
    scores = {(grade.question_id, grade.answerer): grade.score for grade in grades}
    judged: dict[str, list[Pair]] = {}
    for pair in pairs:
        if resolved[pair.pair_id].target is not None:
            judged.setdefault(pair.question_id, []).append(pair)
    return [
        _example(question, texts[question.question_id], own, resolved, scores)
        for question in questions
        if (own := judged.get(question.question_id))
    ]


def _example(
    question: Question,
    texts: Mapping[str, str],
    pairs: Sequence[Pair],
    resolved: Mapping[str, Resolution],
    scores: Mapping[tuple[str, str], float | None],
) -> Example:
    place = {answerer: number for number, answerer in enumerate(texts)}
    targets = []
    for pair in pairs:
        row = resolved[pair.pair_id]
        assert row.target is not None  # examples() keeps the readable ones
        told = LABELS.index(row.verdict) if row.verdict in LABELS else None
        ends = place[pair.answerer_a], place[pair.answerer_b]
        targets.append(Target(pair.pair_id, *ends, told, row.target))
    return Example(
        question.question_id,
        question.section,
        Group(question.question, question.source, tuple(texts.values())),
        tuple(targets),
        tuple(scores.get((question.question_id, answerer)) for answerer in texts),
    )


def folds(rows: Sequence[Example] | Sequence[Question], count: int, seed: int) -> list[int]:
    """The fold of each row: whole sections, shuffled by the seed, dealt out in turn.

    Raises ValueError where there are fewer sections than folds.
    """
    sections = sorted({row.section for row in rows})
    if len(sections) < count:
        raise ValueError(f"{len(sections)} sections do not make {count} folds; set folds lower")
    random.Random(seed).shuffle(sections)
    fold = {section: number % count for number, section in enumerate(sections)}
    return [fold[row.section] for row in rows]


def pair_loss(scores: Tensor, row: Example, tie: Tensor, settings: Settings) -> Loss:
    """The loss of one question from the (K,) raw scores of its answers."""
    first = [pair.first for pair in row.pairs]
    second = [pair.second for pair in row.pairs]
    logged = functional.log_softmax(davidson(scores[first], scores[second], tie), -1)
    target = torch.tensor([pair.target for pair in row.pairs], dtype=scores.dtype)
    kl = functional.kl_div(logged, target, reduction="sum")
    told = [(n, pair.verdict) for n, pair in enumerate(row.pairs) if pair.verdict is not None]
    ce = -sum((logged[n, v] for n, v in told), scores.new_zeros(()))
    ordered = row.order()
    margins = scores[[i for i, _ in ordered]] - scores[[j for _, j in ordered]]
    grades = functional.softplus(-margins).sum()
    alpha, weight = settings.alpha, settings.grade_weight
    return Loss(ce, kl, grades, alpha * ce + (1 - alpha) * kl + weight * grades)

"""Frozen features of answers, with what the teacher said of them, as arrays. Never fits a thing."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nbutils.grading.graded import GradingError, Key
from nbutils.records import Answer, Grade, Pair, Question, Resolution
from nbutils.scoring.backbone import Group
from nbutils.scoring.kept import text_key
from nbutils.scoring.student import Student
from nbutils.scoring.targets import LABELS


@dataclass(frozen=True)
class Frozen:
    """The answers to some questions, N of them: n readable grades and m readable pairs."""

    keys: tuple[Key, ...]  # N
    questions: tuple[Question, ...]  # those that have an answer here
    features: np.ndarray  # (N, d)
    asked: np.ndarray  # (N,) place of the answer's question
    graded: np.ndarray  # (n,) places of the answers that have a readable grade
    scores: np.ndarray  # (n,) their grades, 0 to 1
    ends: np.ndarray  # (m, 2) places of a pair's answers, a and b
    verdicts: np.ndarray  # (m,) place in targets.LABELS; -1: the orders conflict
    targets: np.ndarray  # (m, 3) the teacher's probabilities of a, b and tie

    @property
    def graded_question(self) -> np.ndarray:
        """(n,) place of the question of each grade."""
        return np.asarray(self.asked[self.graded])

    @property
    def pair_question(self) -> np.ndarray:
        """(m,) place of the question of each pair."""
        return np.asarray(self.asked[self.ends[:, 0]])


def read_answers(
    student: Student,
    questions: Iterable[Question],
    answers: Iterable[Answer],
    members: Mapping[str, int] | None = None,
) -> tuple[dict[Key, Tensor], dict[Key, float]]:
    """The frozen features of each answer, (d,), and the student's calibrated score: one pass.

    `members` names the one member of the committee that scores a question, by question id: the
    member that was trained without it. None: all do, as in Student.scores.
    """
    texts: dict[str, dict[str, str]] = {}
    for answer in answers:
        texts.setdefault(answer.question_id, {})[answer.answerer] = answer.text
    features: dict[Key, Tensor] = {}
    scores: dict[Key, float] = {}
    for question in tqdm(list(questions), "reading", file=sys.stdout, mininterval=2):
        own = texts.get(question.question_id, {})
        unique = tuple(sorted(set(own.values())))
        if not unique:
            continue
        reading = student.read(Group(question.question, question.source, unique))
        who = range(len(student.heads)) if members is None else [members[question.question_id]]
        found = student.score_reading(reading, who)
        for answerer, text in own.items():
            place = unique.index(text)
            features[question.question_id, answerer] = reading.features[place]
            scores[question.question_id, answerer] = found[place]
    return features, scores


def frozen_features(
    student: Student,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    kept: Mapping[str, Tensor],
) -> dict[Key, Tensor]:
    """The frozen features of each answer to these questions, (d,), without a score.

    `kept` are those of scoring/kept.py; a question with an answer that is not there is read.
    """
    here = {row.question_id for row in questions}
    keys = {
        (row.question_id, row.answerer): text_key(row.question_id, row.text)
        for row in answers
        if row.question_id in here
    }
    lacking = {question_id for (question_id, _), key in keys.items() if key not in kept}
    found = {name: kept[key] for name, key in keys.items() if name[0] not in lacking}
    rest = [row for row in questions if row.question_id in lacking]
    return found | (read_answers(student, rest, answers)[0] if rest else {})


def frozen(
    questions: Sequence[Question],
    features: Mapping[Key, Tensor],
    grades: Iterable[Grade],
    pairs: Iterable[Pair],
    resolutions: Iterable[Resolution],
) -> Frozen:
    """All answers to these questions that have features; unreadable grades and pairs stay out.

    Raises GradingError where no answer of theirs has features, or one that is graded or compared
    has none.
    """
    order = {question.question_id: place for place, question in enumerate(questions)}
    keys = sorted((key for key in features if key[0] in order), key=lambda key: order[key[0]])
    if not keys:
        what = f"none of {len(questions)} questions has an answer with features"
        raise GradingError(f"{what}; read their answers first")
    kept = [row for row in questions if row.question_id in {key[0] for key in keys}]
    number = {row.question_id: place for place, row in enumerate(kept)}
    place = {key: n for n, key in enumerate(keys)}
    read = [row for row in grades if row.question_id in order and row.score is not None]
    told = {row.pair_id: row for row in resolutions}
    judged = [row for row in pairs if row.question_id in order and told[row.pair_id].target]
    try:
        graded = [place[row.question_id, row.answerer] for row in read]
        ends = [[place[p.question_id, w] for w in (p.answerer_a, p.answerer_b)] for p in judged]
    except KeyError as missing:
        raise GradingError(f"{missing.args[0]} has no features; read that answer too") from None
    said = [told[pair.pair_id] for pair in judged]
    verdicts = [LABELS.index(row.verdict) if row.verdict in LABELS else -1 for row in said]
    return Frozen(
        keys=tuple(keys),
        questions=tuple(kept),
        features=torch.stack([features[key] for key in keys]).double().numpy(),
        asked=np.array([number[question_id] for question_id, _ in keys]),
        graded=np.array(graded, dtype=int),
        scores=np.array([row.score for row in read], dtype=float),
        ends=np.array(ends, dtype=int).reshape(-1, 2),
        verdicts=np.array(verdicts, dtype=int),
        targets=np.array([row.target for row in said], dtype=float).reshape(-1, 3),
    )


def project(train: Frozen, *others: Frozen) -> list[Frozen]:
    """All of them with features as a head of train sees them, in few dimensions: train first.

    Each feature is centred and scaled by its mean and deviation over the answers of train (the
    texts alone, no label). Then the rows are turned into an orthonormal basis of the space that
    train's rows span, at most as many dimensions as train has answers. A head with a penalty on its
    squared norm has no part outside that space, so no score changes, and a fit takes milliseconds.
    """
    mean, scale = train.features.mean(0), train.features.std(0, ddof=1) + 1e-3
    basis, _ = np.linalg.qr(((train.features - mean) / scale).T)
    return [
        replace(rows, features=(rows.features - mean) / scale @ basis) for rows in (train, *others)
    ]

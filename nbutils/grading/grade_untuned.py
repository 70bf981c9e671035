"""The student's base as a grader before any training, prompted like the teacher. Never trained.

Its score is read from the probabilities of the numbers right after a score's opening brackets,
which it always gives; what it would have written by itself is generated for a sample.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from nbutils.evaluation.untuned import JUDGE, OPENING, choice, generate, read_prompts
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.graded import Key
from nbutils.prompts import GRADE, render_grade
from nbutils.records import Answer, Grade, Question
from nbutils.scoring.backbone import BackboneError, Base
from nbutils.verdicts import read_score

SCORES = tuple(tenth / 10 for tenth in range(11))  # 0.0, 0.1, ... 1.0
DIGITS = tuple(str(digit) for digit in range(10))
POINT = OPENING + "0."


def grade_untuned(
    base: Base, questions: Iterable[Question], answers: Iterable[Answer]
) -> dict[Key, np.ndarray]:
    """(11,) probabilities of SCORES for each answer, by question id and answerer.

    All prompts of one question are branches of one tree pass, each with the brackets and "0." at
    its end. There the base chooses first between 0 and 1, then after "0" between the point and the
    closing brackets (which make 0), then a digit: only these tokens share each choice. So 0.7
    stands for 0.70 to 0.79. Raises BackboneError where the base's tokens are others.
    """
    asked = {row.question_id: row for row in questions}
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.question_id in asked:
            groups.setdefault(answer.question_id, []).append(answer)
    found = {}
    for question_id, own in tqdm(groups.items(), "untuned base", file=sys.stdout, mininterval=2):
        prompts = [base.chat(_messages(asked[question_id], answer)) for answer in own]
        for answer, shares in zip(own, _shares(base, prompts), strict=True):
            found[question_id, answer.answerer] = shares
    return found


def untuned_judge(shares: Mapping[Key, np.ndarray], threshold: float) -> GradeJudge:
    """Marks of those probabilities: the score to be expected, and the chance of one above.

    Acceptable where that chance is above 1/2.
    """
    above = np.array(SCORES) > threshold
    marks = {}
    for key, row in shares.items():
        expected, chance = float(row @ np.array(SCORES)), float(row[above].sum())
        marks[key] = Mark(chance > 0.5, expected, min(expected, 1.0), min(chance, 1.0))
    return GradeJudge(JUDGE, marks)


def grade_generated(
    base: Base, questions: Iterable[Question], answers: Sequence[Answer], batch: int = 8
) -> list[Grade]:
    """Grades read from generated replies, as the teacher's are; many are unreadable."""
    asked = {row.question_id: row for row in questions}
    found = []
    for start in tqdm(range(0, len(answers), batch), "generated grades", file=sys.stdout):
        part = answers[start : start + batch]
        prompts = [_messages(asked[answer.question_id], answer) for answer in part]
        for answer, (reply, finish) in zip(part, generate(base, prompts), strict=True):
            read = read_score(reply, finish)
            row = (answer.question_id, answer.answerer, JUDGE, GRADE.fingerprint)
            found.append(Grade(*row, reply, read.value, read.reason))
    return found


def _messages(question: Question, answer: Answer) -> list[dict[str, str]]:
    return render_grade(question.question, question.source, answer.text)


@dataclass(frozen=True)
class _Tokens:
    """The last tokens of each choice."""

    whole: list[int]  # 0 and 1
    after: list[int]  # the point, the closing brackets
    digits: list[int]


def _tokens(base: Base) -> _Tokens:
    return _Tokens(
        [_last(base, OPENING, text) for text in ("0", "1")],
        [_last(base, OPENING + "0", text) for text in (".", "]]")],
        [_last(base, POINT, text) for text in DIGITS],
    )


def _last(base: Base, before: str, text: str) -> int:
    """The one token that the text adds. Raises BackboneError where it adds another number."""
    ids = base.text(before + text)
    if ids[:-1] != base.text(before):
        what = f"{base.name} does not write {before + text!r} as {before!r} and one token more"
        raise BackboneError(f"{what}; leave the untuned grader out")
    return ids[-1]


def _shares(base: Base, prompts: list[list[int]]) -> list[np.ndarray]:
    """(11,) probabilities of SCORES after each prompt."""
    tokens = _tokens(base)
    states, ends = read_prompts(base, prompts, POINT)
    choices = [
        choice(base, states[ends - back], chosen).numpy()
        for back, chosen in ((2, tokens.whole), (1, tokens.after), (0, tokens.digits))
    ]
    whole, after, digits = choices
    found = np.zeros((len(prompts), len(SCORES)))
    found[:, :10] = whole[:, :1] * after[:, :1] * digits
    found[:, 0] += whole[:, 0] * after[:, 1]
    found[:, 10] = whole[:, 1]
    return list(found)

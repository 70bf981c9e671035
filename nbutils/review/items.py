"""All that there is to see of a pair or an answer under review. Never looks at a label file."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from nbutils.records import Answer, Grade, Judgement, Pair, Question, Resolution
from nbutils.review.labels import HumanGrade, HumanLabel, answer_fingerprint, pair_fingerprint

DISAGREE = "teacher and student disagree"
LEAST_SURE = "student least sure"
APART = 0.25  # two scores of one answer that differ by this or more disagree


class ReviewError(ValueError):
    """A review that cannot go on as asked; the message names what, where and the remedy."""


@dataclass(frozen=True)
class PairItem:
    """A pair with its texts and what the judges said of it."""

    pair: Pair
    question: Question
    answer_a: Answer
    answer_b: Answer
    judgements: tuple[Judgement, ...]  # the teacher's, original first; () where there are none
    teacher: Resolution | None
    student: Resolution | None
    decisions: ClassVar = ("a", "b", "tie", "can't tell")
    kinds: ClassVar = ("a", "b", "tie", "conflict", "leaning", "unreadable", DISAGREE, LEAST_SURE)

    @property
    def item_id(self) -> str:
        """The pair's id."""
        return self.pair.pair_id

    @cached_property
    def fingerprint(self) -> str:
        """Of the pair as it reads now."""
        return pair_fingerprint(self.question, self.answer_a, self.answer_b)

    @property
    def split(self) -> str:
        """That of the pair."""
        return self.pair.split

    @property
    def answerers(self) -> str:
        """Such as gemma-3-270m vs smollm2-135m-instruct, whichever comes first in the pair."""
        return " vs ".join(sorted((self.pair.answerer_a, self.pair.answerer_b)))

    @property
    def traits(self) -> set[str]:
        """Which of `kinds` it is by itself; who is least sure takes all items to say."""
        found = set()
        if self.teacher:
            found |= {self.teacher.verdict} | ({"leaning"} if self.teacher.leaning else set())
            if self.student and _differ(self.teacher.verdict, self.student.verdict):
                found.add(DISAGREE)
        return found

    @property
    def sureness(self) -> float | None:
        """The student's largest probability; None where it gives none."""
        return max(self.student.target) if self.student and self.student.target else None

    @property
    def distance(self) -> tuple[int, float]:
        """How far teacher and student are apart, as a key to sort by: larger is further.

        (1, 1 - P_student(teacher's verdict)); a student without probabilities gives its verdict 1;
        a conflict or an unreadable reply is no verdict of the student's: 1. Without a student
        (0, rank): conflict, unreadable, leaning, the rest.
        """
        verdict = self.teacher.verdict if self.teacher else ""
        if self.student is None:
            leaning = self.teacher is not None and self.teacher.leaning
            return 0, {"conflict": 3.0, "unreadable": 2.0}.get(verdict, float(leaning))
        if self.student.target is None:
            return 1, float(self.student.verdict != verdict)
        return 1, 1 - dict(zip(("a", "b", "tie"), self.student.target, strict=True)).get(verdict, 0)

    def overruled_by(self, row: HumanLabel | HumanGrade) -> bool:
        """Whether person and teacher both decided, and differ."""
        return self.teacher is not None and _differ(self.teacher.verdict, row.act)


@dataclass(frozen=True)
class AnswerItem:
    """An answer with its question and the scores it was given."""

    question: Question
    answer: Answer
    teacher: Grade | None
    student: float | None  # 0 to 1
    decisions: ClassVar = ("grade", "can't tell")
    kinds: ClassVar = ("unreadable", DISAGREE, LEAST_SURE)

    @property
    def item_id(self) -> str:
        """Question and answerer."""
        return f"{self.answer.question_id}/{self.answer.answerer}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the answer as it reads now."""
        return answer_fingerprint(self.question, self.answer)

    @property
    def split(self) -> str:
        """That of the question."""
        return self.question.split

    @property
    def answerers(self) -> str:
        """Who wrote it."""
        return self.answer.answerer

    @property
    def traits(self) -> set[str]:
        """Which of `kinds` it is by itself; who is least sure takes all items to say."""
        if self.teacher is None:
            return set()
        if self.teacher.score is None:
            return {"unreadable"}
        return {DISAGREE} if _apart(self.teacher.score, self.student) else set()

    @property
    def sureness(self) -> float | None:
        """How far the student's score is from 0.5; None where it gives none."""
        return None if self.student is None else abs(self.student - 0.5)

    @property
    def distance(self) -> tuple[int, float]:
        """How far teacher and student are apart, as a key to sort by: larger is further.

        (1, difference of the scores; 1 where the teacher has none). Without a student (0, rank):
        unreadable, the rest.
        """
        score = self.teacher.score if self.teacher else None
        if self.student is None:
            return 0, float(self.teacher is not None and score is None)
        return 1, 1.0 if score is None else abs(score - self.student)

    def overruled_by(self, row: HumanLabel | HumanGrade) -> bool:
        """Whether person and teacher both gave a score, and differ by APART or more."""
        score = row.score if isinstance(row, HumanGrade) else None
        return self.teacher is not None and _apart(self.teacher.score, score)


Item = PairItem | AnswerItem


def _differ(first: str, second: str) -> bool:
    """Whether both decided (a conflict, an unreadable reply and can't tell do not), and apart."""
    return first != second and {first, second} <= {"a", "b", "tie"}


def _apart(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and abs(first - second) >= APART

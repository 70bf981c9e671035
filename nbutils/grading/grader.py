"""Two students that grade: one by its scores' curve, one taught to grade. Never reads a test row.

The first is the student of 05 as it is: its score goes through the curve fitted on train. The
second is a head on frozen features (heads.py) that was taught the teacher's grades, as a committee:
each member is fitted without one fold of sections.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from nbutils.grading.choosing import ALPHA, cross_fit, held_out_logits
from nbutils.grading.frozen import Frozen
from nbutils.grading.grade_measures import GradeJudge, Mark
from nbutils.grading.graded import Key
from nbutils.grading.heads import Head, targets
from nbutils.grading.loss import teacher_scores
from nbutils.scoring.student import Student

CALIBRATED, GRADED = "student, calibrated", "student, taught to grade"


def calibrated(student: Student, scores: Mapping[Key, float], threshold: float) -> GradeJudge:
    """The student's scores as grades, by the curve that 05 fitted on train; no P(acceptable).

    The curve gives the grade to be expected. That lies above the threshold far more rarely than the
    teacher's own grades do: an answer that is as likely to get 1.0 as 0.5 is expected to get 0.75.
    """
    grades = {key: student.grade(score) for key, score in scores.items()}
    marks = {key: Mark(grades[key] > threshold, scores[key], grades[key]) for key in scores}
    return GradeJudge(CALIBRATED, marks)


@dataclass(frozen=True)
class Grader:
    """A committee of heads that were taught to grade."""

    heads: tuple[Head, ...]
    threshold: float
    tau: float

    def logits(self, rows: Frozen) -> np.ndarray:
        """(N,) log-odds of being acceptable, of all answers: the members' mean."""
        return np.mean([head.scores(rows) + head.intercept for head in self.heads], axis=0)

    def judge(self, rows: Frozen) -> GradeJudge:
        """Its marks: acceptable above 1/2, and the score to which the teacher gives that chance."""
        logits = self.logits(rows)
        chances = expit(logits)
        grades = teacher_scores(chances, self.threshold, self.tau)
        table = zip(rows.keys, logits.tolist(), grades.tolist(), chances.tolist(), strict=True)
        return GradeJudge(GRADED, {key: Mark(p > 0.5, z, g, p) for key, z, g, p in table})


def fit_grader(
    train: Frozen, threshold: float, tau: float, decay: float, seed: int
) -> tuple[Grader, np.ndarray]:
    """A grader of train, and the (n,) log-odds of train's graded answers, held out.

    Each of those is by the member that was fitted without the answer's section. The seed deals the
    sections; nothing else is left to chance. Raises GradingError on fewer sections than folds.
    """
    taught = targets(train, 1.0, threshold, ALPHA, tau)
    heads, fold = cross_fit(train, taught, decay, seed)
    logits, _ = held_out_logits(train, heads, fold)
    return Grader(tuple(heads), threshold, tau), logits

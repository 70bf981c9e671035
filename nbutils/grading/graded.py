"""Answers with the teacher's grades as a table of two classes. Never calls an unread grade bad."""

from collections.abc import Iterable, Sequence

import pandas as pd

from nbutils.records import Answer, Grade, Question

Key = tuple[str, str]  # question id and answerer

THRESHOLD = 0.8  # an answer is acceptable whose score lies strictly above
FEWEST = 20  # readable grades to learn from; fewer say more about chance than about the teacher
OUTCOMES = ("acceptable", "not acceptable", "unreadable")


class GradingError(ValueError):
    """Grades from which nothing can be told or learnt; the message says what is missing."""


def table(
    questions: Iterable[Question],
    answers: Iterable[Answer],
    grades: Sequence[Grade],
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """One row a grade, in the order of the grades.

    Columns: question_id, split, section, question, answerer, answer, score (the teacher's, 0 to 1;
    NaN where it is unreadable), acceptable (score > threshold; <NA> where it is unreadable), reason
    (why it is unreadable, else None).
    Raises GradingError where there is no grade, an answer is graded twice, or a grade's question or
    answer is not given; ValueError unless 0 <= threshold < 1.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold {threshold} is not from 0 to below 1; a score has to pass it")
    if not grades:
        what = "no grade is given: the profile says grades = false, or its teacher graded nothing"
        remedy = "set grades = true in the profile's [student], or end the series with --to 06"
        raise GradingError(f"{what}; {remedy}")
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row.text for row in answers}
    rows = []
    for grade in grades:
        key = (grade.question_id, grade.answerer)
        if key not in texts or grade.question_id not in asked:
            what = f"grade of {grade.answerer} on {grade.question_id}: no such question and answer"
            raise GradingError(f"{what}; pass the rows that were graded")
        question = asked[grade.question_id]
        told = None if grade.score is None else grade.score > threshold
        where = (grade.question_id, question.split, question.section, question.question)
        rows.append((*where, grade.answerer, texts[key], grade.score, told, grade.reason))
    columns = ["question_id", "split", "section", "question", "answerer", "answer", "score"]
    frame = pd.DataFrame(rows, columns=[*columns, "acceptable", "reason"])
    if (twice := frame.duplicated(["question_id", "answerer"])).any():
        first = frame.loc[twice.idxmax(), ["question_id", "answerer"]].tolist()
        raise GradingError(f"{first} is graded twice; pass the grades of one judge")
    return frame.astype({"score": float, "acceptable": "boolean"})


def outcomes(frame: pd.DataFrame) -> pd.Series:
    """Each row's outcome, one of OUTCOMES."""
    names = frame["acceptable"].map({True: OUTCOMES[0], False: OUTCOMES[1]}, na_action="ignore")
    return names.astype(object).where(frame["acceptable"].notna(), OUTCOMES[2])


def balance(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """How many answers have each outcome, by "split" or "answerer".

    Columns: answers, the OUTCOMES, share acceptable (of the readable ones; NaN where there is
    none).
    """
    counts = pd.crosstab(frame[by], outcomes(frame)).rename_axis(columns=None)
    counts = counts.reindex(columns=list(OUTCOMES), fill_value=0)
    readable = counts["acceptable"] + counts["not acceptable"]
    counts.insert(0, "answers", counts.sum(axis=1))
    return counts.assign(
        **{"share acceptable": counts["acceptable"] / readable.where(readable > 0)}
    )


def check_classes(frame: pd.DataFrame) -> str:
    """Says what there is to learn from in rows of train.

    Raises GradingError below FEWEST readable grades, or where one class is all there is.
    """
    counts = outcomes(frame).value_counts().reindex(OUTCOMES, fill_value=0)
    good, bad, unreadable = counts.tolist()
    said = f"{good + bad} of {len(frame)} train grades are readable ({unreadable} unreadable): "
    said += f"{good} acceptable, {bad} not acceptable"
    if good + bad < FEWEST:
        remedy = "grade more answers, or take a grader whose replies can be read"
        raise GradingError(f"{said}; a grader needs {FEWEST}: {remedy}")
    if not good or not bad:
        remedy = "set the threshold between the scores, or grade answers that differ more"
        raise GradingError(f"{said}; a grader needs both classes: {remedy}")
    return said

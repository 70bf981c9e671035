"""Items for review out of the files of a run. Never makes an item of half of its parts."""

from collections.abc import Iterable, Mapping

from nbutils.records import Answer, Grade, Judgement, Pair, Question, Resolution
from nbutils.review.items import AnswerItem, PairItem, ReviewError


def pair_items(
    pairs: Iterable[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    judgements: Iterable[Judgement],
    resolutions: Iterable[Resolution],
    student: Mapping[str, Resolution] = {},
) -> list[PairItem]:
    """One item a pair, in the pairs' order; `student` has the student's resolutions by pair id.

    Judgements and resolutions are the teacher's; a pair may have none. Raises ReviewError where a
    question or an answer is missing, and where two judges resolve one pair.
    """
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row for row in answers}
    said: dict[str, list[Judgement]] = {}
    for row in sorted(judgements, key=lambda row: row.order != "original"):
        said.setdefault(row.pair_id, []).append(row)
    rows = list(resolutions)
    resolved = {row.pair_id: row for row in rows}
    _one_judge(len(rows) - len(resolved), {row.judge for row in rows})
    try:
        return [
            PairItem(
                pair,
                asked[pair.question_id],
                texts[pair.question_id, pair.answerer_a],
                texts[pair.question_id, pair.answerer_b],
                tuple(said.get(pair.pair_id, ())),
                resolved.get(pair.pair_id),
                student.get(pair.pair_id),
            )
            for pair in pairs
        ]
    except KeyError as error:
        raise _missing(error) from None


def answer_items(
    answers: Iterable[Answer],
    questions: Iterable[Question],
    grades: Iterable[Grade],
    student: Mapping[tuple[str, str], float] = {},
) -> list[AnswerItem]:
    """One item an answer, in their order; `student` has scores by question id and answerer.

    Grades are the teacher's; an answer may have none. Raises ReviewError where a question is
    missing, and where two judges grade one answer.
    """
    asked = {row.question_id: row for row in questions}
    rows = list(grades)
    graded = {(row.question_id, row.answerer): row for row in rows}
    _one_judge(len(rows) - len(graded), {row.judge for row in rows})
    keys = ((row, (row.question_id, row.answerer)) for row in answers)
    try:
        return [
            AnswerItem(asked[row.question_id], row, graded.get(key), student.get(key))
            for row, key in keys
        ]
    except KeyError as error:
        raise _missing(error) from None


def _one_judge(doubles: int, judges: set[str]) -> None:
    if doubles:
        names = ", ".join(sorted(judges))
        what = f"{doubles} items were judged twice; the judges are {names}"
        raise ReviewError(f"{what}: pass the rows of the teacher alone, each once")


def _missing(error: KeyError) -> ReviewError:
    what = f"{error.args[0]!r} is named, but is not among the questions and answers"
    return ReviewError(f"{what}: pass the files of one run")

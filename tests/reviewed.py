"""Small items to review, and a clock that a test turns."""

from datetime import UTC, datetime

from nbutils.records import Answer, Grade, Pair, Question, Resolution
from nbutils.review.session import AnswerItem, PairItem

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


def question(number: int = 0, split: str = "test") -> Question:
    chunk = f"c{number:02}"
    text = (f"Q{number}?", None, chunk, chunk, f"Source {number}.")
    return Question(f"q{number}", split, "section", None, *text)


def pair_item(
    number: int = 0,
    teacher: Resolution | str | None = "a",
    student: Resolution | str | None = None,
    split: str = "test",
    answerers: tuple[str, str] = ("small", "large"),
    text: str = "one",
) -> PairItem:
    """Pair p<number> on question q<number>; a judge given as text has that verdict."""
    asked = question(number, split)
    pair = Pair(f"p{number}", split, asked.question_id, *answerers)
    a = Answer(asked.question_id, answerers[0], text)
    b = Answer(asked.question_id, answerers[1], "two")
    judges = [
        Resolution(pair.pair_id, name, said) if isinstance(said, str) else said
        for name, said in (("teacher", teacher), ("student", student))
    ]
    return PairItem(pair, asked, a, b, (), *judges)


def answer_item(
    number: int = 0, teacher: float | None = 0.5, student: float | None = None, by: str = "small"
) -> AnswerItem:
    """The answer q<number>/<by>; a teacher's None is a reply that could not be read."""
    answer = Answer(f"q{number}", by, "one")
    why = "no score" if teacher is None else None
    grade = Grade(f"q{number}", by, "teacher", "grade-v1:0", "reply", teacher, why)
    return AnswerItem(question(number), answer, grade, student)


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

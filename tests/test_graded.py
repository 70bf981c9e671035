import pandas as pd
import pytest

from nbutils.grading import graded
from nbutils.grading.graded import GradingError
from nbutils.records import Answer
from tests.rows import grade, question, table


def test_one_row_a_grade_and_strictly_above_is_acceptable() -> None:
    frame = table({("q1", "x"): 0.81, ("q1", "y"): 0.8, ("q2", "x"): None})
    assert frame["acceptable"].tolist()[:2] == [True, False]  # 0.8 is not above 0.8
    assert frame["acceptable"].isna().tolist() == [False, False, True]
    assert frame["score"].isna().tolist() == [False, False, True]
    assert frame["reason"].tolist() == [None, None, "no marker on the last line"]
    assert graded.outcomes(frame).tolist() == ["acceptable", "not acceptable", "unreadable"]
    row = frame.iloc[1]
    assert row[["question_id", "split", "question", "answerer", "answer"]].tolist() == [
        "q1", "test", "q1?", "y", "y",
    ]  # fmt: skip


def test_the_threshold_is_a_parameter() -> None:
    scores = {("q", "x"): 0.5, ("q", "y"): 0.3}
    assert table(scores, threshold=0.4)["acceptable"].tolist() == [True, False]
    assert table(scores, threshold=0)["acceptable"].tolist() == [True, True]


def test_grades_of_two_splits_keep_theirs() -> None:
    questions = [question("q1", "train"), question("q2", "test")]
    answers = [Answer("q1", "x", "a"), Answer("q2", "x", "b")]
    frame = graded.table(questions, answers, [grade("q2", "x", 1.0), grade("q1", "x", 0.0)])
    assert frame["split"].tolist() == ["test", "train"]  # in the order of the grades
    assert frame["answer"].tolist() == ["b", "a"]


def test_balance_counts_unreadable_apart() -> None:
    frame = table({("q1", "x"): 1.0, ("q2", "x"): 0.2, ("q3", "x"): None, ("q1", "y"): None})
    found = graded.balance(frame, "answerer")
    assert found.loc["x"].tolist() == [3, 1, 1, 1, 0.5]  # 1 of the 2 readable
    assert found.loc["y"].tolist()[:4] == [1, 0, 0, 1]
    assert pd.isna(found.loc["y", "share acceptable"])
    assert graded.balance(frame, "split").loc["test", "answers"] == 4


def test_no_grades_name_the_setting() -> None:
    with pytest.raises(GradingError, match="set grades = true .* end the series with --to 06"):
        graded.table([question("q")], [Answer("q", "x", "")], [])


def test_a_grade_of_an_unknown_answer_is_named() -> None:
    with pytest.raises(GradingError, match="grade of y on q: no such question and answer"):
        graded.table([question("q")], [Answer("q", "x", "")], [grade("q", "y", 1.0)])
    with pytest.raises(GradingError, match="grade of x on other"):
        graded.table([question("q")], [Answer("other", "x", "")], [grade("other", "x", 1.0)])


def test_an_answer_graded_twice_is_named() -> None:
    twice = [grade("q", "x", 1.0), grade("q", "x", 0.0)]
    with pytest.raises(GradingError, match=r"\['q', 'x'\] is graded twice"):
        graded.table([question("q")], [Answer("q", "x", "")], twice)


@pytest.mark.parametrize("threshold", [-0.1, 1, 80])
def test_a_threshold_that_no_score_can_pass_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"threshold {threshold} is not from 0 to below 1"):
        table({("q", "x"): 1.0}, threshold=threshold)


def many(scores: list[float | None]) -> pd.DataFrame:
    return table({(f"q{n}", "x"): score for n, score in enumerate(scores)})


def test_what_there_is_to_learn_from_is_counted() -> None:
    said = graded.check_classes(many([1.0] * 5 + [0.0] * 15 + [None]))
    assert said == (
        "20 of 21 train grades are readable (1 unreadable): 5 acceptable, 15 not acceptable"
    )


def test_too_few_readable_grades_are_refused() -> None:
    with pytest.raises(GradingError, match="19 of 39 .*(20 unreadable).* needs 20: grade more"):
        graded.check_classes(many([1.0] * 5 + [0.0] * 14 + [None] * 20))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_class_is_nothing_to_learn_from(score: float) -> None:
    with pytest.raises(GradingError, match="needs both classes: set the threshold between"):
        graded.check_classes(many([score] * 30))

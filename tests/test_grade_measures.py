import json
from math import exp, log

import numpy as np
import pytest

from nbutils.grading import grade_measures as measures
from nbutils.grading import resampling
from nbutils.grading.grade_measures import GradeJudge, Mark
from tests.rows import table

# Four questions; the teacher's scores, and so the classes at 0.8: good, bad, good, bad, unreadable.
SCORES = {("q1", "x"): 1.0, ("q1", "y"): 0.2, ("q2", "x"): 0.9, ("q3", "x"): 0.4, ("q4", "x"): None}
FRAME = table(SCORES)


def judge(*marks: Mark) -> GradeJudge:
    return GradeJudge("judge", dict(zip(SCORES, marks, strict=True)))


def figures(one: GradeJudge, frame=FRAME, tau: float = 0.1):
    row = measures.rows(frame, one)
    weights = resampling.draws(frame["question_id"].to_numpy(), 0, 200)
    found = measures.by_class(row, weights) | measures.by_rank(row, weights)
    return found | measures.by_number(row, weights, 0.8, tau)


SURE = judge(
    Mark(True, 3.0, 0.9, 0.95),
    Mark(True, 2.0, 0.6, 0.55),
    Mark(None),
    Mark(False, 1.0, 0.1, 0.15),
    Mark(True, 2.5, 0.8, 0.65),
)


def test_agreement_keeps_every_answer_in_the_denominator() -> None:
    # right: q1/x and q3/x; wrong: q1/y; the judge's unreadable and the teacher's agree with nothing
    found = figures(SURE)
    assert (found["agree"], found["agreement"]) == (2, 2 / 5)
    assert found["said acceptable"] == 3 and found["said not acceptable"] == 1
    assert found["said unreadable"] == 1


def test_two_unreadable_grades_do_not_agree() -> None:
    frame = table({("q1", "x"): None})
    assert figures(GradeJudge("j", {("q1", "x"): Mark(None)}), frame)["agreement"] == 0


def test_wilson_interval() -> None:
    # 2 of 5, z = 1.96: middle (0.4 + 0.38415) / 1.7683 = 0.4435,
    # half width 1.96 / 1.7683 * sqrt(0.4 * 0.6 / 5 + 3.8415 / 100) = 0.3258
    found = figures(SURE)
    assert found["agreement_wilson_low"] == pytest.approx(0.4435 - 0.3258, abs=2e-4)
    assert found["agreement_wilson_high"] == pytest.approx(0.4435 + 0.3258, abs=2e-4)


def test_the_bootstrap_s_interval_holds_whole_questions() -> None:
    # Two questions, all right in one, all wrong in the other: a draw of both from one gives 0 or 1.
    frame = table({("q1", "x"): 1.0, ("q1", "y"): 1.0, ("q2", "x"): 1.0, ("q2", "y"): 1.0})
    marks = {key: Mark(key[0] == "q1") for key in zip(frame.question_id, frame.answerer)}  # noqa: B905
    found = figures(GradeJudge("j", marks), frame)
    assert (found["agreement_low"], found["agreement_high"]) == (0, 1)
    assert found["agreement_wilson_low"] > 0.1


def test_balanced_accuracy_counts_unreadable_as_a_miss() -> None:
    # acceptable: q1/x right, q2/x unreadable: 1/2; not: q1/y wrong, q3/x right: 1/2
    assert figures(SURE)["balanced_accuracy"] == 0.5


def test_f1_of_acceptable() -> None:
    # said acceptable where the teacher can be read: q1/x, q1/y; good: q1/x, q2/x; both: q1/x
    # precision 1/2, recall 1/2
    assert figures(SURE)["f1"] == 0.5


def test_kappa_holds_unreadable_for_a_label_of_its_own() -> None:
    # 2 of 4 agree. Teacher: 2 good, 2 bad; judge: 2 good, 1 bad, 1 unreadable.
    # chance 2/4 * 2/4 + 2/4 * 1/4 = 0.375; kappa (0.5 - 0.375) / 0.625 = 0.2
    assert figures(SURE)["kappa"] == pytest.approx(0.2)


def test_ranks() -> None:
    # ranked and readable: 3 (good, 1.0), 2 (bad, 0.2), 1 (bad, 0.4); the good one beats both
    found = figures(SURE)
    assert (found["ranked"], found["auroc"], found["average_precision"]) == (3, 1, 1)
    # ranks 3, 2, 1 against the scores' 3, 1, 2: 1 - 6 * (0 + 1 + 1) / (3 * 8) = 0.5
    assert found["spearman"] == pytest.approx(0.5)
    # pairs in order: (3, 2) and (3, 1); (2, 1) is not: (2 - 1) / 3
    assert found["kendall"] == pytest.approx(1 / 3)


def test_pearson_is_of_the_grade() -> None:
    # grades .9, .6, .1 (mean .5333) and scores 1, .2, .4 (mean .5333): deviations .3667, .0667,
    # -.4333 and .4667, -.3333, -.1333; sum of products .1711 - .0222 + .0578 = .2067;
    # squares .3267 and .3467; .2067 / sqrt(.3267 * .3467) = 0.6142
    assert figures(SURE)["pearson"] == pytest.approx(0.6142, abs=1e-3)


def test_pearson_is_of_the_rank_where_there_is_no_grade() -> None:
    # ranks 3, 2, 1 (deviations 1, 0, -1) and scores as above: (.4667 + .1333) / sqrt(2 * .3467)
    ranked = judge(*[Mark(True, mark.rank) for mark in SURE.marks.values()])
    assert figures(ranked)["pearson"] == pytest.approx(0.6 / 0.6933**0.5, abs=1e-3)


def test_auroc_and_average_precision_with_a_mistake_and_a_tie() -> None:
    ranks = {"q1x": 2.0, "q1y": 3.0, "q2x": 2.0, "q3x": 2.0}
    marks = [Mark(False, rank) for rank in ranks.values()]
    found = figures(judge(*marks, Mark(False)))
    # good at 2 and 2; bad at 3 and 2: each good one loses one and ties one: 2 * 0.5 / 4
    assert found["auroc"] == 0.25
    # cut 3: recall 0; cut 2: recall 1 at precision 2/4
    assert found["average_precision"] == 0.5


def test_mean_absolute_error() -> None:
    # |1 - .9| + |.2 - .6| + |.4 - .1| = .8, over the three that both can be read
    assert figures(SURE)["mae"] == pytest.approx(0.8 / 3)


def test_calibration_error_and_its_bins() -> None:
    # one answer in each bin: |1 - .95|, |0 - .55|, |0 - .15|, each 1/3
    found = figures(SURE)
    assert found["calibration_error"] == pytest.approx(0.75 / 3)
    assert [row["low"] for row in found["bins"]] == [0.1, 0.5, 0.9]
    assert found["bins"][1] == {"low": 0.5, "observed": 0.0, "said": 0.55, "count": 1}


def test_calibration_error_of_grades_is_against_the_teacher_s_scores() -> None:
    # bins of the grade: .1 (score .4), .6 (score .2), .9 (score 1): (.3 + .4 + .1) / 3
    assert figures(SURE)["grade_error"] == pytest.approx(0.8 / 3)
    assert [row["said"] for row in figures(SURE)["grade_bins"]] == [0.1, 0.6, 0.9]


def test_kl_from_the_teacher_s_distribution() -> None:
    # One answer of score .9 at tau .1: .5 + .9 * (1 / (1 + e^-1) - .5) = .70795; the judge says .5.
    frame = table({("q1", "x"): 0.9})
    p = 0.5 + 0.9 * (1 / (1 + exp(-1)) - 0.5)
    found = figures(GradeJudge("j", {("q1", "x"): Mark(True, 0.0, None, 0.5)}), frame)
    assert found["kl"] == pytest.approx(p * log(2 * p) + (1 - p) * log(2 * (1 - p)))
    assert found["kl"] == pytest.approx(0.0891, abs=1e-4)


def test_a_certain_judge_has_a_finite_kl() -> None:
    certain = GradeJudge("j", {key: Mark(True, 1.0, 1.0, 1.0) for key in SCORES})
    assert 0 < figures(certain)["kl"] < 25


def test_a_judge_of_classes_alone_has_no_other_measure() -> None:
    found = figures(judge(*[Mark(False)] * 5))
    assert found["agreement"] == 2 / 5
    assert found["f1"] == 0 and found["balanced_accuracy"] == 0.5 and found["kappa"] == 0
    absent = ["auroc", "average_precision", "pearson", "spearman", "kendall", "mae", "kl"]
    absent += ["calibration_error", "grade_error", "auroc_low", "mae_high"]
    assert {key: found[key] for key in absent} == dict.fromkeys(absent)
    assert found["bins"] == found["grade_bins"] == [] and found["ranked"] == 0


@pytest.mark.parametrize("score", [0.1, 1.0])
@pytest.mark.filterwarnings("error")
def test_what_one_class_leaves_undefined_is_none(score: float) -> None:
    frame = table({("q1", "x"): score, ("q2", "x"): score, ("q3", "x"): score})
    said = {(f"q{n}", "x"): Mark(score > 0.8, float(n), 0.5, 0.5) for n in (1, 2, 3)}
    found = figures(GradeJudge("j", said), frame)
    assert found["agreement"] == 1
    names = ["balanced_accuracy", "kappa", "auroc", "pearson", "spearman", "kendall"]
    assert {name: found[name] for name in names} == dict.fromkeys(names)
    assert found["f1"] == (1 if score == 1 else None)
    assert found["average_precision"] is None  # nothing to tell apart
    json.dumps(found, allow_nan=False)


@pytest.mark.filterwarnings("error")
def test_one_value_has_no_correlation() -> None:
    found = figures(judge(*[Mark(True, 1.0, 0.5, 0.5)] * 5))
    assert found["pearson"] is found["spearman"] is found["kendall"] is None
    assert found["auroc"] == 0.5


def test_everything_unreadable_is_counted_and_nothing_else() -> None:
    frame = table({("q1", "x"): None, ("q2", "x"): None})
    found = figures(
        GradeJudge("j", {key: Mark(True, 1.0) for key in [("q1", "x"), ("q2", "x")]}), frame
    )
    assert (found["agreement"], found["ranked"], found["kappa"]) == (0, 0, None)
    json.dumps(found, allow_nan=False)


def test_a_missing_mark_is_named() -> None:
    marks = dict(list(SURE.marks.items())[1:])
    with pytest.raises(ValueError, match=r"no mark of 1 answers, \('q1', 'x'\) first; grade them"):
        measures.rows(FRAME, GradeJudge("judge", marks))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(number: float) -> None:
    marks = {**SURE.marks, ("q1", "x"): Mark(True, number)}
    with pytest.raises(ValueError, match=r"answer \('q1', 'x'\): .* not finite; mend the judge"):
        measures.rows(FRAME, GradeJudge("judge", marks))


def test_intervals_are_of_the_same_measure() -> None:
    """The first of the resampled values is the measure itself, by another library."""
    draw = np.random.default_rng(1)
    keys = [(f"q{n // 3}", f"w{n % 3}") for n in range(90)]
    frame = table(
        {key: float(score) for key, score in zip(keys, draw.random(90).round(2), strict=True)},
        threshold=0.6,
    )
    marks = {}
    for key in keys:
        grade = float(draw.random())
        marks[key] = Mark(grade > 0.5, grade, grade, grade)
    row = measures.rows(frame, GradeJudge("j", marks))
    weights = resampling.draws(frame["question_id"].to_numpy(), 0, 50)
    found = measures.by_class(row, weights) | measures.by_rank(row, weights)
    yes = np.array([mark.acceptable for mark in marks.values()], dtype=float)
    for name, values in {
        "agreement": resampling.mean(row.right, weights),
        "balanced_accuracy": resampling.balanced_accuracy(row.good, row.right, weights),
        "f1": resampling.f1(row.good, yes, weights),
        "auroc": resampling.auroc(row.good, row.rank, weights),
        "average_precision": resampling.average_precision(row.good, row.rank, weights),
    }.items():
        assert found[name] == pytest.approx(values[0]), name
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]

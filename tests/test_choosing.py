import numpy as np
import pytest
from scipy.special import expit

from nbutils.grading import choosing, heads
from nbutils.grading.graded import GradingError
from nbutils.grading.heads import targets
from tests import rows

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = rows.drawn(24, sections=6)


def test_a_member_never_sees_a_section_of_its_fold() -> None:
    taught = targets(TRAIN, 1.0, 0.8, 0.5, 0.1)
    found, fold = choosing.cross_fit(TRAIN, taught, 0.1, seed=3)
    sections = [question.section for question in TRAIN.questions]
    for section in set(sections):  # whole sections
        own = [k for k, name in zip(fold, sections, strict=True) if name == section]
        assert len(set(own)) == 1
    for k, head in enumerate(found):
        alone = heads.fit(TRAIN, taught, (fold != k).astype(float), 0.1)
        assert head.weights.tolist() == alone.weights.tolist()
    assert sorted(set(fold)) == [0, 1, 2]


def test_the_seed_deals_the_sections_and_nothing_else() -> None:
    taught = targets(TRAIN, 1.0, 0.8, 0.5, 0.1)
    one, same = (choosing.cross_fit(TRAIN, taught, 0.1, seed=1) for _ in range(2))
    assert one[1].tolist() == same[1].tolist()
    assert one[0][0].weights.tolist() == same[0][0].weights.tolist()
    folds = {tuple(choosing.cross_fit(TRAIN, taught, 0.1, seed)[1]) for seed in range(4)}
    assert len(folds) > 1


def test_held_out_logits_are_of_the_member_that_did_not_see_the_question() -> None:
    taught = targets(TRAIN, 0.5, 0.8, 0.5, 0.1)
    found, fold = choosing.cross_fit(TRAIN, taught, 0.1, seed=0)
    grades, pairs = choosing.held_out_logits(TRAIN, found, fold)
    for place, asked in enumerate(TRAIN.graded_question):
        assert grades[place] == found[fold[asked]].grade_logits(TRAIN)[place]
    for place, asked in enumerate(TRAIN.pair_question):
        assert pairs[place].tolist() == found[fold[asked]].pair_logits(TRAIN)[place].tolist()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_loss_is_that_of_what_the_teacher_said(share: float) -> None:
    table = choosing.choose(TRAIN, share, 0.6, 0, taus=(0.1,), decays=(0.1,))
    taught = targets(TRAIN, share, 0.6, 0.5, 0.1)
    grades, pairs = choosing.held_out_logits(TRAIN, *choosing.cross_fit(TRAIN, taught, 0.1, 0))
    losses = []
    for logit, score in zip(grades, TRAIN.scores, strict=True):
        p = expit(logit)
        losses.append(-np.log(p if score > 0.6 else 1 - p))
    of_pairs = []
    for logits, told in zip(pairs, TRAIN.verdicts, strict=True):
        shares = np.exp(logits) / np.exp(logits).sum()
        of_pairs.append(-np.log(shares[told]))
    expected = share * np.mean(losses) + (1 - share) * np.mean(of_pairs)
    assert table["loss"].tolist() == pytest.approx([expected])


def test_the_best_comes_first_and_every_candidate_is_there() -> None:
    table = choosing.choose(TRAIN, 1.0, 0.6, 0, taus=(0.1, 0.4), decays=(0.01, 0.1, 100.0))
    assert table["loss"].is_monotonic_increasing
    assert sorted(zip(table["tau"], table["decay"], strict=True)) == [
        (0.1, 0.01), (0.1, 0.1), (0.1, 100.0), (0.4, 0.01), (0.4, 0.1), (0.4, 100.0),
    ]  # fmt: skip
    # The first feature tells the class: a head that is all penalty learns nothing of it.
    assert table.loc[0, "decay"] < 100 and table.loc[5, "decay"] == 100


def test_a_conflict_has_no_verdict_to_be_measured_by() -> None:
    plain = rows.drawn(24)
    conflict = (0, 2, -1, (0.475, 0.475, 0.05))
    pairs = zip(plain.ends.tolist(), plain.verdicts, plain.targets, strict=True)
    more = rows.frozen(
        plain.features,
        plain.asked.tolist(),
        plain.scores.tolist(),
        [conflict, *((*ends, told, target) for ends, told, target in pairs)],
        [question.section for question in plain.questions],
    )
    taught = targets(more, 0.0, 0.8, 0.5, 0.1)
    _, logits = choosing.held_out_logits(more, *choosing.cross_fit(more, taught, 0.1, 0))
    told = plain.verdicts
    shares = np.exp(logits[1:]) / np.exp(logits[1:]).sum(axis=1, keepdims=True)
    found = choosing.choose(more, 0.0, 0.8, 0, taus=(0.1,), decays=(0.1,))
    assert found.loc[0, "loss"] == pytest.approx(-np.log(shares[np.arange(24), told]).mean())


def test_too_few_sections_are_named() -> None:
    few = rows.drawn(6, sections=2)
    with pytest.raises(GradingError, match="answers of 2 sections, .* of 3 .*more sections"):
        choosing.cross_fit(few, targets(few, 1.0, 0.8, 0.5, 0.1), 0.1, 0)

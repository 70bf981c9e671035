from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax

from nbutils.grading.frozen import project
from nbutils.grading.graded import GradingError
from nbutils.grading.heads import Head, Targets, fit, targets
from nbutils.resolution import sharpen
from nbutils.scoring.targets import pair_loss
from nbutils.scoring.training import fit_head
from tests import rows
from tests.tiny import SETTINGS, toy_examples

pytestmark = pytest.mark.usefixtures("one_thread")

CONFLICT = (0.475, 0.475, 0.05)


def ones(train):
    return np.ones(len(train.questions))


def test_targets_mix_verdict_and_soft_target():
    pairs = [(0, 1, 0, (0.8, 0.1, 0.1)), (0, 1, -1, CONFLICT)]
    train = rows.frozen([[1], [2]], [0, 0], [0.9, None], pairs)
    found = targets(train, 0.5, 0.8, 0.25, 0.1)
    # 0.25 * (1, 0, 0) + 0.75 * (0.8, 0.1, 0.1); a conflict has its soft part alone.
    assert found.pairs[0] == pytest.approx([0.85, 0.075, 0.075])
    assert found.pairs[1] == pytest.approx([0.35625, 0.35625, 0.0375])
    # (0.9 - 0.8) / 0.1 = 1: 0.5 + 0.9 * (0.7310586 - 0.5) = 0.7079527; 0.25 + 0.75 * that
    assert found.grades == pytest.approx([0.25 + 0.75 * 0.7079527])


def test_the_temperature_sharpens_pairs_and_multiplies_tau():
    pairs = [(0, 1, 0, (0.8, 0.1, 0.1))]
    train = rows.frozen([[1], [2]], [0, 0], [0.9, 0.1], pairs)
    found = targets(train, 0.5, 0.8, 0.0, 0.1, temperature=2.0)
    assert found.pairs[0] == pytest.approx(sharpen((0.8, 0.1, 0.1), 2.0))
    assert found.grades == pytest.approx(targets(train, 0.5, 0.8, 0.0, 0.2).grades)


def test_a_head_by_hand():
    # score 2 * 0.5 = 1 and 4 * 0.5 = 2; logits of a pair: 1, 2, (1 + 2) / 2 - 0.25
    test = rows.frozen([[2], [4]], [0, 0], [None, 0.9], [(0, 1, 1, (0, 1, 0))])
    head = Head(np.array([0.5]), intercept=-3.0, tie=-0.25)
    assert head.scores(test).tolist() == [1, 2]
    assert head.grade_logits(test).tolist() == [-1]
    assert head.pair_logits(test).tolist() == [[1, 2, 1.25]]


def test_grades_without_a_feature_give_the_mean_target():
    # A head that sees nothing has the logit of the mean target: (0.7 + 0.2 + 0.6) / 3 = 0.5 -> 0
    train = rows.frozen([[0], [0], [0]], [0, 1, 2], [1.0, 0.0, 1.0])
    head = fit(train, Targets(np.zeros((0, 3)), np.array([0.7, 0.2, 0.6]), 1.0), ones(train), 1.0)
    assert head.intercept == pytest.approx(0, abs=1e-4)
    # Counted 2, 1 and 0 times: (2 * 0.7 + 0.2) / 3 = 0.5333; its logit is log(0.5333 / 0.4667)
    taught = Targets(np.zeros((0, 3)), np.array([0.7, 0.2, 0.6]), 1.0)
    head = fit(train, taught, np.array([2.0, 1.0, 0.0]), 1.0)
    assert head.intercept == pytest.approx(log(0.53333 / 0.46667), abs=1e-3)


def test_one_grade_on_either_side_by_hand():
    # Features 1 and -1, targets 0.9 and 0.1, so intercept 0 and, at the least loss,
    # expit(w) - 0.9 + 2 * decay * w = 0; with decay (0.9 - expit(1)) / 2 = 0.08447 that is w = 1.
    train = rows.frozen([[1], [-1]], [0, 1], [1.0, 0.0])
    decay = (0.9 - 1 / (1 + exp(-1))) / 2
    head = fit(train, Targets(np.zeros((0, 3)), np.array([0.9, 0.1]), 1.0), ones(train), decay)
    assert head.weights == pytest.approx([1], abs=1e-3)
    assert head.intercept == pytest.approx(0, abs=1e-4)


def with_a_conflict(row):
    first, *others = row.pairs
    return replace(row, pairs=(replace(first, verdict=None, target=CONFLICT), *others))


def test_pairs_alone_give_the_head_of_training():
    """As training.fit_head does, which 05 uses, with no weight on the order of grades."""
    examples = [with_a_conflict(row) for row in toy_examples(12, seed=3)]
    draw = torch.Generator().manual_seed(0)
    features = [torch.randn(len(row.group.answers), 7, generator=draw) for row in examples]
    settings = replace(SETTINGS, grade_weight=0.0, alpha=0.3, decay=0.05)
    expected, tie = fit_head(features, examples, settings)
    starts = np.cumsum([0, *(len(own) for own in features)])
    train = rows.frozen(
        torch.cat(features).numpy(),
        [number for number, own in enumerate(features) for _ in own],
        [None] * starts[-1],
        [
            (start + p.first, start + p.second, -1 if p.verdict is None else p.verdict, p.target)
            for start, row in zip(starts, examples, strict=False)
            for p in row.pairs
        ],
    )
    head = fit(train, targets(train, 0.0, 0.8, 0.3, 0.1), ones(train), 0.05)
    assert head.weights == pytest.approx(expected.numpy(), abs=2e-3)
    assert head.tie == pytest.approx(float(tie), abs=5e-3)
    assert head.intercept == 0


def loss_by_hand(train, taught, head, weights, decay):
    """As the docstring of fit has it, one row at a time."""
    total = decay * (head.weights**2).sum()
    for share, logged, target, asked in (
        (taught.share, None, taught.grades, train.graded_question),
        (
            1 - taught.share,
            log_softmax(head.pair_logits(train), 1),
            taught.pairs,
            train.pair_question,
        ),
    ):
        own = weights[asked]
        if logged is None:
            p = expit(head.grade_logits(train))
            losses = -target * np.log(p) - (1 - target) * np.log(1 - p)
        else:
            losses = -(target * logged).sum(axis=1)
        total += share * (own * losses).sum() / own.sum()
    return total


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_other_head_has_a_smaller_loss(share):
    train = rows.drawn(12)
    taught = targets(train, share, 0.8, 0.5, 0.2)
    weights = np.arange(12) % 3 + 0.0
    head = fit(train, taught, weights, 0.02)
    least = loss_by_hand(train, taught, head, weights, 0.02)
    draw = np.random.default_rng(0)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(20):
            step = size * draw.normal(size=len(head.weights) + 2)
            other = Head(head.weights + step[:-2], head.intercept + step[-2], head.tie + step[-1])
            assert loss_by_hand(train, taught, other, weights, 0.02) >= least - 1e-9


def test_a_weight_of_two_is_a_question_twice():
    train = rows.drawn(6)
    taught = targets(train, 0.5, 0.8, 0.5, 0.2)
    weighted = fit(train, taught, np.array([2.0, 1, 1, 1, 1, 0]), 0.1)
    places = [*range(18), *range(3)]  # question 0 again as question 6
    asked = [*train.asked.tolist(), 6, 6, 6]
    pairs = [*zip(train.ends.tolist(), train.verdicts, train.targets, strict=True)]
    again = [([18, 19], pairs[0][1], pairs[0][2])]
    twice = rows.frozen(
        train.features[places],
        asked,
        train.scores[places].tolist(),
        [(*ends, told, target) for ends, told, target in pairs + again],
    )
    plain = fit(twice, targets(twice, 0.5, 0.8, 0.5, 0.2), np.array([1.0] * 5 + [0, 1]), 0.1)
    assert weighted.weights == pytest.approx(plain.weights, abs=1e-3)
    assert weighted.intercept == pytest.approx(plain.intercept, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_projected_fit_scores_as_one_on_all_features(share):
    train, test = rows.drawn(10, seed=1, width=90), rows.drawn(10, seed=2, width=90)
    near, far = project(train, test)
    mean, scale = train.features.mean(0), train.features.std(0, ddof=1) + 1e-3
    wide = replace(train, features=(train.features - mean) / scale)
    taught = targets(train, share, 0.8, 0.5, 0.2)
    small, whole = (fit(own, taught, ones(train), 0.1) for own in (near, wide))
    ours = small.scores(far)
    theirs = whole.scores(replace(test, features=(test.features - mean) / scale))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_the_loss_of_a_pair_is_that_of_targets_but_for_a_constant():
    """CE and KL by targets.pair_loss, against one cross-entropy with the mixed target."""
    (row,) = toy_examples(1)
    settings = replace(SETTINGS, alpha=0.3, grade_weight=0.0)
    pairs = [(p.first, p.second, p.verdict, p.target) for p in row.pairs]
    differences = []
    for scores in ([0.5, -1.0, 2.0], [0.0, 3.0, 0.1]):
        train = rows.frozen([[score] for score in scores], [0, 0, 0], [None] * 3, pairs)
        taught = targets(train, 0.0, 0.8, 0.3, 0.1)
        logged = log_softmax(Head(np.array([1.0]), 0.0, -0.5).pair_logits(train), axis=1)
        tensors = torch.tensor(scores, dtype=torch.float64), torch.tensor(-0.5)
        whole = pair_loss(tensors[0], row, tensors[1], settings).total
        differences.append(whole.item() + (taught.pairs * logged).sum())
    assert differences[0] == pytest.approx(differences[1], abs=1e-6)


def test_nothing_to_teach_with_is_named():
    train = rows.frozen([[1], [2]], [0, 1], [0.5, None])
    with pytest.raises(GradingError, match="no pair is left to teach a head with"):
        fit(train, targets(train, 0.5, 0.8, 0.5, 0.1), ones(train), 1.0)
    with pytest.raises(GradingError, match="no grade is left"):
        fit(train, targets(train, 1.0, 0.8, 0.5, 0.1), np.array([0.0, 1.0]), 1.0)


def test_one_class_alone_leaves_finite_numbers():
    train = rows.frozen([[1], [2], [3]], [0, 1, 2], [0.1, 0.0, 0.2])
    head = fit(train, targets(train, 1.0, 0.8, 1.0, 0.1), ones(train), 0.1)
    assert np.isfinite([*head.weights, head.intercept]).all()
    assert (head.grade_logits(train) < 0).all()

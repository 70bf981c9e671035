from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbutils.grading.loss import (
    classes,
    gradient,
    grading_loss,
    mixed_targets,
    teacher_chances,
    teacher_scores,
)

SCORES = st.integers(0, 100).map(lambda hundredths: hundredths / 100)
TAUS = st.floats(0.01, 2)
SHARES = st.floats(0, 1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_class_is_strictly_above():
    assert classes(np.array([0.79, 0.8, 0.81]), 0.8).tolist() == [0, 0, 1]


def test_the_chance_by_hand():
    # (0.6 - 0.8) / 0.1 = -2; 1 / (1 + e^2) = 0.1192029; without smoothing
    assert teacher_chances(np.array([0.6]), 0.8, 0.1, 0.0) == pytest.approx([0.1192029])
    # smoothed by 0.1: 0.5 + 0.9 * (0.1192029 - 0.5) = 0.1572826
    assert teacher_chances(np.array([0.6]), 0.8, 0.1, 0.1) == pytest.approx([0.1572826])


def test_the_ends_are_smoothed_alike():
    # tau 0.001: the logistic is 0 or 1, so the ends are 0.1 / 2 and 1 - 0.1 / 2.
    found = teacher_chances(np.array([0.0, 1.0]), 0.5, 0.001, 0.1)
    assert found == pytest.approx([0.05, 0.95])


@given(TAUS, st.floats(0, 0.9), st.floats(0, 0.99))
def test_it_is_one_half_at_the_threshold_exactly(tau, epsilon, threshold):
    assert teacher_chances(np.array([threshold]), threshold, tau, epsilon) == 0.5


@given(SCORES, SCORES, TAUS)
def test_class_and_chance_are_never_on_two_sides(score, threshold, tau):
    (chance,) = teacher_chances(np.array([score]), threshold, tau)
    (told,) = classes(np.array([score]), threshold)
    assert chance >= 0.5 if told else chance <= 0.5
    assert (chance == 0.5) == (score == threshold)


@given(SCORES, SCORES, TAUS)
def test_a_higher_score_never_has_a_lower_chance(one, other, tau):
    low, high = sorted((one, other))
    found = teacher_chances(np.array([low, high]), 0.8, tau)
    assert found[0] <= found[1]


@given(SCORES, st.floats(0.05, 2), st.floats(0, 0.5))
def test_the_score_comes_back_from_its_chance(score, tau, epsilon):
    chance = teacher_chances(np.array([score]), 0.8, tau, epsilon)
    assert teacher_scores(chance, 0.8, tau, epsilon) == pytest.approx([score], abs=1e-6)


def test_chances_beyond_the_ends_have_the_nearest_score():
    assert teacher_scores(np.array([0.0, 0.01, 0.5, 0.99, 1.0]), 0.8, 0.1).tolist() == [
        0, 0, 0.8, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("tau", [0, -1, float("nan")])
def test_a_tau_that_is_no_scale_is_refused(tau):
    with pytest.raises(ValueError, match="is not above 0"):
        teacher_chances(np.array([0.5]), 0.8, tau)


def test_a_score_at_the_threshold_is_asked_for_less_than_one_half():
    # Its class is 0 and its chance 1/2: alpha * 0 + (1 - alpha) / 2.
    assert mixed_targets(np.array([0.8]), 0.8, 0.5, 0.1).tolist() == [0.25]
    assert mixed_targets(np.array([0.8]), 0.8, 0.0, 0.1).tolist() == [0.5]


def test_the_loss_by_hand():
    # logit 0: P = 1/2. CE = -log(1/2) = 0.6931; KL = 0.9 log 1.8 + 0.1 log 0.2 = 0.3681.
    # alpha 0.25: 0.25 * 0.6931 + 0.75 * 0.3681 = 0.4493
    found = grading_loss(tensor(0.0), tensor(1.0), tensor(0.9), 0.25)
    assert found.ce.tolist() == pytest.approx([log(2)])
    assert found.kl.tolist() == pytest.approx([0.9 * log(1.8) + 0.1 * log(0.2)])
    assert found.total.tolist() == pytest.approx([0.4493], abs=1e-4)


def test_the_loss_of_a_class_0_by_hand():
    # logit 1: P = 1 / (1 + e^-1) = 0.7311. CE = -log(0.2689) = 1.3133.
    # KL(0.25 || 0.7311) = 0.25 log(0.25 / 0.7311) + 0.75 log(0.75 / 0.2689) = 0.5010
    p = 1 / (1 + exp(-1))
    found = grading_loss(tensor(1.0), tensor(0.0), tensor(0.25), 0.5)
    assert found.ce.tolist() == pytest.approx([1.3133], abs=1e-4)
    assert found.kl.tolist() == pytest.approx([0.25 * log(0.25 / p) + 0.75 * log(0.75 / (1 - p))])
    assert found.kl.tolist() == pytest.approx([0.5010], abs=1e-4)


def test_a_distribution_without_doubt_has_its_limit():
    # 0 log 0 = 0, so KL(1 || 0.5) = log 2, and no NaN.
    assert grading_loss(tensor(0.0), tensor(1.0), tensor(1.0), 0.5).kl.item() == pytest.approx(
        log(2)
    )
    assert grading_loss(tensor(0.0), tensor(0.0), tensor(0.0), 0.5).kl.item() == pytest.approx(
        log(2)
    )


def test_the_gradient_by_hand():
    # P = 1/2 at logit 0; 0.5 * (0.5 - 1) + 0.5 * (0.5 - 0.7) = -0.35 = 0.5 - 0.85
    found = gradient(tensor(0.0), tensor(1.0), tensor(0.7), 0.5)
    assert found.tolist() == pytest.approx([-0.35])


@given(st.floats(-20, 20), SCORES, SHARES, TAUS)
def test_the_gradient_is_that_of_autograd(start, score, alpha, tau):
    told = torch.from_numpy(classes(np.array([score]), 0.8))
    chance = torch.from_numpy(teacher_chances(np.array([score]), 0.8, tau))
    logit = tensor(start).requires_grad_()
    loss = grading_loss(logit, told, chance, alpha)
    (whole,) = torch.autograd.grad(loss.total.sum(), logit, retain_graph=True)
    (of_ce,) = torch.autograd.grad(loss.ce.sum(), logit, retain_graph=True)
    (of_kl,) = torch.autograd.grad(loss.kl.sum(), logit)
    student = torch.sigmoid(logit).detach()
    assert of_ce == pytest.approx(student - told, abs=1e-9)
    assert of_kl == pytest.approx(student - chance, abs=1e-9)
    assert whole == pytest.approx(gradient(logit.detach(), told, chance, alpha), abs=1e-9)


@given(st.floats(-20, 20), st.floats(-20, 20), SCORES, SHARES)
def test_alpha_acts_through_the_mixed_target_alone(one, other, score, alpha):
    """The loss minus one cross-entropy against the mixed target is the same at every logit."""
    scores = np.array([score])
    told = torch.from_numpy(classes(scores, 0.8))
    chance = torch.from_numpy(teacher_chances(scores, 0.8, 0.1))
    mixed = torch.from_numpy(mixed_targets(scores, 0.8, alpha, 0.1))
    left = [
        grading_loss(tensor(z), told, chance, alpha).total
        - torch.nn.functional.binary_cross_entropy_with_logits(tensor(z), mixed)
        for z in (one, other)
    ]
    assert left[0].item() == pytest.approx(left[1].item(), abs=1e-9)


@given(st.floats(-10, 10), st.floats(-10, 10), SCORES, SHARES)
def test_the_loss_is_convex_in_the_logit(one, other, score, alpha):
    told = torch.from_numpy(classes(np.array([score] * 3), 0.8))
    chance = torch.from_numpy(teacher_chances(np.array([score] * 3), 0.8, 0.1))
    a, middle, b = grading_loss(tensor(one, (one + other) / 2, other), told, chance, alpha).total
    assert middle <= (a + b) / 2 + 1e-9

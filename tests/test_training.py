import json
import random
from dataclasses import replace
from math import exp

import pytest
import torch

from nbutils.resolution import soft_target
from nbutils.scoring import checkpoint, training
from nbutils.scoring.backbone import Group
from nbutils.scoring.student import CARD, FINGERPRINT, WEIGHTS, Student, _sha256, load
from nbutils.scoring.targets import Example, Target, folds, pair_loss
from nbutils.scoring.training import (
    CHECKPOINT,
    Training,
    finish,
    fit_head,
    read_examples,
    train,
)
from tests.tiny import SETTINGS, TOYS, in_float32, llama_config, save_base, toy_examples

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = toy_examples(18)  # three a section; with three folds a member is trained on twelve


@pytest.fixture(scope="module")
def readings(tiny):
    return read_examples(tiny, ROWS, SETTINGS)


@pytest.fixture(scope="module", params=["probe", "lora"])
def trained(request, tiny, readings, tmp_path_factory):
    """A student trained without a stop: student, history, folder."""
    folder = tmp_path_factory.mktemp(request.param)
    student, history = train(tiny, ROWS, readings, SETTINGS, request.param, 0, folder)
    return student, history, folder


def preference(student: Student, rows: list[Example]) -> float:
    """The share of the pairs with a winner in which the winner has the higher score."""
    right = []
    for row in rows:
        scores = student.scores(row.group)
        for pair in row.pairs:
            if pair.verdict in (0, 1):
                margin = scores[pair.first] - scores[pair.second]
                right.append((margin > 0) == (pair.verdict == 0))
    return sum(right) / len(right)


# The head.


def toy_features(rows: list[Example], width: int = 5) -> list[torch.Tensor]:
    """Noise, but for the first column: 1 for the answer that wins, -1 for the others."""
    draw = torch.Generator().manual_seed(0)
    found = [torch.randn(3, width, generator=draw) / 4 for _ in rows]
    for row, own in zip(rows, found, strict=True):
        own[:, 0] = torch.tensor([1.0 if grade == 0.9 else -1.0 for grade in row.grades])
    return found


def objective(head, tie, features, rows, settings):
    pairs = sum(len(row.pairs) for row in rows)
    losses = [
        pair_loss(own @ head, row, tie, settings).total
        for own, row in zip(features, rows, strict=True)
    ]
    return sum(losses) / pairs + settings.decay * head.square().sum()


@pytest.mark.parametrize("decay", [0.01, 4.0])
def test_the_head_is_the_optimum(decay):
    settings = replace(SETTINGS, decay=decay)
    features = toy_features(ROWS)
    head, tie = fit_head(features, ROWS, settings)
    free = [part.clone().requires_grad_() for part in (head, tie)]
    least = objective(*free, features, ROWS, settings)
    least.backward()
    assert max(part.grad.abs().max() for part in free) < 1e-3
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):  # the objective is convex: whichever way one steps, it rises
        step = torch.randn(len(head) + 1, generator=draw) / 10
        assert objective(head + step[1:], tie + step[0], features, ROWS, settings) > least


def test_the_head_learns_what_can_be_separated():
    head, tie = fit_head(toy_features(ROWS), ROWS, SETTINGS)
    assert head[0] > 5 * head[1:].abs().max()
    for own, row in zip(toy_features(ROWS), ROWS, strict=True):
        assert (own @ head).argmax() == row.grades.index(0.9)
    # One pair in three is a tie, and all ties are of answers that lost: as likely as not, or more.
    assert exp(tie) > 1


def test_a_stronger_penalty_makes_a_smaller_head():
    small, large = (
        fit_head(toy_features(ROWS), ROWS, replace(SETTINGS, decay=decay))[0].norm()
        for decay in (4.0, 0.01)
    )
    assert small < large / 3


# The whole training.


def test_a_rule_is_learnt(trained, readings):
    student, _, _ = trained
    assert preference(student, toy_examples(20, seed=9)) >= 0.9  # questions it never saw
    assert student.card["cross_validation"]["preference"] >= 0.8
    assert student.card["cross_validation"]["pairs"] == 3 * len(ROWS)


def test_adapters_lower_the_loss(trained):
    student, history, _ = trained
    if student.kind == "probe":
        assert history == []
        return
    assert len(history) == 3 * 2 * 3  # members, epochs, batches of 4 of 12 questions
    by_epoch = [sum(row["loss"] for row in history if row["epoch"] == epoch) for epoch in (1, 2)]
    assert by_epoch[1] < by_epoch[0]
    for row in history:
        alpha, weight = SETTINGS.alpha, SETTINGS.grade_weight
        total = alpha * row["ce"] + (1 - alpha) * row["kl"] + weight * row["grades"]
        assert row["loss"] == pytest.approx(total, rel=1e-4)
    weights = dict(student.upper.named_parameters())
    ups = [weight for name, weight in weights.items() if "lora_B" in name]
    assert len(ups) == 3 * 2 * 7  # members, adapted layers, projections
    assert all(weight.any() for weight in ups)  # each starts at zero


def test_the_base_is_left_as_it_was(trained, tiny):
    before = {name: weight.clone() for name, weight in tiny.lm.state_dict().items()}
    again = in_float32(tiny.name).lm.state_dict()
    assert before.keys() == again.keys()
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_a_trained_student_loads_as_it_is(trained, tiny):
    student, _, folder = trained
    asked = ROWS[0].group
    assert load(folder, tiny).scores(asked) == student.scores(asked)
    assert sorted(file.name for file in folder.iterdir()) == [CARD, WEIGHTS]


def test_the_card_tells_how_it_came_about(trained, tiny):
    student, _, folder = trained
    card = json.loads((folder / CARD).read_text())
    assert (card["seed"], card["questions"], card["kind"]) == (0, 18, student.kind)
    assert (card["base_sha256"], card["prompt"]) == (tiny.sha256, FINGERPRINT)
    assert card["data_sha256"] == checkpoint.data_hash(ROWS)
    assert card["settings"] == json.loads(json.dumps(vars(SETTINGS)))
    assert {"torch", "transformers", "peft"} <= card["versions"].keys()
    assert 0 <= card["cross_validation"]["agreement"] <= 1


def test_the_same_seed_gives_the_same_student(trained, tiny, readings, tmp_path):
    student, history, folder = trained
    for seed in (0, 1):
        _, again = train(tiny, ROWS, readings, SETTINGS, student.kind, seed, tmp_path / str(seed))
        same = _sha256(tmp_path / str(seed) / WEIGHTS) == _sha256(folder / WEIGHTS)
        assert same == (seed == 0)
        assert again == history or seed == 1
    assert (tmp_path / "0" / CARD).read_text() == (folder / CARD).read_text()


def test_the_caller_s_random_state_neither_matters_nor_changes(tiny, readings, tmp_path):
    def state():
        torch.manual_seed(5)
        random.seed(5)
        train(tiny, FEW, readings[:12], replace(SHORT, epochs=1), "lora", 0, tmp_path)
        return torch.rand(1).item(), random.random()

    found = state()
    torch.manual_seed(5)
    random.seed(5)
    assert found == (torch.rand(1).item(), random.random())


def test_no_member_is_trained_on_the_sections_it_is_judged_by(
    trained, tiny, readings, tmp_path, monkeypatch
):
    seen, scored = {}, {}
    fit, end = Training.fit_member, training.finish

    def fitted(self, member, inside):
        seen[member] = list(inside)
        fit(self, member, inside)

    def finished(student, rows, held_out):
        scored.update(held_out)
        end(student, rows, held_out)

    monkeypatch.setattr(Training, "fit_member", fitted)
    monkeypatch.setattr(training, "finish", finished)
    student, _ = train(tiny, ROWS, readings, SETTINGS, trained[0].kind, 0, tmp_path)
    fold = folds(ROWS, SETTINGS.folds, 0)
    for n, row in enumerate(ROWS):
        sections = {ROWS[i].section for i in seen[fold[n]]}
        assert row.section not in sections and len(sections) == 4
        with torch.no_grad():
            own = student.features(readings[n], fold[n]) @ student.heads[fold[n]]
        assert scored[row.question_id] == own.tolist()


def test_figures_of_the_cross_validation_by_hand(tiny):
    def row(name, told, grades=(None, None)):
        target = Target(f"p{name}", 0, 1, told, soft_target("a", "b"))
        return Example(f"q{name}", "s", Group("", "", ("", "")), (target,), grades)

    rows = [row(n, 0) for n in range(5)] + [row(5, 0, (0.9, 0.1)), row(6, 1), row(7, 1)]
    rows += [row(8, 2, (0.9, 0.1)), row(9, None)]
    scores = {own.question_id: [3.0, 0.0] for own in rows} | {"q8": [0.0, 0.0]}
    student = Student(tiny, SETTINGS, "probe", torch.zeros(1), torch.ones(1))
    finish(student, rows, scores)
    assert student.card["cross_validation"] == {
        "pairs": 10,  # the conflict, q9, too
        "agreement": 0.7,  # six times a, and the tie of equal scores
        "preferred_pairs": 8,
        "preference": 0.75,  # 6 of 8
        "graded_pairs": 2,
        "grade_order": 0.75,  # one right, one at equal scores: 1.5 of 2
    }
    # At a margin of 3, six a to two b: where the calibration is right, p(a) + p(tie) / 2 = 6 / 8.
    _, (a, _, tie) = student.verdict(3 * student.calibration.slope, 0.0)
    assert a + tie / 2 == pytest.approx(0.75, abs=1e-4)


def test_too_few_sections_are_refused(tiny, readings, tmp_path):
    with pytest.raises(ValueError, match="6 sections do not make 7 folds"):
        train(tiny, ROWS, readings, replace(SETTINGS, folds=7), "probe", 0, tmp_path)


# Interrupted and resumed.


class Steps:
    """Counts the training's steps, and stops it before one of them."""

    def __init__(self, monkeypatch):
        self.taken, self.stop = 0, None
        step = Training._step

        def counted(training, *arguments):
            if self.taken + 1 == self.stop:
                raise KeyboardInterrupt
            self.taken += 1
            return step(training, *arguments)

        monkeypatch.setattr(Training, "_step", counted)


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


FEW = ROWS[:12]
SHORT = replace(SETTINGS, folds=2, batch=3)
EPOCH = 2  # steps: a member's six questions in batches of three
STEPS = 2 * 2 * EPOCH  # members, epochs


@pytest.fixture
def lora(tiny, readings, tmp_path):
    """Trains adapters in one folder, and gives the history."""

    def run(rows=FEW, settings=SHORT, seed=0, base=tiny):
        return train(base, rows, readings[:12], settings, "lora", seed, tmp_path)[1]

    return run


@pytest.fixture(scope="module")
def whole(tiny, readings, tmp_path_factory):
    """What a training without a stop writes: weights, card, history."""
    folder = tmp_path_factory.mktemp("whole")
    _, history = train(tiny, FEW, readings[:12], SHORT, "lora", 0, folder)
    return (folder / WEIGHTS).read_bytes(), (folder / CARD).read_text(), history


@pytest.mark.parametrize("stop", [2, 4, 5, 8])
def test_an_interrupted_training_ends_as_one_without_a_stop(
    lora, whole, steps, stop, tmp_path, monkeypatch
):
    steps.stop = stop
    with pytest.raises(KeyboardInterrupt):
        lora()
    assert not (tmp_path / CARD).exists() and not (tmp_path / WEIGHTS).exists()
    steps.taken, steps.stop = 0, None
    history = lora()
    # It goes on after the last whole epoch: after step 0, 2, 4 or 6.
    assert steps.taken == STEPS - EPOCH * ((stop - 1) // EPOCH)
    assert (tmp_path / WEIGHTS).read_bytes() == whole[0]
    assert (tmp_path / CARD).read_text() == whole[1]
    assert history == whole[2]
    assert not (tmp_path / CHECKPOINT).exists()


def test_two_stops_are_as_good_as_one(lora, whole, steps, tmp_path):
    for stop in (3, 4):
        steps.taken, steps.stop = 0, stop
        with pytest.raises(KeyboardInterrupt):
            lora()
    steps.stop = None
    lora()
    assert (tmp_path / WEIGHTS).read_bytes() == whole[0]


def changed(rows):
    first = rows[0]
    texts = (first.group.answers[0] + " map", *first.group.answers[1:])
    return [replace(first, group=replace(first.group, answers=texts)), *rows[1:]]


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"rows": changed(FEW)}, {"settings": replace(SHORT, rate=1e-3)}],
    ids=["seed", "data", "settings"],
)
def test_another_training_does_not_go_on_from_there(lora, steps, other):
    steps.stop = 5
    with pytest.raises(KeyboardInterrupt):
        lora()
    steps.taken, steps.stop = 0, None
    lora(**other)
    assert steps.taken == STEPS


def test_nor_does_one_on_another_base(lora, steps, tmp_path_factory):
    steps.stop = 5
    with pytest.raises(KeyboardInterrupt):
        lora()
    steps.taken, steps.stop = 0, None
    folder = tmp_path_factory.mktemp("other")
    lora(base=in_float32(save_base(folder, llama_config(), seed=1)))
    assert steps.taken == STEPS


def test_the_learning_rate_warms_up_and_falls():
    rates = [training.schedule(step, 40) for step in range(40)]
    assert rates[0] == pytest.approx(1 / 8)  # of the peak: one of eight steps
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and 6 <= top <= 8
    assert rates[top:] == sorted(rates[top:], reverse=True) and 0 < rates[-1] < 0.01
    assert rates[20] == pytest.approx(0.5)  # half a cosine, half way


def test_toys_are_what_the_tests_take_them_for():
    for row in ROWS:
        assert ["gull" in text.split() for text in row.group.answers] == [
            grade == 0.9 for grade in row.grades
        ]
    assert len({row.section for row in ROWS}) == 6 and len(TOYS) == 16

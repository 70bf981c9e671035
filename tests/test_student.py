import json
import os
import pickle
import shutil
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.scoring.backbone import Group
from nbutils.scoring.student import (
    CARD,
    WEIGHTS,
    Calibration,
    Student,
    StudentError,
    _sha256,
    davidson,
    load,
    verdict,
)
from tests.tiny import SETTINGS, group, in_float32, llama_config, random_student, save_base

ANSWERS = ("gull", "tern skua hut", "boat . boat", "mast", "rope lamp wind snow rain ice rock")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["probe", "lora"])
def student(request, tiny):
    return random_student(tiny, request.param)


def alone(student: Student, asked: Group) -> list[float]:
    """Each answer's score from a pass of its own."""
    return [
        student.scores(Group(asked.question, asked.source, (answer,)))[0]
        for answer in asked.answers
    ]


@settings(max_examples=10)
@given(chosen=st.lists(st.sampled_from(ANSWERS), min_size=2, max_size=6))
def test_scores_are_those_of_separate_passes(student, chosen):
    asked = group(*chosen)
    assert student.scores(asked) == pytest.approx(alone(student, asked), rel=1e-3, abs=1e-4)


@settings(max_examples=10)
@given(chosen=st.permutations(ANSWERS))
def test_the_order_of_the_answers_does_not_matter_at_all(student, chosen):
    # Not even by rounding: a verdict on two nearly equal answers is the same in both orders.
    plain = dict(zip(ANSWERS, student.scores(group(*ANSWERS)), strict=True))
    assert student.scores(group(*chosen)) == [plain[answer] for answer in chosen]


def test_answers_of_the_same_text_have_the_same_score(student):
    scores = student.scores(group("gull", "mast", "gull", "tern", "gull"))
    assert scores[0] == scores[2] == scores[4]
    assert len(set(scores)) == 3


def test_every_member_and_the_slope_count(tiny):
    student = random_student(tiny)
    reading = student.read(group("gull"))
    each = [float(student.features(reading, k)[0] @ student.heads[k]) for k in range(3)]
    student.calibration = Calibration(slope=2.0, tie=0.0, grade_slope=1.0, grade_intercept=0.0)
    # Twice the mean of three members: 2 * (x + y + z) / 3.
    assert student.scores(group("gull")) == pytest.approx([2 * sum(each) / 3], rel=1e-5)
    assert len(set(each)) == 3


def test_features_are_centred_and_scaled(tiny):
    student = random_student(tiny)
    reading = student.read(group("gull", "tern"))
    by_hand = (reading.features - student.mean) / student.scale
    assert torch.equal(student.features(reading, 0), by_hand)


def test_an_adapter_changes_nothing_at_first(tiny):
    student = random_student(tiny)
    reading = student.read(group("gull", "tern skua"))
    frozen = student.features(reading, 0)
    student.add_adapter(0)
    torch.testing.assert_close(student.features(reading, 0), frozen, rtol=1e-4, atol=1e-4)


def test_members_do_not_share_an_adapter(tiny):
    student = random_student(tiny, "lora")
    reading = student.read(group("gull"))
    first, second, again = (student.features(reading, k) for k in (0, 1, 0))
    assert torch.equal(first, again) and not torch.allclose(first, second, atol=1e-2)


def test_davidson_by_hand():
    # Worths 4 and 1, so scores log 4 and 0; tie term log 0.5. Davidson: a 4, b 1, tie 0.5 sqrt(4)
    # = 1, of 6 in all.
    label, shares = verdict(log(4), 0.0, log(0.5))
    assert (label, shares) == ("a", pytest.approx((4 / 6, 1 / 6, 1 / 6)))
    # Worths 1 and 1.21, tie term log 2: b 1.21, a 1, tie 2 sqrt(1.21) = 2.2, of 4.41.
    label, shares = verdict(0.0, log(1.21), log(2))
    assert (label, shares) == ("tie", pytest.approx((1 / 4.41, 1.21 / 4.41, 2.2 / 4.41)))
    logits = davidson(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), -1.0)
    assert logits.tolist() == [[1.0, 0.0, -0.5], [0.0, 3.0, 0.5]]


numbers = st.floats(-40, 40)


@given(numbers, numbers, numbers)
def test_probabilities_sum_to_one_and_the_verdict_is_the_likeliest(a, b, tie):
    label, shares = verdict(a, b, tie)
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0
    if a != b:
        assert shares[("a", "b", "tie").index(label)] == max(shares)


@given(numbers, numbers)
def test_equal_scores_are_a_tie_whatever_the_tie_term(score, tie):
    label, shares = verdict(score, score, tie)
    # Worths of 1 and 1: a 1, b 1, tie nu.
    each = 1 / (2 + exp(tie))
    assert (label, shares) == ("tie", pytest.approx((each, each, 1 - 2 * each), abs=1e-9))


@given(numbers, numbers, numbers)
def test_swapping_the_answers_swaps_the_verdict(a, b, tie):
    label, (first, second, equal) = verdict(a, b, tie)
    other, shares = verdict(b, a, tie)
    assert other == {"a": "b", "b": "a", "tie": "tie"}[label]
    assert shares == pytest.approx((second, first, equal), rel=1e-9)


@given(numbers, numbers, numbers)
def test_davidsons_tie_is_the_geometric_mean(a, b, tie):
    # Source: Davidson 1970, equation 2.4: p(tie) = nu sqrt(p(a) p(b)).
    _, (first, second, equal) = verdict(a, b, tie)
    assert equal == pytest.approx(exp(tie) * sqrt(first * second), rel=1e-6, abs=1e-300)


def test_grades_are_monotone_from_0_to_1(tiny):
    student = random_student(tiny)
    student.calibration = Calibration(1.0, -1.0, grade_slope=2.0, grade_intercept=-1.0)
    assert student.grade(0.5) == 0.5  # -1 + 2 * 0.5 = 0
    assert student.grade(1.0) == pytest.approx(1 / (1 + exp(-1)))
    grades = [student.grade(score / 10) for score in range(-50, 51)]
    assert grades == sorted(set(grades)) and grades[0] >= 0 and grades[-1] <= 1
    assert (student.grade(-1e6), student.grade(1e6)) == (pytest.approx(0), 1)


# Saved and loaded.


@pytest.fixture(scope="module")
def saved(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    student.calibration = Calibration(1.5, -0.7, 2.0, 0.3)
    student.card = {"seed": 7, "cross_validation": {"pairs": 3, "agreement": 0.5}}
    student.save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A saved student that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "copy")


def edit(folder, **fields):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | fields))


def test_a_saved_student_is_the_same_student(student, saved, tiny):
    again = load(saved, tiny)
    assert again.scores(group(*ANSWERS)) == student.scores(group(*ANSWERS))
    assert (again.settings, again.kind) == (student.settings, student.kind)
    assert again.calibration == student.calibration
    assert again.verdict(0.1, 0.0) == student.verdict(0.1, 0.0)
    assert sorted(file.name for file in saved.iterdir()) == [CARD, WEIGHTS]


def test_a_loaded_student_saves_the_same_weights(saved, tiny, tmp_path):
    load(saved, tiny).save(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    assert json.loads((tmp_path / CARD).read_text()) == json.loads((saved / CARD).read_text())


def test_the_card_says_what_the_student_is(saved, student, tiny):
    card = json.loads((saved / CARD).read_text())
    assert card["base_sha256"] == tiny.sha256 and card["kind"] == student.kind
    assert card["weights_sha256"] == _sha256(saved / WEIGHTS)
    assert (card["seed"], card["cross_validation"]["pairs"]) == (7, 3)
    assert card["settings"]["layers"] == list(SETTINGS.layers)
    assert card["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert card["prompt"].startswith("student-v1:")


def test_damaged_weights_are_refused(copy, tiny):
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    with pytest.raises(StudentError, match=rf"{WEIGHTS} is damaged \(SHA-256 \w+ expected\)"):
        load(copy, tiny)


@pytest.mark.parametrize(("name", "says"), [(WEIGHTS, "is missing"), (CARD, f"no {CARD}; run")])
def test_a_missing_file_is_named(copy, tiny, name, says):
    (copy / name).unlink()
    with pytest.raises(StudentError, match=says):
        load(copy, tiny)


def test_a_base_with_other_weights_is_refused(saved, tmp_path):
    other = in_float32(save_base(tmp_path, llama_config(), seed=1))
    with pytest.raises(StudentError, match=rf"field 'base_sha256': \w+ is not {other.sha256}"):
        load(saved, other)


def test_a_student_of_another_prompt_is_refused(copy, tiny):
    edit(copy, prompt="student-v0:0123456789ab")
    with pytest.raises(StudentError, match="field 'prompt': student-v0:0123456789ab is not"):
        load(copy, tiny)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "other"},
        {"settings": {"layers": 3}},
        {"settings": {"layers": [2], "unknown": 1}},
        {"settings": None},
        {"calibration": {"slope": 1.0}},
    ],
)
def test_a_card_that_cannot_be_read_is_refused(copy, tiny, fields):
    edit(copy, **fields)
    with pytest.raises(StudentError, match=CARD):
        load(copy, tiny)


def test_a_card_cut_off_or_without_a_field_is_refused(copy, tiny):
    text = (copy / CARD).read_text()
    (copy / CARD).write_text(text[: len(text) // 2])
    with pytest.raises(StudentError, match=rf"{CARD}: JSONDecodeError.*train the student again"):
        load(copy, tiny)
    card = json.loads(text)
    del card["weights_sha256"]
    (copy / CARD).write_text(json.dumps(card))
    with pytest.raises(StudentError, match="weights_sha256"):
        load(copy, tiny)


def test_adapters_that_do_not_fit_are_refused(tiny, tmp_path):
    student = random_student(tiny, "lora")
    student.settings = replace(SETTINGS, folds=2)  # saves two of its three adapters
    student.save(tmp_path)
    edit(tmp_path, settings=json.loads((tmp_path / CARD).read_text())["settings"] | {"folds": 3})
    with pytest.raises(StudentError, match="adapter 'member2' does not fit"):
        load(tmp_path, tiny)


SPRUNG = []


def spring():
    SPRUNG.append(1)


class Trap:
    """Whoever unpickles it springs it."""

    def __reduce__(self):
        return spring, ()


def test_pickles_are_never_read(copy, tiny, student):
    attack = pickle.dumps(Trap())
    pickle.loads(attack)
    assert SPRUNG.pop() == 1  # the trap works
    for name in ("student.bin", "student.pt", "adapter_model.bin", "training.pt"):
        (copy / name).write_bytes(attack)
    assert load(copy, tiny).scores(group("gull")) == student.scores(group("gull"))
    # Nor where a pickle stands in the place of the weights, with a card that vouches for it.
    (copy / WEIGHTS).write_bytes(attack)
    edit(copy, weights_sha256=_sha256(copy / WEIGHTS))
    with pytest.raises(StudentError, match=f"{WEIGHTS}: not safetensors"):
        load(copy, tiny)
    assert SPRUNG == []


def test_a_save_cut_off_leaves_no_student_that_loads(copy, tiny, monkeypatch):
    # Weights are renamed first, the card second; a stop between the two is seen by the hash.
    real, moves = os.replace, []

    def once(source, target):
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        real(source, target)

    other = random_student(tiny, seed=5)
    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        other.save(copy)
    assert [Path(move).name for move in moves] == [WEIGHTS, CARD]
    with pytest.raises(StudentError, match="is damaged"):
        load(copy, tiny)

import asyncio
import copy
import json
import random
from dataclasses import replace

import pytest
import torch

from nbutils.callpath.exchange import Call
from nbutils.causal_lm import (
    ADAPTER_CARD,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SHIPPED,
    file_sha256,
    weights_sha256,
)
from nbutils.evaluation.untuned import generate
from nbutils.logprobs import verdict_probabilities
from nbutils.prompts import PAIRWISE
from nbutils.roles import GenerativeRole, Role
from nbutils.scoring.training import CHECKPOINT
from nbutils.services import local
from nbutils.services.local import LocalChat
from nbutils.verdicts import read_verdict
from nbutils.weights import SHA256
from nbutils.writing import generative
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.generative import GenerativeError, train_generative
from nbutils.writing.lessons import encode, lesson_loss
from tests.chatty import loaded, said, save_chat_base, toy_lessons
from tests.test_causal_lm import Trap

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LESSONS = toy_lessons(24)
SAVED = sorted([ADAPTER_CARD, ADAPTER_CONFIG, ADAPTER_WEIGHTS])


@pytest.fixture(autouse=True, scope="module")
def float32():
    """As on a processor without bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save_chat_base(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def role(toy):
    sizes = {"epochs": 3, "rank": 4, "rate": 2e-2, "batch": 4, "alpha": 0.5, "max_tokens": 64}
    return GenerativeRole(model=str(toy), **sizes)


@pytest.fixture(scope="module")
def trained(role, tmp_path_factory):
    """Card and folder of a training without a stop."""
    folder = tmp_path_factory.mktemp("trained")
    return train_generative(role, LESSONS, 0, folder), folder


@pytest.fixture(scope="module")
def able(role, tmp_path_factory):
    """A base whose weights allow it to be surer, and a student of it that has learnt more."""
    folder = tmp_path_factory.mktemp("able")
    base = save_chat_base(folder / "base", initializer_range=0.25)
    more = {"model": str(base), "epochs": 8, "rank": 16, "rate": 1e-2}
    train_generative(role.model_copy(update=more), toy_lessons(40), 0, folder / "student")
    return base, folder / "student"


def student(toy, folder="", logprobs=0):
    sampling = {"max_tokens": 12, "temperature": 0}
    role = {"model": str(toy), "adapter": str(folder), "logprobs": logprobs}
    return LocalChat(Role(service="local", sampling=sampling, **role))


def replies(service, taught):
    calls = [Call("student", lesson.pair_id, "p:0", lesson.messages[:2]) for lesson in taught]
    return asyncio.run(service.send(calls))


# What is learnt.


def test_the_loss_falls(trained, role):
    card, _ = trained
    history = card["history"]
    assert len(history) == 3 * 6  # epochs; batches of 4 of 24
    first, last = (
        sum(row["loss"] for row in history if row["epoch"] == epoch) / 6 for epoch in (1, 3)
    )
    assert last < 0.6 * first
    for row in history:
        assert row["loss"] == pytest.approx(0.5 * row["ce"] + 0.5 * row["kl"], rel=1e-4)


def test_it_judges_as_a_chat_model_with_reasons_verdict_and_shares(able):
    base, folder = able
    others = toy_lessons(12, seed=5)
    before, after = replies(student(base), others), replies(student(base, folder, 20), others)
    assert not any(read_verdict(reply.text).letter for reply in before)
    right = 0
    for lesson, reply in zip(others, after, strict=True):
        read = read_verdict(reply.text, reply.finish_reason)
        better = lesson.messages[-1]["content"][0]
        if read.letter != better:
            continue
        right += 1
        assert reply.text == f"{better} is better . [[ {better} ]]"  # with the teacher's reasons
        shares, why = verdict_probabilities(reply, read, "original")
        # As sure as the teacher, who gives the better one 0.9.
        assert why is None and shares["AB".index(better)] == pytest.approx(0.9, abs=0.1)
    assert right >= 10  # of 12; chance is 6


def test_soft_targets_are_learnt_beside_the_words(role, tmp_path):
    # The same replies, but the teacher is never sure: at alpha 0 only the shares are learnt.
    unsure = [replace(lesson, target=(0.4, 0.4, 0.2)) for lesson in LESSONS]
    card = train_generative(role.model_copy(update={"alpha": 0.0}), unsure, 0, tmp_path)
    first, last = card["history"][0], card["history"][-1]
    assert last["kl"] < 0.05 < first["kl"]
    assert last["ce"] > 0.8 * first["ce"]


def test_at_alpha_1_no_target_is_needed(role, tmp_path):
    bare = [replace(lesson, target=None) for lesson in LESSONS[:4]]
    card = train_generative(role.model_copy(update={"alpha": 1.0}), bare, 0, tmp_path)
    assert card["events_with_kl"] == 0 and all(row["kl"] == 0 for row in card["history"])


def test_a_step_adds_up_the_gradients_of_its_lessons(role, toy, monkeypatch):
    lm, tokenizer = loaded(toy)
    chat = ChatFormat(tokenizer, lm.config.eos_token_id, "toy")
    rows = [encode(lesson, chat) for lesson in LESSONS[:3]]
    upper = generative._with_adapter(lm, role, 0)
    figures = generative._step(upper, rows, 0.5)
    found = {n: p.grad.clone() for n, p in upper.named_parameters() if p.grad is not None}
    assert found and all("lora" in name for name in found)
    upper.zero_grad()
    losses = []
    for row in rows:  # unpadded, all logits
        ids = row.ids[: row.prompt + row.reply]
        logits = upper(input_ids=ids[None]).logits[0, row.prompt - 1 : -1]
        losses.append(lesson_loss(logits, row, 0.5).total)
    mean = sum(losses) / 3
    mean.backward()
    assert figures["loss"] == pytest.approx(mean.item(), rel=1e-5)
    for name, weight in upper.named_parameters():
        if name in found:
            torch.testing.assert_close(weight.grad, found[name], rtol=1e-3, atol=1e-6)


# What is written.


def test_the_card_tells_how_it_came_about(trained, role, toy):
    card, folder = trained
    assert sorted(file.name for file in folder.iterdir()) == SAVED
    assert card == json.loads((folder / ADAPTER_CARD).read_text())
    assert (card["kind"], card["base"], card["seed"]) == ("generative", "toy", 0)
    assert card["base_sha256"] == weights_sha256(str(toy))
    assert card["weights_sha256"] == file_sha256(folder / ADAPTER_WEIGHTS)
    assert (card["events"], card["events_with_kl"]) == (24, 24)
    assert card["prompt"] == PAIRWISE.fingerprint
    assert card["settings"] == role.model_dump(exclude={"model"})
    assert {"torch", "transformers", "peft"} == card["versions"].keys()
    told = "".join((folder / name).read_text() for name in (ADAPTER_CARD, ADAPTER_CONFIG))
    assert str(toy.parent) not in told  # no path of this machine


def test_tokens_are_counted_without_padding(trained, toy):
    card, _ = trained
    lm, tokenizer = loaded(toy)
    sizes = [
        len(tokenizer.apply_chat_template(lesson.messages, return_dict=False)) for lesson in LESSONS
    ]
    assert (card["tokens"], card["longest_event"]) == (sum(sizes), max(sizes))


def test_the_same_seed_gives_the_same_adapter(trained, role, tmp_path):
    _, folder = trained
    for seed in (0, 1):
        train_generative(role, LESSONS, seed, tmp_path / str(seed))
        weights = (tmp_path / str(seed) / ADAPTER_WEIGHTS).read_bytes()
        assert (weights == (folder / ADAPTER_WEIGHTS).read_bytes()) == (seed == 0)
    assert (tmp_path / "0" / ADAPTER_CARD).read_text() == (folder / ADAPTER_CARD).read_text()


def test_the_caller_s_random_state_neither_matters_nor_changes(role, tmp_path):
    short = role.model_copy(update={"epochs": 1})
    torch.manual_seed(5)
    random.seed(5)
    train_generative(short, LESSONS[:4], 0, tmp_path)
    found = torch.rand(1).item(), random.random()
    torch.manual_seed(5)
    random.seed(5)
    assert found == (torch.rand(1).item(), random.random())


# Interrupted, resumed, done again.


class Steps:
    """Counts the training's steps, and stops it before one of them."""

    def __init__(self, monkeypatch):
        self.taken, self.stop = 0, None
        step = generative._step

        def counted(*arguments):
            if self.taken + 1 == self.stop:
                raise KeyboardInterrupt
            self.taken += 1
            return step(*arguments)

        monkeypatch.setattr(generative, "_step", counted)


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


@pytest.mark.parametrize("stop", [1, 6, 7, 18])
def test_an_interrupted_training_ends_as_one_without_a_stop(trained, role, steps, stop, tmp_path):
    steps.stop = stop
    with pytest.raises(KeyboardInterrupt):
        train_generative(role, LESSONS, 0, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} <= {CHECKPOINT}
    steps.taken, steps.stop = 0, None
    card = train_generative(role, LESSONS, 0, tmp_path)
    # Six steps an epoch: it goes on after step 0, 0, 6 or 12.
    assert steps.taken == 18 - 6 * ((stop - 1) // 6)
    assert card == trained[0]
    assert (tmp_path / ADAPTER_WEIGHTS).read_bytes() == (trained[1] / ADAPTER_WEIGHTS).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == SAVED


def test_a_finished_training_is_not_done_again(trained, role, steps):
    card, folder = trained
    assert train_generative(role, LESSONS, 0, folder) == card
    assert steps.taken == 0


def differing(role):
    """Trainings that are another than (role, LESSONS, seed 0), each in one thing."""
    other = replace(LESSONS[0], target=(0.5, 0.4, 0.1))
    said_otherwise = [*LESSONS[0].messages[:2], said("assistant", "[[A]]")]
    yield role, LESSONS, 1
    yield role, [other, *LESSONS[1:]], 0
    yield role, [replace(LESSONS[0], messages=said_otherwise), *LESSONS[1:]], 0
    yield role, LESSONS[::-1], 0
    for name, value in {"rate": 1e-2, "alpha": 0.4, "batch": 8, "rank": 2, "epochs": 4}.items():
        yield role.model_copy(update={name: value}), LESSONS, 0


@pytest.mark.parametrize("number", range(9))
def test_another_training_is_neither_resumed_nor_taken_for_done(role, steps, tmp_path, number):
    steps.stop = 7
    with pytest.raises(KeyboardInterrupt):
        train_generative(role, LESSONS, 0, tmp_path)
    other, taught, seed = list(differing(role))[number]
    steps.taken, steps.stop = 0, 1  # would be taken as the first step of an epoch
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        fit = generative._fit
        patch.setattr(generative, "_fit", lambda *a: begun.append(a[-1].read(0)) or fit(*a))
        with pytest.raises(KeyboardInterrupt):
            train_generative(other, taught, seed, tmp_path)
    assert begun == [{}]


def test_a_base_that_was_changed_is_trained_anew(role, toy, steps, tmp_path):
    base = save_chat_base(tmp_path / "toy")
    own = role.model_copy(update={"model": str(base), "epochs": 1})
    first = train_generative(own, LESSONS[:4], 0, tmp_path / "out")
    save_chat_base(base, seed=4)
    second = train_generative(own, LESSONS[:4], 0, tmp_path / "out")
    assert steps.taken == 2 and first["base_sha256"] != second["base_sha256"]
    with pytest.raises(Exception, match="base_sha256"):  # the adapter is not of the first base
        save_chat_base(base)
        replies(student(base, tmp_path / "out"), LESSONS[:1])


def test_damaged_weights_are_trained_again(role, steps, tmp_path):
    short = role.model_copy(update={"epochs": 1})
    card = train_generative(short, LESSONS[:4], 0, tmp_path)
    (tmp_path / ADAPTER_WEIGHTS).write_bytes(b"half")
    assert train_generative(short, LESSONS[:4], 0, tmp_path) == card
    assert steps.taken == 2


def test_a_checkpoint_runs_no_code(role, tmp_path):
    torch.save({"identity": Trap(), "members": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="training.pt: not a checkpoint of ours .* delete it"):
        train_generative(role, LESSONS, 0, tmp_path)


# What is refused.


def test_an_event_that_is_too_long_is_named(role, tmp_path):
    long = [
        replace(LESSONS[n], messages=[*LESSONS[n].messages[:2], said("assistant", "gull " * 60)])
        for n in (3, 5)
    ]
    taught = [*LESSONS[:3], *long]
    with pytest.raises(GenerativeError) as raised:
        train_generative(role, taught, 0, tmp_path)
    told = str(raised.value)
    assert told.startswith("2 of 5 are longer than max_tokens = 64: p3 (")
    assert "p5 (" in told and "; raise it to" in told
    assert not list(tmp_path.iterdir())


def test_nothing_to_learn_is_refused(role, tmp_path):
    with pytest.raises(GenerativeError, match="there is no lesson: judge and resolve"):
        train_generative(role, [], 0, tmp_path)
    bare = [replace(lesson, target=None) for lesson in LESSONS]
    with pytest.raises(GenerativeError, match="alpha is 0.5, and no lesson has a KL term; give"):
        train_generative(role, bare, 0, tmp_path)


def test_adapters_are_on_every_layer_and_not_on_the_head(toy, role):
    upper = generative._with_adapter(loaded(toy)[0], role, 0)
    names = {n for n, p in upper.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 6 * 7  # A and B, layers, projections
    assert not any("lm_head" in name or "embed" in name for name in names)


# The shipped base.


def test_the_shipped_base_learns_to_judge_from_a_few_dozen_events(smollm, tmp_path, monkeypatch):
    def copied(model, dtype):  # to read the file again takes longer than all else here
        assert (model, dtype) == (SHIPPED, smollm.dtype)
        return copy.deepcopy(smollm.lm), smollm.tokenizer

    monkeypatch.setattr(generative, "load_lm", copied)
    monkeypatch.setattr(local, "load_lm", copied)
    role = GenerativeRole(model=SHIPPED, epochs=1, rank=8, rate=5e-3, batch=2, max_tokens=64)
    card = train_generative(role, LESSONS, 0, tmp_path)
    assert (len(card["history"]), card["events_with_kl"]) == (12, 24)
    assert card["history"][-1]["loss"] < 0.5 * card["history"][0]["loss"]
    taught = student(SHIPPED, tmp_path, logprobs=20)
    assert taught.endpoint == f"local:{SHA256[:12]}+{card['weights_sha256'][:12]}"
    asked = toy_lessons(4, seed=5)
    for reply in replies(taught, asked):
        read = read_verdict(reply.text, reply.finish_reason)
        assert read.letter is not None, reply.text
        assert verdict_probabilities(reply, read, "original")[1] is None
    (before,) = generate(smollm, [asked[0].messages[:2]])
    assert read_verdict(*before).letter is None

from dataclasses import replace
from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbutils.causal_lm import ROUND
from nbutils.records import HUMAN, Resolution
from nbutils.resolution import soft_target
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.events import EventError, finetuning_events
from nbutils.writing.lessons import Encoded, Lesson, encode, lesson_loss, lessons
from tests.chatty import loaded, said, save_chat_base, toy_lessons
from tests.test_events import ANSWERS, JUDGEMENTS, PAIRS, QUESTIONS, RESOLUTIONS
from tests.tiny import WORDS

ROWS = (QUESTIONS, ANSWERS, JUDGEMENTS, RESOLUTIONS)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The chat format over words."""
    lm, tokenizer = loaded(save_chat_base(tmp_path_factory.mktemp("toy")))
    return ChatFormat(tokenizer, lm.config.eos_token_id, "toy")


@pytest.fixture(scope="module")
def shipped(smollm):
    return ChatFormat(smollm.tokenizer, smollm.eos, "shipped")


# Events with soft targets.


def test_a_lesson_is_an_event_with_the_target_in_its_own_letters():
    found = lessons(PAIRS, *ROWS)
    assert [lesson.pair_id for lesson in found] == ["p1", "p2", "p3"]  # p4 conflicts, p5 is unread
    assert [{"messages": lesson.messages} for lesson in found] == finetuning_events(PAIRS, *ROWS)
    first, second, third = (lesson.target for lesson in found)
    # Two verdicts for a, each .9 + .1 / 3 on it: in the original order A is a.
    assert first == pytest.approx((2.8 / 3, 0.1 / 3, 0.1 / 3))
    # A tie and b: a .1 / 3, b and tie (.9 + .2 / 3) / 2. The flipped order named b; A is b there.
    assert second == pytest.approx((1.45 / 3, 0.1 / 3, 1.45 / 3))
    assert third == pytest.approx((0.1 / 3, 0.1 / 3, 2.8 / 3))


def test_the_target_follows_the_teacher_s_own_probabilities():
    certain = [
        replace(row, target=(0.7, 0.2, 0.1)) if row.pair_id in ("p1", "p2") else row
        for row in RESOLUTIONS
    ]
    found = lessons(PAIRS, QUESTIONS, ANSWERS, JUDGEMENTS, certain)
    assert [lesson.target for lesson in found[:2]] == [(0.7, 0.2, 0.1), (0.2, 0.7, 0.1)]


def test_a_person_s_target_follows_the_order_of_the_reply_that_argues_for_it():
    people = [
        Resolution("p1", HUMAN, "b", target=soft_target("b", "b")),  # neither reply says b
        Resolution("p4", HUMAN, "b", target=soft_target("b", "b")),  # the flipped order does
        Resolution("p5", HUMAN, "b", target=soft_target("b", "b")),  # the original does
    ]
    found = lessons([PAIRS[0], PAIRS[3], PAIRS[4]], *ROWS[:3], people)
    assert [lesson.pair_id for lesson in found] == ["p4", "p5"]
    # b is A in the flipped order and B in the original: .9 + .1 / 3 stands there.
    assert found[0].target == pytest.approx((2.8 / 3, 0.1 / 3, 0.1 / 3))
    assert found[1].target == pytest.approx((0.1 / 3, 2.8 / 3, 0.1 / 3))


def test_lessons_do_not_depend_on_the_order_of_the_rows():
    turned = [rows[::-1] for rows in ROWS]
    assert lessons(PAIRS[::-1], *turned) == lessons(PAIRS, *ROWS)[::-1]


@pytest.mark.parametrize("left_out", range(4))
def test_a_missing_row_is_named(left_out):
    rows = [[] if number == left_out else own for number, own in enumerate(ROWS)]
    with pytest.raises(EventError, match="pair p1: there is no row for"):
        lessons(PAIRS, *rows)


# As tokens.


def test_the_loss_sees_the_assistant_s_tokens_and_no_other(toy):
    lesson = toy_lessons(1)[0]
    row = encode(lesson, toy)
    words = [WORDS[token] for token in row.ids]
    assert words[row.prompt - 2 : row.prompt] == ["<|im_start|>", "assistant"]
    letter = lesson.messages[-1]["content"][0]
    told = f"{letter} is better . [[ {letter} ]] <|im_end|>"
    assert words[row.prompt : row.prompt + row.reply] == told.split()
    assert not row.ids[row.prompt + row.reply :].any()  # padding
    assert len(row.ids) % ROUND == 0 and len(row.ids) - row.prompt - row.reply < ROUND
    assert (words[row.prompt + row.verdict], row.target) == (letter, lesson.target)
    assert [WORDS[token] for token in row.letters] == ["A", "B", "C"]


REPLY = "Answer A gives the year, answer B does not. [[A]] is no verdict here.\n[[{}]]"


@pytest.mark.parametrize("letter", ["A", "B", "C", "b"])
def test_the_shipped_base_s_letters_stand_in_the_verdict_s_place(shipped, smollm, letter):
    talk = [said("user", "Which?"), said("assistant", REPLY.format(letter))]
    row = encode(Lesson("p", talk, (0.2, 0.3, 0.5)), shipped)
    reply = row.ids[row.prompt : row.prompt + row.reply].tolist()
    assert smollm.tokenizer.decode(reply) == REPLY.format(letter) + "<|im_end|>"
    before, after = reply[: row.verdict], reply[row.verdict + 1 :]
    case = str.lower if letter.islower() else str.upper
    for other, token in zip("ABC", row.letters, strict=True):
        spelt = smollm.tokenizer.decode([*before, token, *after])
        assert spelt == REPLY.format(case(other)) + "<|im_end|>"


def test_without_a_target_or_a_place_there_is_no_kl_term(toy):
    lesson = toy_lessons(1)[0]
    twice = [*lesson.messages[:2], said("assistant", "[[A]] is better . [[A]]")]
    for other in (replace(lesson, target=None), replace(lesson, messages=twice)):
        row = encode(other, toy)
        assert (row.letters, row.target) == ((), ())
        logits = torch.randn(row.reply, len(WORDS))
        found = lesson_loss(logits, row, 0.3)
        assert found.kl == 0 and found.total == pytest.approx(0.3 * found.ce.item())


# The loss.

# Five tokens; a reply of three, 4 1 0, whose second is the verdict: 1, 2, 3 stand for A, B, C.
ROW = Encoded("p", torch.tensor([2, 4, 1, 0, 0, 0]), 1, 3, 1, (1, 2, 3), (0.5, 0.3, 0.2))
LOGITS = torch.tensor(
    [
        [0.0, 0.0, 0.0, 0.0, log(4)],  # 4 has 4 of 8
        [log(2), log(4), log(2), log(2), log(6)],  # 1 has 4 of 16; of A, B, C 4, 2, 2 of 8
        [log(6), 0.0, 0.0, 0.0, 0.0],  # 0 has 6 of 10
    ]
)
CE = -(log(4 / 8) + log(4 / 16) + log(6 / 10)) / 3
KL = 0.5 * log(0.5 / (4 / 8)) + 0.3 * log(0.3 / (2 / 8)) + 0.2 * log(0.2 / (2 / 8))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_loss_by_hand(alpha):
    found = lesson_loss(LOGITS, ROW, alpha)
    assert found.ce.item() == pytest.approx(CE) and found.kl.item() == pytest.approx(KL)
    assert found.total.item() == pytest.approx(alpha * CE + (1 - alpha) * KL)


def test_the_gradient_at_each_token():
    logits = LOGITS.clone().requires_grad_()
    lesson_loss(logits, ROW, 0.25).total.backward()
    shares = torch.softmax(LOGITS, -1)
    by_hand = shares.clone()  # of CE: shares less the token itself, over three tokens
    for place, token in enumerate((4, 1, 0)):
        by_hand[place, token] -= 1
    by_hand *= 0.25 / 3
    # Of KL: the student's shares of A, B, C (4, 2, 2 of 8) less the target's.
    by_hand[1, 1:4] += 0.75 * torch.tensor([4 / 8 - 0.5, 2 / 8 - 0.3, 2 / 8 - 0.2])
    torch.testing.assert_close(logits.grad, by_hand)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(-5, 5))
def test_kl_is_least_where_the_letters_shares_are_the_target(letters, other):
    best = torch.full((3, 5), other)
    best[1, 1:4] = torch.log(torch.tensor(ROW.target))
    drawn = best.clone()
    drawn[1, 1:4] = torch.tensor(letters)
    assert lesson_loss(best, ROW, 0.0).total.item() == pytest.approx(0, abs=1e-6)
    weights = [exp(letter) for letter in letters]
    shares = [weight / sum(weights) for weight in weights]
    told = sum(q * log(q / p) for q, p in zip(ROW.target, shares, strict=True))
    assert lesson_loss(drawn, ROW, 0.0).kl.item() == pytest.approx(told, abs=1e-5)


def test_a_long_reply_weighs_no_more_than_a_short_one():
    # The same logits and token again and again: CE is a mean.
    def ce(count):
        row = Encoded("p", torch.tensor([2] + [4] * count), 1, count, 0, (), ())
        return lesson_loss(LOGITS[:1].expand(count, -1), row, 1.0).total.item()

    assert ce(1) == pytest.approx(ce(50)) == pytest.approx(log(2))

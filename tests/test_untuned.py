from types import SimpleNamespace

import pytest
import torch

from nbutils.evaluation import untuned
from nbutils.evaluation.untuned import (
    LETTERS,
    OPENING,
    generate,
    judge_generated,
    judge_untuned,
    messages,
)
from nbutils.prompts import PAIRWISE
from nbutils.records import Answer, Pair, Question
from tests.tiny import WORDS

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = Question("q", "test", "s", "fact", "Which boat ?", "", "c", "c", "gull lamp . tern rope")
ANSWERS = [
    Answer("q", "x", "gull lamp"),
    Answer("q", "y", "tern rope mast"),
    Answer("q", "z", "ice"),
    Answer("q", "same", "ice"),
]
PAIRS = [
    Pair("p1", "test", "q", "x", "y"),
    Pair("p2", "test", "q", "y", "z"),
    Pair("p3", "test", "q", "z", "same"),
]
TEXTS = {(row.question_id, row.answerer): row.text for row in ANSWERS}


def alone(base, pair, order):
    """Probabilities of A, B, C from one plain pass over one prompt, "[[" at its end."""
    ids = base.chat(messages(QUESTION, pair, TEXTS, order)) + base.text(OPENING)
    with torch.no_grad():
        logits = base.lm(input_ids=torch.tensor([ids])).logits[0, -1].double()
    tokens = [base.text(letter)[0] for letter in LETTERS]
    return torch.softmax(logits[tokens], -1).tolist()


def assert_as_separate_passes(base):
    found = judge_untuned(base, PAIRS, [QUESTION], ANSWERS)
    assert [(row.pair_id, row.order) for row in found] == [
        (pair.pair_id, order) for pair in PAIRS for order in ("original", "flipped")
    ]
    for row in found:
        (pair,) = (pair for pair in PAIRS if pair.pair_id == row.pair_id)
        first, second, tie = alone(base, pair, row.order)
        likeliest = max("ABC", key=dict(zip("ABC", (first, second, tie), strict=True)).get)
        assert row.reply == f"[[{likeliest}]]"
        if row.order == "flipped":  # A is the pair's b there
            first, second = second, first
        assert row.probabilities == pytest.approx((first, second, tie), abs=1e-4)
        place = ("a", "b", "tie").index(row.verdict)
        assert row.probabilities[place] == max(row.probabilities)
        assert (row.judge, row.prompt) == ("untuned", PAIRWISE.fingerprint)


def test_probabilities_are_those_of_separate_passes(tiny):
    assert_as_separate_passes(tiny)


def test_so_are_those_of_the_shipped_base(smollm, monkeypatch):
    short = untuned.render_pairwise

    def shortened(*arguments):  # the rules are long; a tenth of them shows the same, faster
        system, user = short(*arguments)
        return [system | {"content": system["content"][:150]}, user]

    monkeypatch.setattr(untuned, "render_pairwise", shortened)
    assert_as_separate_passes(smollm)


def test_a_letter_is_one_token_after_the_brackets(smollm):
    for letter in LETTERS:
        assert smollm.text(OPENING + letter) == smollm.text(OPENING) + smollm.text(letter)


def test_naming_the_answers_the_other_way_round_swaps_the_orders(tiny):
    swapped = [Pair(p.pair_id, "test", "q", p.answerer_b, p.answerer_a) for p in PAIRS]
    plain = judge_untuned(tiny, PAIRS, [QUESTION], ANSWERS)
    other = judge_untuned(tiny, swapped, [QUESTION], ANSWERS)
    found = {(row.pair_id, row.order): row for row in other}
    turned = {"original": "flipped", "flipped": "original"}
    for row in plain:  # the same prompt, so the same reply, read in the other labels
        twin = found[row.pair_id, turned[row.order]]
        a, b, tie = row.probabilities
        assert twin.reply == row.reply
        assert twin.probabilities == pytest.approx((b, a, tie), abs=1e-6)
        assert twin.verdict == {"a": "b", "b": "a", "tie": "tie"}[row.verdict]


def test_the_first_letter_means_b_in_the_flipped_order(tiny, monkeypatch):
    # A base that always finds A ten times as likely as B or C.
    shares = [10 / 12, 1 / 12, 1 / 12]
    monkeypatch.setattr(untuned, "_shares", lambda base, prompts: [shares] * len(prompts))
    original, flipped = judge_untuned(tiny, PAIRS[:1], [QUESTION], ANSWERS)
    assert (original.verdict, original.probabilities) == ("a", (10 / 12, 1 / 12, 1 / 12))
    assert (flipped.verdict, flipped.probabilities) == ("b", (1 / 12, 10 / 12, 1 / 12))
    assert original.reply == flipped.reply == "[[A]]"


# Generated replies.


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(untuned, "LONGEST", 6)


def chat(text):
    return [{"role": "user", "content": text}]


def test_a_batch_replies_as_each_prompt_alone_does(tiny, short):
    # Prompts of unlike lengths: the shorter is padded in front, where the base must not look.
    prompts = [chat("gull"), chat("tern rope mast ice rock"), chat("")]
    together = generate(tiny, prompts)
    assert together == [generate(tiny, [prompt])[0] for prompt in prompts]
    assert len({reply for reply, _ in together}) > 1


def test_a_reply_that_is_cut_off_is_unreadable(tiny, short):
    judged = judge_generated(tiny, PAIRS[:2], [QUESTION], ANSWERS, batch=3)
    assert [(row.pair_id, row.order) for row in judged] == [
        (name, order) for name in ("p1", "p2") for order in ("original", "flipped")
    ]
    for row in judged:  # a random base does not stop by itself
        assert (row.verdict, row.reason) == (None, "cut off: finish reason 'length'")
        assert row.reply and row.probabilities is None


def scripted(monkeypatch, tiny, reply):
    """Makes the base continue every prompt with the words of the reply."""
    words = torch.tensor([[WORDS.index(word) for word in reply.split()]])

    def generated(input_ids, **_):
        return torch.cat([input_ids, words.expand(len(input_ids), -1)], 1)

    monkeypatch.setattr(tiny, "lm", SimpleNamespace(generate=generated, device="cpu"))


def test_a_whole_reply_is_read_in_the_pair_s_labels(tiny, monkeypatch):
    scripted(monkeypatch, tiny, "A is better . [[ A ]] <|im_end|> <unk>")
    judged = judge_generated(tiny, PAIRS[:1], [QUESTION], ANSWERS)
    assert [row.verdict for row in judged] == ["a", "b"]
    assert judged[0].reply.endswith("[[ A ]]") and judged[0].reason is None


def test_a_whole_reply_without_a_verdict_is_unreadable(tiny, monkeypatch):
    scripted(monkeypatch, tiny, "gull <|im_end|>")
    judged = judge_generated(tiny, PAIRS[:1], [QUESTION], ANSWERS)
    assert [row.reason for row in judged] == ["no marker on the last line"] * 2


def test_the_prompt_is_the_teacher_s(tiny):
    system, user = messages(QUESTION, PAIRS[0], TEXTS, "flipped")
    assert system["content"] == PAIRWISE.system
    assert user["content"].index("tern rope mast") < user["content"].index("gull lamp\n</answer_b>")

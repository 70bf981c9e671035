import random
import threading
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbutils.writing.generation import Chooser, Interrupted, drawn, generate
from tests.tiny import WORDS

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[1, 4, 18, 20], [1, 22], [1, 4, 30, 31, 32, 25, 19]]


def by_hand(lm, prompt, longest):
    """Greedy, one whole pass a token."""
    ids = list(prompt)
    for _ in range(longest):
        with torch.no_grad():
            ids.append(lm(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[len(prompt) :]


# Which token is drawn.

HALF_THIRD_FIFTH = torch.tensor([[log(0.3), log(0.5), log(0.2)]])  # tokens 1, 0, 2 by share


@pytest.mark.parametrize(
    ("top_p", "uniform", "token"),
    [
        (1, 0.0, 1), (1, 0.49, 1), (1, 0.51, 0), (1, 0.79, 0), (1, 0.81, 2),
        (1, 1.0, 2),  # 0.99999999 as float32
        (0.4, 0.99, 1), (0.4, 1.0, 1),  # the first alone reaches 0.4
        (0.6, 0.62, 1), (0.6, 0.63, 0), (0.6, 1.0, 0),  # two take part: .5 / .8 = .625
    ],
)  # fmt: skip
def test_a_draw_falls_among_the_cumulated_shares(top_p, uniform, token):
    assert drawn(HALF_THIRD_FIFTH, top_p, torch.tensor([uniform])).tolist() == [token]


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=6))
def test_evenly_spread_draws_give_each_token_its_share(logits):
    count = 200
    uniform = (torch.arange(count) + 0.5) / count
    tokens = drawn(torch.tensor([logits]).expand(count, -1), 1.0, uniform)
    shares = torch.softmax(torch.tensor(logits), -1)
    found = torch.bincount(tokens, minlength=len(logits))
    assert (found - shares * count).abs().max() <= 1.01


def test_each_row_draws_from_its_own_source():
    scores = torch.zeros(2, 1000)
    choose = Chooser([random.Random(1), random.Random(2)], temperature=1.0)
    first = choose(None, scores).argmax(-1)
    alone = Chooser([random.Random(2)], temperature=1.0)(None, scores[:1]).argmax(-1)
    assert first[1] == alone[0] != first[0]


def test_a_low_temperature_leaves_only_the_likeliest():
    scores = torch.tensor([[0.0, 1.0, 0.9]])
    cold, hot = (
        {
            Chooser([random.Random(seed)], temperature)(None, scores).argmax().item()
            for seed in range(50)
        }
        for temperature in (0.01, 10.0)
    )
    assert (cold, hot) == ({1}, {0, 1, 2})


# Replies.


def test_a_batch_replies_as_each_prompt_alone_does(tiny):
    found = generate(tiny.lm, PROMPTS, [], 8, Chooser())
    assert found == [by_hand(tiny.lm, prompt, 8) for prompt in PROMPTS]
    assert len({tuple(reply) for reply in found}) > 1


def test_a_reply_ends_with_its_first_stop(tiny):
    whole = generate(tiny.lm, PROMPTS[:1], [], 8, Chooser())[0]
    stops = {whole[3], whole[6]}
    end = min(whole.index(stop) for stop in stops)
    assert generate(tiny.lm, PROMPTS[:1], stops, 8, Chooser()) == [whole[: end + 1]]


def test_what_stood_in_a_token_s_place_is_kept(tiny):
    choose = Chooser([random.Random(5)], temperature=2.0, alternatives=3)
    prompt = PROMPTS[0]
    (reply,) = generate(tiny.lm, [prompt], [], 6, choose)
    with torch.no_grad():
        logits = tiny.lm(input_ids=torch.tensor([prompt + reply])).logits[0].float()
    logged = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]  # of the model, at temperature 1
    assert len(choose.steps) == len(reply) == 6
    for step, own, token in zip(choose.steps, logged, reply, strict=True):
        assert step.logprob.item() == pytest.approx(own[token].item(), abs=1e-4)
        assert step.top[0].tolist() == own.topk(3).indices.tolist()
        assert step.top_logprob[0].tolist() == pytest.approx(own.topk(3).values.tolist(), abs=1e-4)
    assert reply != by_hand(tiny.lm, prompt, 6)  # it was drawn, and may be unlikely


def test_no_more_alternatives_than_tokens():
    choose = Chooser(alternatives=20)
    choose(None, torch.zeros(1, 5))
    assert choose.steps[0].top.shape == (1, 5)


def test_nothing_is_computed_for_nobody(tiny):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        generate(tiny.lm, PROMPTS, [], 8, Chooser(stop=stop))


def test_every_word_can_be_a_reply(tiny):
    choose = Chooser([random.Random(n) for n in range(8)], temperature=50.0)
    rows = generate(tiny.lm, PROMPTS[:1] * 8, [], 60, choose)
    assert {token for row in rows for token in row} == set(range(len(WORDS)))

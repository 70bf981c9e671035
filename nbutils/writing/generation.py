"""Replies of a causal LM to token ids, in batches. Never loads one, never knows what is asked."""

import random
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from nbutils.causal_lm import ROUND


class Interrupted(Exception):
    """Nobody waits for the replies any more."""


@dataclass(frozen=True)
class Step:
    """What stood in one place of each row's reply (natural logarithms)."""

    logprob: Tensor  # (rows,): of the chosen token
    top: Tensor  # (rows, alternatives) long: the likeliest tokens, the likeliest first
    top_logprob: Tensor  # (rows, alternatives)


class Chooser(LogitsProcessor):
    """Chooses the next token of each row, and keeps the likeliest in its place.

    Each row draws from a source of its own, so that a reply depends neither on its company in the
    batch nor on what was drawn before, but for rounding.
    """

    def __init__(
        self,
        draws: Sequence[random.Random] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        alternatives: int = 0,
        stop: threading.Event | None = None,
    ) -> None:
        """`temperature` 0 takes the likeliest and draws nothing; `stop`, once set, interrupts."""
        self._draws, self._temperature, self._top_p = draws, temperature, top_p
        self._alternatives, self._stop = alternatives, stop
        self.steps: list[Step] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(rows, vocabulary) logits -> scores whose maximum is the chosen token's."""
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        if self._temperature:
            uniform = torch.tensor([draw.random() for draw in self._draws])
            chosen = drawn(scores / self._temperature, self._top_p, uniform.to(scores.device))
        else:
            chosen = scores.argmax(-1)
        if self._alternatives:
            logged = torch.log_softmax(scores, -1)
            top = logged.topk(min(self._alternatives, logged.shape[-1]))
            own = logged.gather(1, chosen[:, None])[:, 0]
            self.steps.append(Step(own, top.indices, top.values))
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def drawn(logits: Tensor, top_p: float, uniform: Tensor) -> Tensor:
    """(rows,) tokens from (rows, vocabulary) logits and (rows,) draws from 0 to 1.

    Of the tokens by falling share, those take part that come before the sum has reached top_p; the
    draw finds its place among their cumulated shares. Source: Holtzman et al. 2020, The Curious
    Case of Neural Text Degeneration, section 3.1.
    """
    shares, order = torch.softmax(logits, -1).sort(descending=True, stable=True)
    takes_part = shares.cumsum(-1) - shares < top_p
    summed = (shares * takes_part).cumsum(-1)
    place = torch.searchsorted(summed, uniform[:, None] * summed[:, -1:], right=True)
    last = takes_part.sum(-1, keepdim=True) - 1  # a draw next to 1 may be rounded up to it
    return order.gather(1, torch.minimum(place, last))[:, 0]


@torch.no_grad()
def generate(
    lm: Any,
    prompts: Sequence[Sequence[int]],
    stops: Collection[int],
    longest: int,
    choose: Chooser,
) -> list[list[int]]:
    """The tokens that follow each prompt, up to the first of `stops` and with it.

    At most `longest` tokens a reply: one without a stop was cut off. Prompts are padded in front,
    where the model does not look.
    """
    width = max(map(len, prompts))
    width += -width % ROUND
    rows = torch.tensor([[0] * (width - len(own)) + list(own) for own in prompts])
    seen = torch.tensor([[0] * (width - len(own)) + [1] * len(own) for own in prompts])
    settings = GenerationConfig(
        max_new_tokens=longest, do_sample=False, eos_token_id=sorted(stops) or None, pad_token_id=0
    )
    out = lm.generate(
        input_ids=rows.to(lm.device),
        attention_mask=seen.to(lm.device),
        generation_config=settings,
        logits_processor=[choose],
    )
    return [_to_stop(tokens, stops) for tokens in out[:, width:].tolist()]


def _to_stop(tokens: list[int], stops: Collection[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens) if token in stops]
    return tokens[: ends[0] + 1] if ends else tokens

r"""What the generative student learns from: events with soft targets, and the loss. Never trains.

The loss of one lesson is alpha * CE + (1 - alpha) * KL, as in targets.py: alpha weighs what the
teacher said against what it held likely. There a verdict is one choice among three; here it is
said in the n tokens y_1 ... y_n of a reply, so that

    CE = -1/n * sum over t of log p(y_t | prompt, y_1 ... y_(t-1))        nats a token
    KL = sum over L in {A, B, C} of q_L * log(q_L / p_L)                  nats a verdict

Here p_L is the student's softmax over the three tokens that put A, B or C in the verdict's place,
after the teacher's own reasons, and q the soft target in the letters of the order that is shown.
CE is a mean, not a sum: so a pair weighs the same however long its reasons are, and both terms have
the size of one choice, without which alpha would depend on the length of the replies. At the
verdict's token both act: CE with alpha / n and KL with 1 - alpha. That the three letters hold the
whole share there, KL leaves to CE. At alpha 1 this is the plain fine-tuning of a hosted service;
at alpha 0 the verdict alone is taught, and no reasons. A lesson without a KL term keeps alpha * CE,
as a conflict keeps its KL term in targets.py. A conflict itself has no event and teaches nothing
here: neither of its replies argues for a final verdict. Nor has a person's verdict that neither of
the teacher's replies argues for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from nbutils.causal_lm import ROUND
from nbutils.prompts import Messages
from nbutils.records import HUMAN, Answer, Judgement, Pair, Probabilities, Question, Resolution
from nbutils.verdicts import Letter, read_verdict
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.events import finetuning_events


@dataclass(frozen=True)
class Lesson:
    """A fine-tuning event with the teacher's soft target."""

    pair_id: str
    messages: Messages  # system, user, assistant
    target: Probabilities | None  # of A, B and C, as this event shows the answers


@dataclass(frozen=True)
class Encoded:
    """A lesson as token ids: the prompt, the reply, then padding to a multiple of ROUND."""

    pair_id: str
    ids: Tensor  # (N,) long
    prompt: int  # tokens of the prompt
    reply: int  # tokens of the reply, the one that ends it included
    verdict: int  # place in the reply of the token that holds the verdict's letter
    letters: tuple[int, ...]  # the tokens that put A, B and C there; () without a KL term
    target: tuple[float, ...]  # of A, B and C; () without a KL term


@dataclass(frozen=True)
class LessonLoss:
    """The terms of one lesson's loss, in nats."""

    ce: Tensor
    kl: Tensor
    total: Tensor


def lessons(
    pairs: Iterable[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    judgements: Iterable[Judgement],
    resolutions: Iterable[Resolution],
) -> list[Lesson]:
    """One lesson for each pair that has an event: the event and the resolution's soft target.

    Raises EventError where the rows do not make events (see finetuning_events).
    """
    asked = {row.question_id: row for row in questions}
    resolved = {row.pair_id: row for row in resolutions}
    given: dict[str, list[Answer]] = {}
    for answer in answers:
        given.setdefault(answer.question_id, []).append(answer)
    judged: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        judged.setdefault(judgement.pair_id, []).append(judgement)
    found = []
    for pair in pairs:
        own = judged.get(pair.pair_id, [])
        question, resolution = asked.get(pair.question_id), resolved.get(pair.pair_id)
        events = finetuning_events(
            [pair],
            [question] if question else [],
            given.get(pair.question_id, []),
            own,
            [resolution] if resolution else [],
        )
        assert resolution is not None  # finetuning_events has raised otherwise
        for event in events:  # one, or none where nothing argues for a verdict
            target = _as_shown(resolution, own)
            found.append(Lesson(pair.pair_id, event["messages"], target))
    return found


def encode(lesson: Lesson, chat: ChatFormat) -> Encoded:
    """The lesson's tokens under a model's chat format.

    There is no KL term without a soft target, and none where the verdict's letter has no place of
    its own: the marker stands twice on its line, or the tokenizer joins letter and bracket.
    """
    prompt, reply = chat.event(lesson.messages)
    ids = prompt + reply
    padded = torch.tensor(ids + [0] * (-len(ids) % ROUND))
    verdict, letters = _verdict(lesson.messages, chat) if lesson.target else (0, ())
    target = lesson.target if lesson.target and letters else ()
    return Encoded(lesson.pair_id, padded, len(prompt), len(reply), verdict, letters, target)


def lesson_loss(logits: Tensor, row: Encoded, alpha: float) -> LessonLoss:
    """The loss from the (reply, vocabulary) logits of the tokens of the reply."""
    logits = logits.float()
    own = row.ids[row.prompt : row.prompt + row.reply].to(logits.device)
    ce = functional.cross_entropy(logits, own)
    kl = logits.new_zeros(())
    if row.letters:
        logged = torch.log_softmax(logits[row.verdict, list(row.letters)], -1)
        kl = functional.kl_div(logged, logged.new_tensor(row.target), reduction="sum")
    return LessonLoss(ce, kl, alpha * ce + (1 - alpha) * kl)


def _as_shown(resolution: Resolution, judgements: Sequence[Judgement]) -> Probabilities | None:
    """The soft target of (A, B, C) in the order that the event shows: see finetuning_events."""
    orders = {
        row.order
        for row in judgements
        if resolution.judge in (row.judge, HUMAN) and row.verdict == resolution.verdict
    }
    if resolution.target is None or "original" in orders:
        return resolution.target
    first, second, tie = resolution.target
    return second, first, tie


def _verdict(messages: Messages, chat: ChatFormat) -> tuple[int, tuple[int, ...]]:
    """The verdict's place in the reply's tokens, and those that put A, B and C there.

    Found by writing each letter in turn: the replies must differ in one token alone.
    """
    *prompt, assistant = messages
    text = assistant["content"]
    place = read_verdict(text).place
    if place is None:
        return 0, ()
    replies = []
    for letter in get_args(Letter):
        written = letter if text[place].isupper() else letter.lower()
        other = {"role": "assistant", "content": text[:place] + written + text[place + 1 :]}
        replies.append(chat.event([*prompt, other])[1])
    if len({len(reply) for reply in replies}) > 1:
        return 0, ()
    columns = list(zip(*replies, strict=True))
    unlike = [number for number, column in enumerate(columns) if len(set(column)) > 1]
    return (unlike[0], columns[unlike[0]]) if len(unlike) == 1 else (0, ())

"""The student's base as a judge before any training, prompted like the teacher. Never trained.

Its verdict is read from the probabilities of A, B and C right after a verdict's opening brackets,
which it always gives; what it would have written by itself is generated for a sample.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix

import torch
from tqdm import tqdm

from nbutils.judging import ORDERS
from nbutils.prompts import PAIRWISE, render_pairwise
from nbutils.records import Answer, Judgement, Order, Pair, Probabilities, Question
from nbutils.scoring.backbone import Base
from nbutils.verdicts import Letter, in_pair_labels, read_verdict
from nbutils.writing import generation

JUDGE = "untuned"
LETTERS: tuple[Letter, ...] = ("A", "B", "C")
OPENING = "[["
LONGEST = 160  # tokens of a generated reply; the teacher's replies are at most about as long


def judge_untuned(
    base: Base, pairs: Iterable[Pair], questions: Iterable[Question], answers: Iterable[Answer]
) -> list[Judgement]:
    """Two judgements a pair, with the probabilities of (a, b, tie) and the likeliest as verdict.

    All prompts of one question are branches of one tree pass. `reply` is the marker that the
    likeliest letter completes: no text was generated.
    """
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row.text for row in answers}
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.question_id, []).append(pair)
    found = []
    for question_id, own in tqdm(groups.items(), "untuned base", file=sys.stdout, mininterval=2):
        shown = [(pair, order) for pair in own for order in ORDERS]
        prompts = [base.chat(messages(asked[question_id], p, texts, o)) for p, o in shown]
        for (pair, order), shares in zip(shown, _shares(base, prompts), strict=True):
            found.append(_judgement(pair, order, shares))
    return found


def generate(base: Base, prompts: Sequence[Sequence[Mapping[str, str]]]) -> list[tuple[str, str]]:
    """Greedy replies to chat messages, each with its finish reason, "stop" or "length"."""
    ids = [base.chat(prompt) for prompt in prompts]
    replies = []
    for tokens in generation.generate(base.lm, ids, base.eos, LONGEST, generation.Chooser()):
        text = str(base.tokenizer.decode(tokens, skip_special_tokens=True))
        replies.append((text, "stop" if tokens[-1] in base.eos else "length"))
    return replies


def judge_generated(
    base: Base,
    pairs: Sequence[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    batch: int = 8,
) -> list[Judgement]:
    """Judgements read from generated replies, as the teacher's are; many are unreadable."""
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row.text for row in answers}
    shown = [(pair, order) for pair in pairs for order in ORDERS]
    found = []
    for start in tqdm(range(0, len(shown), batch), "generated replies", file=sys.stdout):
        part = shown[start : start + batch]
        prompts = [messages(asked[pair.question_id], pair, texts, order) for pair, order in part]
        for (pair, order), (reply, finish) in zip(part, generate(base, prompts), strict=True):
            read = read_verdict(reply, finish)
            label = in_pair_labels(read.letter, order) if read.letter else None
            judged = Judgement(
                pair.pair_id, order, JUDGE, PAIRWISE.fingerprint, reply, label, read.reason,
                read.recovered,
            )  # fmt: skip
            found.append(judged)
    return found


def messages(
    question: Question, pair: Pair, texts: Mapping[tuple[str, str], str], order: Order
) -> list[dict[str, str]]:
    """The teacher's prompt for one pair in one order."""
    answer_a, answer_b = (
        texts[pair.question_id, answerer] for answerer in (pair.answerer_a, pair.answerer_b)
    )
    return render_pairwise(question.question, question.source, answer_a, answer_b, order)


@torch.no_grad()
def read_prompts(
    base: Base, prompts: Sequence[list[int]], opening: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over prompts, each followed by `opening`: the last hidden states (N, width), and the
    place of each prompt's last token (K,). What the prompts begin with alike is read once."""
    shared = list(commonprefix(list(prompts)))
    branches = [prompt[len(shared) :] + base.text(opening) for prompt in prompts]
    tree = base.tree(shared, branches, branches)
    states = base.decoder(
        input_ids=tree.ids,
        position_ids=tree.positions,
        attention_mask=tree.mask,
        use_cache=False,
    ).last_hidden_state[0]
    return states, torch.tensor(tree.ends)


@torch.no_grad()
def choice(base: Base, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """(K, tokens) probabilities of the next token after (K, width) states, among these alone."""
    return torch.softmax(base.lm.lm_head(states)[:, list(tokens)].double(), -1)


def _shares(base: Base, prompts: list[list[int]]) -> list[list[float]]:
    """The probabilities of A, B and C, among the three, as the token after the opening."""
    states, ends = read_prompts(base, prompts, OPENING)
    tokens = [base.text(OPENING + letter)[-1] for letter in LETTERS]
    shares: list[list[float]] = choice(base, states[ends], tokens).tolist()
    return shares


def _judgement(pair: Pair, order: Order, shares: list[float]) -> Judgement:
    letter = LETTERS[max(range(3), key=shares.__getitem__)]
    first, second, tie = shares
    labelled: Probabilities = (first, second, tie)
    if order == "flipped":
        labelled = (second, first, tie)
    label = in_pair_labels(letter, order)
    return Judgement(
        pair.pair_id, order, JUDGE, PAIRWISE.fingerprint, f"[[{letter}]]", label,
        probabilities=labelled,
    )  # fmt: skip

"""The causal LM that a student reads with, one tree pass a question. Never sees a label.

A tree holds the text shared by all answers of one question once (question, source, question again)
and every answer as a branch that sees that text and itself, not the other answers. So a pass over
the tree gives what a pass for each answer would, for a fraction of the tokens.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nbutils.causal_lm import ROUND, SHIPPED, load_lm, processor_dtype, weights_sha256

TEMPLATE = "user\nQuestion: {question}\n\nPassage: {source}\n\nQuestion: {question}"
REPLY = "assistant\nAnswer:"


class BackboneError(ValueError):
    """A base model or a text that the student cannot read; the message names the remedy."""


@dataclass(frozen=True)
class Group:
    """One question with its source and the answers to it that are to be scored together."""

    question: str
    source: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """A group as token ids. N tokens in all, padding included; K branches.

    `mask` is additive, 0 where a token (row) sees another (column). `spans` holds, for each branch,
    its first token and the number of the answer's own tokens; `ends` its last token.
    """

    ids: Tensor  # (1, N) long
    positions: Tensor  # (1, N) long: each branch goes on from the end of the shared text
    mask: Tensor  # (1, 1, N, N) of the model's dtype
    spans: tuple[tuple[int, int], ...]
    ends: tuple[int, ...]
    shared: int  # tokens of the shared text


@dataclass(frozen=True)
class Reading:
    """What the frozen base makes of a tree."""

    tree: Tree
    hidden: Tensor  # (1, N, width): the state that enters the first adapted layer
    pooling: Tensor  # (3K, N): the rows of `pooled`, three an answer
    features: Tensor  # (K, 3 * layers * width) float32: `pooled` of the frozen base


class Base:
    """A frozen causal LM with its tokenizer, name and the SHA-256 of its weights."""

    def __init__(self, model: str | Path = SHIPPED) -> None:
        """Loads a folder or a hub id, by default the shipped SmolLM2-135M-Instruct.

        bfloat16 where the processor has it, float32 else. Raises BackboneError where the model is
        not a decoder whose layers can be read one by one.
        """
        self.dtype = processor_dtype()
        self.lm, self.tokenizer = load_lm(str(model), self.dtype)
        marks = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.bos, self.eos = ([] if mark is None else [mark] for mark in marks)
        self.name = "SmolLM2-135M-Instruct (Q4_1)" if model == SHIPPED else str(model)
        self.sha256 = weights_sha256(str(model))
        self.decoder = self.lm.get_decoder()
        if not isinstance(getattr(self.decoder, "layers", None), torch.nn.ModuleList):
            raise BackboneError(
                f"base model {self.name} ({type(self.lm).__name__}) keeps its layers elsewhere "
                "than in decoder.layers; take a base of the Llama, Mistral, Qwen or Gemma kind"
            )

    def encode(self, group: Group) -> Tree:
        """The group as a tree. Texts are data: a marker such as <|im_end|> in them stays text."""
        asked = TEMPLATE.format(question=group.question, source=group.source)
        shared = [*self.bos, *self.text(asked), *self.eos, *self.text("\n")]
        shared += [*self.bos, *self.text(REPLY)]
        answers = [self.text(" " + answer) for answer in group.answers]
        return self.tree(shared, [answer + self.eos for answer in answers], answers)

    def tree(self, shared: list[int], branches: list[list[int]], answers: list[list[int]]) -> Tree:
        """Token ids as a tree; `answers` are the parts of the branches to be pooled."""
        lengths = [len(branch) for branch in branches]
        ids = shared + [token for branch in branches for token in branch]
        limit = getattr(self.lm.config, "max_position_embeddings", len(ids))
        if len(shared) + max(lengths) > limit:
            raise BackboneError(
                f"question, source and answer come to {len(shared) + max(lengths)} tokens; "
                f"{self.name} reads {limit}: shorten the source"
            )
        padding = -len(ids) % ROUND
        owner = torch.zeros(len(ids) + padding, dtype=torch.long)
        positions = torch.arange(len(ids) + padding)
        start = len(shared)
        spans, ends = [], []
        for number, (length, answer) in enumerate(zip(lengths, answers, strict=True), 1):
            owner[start : start + length] = number
            positions[start : start + length] = torch.arange(len(shared), len(shared) + length)
            spans.append((start, len(answer)))
            start += length
            ends.append(start - 1)
        owner[len(ids) :] = -1  # padding sees padding, and nobody sees it
        positions[len(ids) :] = 0
        place = torch.arange(len(owner))
        same = owner[None, :] == owner[:, None]
        from_shared = (owner[None, :] == 0) & (owner[:, None] >= 0)
        sees = (place[:, None] >= place[None, :]) & (same | from_shared)
        mask = torch.zeros(sees.shape, dtype=self.dtype)
        mask.masked_fill_(~sees, torch.finfo(self.dtype).min)
        padded = torch.tensor(ids + [0] * padding)
        return Tree(
            padded[None], positions[None], mask[None, None], tuple(spans), tuple(ends), len(shared)
        )

    @torch.no_grad()
    def read(self, group: Group, layers: Sequence[int], first: int) -> Reading:
        """Hidden states of the frozen base at `layers`, pooled, and those that enter `first`."""
        tree = self.encode(group)
        states = self.decoder(
            input_ids=tree.ids,
            position_ids=tree.positions,
            attention_mask=tree.mask,
            use_cache=False,
            output_hidden_states=True,
        )
        pooling = _pooling(tree, self._surprisal(tree, states.last_hidden_state[0]))
        hidden = torch.stack([states.hidden_states[layer][0] for layer in layers])
        return Reading(tree, states.hidden_states[first], pooling, pooled(hidden, pooling))

    def upper(self, first: int, last: int) -> torch.nn.Module:
        """A copy of layers `first` to `last` alone, which takes hidden states as inputs_embeds."""
        part = copy.copy(self.decoder)
        part._modules = dict(self.decoder._modules)
        part.config = copy.deepcopy(self.decoder.config)
        part.config.num_hidden_layers = last - first + 1
        if kinds := getattr(part.config, "layer_types", None):  # looked up by a layer's place
            part.config.layer_types = kinds[first : last + 1]
        part.layers = copy.deepcopy(self.decoder.layers[first : last + 1])
        part.norm = torch.nn.Identity()
        return part

    def _surprisal(self, tree: Tree, last: Tensor) -> list[Tensor]:
        """-log p of each answer token given all before it, in nats: one (n,) an answer."""
        found = []
        for start, length in tree.spans:
            before = torch.cat(
                [last[tree.shared - 1 : tree.shared], last[start : start + length - 1]]
            )
            chosen = tree.ids[0, start : start + length, None]
            logits = self.lm.lm_head(before[:length]).float()
            found.append(-torch.log_softmax(logits, -1).gather(1, chosen)[:, 0])
        return found

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Messages as the base's chat format (ChatML) has them, up to the reply's first token."""
        ids = []
        for message in messages:
            ids += [*self.bos, *self.text(f"{message['role']}\n{message['content']}"), *self.eos]
            ids += self.text("\n")
        return [*ids, *self.bos, *self.text("assistant\n")]

    def text(self, text: str) -> list[int]:
        """The token ids of a text, none of which is a special token."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return ids


def pooled(hidden: Tensor, pooling: Tensor) -> Tensor:
    """(layers, N, width) hidden states and (3K, N) pooling rows -> (K, 3 * layers * width)."""
    layers, _, width = hidden.shape
    found = pooling @ hidden.float()  # (layers, 3K, width)
    return found.view(layers, -1, 3, width).permute(1, 0, 2, 3).flatten(1)


def _pooling(tree: Tree, surprisal: list[Tensor]) -> Tensor:
    """Three rows an answer: mean over its tokens, the end of its branch, mean by surprisal.

    The third row weighs each token by how little the base expected it: a wrong figure in a fluent
    answer is one token that the source did not call for.
    """
    rows = torch.zeros(len(tree.spans), 3, tree.ids.shape[1])
    for row, (start, length), end, nats in zip(rows, tree.spans, tree.ends, surprisal, strict=True):
        row[0, start : start + length] = 1 / max(length, 1)
        row[1, end] = 1
        row[2, start : start + length] = nats / max(length, 1)
    return rows.flatten(0, 1)

"""Chat messages as token ids, by a tokenizer's own template. Never lets a text end its own turn."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jinja2

Messages = Sequence[Mapping[str, str]]


class ChatFormatError(ValueError):
    """A template or messages that do not go together; the message names the remedy."""


class ChatFormat:
    """The chat format of one model.

    Texts are data: a special token that is spelt out in a text stays text. A template that refuses
    or drops the system message gets it at the head of the user's, a blank line between.
    """

    def __init__(self, tokenizer: Any, stops: Collection[int], name: str) -> None:
        """`stops` are the ids that end a reply. Raises ChatFormatError without template or stop."""
        if not tokenizer.chat_template:
            remedy = "take an instruct model, whose tokenizer brings one"
            raise ChatFormatError(f"{name}: its tokenizer has no chat template; {remedy}")
        if not stops:
            remedy = "name its eos_token_id in generation_config.json"
            raise ChatFormatError(f"{name}: no token is known that ends a reply; {remedy}")
        self._tokenizer, self.stops, self._name = tokenizer, frozenset(stops), name
        self._takes_system = self._shows_system()

    def prompt(self, messages: Messages) -> list[int]:
        """The messages and the opening of the reply that is to come."""
        return self._ids(messages, reply_to_come=True)

    def event(self, messages: Messages) -> tuple[list[int], list[int]]:
        """Prompt and reply of messages that end with the assistant's, the reply with its stop."""
        prompt = self.prompt(messages[:-1])
        whole = self._ids(messages, reply_to_come=False)
        reply = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt:
            why = "its chat template opens a reply otherwise than it asks for one"
            raise ChatFormatError(f"{self._name}: {why}; take another base")
        ends = [place for place, token in enumerate(reply) if token in self.stops]
        if not ends:
            why = "its chat template ends a reply with no token that stops the model"
            raise ChatFormatError(f"{self._name}: {why}; add that to generation_config.json")
        return prompt, reply[: ends[0] + 1]

    def text(self, tokens: Sequence[int]) -> str:
        """The tokens as text, without special ones."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _ids(self, messages: Messages, reply_to_come: bool) -> list[int]:
        shown = list(messages) if self._takes_system else _merged(messages)
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                shown,
                add_generation_prompt=reply_to_come,
                sanitize_control_tokens=True,
                return_dict=False,
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            why = f"its chat template refuses messages of {roles} ({error})"
            raise ChatFormatError(f"{self._name}: {why}; send others") from None
        return ids

    def _shows_system(self) -> bool:
        probe = [{"role": "system", "content": "qqq"}, {"role": "user", "content": "zzz"}]
        try:
            return "qqq" in self._tokenizer.apply_chat_template(probe, tokenize=False)
        except jinja2.TemplateError:
            return False


def _merged(messages: Messages) -> list[Mapping[str, str]]:
    """The messages with a system message at their head joined to the user's after it."""
    if [message["role"] for message in messages[:2]] != ["system", "user"]:
        return list(messages)
    system, user, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]

"""The hosted student's lessons: fine-tuning events in the chat format. Never uploads anything.

An event is one of the teacher's judgements as it was given: {"messages": [system, user,
assistant]}, the prompt in its order and the teacher's own reply.
"""

import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar, get_args

from nbutils.files import aside
from nbutils.judging import ORDERS
from nbutils.prompts import PAIRWISE, Messages, render_pairwise
from nbutils.records import Answer, Judgement, Label, Order, Pair, Question, Resolution

Event = dict[str, Messages]  # one line of the file: {"messages": [system, user, assistant]}
KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")


class HostedError(ValueError):
    """Rows that do not fit together; the message names the pair and the remedy."""


def finetuning_events(
    pairs: Iterable[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    judgements: Iterable[Judgement],
    resolutions: Iterable[Resolution],
) -> list[Event]:
    """One event for each pair that is resolved to a, b or tie, in the order of the pairs.

    Of a pair's two judgements, the lesson is the one that argues for the final verdict: of a
    leaning pair the order that named the winner, otherwise the original order. A conflict and an
    unreadable pair teach nothing. Rows are matched by pair id, never by position.

    Raises HostedError where a pair is not of the train split, what it needs is missing or there
    twice, a judgement was made under another prompt, or no order gives the resolved verdict.
    """
    asked = _keyed((row.question_id, row) for row in questions)
    texts = _keyed(((row.question_id, row.answerer), row.text) for row in answers)
    judged = _keyed(((row.pair_id, row.judge, row.order), row) for row in judgements)
    resolved = _keyed((row.pair_id, row) for row in resolutions)
    events = []
    for pair in pairs:
        if pair.split != "train":
            remedy = "give the pairs of train alone"
            raise HostedError(f"pair {pair.pair_id}: split '{pair.split}' is not train; {remedy}")
        resolution = _needed(resolved, pair.pair_id, pair)
        if resolution.verdict not in get_args(Label):
            continue
        lesson = _lesson(pair, resolution, judged)
        question = _needed(asked, pair.question_id, pair)
        first, second = (
            _needed(texts, (pair.question_id, who), pair)
            for who in (pair.answerer_a, pair.answerer_b)
        )
        prompt = render_pairwise(question.question, question.source, first, second, lesson.order)
        events.append({"messages": [*prompt, {"role": "assistant", "content": lesson.reply}]})
    return events


def write_events(path: str | Path, events: Iterable[Event]) -> None:
    """Writes all events to one file, one JSON object a line, whole or not at all.

    A lone surrogate, which UTF-8 cannot hold, is written as its JSON escape.
    """
    with aside(Path(path)) as part, part.open("wb") as file:
        for event in events:
            line = json.dumps(event, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))


def _lesson(
    pair: Pair, resolution: Resolution, judged: Mapping[tuple[str, str, Order], Judgement]
) -> Judgement:
    """The first of the pair's two judgements, original before flipped, with the final verdict."""
    both = [_needed(judged, (pair.pair_id, resolution.judge, order), pair) for order in ORDERS]
    for row in both:
        if row.prompt != PAIRWISE.fingerprint:
            what = f"was judged under {row.prompt}, not {PAIRWISE.fingerprint}"
            raise HostedError(f"pair {pair.pair_id}: {what}; judge it again")
    for row in both:
        if row.verdict == resolution.verdict:
            return row
    why = f"no order gives the resolved verdict '{resolution.verdict}'"
    raise HostedError(f"pair {pair.pair_id}: {why}; resolve the judgements again")


def _keyed(rows: Iterable[tuple[KeyT, ItemT]]) -> dict[KeyT, ItemT]:
    found: dict[KeyT, ItemT] = {}
    for key, row in rows:
        if key in found:
            raise HostedError(f"{key!r} is given twice; keep one of the two rows")
        found[key] = row
    return found


def _needed(rows: Mapping[KeyT, ItemT], key: KeyT, pair: Pair) -> ItemT:
    if key not in rows:
        raise HostedError(f"pair {pair.pair_id}: there is no row for {key!r}; give it too")
    return rows[key]

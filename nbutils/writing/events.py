"""The lessons of a student that writes: fine-tuning events in the chat format. Never uploads any.

An event is one of the teacher's judgements as it was given: {"messages": [system, user,
assistant]}, the prompt in its order and the teacher's own reply.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from llama_index.core.utils import get_tokenizer

from nbutils.files import aside
from nbutils.judging import ORDERS
from nbutils.prompts import PAIRWISE, Messages, render_pairwise
from nbutils.records import HUMAN, Answer, Judgement, Label, Order, Pair, Question, Resolution

Event = dict[str, Messages]  # one line of the file: {"messages": [system, user, assistant]}
ROLES = ["system", "user", "assistant"]
FEWEST = 10  # training events that services ask for
LONGEST = 65_536  # tokens of an event that OpenAI trains on (docs/models.md)
FRAME = 4  # tokens that a chat template puts around a message, about
KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")


class EventError(ValueError):
    """Rows that do not fit together, or events that no service takes; names row and remedy."""


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
    unreadable pair teach nothing. Nor does a person's verdict that neither of the teacher's
    replies argues for: there is no such reply to learn. Rows are matched by pair id, never by
    position.

    Raises EventError where a pair is not of the train split, what it needs is missing or there
    twice, a judgement was made under another prompt, or no order gives the teacher's own verdict.
    """
    asked = _keyed((row.question_id, row) for row in questions)
    texts = _keyed(((row.question_id, row.answerer), row.text) for row in answers)
    judged = _keyed(((row.pair_id, row.judge, row.order), row) for row in judgements)
    teachers = {pair_id: judge for pair_id, judge, _ in judged}
    resolved = _keyed((row.pair_id, row) for row in resolutions)
    events = []
    for pair in pairs:
        if pair.split != "train":
            remedy = "give the pairs of train alone"
            raise EventError(f"pair {pair.pair_id}: split '{pair.split}' is not train; {remedy}")
        resolution = _needed(resolved, pair.pair_id, pair)
        if resolution.verdict not in get_args(Label):
            continue
        judge = resolution.judge if resolution.judge != HUMAN else teachers.get(pair.pair_id, "")
        lesson = _lesson(pair, resolution, judge, judged)
        if lesson is None:
            continue
        question = _needed(asked, pair.question_id, pair)
        first, second = (
            _needed(texts, (pair.question_id, who), pair)
            for who in (pair.answerer_a, pair.answerer_b)
        )
        prompt = render_pairwise(question.question, question.source, first, second, lesson.order)
        events.append({"messages": [*prompt, {"role": "assistant", "content": lesson.reply}]})
    return events


def hold_out(
    pairs: Sequence[Pair], questions: Iterable[Question], share: float, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """The train pairs in two parts, to teach and to validate: whole sections, by their questions.

    In an order shuffled by the seed, a section goes to validation where that brings it nearer to
    `share` of the questions that pairs ask about; if none does, the smallest goes. A pair to
    validate that shares a chunk of its source with a question to teach is in neither part.

    Raises EventError on a pair that is not of the train split and on fewer than two sections.
    """
    asked = _keyed((row.question_id, row) for row in questions)
    used = {pair.question_id: _needed(asked, pair.question_id, pair) for pair in pairs}
    for question in used.values():
        if question.split != "train":
            remedy = "give the pairs of train alone"
            raise EventError(f"question {question.question_id} is not of train; {remedy}")
    sizes = Counter(question.section for question in used.values())
    if len(sizes) < 2:
        have = f"the train questions have {len(sizes)} section(s)"
        raise EventError(f"{have}, and a held-out part needs two: add headings or questions")
    held: set[str] = set()
    aim, filled = share * sizes.total(), 0
    for name in random.Random(seed).sample(sorted(sizes), len(sizes)):
        if filled + sizes[name] / 2 <= aim:
            held.add(name)
            filled += sizes[name]
    held = held or {min(sorted(sizes), key=lambda name: sizes[name])}
    teach = [pair for pair in pairs if used[pair.question_id].section not in held]
    taught = {chunk for pair in teach for chunk in used[pair.question_id].source_chunk_ids}
    rest = [pair for pair in pairs if used[pair.question_id].section in held]
    return teach, [p for p in rest if taught.isdisjoint(used[p.question_id].source_chunk_ids)]


def write_events(path: str | Path, events: Iterable[Event]) -> None:
    """Writes all events to one file, one JSON object a line, whole or not at all.

    A lone surrogate, which UTF-8 cannot hold, is written as its JSON escape.
    """
    with aside(Path(path)) as part:
        part.write_bytes(as_lines(events))


def as_lines(events: Iterable[Event]) -> bytes:
    """The file that write_events writes."""
    lines = (json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    return "".join(lines).encode("utf-8", "backslashreplace")


def check_events(
    train: Sequence[Event], validation: Sequence[Event], names: tuple[str, str]
) -> int:
    """The tokens of the training events, once everything a service would refuse is ruled out.

    Raises EventError, which names the file of `names` and the line, where there are fewer than ten
    training events or none to validate, roles are not system, user, assistant, a message is empty,
    an event is too long, or one prompt is in both files.
    """
    for events, name, fewest in ((train, names[0], FEWEST), (validation, names[1], 1)):
        if len(events) < fewest:
            remedy = "judge more train pairs"
            raise EventError(f"{name}: {len(events)} events, and {fewest} are needed; {remedy}")
    tokens = 0
    prompts: dict[str, int] = {}
    count = get_tokenizer()
    for number, event in enumerate(train, 1):
        tokens += _tokens(event, f"{names[0]} line {number}", count)
        prompts.setdefault(json.dumps(event["messages"][:2]), number)
    for number, event in enumerate(validation, 1):
        where = f"{names[1]} line {number}"
        _tokens(event, where, count)
        twin = prompts.get(json.dumps(event["messages"][:2]))
        if twin:
            why = f"the prompt is that of {names[0]} line {twin} too"
            raise EventError(f"{where}: {why}; take one of the two out")
    return tokens


def _tokens(event: Event, where: str, count: Callable[[str], list[int]]) -> int:
    """An event's tokens, about. Raises EventError where it is no event."""
    messages = event.get("messages") or []
    roles = [message.get("role") for message in messages]
    if roles != ROLES:
        raise EventError(f"{where}: the roles are {roles}, not {ROLES}; make the events again")
    for message in messages:
        if not str(message.get("content") or "").strip():
            why = f"the {message['role']}'s message is empty"
            raise EventError(f"{where}: {why}; leave that pair out")
    size = sum(len(count(message["content"])) + FRAME for message in messages)
    if size > LONGEST:
        why = f"about {size:,} tokens, and {LONGEST:,} are the most"
        raise EventError(f"{where}: {why}; retrieve shorter sources")
    return size


def _lesson(
    pair: Pair,
    resolution: Resolution,
    judge: str,
    judged: Mapping[tuple[str, str, Order], Judgement],
) -> Judgement | None:
    """The first of the judge's two judgements, original before flipped, with the final verdict.

    None where that verdict is a person's and neither gives it.
    """
    both = [_needed(judged, (pair.pair_id, judge, order), pair) for order in ORDERS]
    for row in both:
        if row.prompt != PAIRWISE.fingerprint:
            what = f"was judged under {row.prompt}, not {PAIRWISE.fingerprint}"
            raise EventError(f"pair {pair.pair_id}: {what}; judge it again")
    for row in both:
        if row.verdict == resolution.verdict:
            return row
    if resolution.judge == HUMAN:
        return None
    why = f"no order gives the resolved verdict '{resolution.verdict}'"
    raise EventError(f"pair {pair.pair_id}: {why}; resolve the judgements again")


def _keyed(rows: Iterable[tuple[KeyT, ItemT]]) -> dict[KeyT, ItemT]:
    found: dict[KeyT, ItemT] = {}
    for key, row in rows:
        if key in found:
            raise EventError(f"{key!r} is given twice; keep one of the two rows")
        found[key] = row
    return found


def _needed(rows: Mapping[KeyT, ItemT], key: KeyT, pair: Pair) -> ItemT:
    if key not in rows:
        raise EventError(f"pair {pair.pair_id}: there is no row for {key!r}; give it too")
    return rows[key]

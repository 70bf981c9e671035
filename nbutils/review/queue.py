"""Which items a review is of, and in which order. Never leaves one out that the filter keeps."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from nbutils.review.items import LEAST_SURE, Item, PairItem, ReviewError
from nbutils.review.labels import HumanGrade, HumanLabel

QueueOrder = Literal["shuffled", "disagreement"]
FILTERS = PairItem.kinds  # those of pairs; AnswerItem.kinds are fewer
REVIEWS = ("undecided", "decided", "overruled")
AGAIN = ("decided", "overruled")  # queues of what was decided, to read again
FEWEST = 10  # items of the least sure tenth


@dataclass(frozen=True)
class Filter:
    """What to keep; "" keeps everything."""

    split: str = ""
    answerers: str = ""  # such as gemma-3-270m vs smollm2-135m-instruct; of answers, who wrote it
    kind: str = ""  # one of the items' kinds
    review: str = ""  # one of REVIEWS: what the reviewer did; overruled: against the teacher


EVERYTHING = Filter()


def by_lot(keep: Filter, order: QueueOrder) -> bool:
    """Whether such a queue is a random sample of its split: no verdict and no name chose it."""
    chosen = keep.kind or keep.answerers or keep.review in AGAIN
    return order == "shuffled" and not chosen


def build_queue(
    items: Sequence[Item],
    keep: Filter,
    order: QueueOrder,
    seed: int,
    labels: Mapping[str, HumanLabel | HumanGrade],
) -> list[Item]:
    """The items that the filter keeps, in that order; `labels` has the decisions by item id.

    "shuffled": by a hash of seed and id, so that more items or another filter move none past
    another. "disagreement": teacher and student furthest apart first, then as shuffled. "student
    least sure" is the tenth, at least FEWEST, of what else the filter keeps. Raises ReviewError on
    a value that no item has.
    """
    _check(items, keep, order)
    kept = [
        item
        for item in sorted(items, key=lambda item: _shuffled(item, seed))
        if keep.split in ("", item.split)
        and keep.answerers in ("", item.answerers)
        and _reviewed(item, keep.review, labels.get(item.item_id))
        and (keep.kind in ("", LEAST_SURE) or keep.kind in item.traits)
    ]
    if keep.kind == LEAST_SURE:
        least = _least_sure(kept)
        kept = [item for item in kept if item.item_id in least]
    if order == "disagreement":
        kept.sort(key=lambda item: item.distance, reverse=True)  # equals stay as shuffled
    return kept


def _reviewed(item: Item, review: str, label: HumanLabel | HumanGrade | None) -> bool:
    if label is None:
        return review in ("", "undecided")
    return review in ("", "decided") or (review == "overruled" and item.overruled_by(label))


def _least_sure(items: Sequence[Item]) -> set[str]:
    """The ids of the tenth of which the student is least sure."""
    sure = [(item.sureness, item.item_id) for item in items if item.sureness is not None]
    return {item_id for _, item_id in sorted(sure)[: max(FEWEST, math.ceil(len(sure) / 10))]}


def _shuffled(item: Item, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {item.item_id}".encode("utf-8", "backslashreplace")).digest()


def _check(items: Sequence[Item], keep: Filter, order: QueueOrder) -> None:
    allowed: list[tuple[str, str, Iterable[str]]] = [
        ("order", order, get_args(QueueOrder)),
        ("split", keep.split, {item.split for item in items}),
        ("answerers", keep.answerers, {item.answerers for item in items}),
        ("kind", keep.kind, items[0].kinds),
        ("review", keep.review, REVIEWS),
    ]
    for name, value, values in allowed:
        if value not in values and (value or name == "order"):
            known = ", ".join(map(repr, sorted(values)))
            raise ReviewError(f"{name} {value!r} is not known: choose one of {known}")

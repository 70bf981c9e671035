"""What one reviewer's rows come to, and how far a queue is. Never reads or writes a file."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbutils.review.items import Item
from nbutils.review.labels import HumanGrade, HumanLabel, in_force, usable

Said = HumanLabel | HumanGrade


@dataclass(frozen=True)
class Summary:
    """How far a review is."""

    total: int  # items of the queue
    decided: int  # of them
    counts: dict[str, int]  # of the decided, by what was decided
    skipped: int  # not decided, but passed over
    left: int  # not decided, those skipped too
    seconds_each: float | None  # median over all decisions in force here; None: there is none
    seconds_left: float | None  # seconds_each * left
    changed: tuple[str, ...]  # items that read otherwise now than when decided: not used
    unknown: int  # items decided in this file that are not here


@dataclass(frozen=True)
class Progress:
    """One reviewer's rows on the items as they read now, and counts of the other rows."""

    acts: list[Said]  # decisions and skips in force, oldest first
    labels: dict[str, Said]  # the decision in force, by item id
    skipped: dict[str, int]  # when an item was last skipped: a later skip has a larger number
    notes: dict[str, str]  # the last note, by item id
    exposed: set[str]  # items whose models and verdicts the reviewer has seen
    undone: str | None  # the item of the last act of all, if that was an undo
    changed: tuple[str, ...]  # this and the next: as in Summary
    unknown: int


def replay(rows: Sequence[Said], reviewer: str, fingerprints: Mapping[str, str]) -> Progress:
    """The state that the rows of a file give; `fingerprints` are the items' own, by item id.

    An item is exposed once it was decided, even if that was undone: its verdicts were shown then.
    """
    found = usable(rows, reviewer, fingerprints)
    mine = [
        row
        for row in rows
        if row.reviewer == reviewer and fingerprints.get(row.item_id) == row.fingerprint
    ]
    acts = in_force(mine, reviewer)
    silent = [row for row in mine if row.act != "note"]
    return Progress(
        acts=acts,
        labels=found.labels,
        skipped={row.item_id: number for number, row in enumerate(acts) if row.act == "skip"},
        notes={row.item_id: row.note for row in mine if row.note is not None},
        exposed={
            row.item_id for row in mine if not row.blind or row.act not in ("skip", "undo", "note")
        },
        undone=silent[-1].item_id if silent and silent[-1].act == "undo" else None,
        changed=found.changed,
        unknown=found.unknown,
    )


def summarise(queue: Sequence[Item], decisions: Sequence[str], progress: Progress) -> Summary:
    """Counts over the queue, each of the `decisions` named, and the reviewer's pace."""
    labels = [row for item in queue if (row := progress.labels.get(item.item_id))]
    open_ = [item.item_id for item in queue if item.item_id not in progress.labels]
    times = [row.seconds for row in progress.labels.values()]
    pace = statistics.median(times) if times else None
    return Summary(
        total=len(queue),
        decided=len(labels),
        counts={name: sum(row.act == name for row in labels) for name in decisions},
        skipped=sum(item_id in progress.skipped for item_id in open_),
        left=len(open_),
        seconds_each=pace,
        seconds_left=None if pace is None else pace * len(open_),
        changed=progress.changed,
        unknown=progress.unknown,
    )

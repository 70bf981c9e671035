"""The queue of a review and its decisions, on disk at once. Never draws a widget."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from nbutils.review.items import AnswerItem as AnswerItem
from nbutils.review.items import Item as Item
from nbutils.review.items import PairItem as PairItem
from nbutils.review.items import ReviewError as ReviewError
from nbutils.review.progress import Said, summarise
from nbutils.review.progress import Summary as Summary
from nbutils.review.queue import AGAIN, EVERYTHING, QueueOrder, build_queue, by_lot
from nbutils.review.queue import FILTERS as FILTERS
from nbutils.review.queue import REVIEWS as REVIEWS
from nbutils.review.queue import Filter as Filter
from nbutils.review.rows import ReviewRows
from nbutils.review.sources import answer_items as answer_items
from nbutils.review.sources import pair_items as pair_items

NOW = partial(datetime.now, UTC)


class ReviewSession:
    """One reviewer at one file of labels. All that lasts is in the file.

    Each act re-reads the file, writes one row and is on disk when it returns. It raises ReviewError
    where it does not fit the current item or cannot be written, and RecordError where a row of the
    file is broken: then nothing was recorded, and the session stands as before.
    """

    def __init__(
        self,
        items: Sequence[Item],
        file: str | Path,
        reviewer: str = "",
        seed: int = 0,
        order: QueueOrder = "shuffled",
        keep: Filter = EVERYTHING,
        clock: Callable[[], float] = time.monotonic,  # in seconds
        now: Callable[[], datetime] = NOW,
    ) -> None:
        """Takes up the review where the file leaves it.

        Raises ReviewError unless the items are all pairs or all answers, each there once.
        """
        self.items = list(items)
        self.keep, self.order, self.seed = keep, order, seed
        self.queue: list[Item] = []
        self.told = ""  # what else there is to say of the last act; "": nothing
        self._by_id = {item.item_id: item for item in self.items}
        if len({type(item) for item in self.items}) != 1 or len(self._by_id) != len(self.items):
            what = f"{len(self.items)} items, {len(self._by_id)} ids"
            raise ReviewError(f"{what}: pass pairs or answers, at least one, each of them once")
        self._rows = ReviewRows(self._by_id, file, reviewer, now)
        self._clock = clock
        self._blind = True
        self._bared: set[str] = set()  # items that were on show while blind was off
        self._read: set[str] = set()  # items read in this queue, where it is one of AGAIN
        self._lot: set[str] = set()  # items of this queue, where it is one by lot
        self._current: Item | None = None
        self.choose()

    @property
    def current(self) -> Item | None:
        """The item on show; None: nothing is left. No other session's act changes it."""
        return self._current

    @property
    def reviewer(self) -> str:
        """Whose acts these are; another's review is taken up where that one stands."""
        return self._rows.reviewer

    @reviewer.setter
    def reviewer(self, reviewer: str) -> None:
        self._rows.reviewer = reviewer
        self.choose()

    @property
    def blind(self) -> bool:
        """Whether models and verdicts are hidden until the decision."""
        return self._blind

    @blind.setter
    def blind(self, blind: bool) -> None:
        self._blind = blind
        self._bare()

    def decide(self, label: Literal["a", "b", "tie"]) -> None:
        """The reviewer's word on the current pair."""
        if isinstance(self.items[0], AnswerItem) or label not in ("a", "b", "tie"):
            raise ReviewError(f"label {label!r}: a pair takes a, b or tie, an answer takes a grade")
        self._act(label)

    def grade(self, score: float, acceptable: bool) -> None:
        """The reviewer's word on the current answer; the score is from 0 to 1."""
        if isinstance(self.items[0], PairItem) or not 0 <= score <= 1:
            raise ReviewError(f"score {score!r}: an answer takes 0 to 1, a pair takes a label")
        self._act("grade", float(score), acceptable)

    def cannot_tell(self) -> None:
        """A decision too: the reviewer has looked and cannot say."""
        self._act("can't tell")

    def skip(self) -> None:
        """Puts the current item off until the others are done; a decision on it stays in force."""
        self._act("skip")

    def undo(self) -> Item | None:
        """Takes back the reviewer's latest act in force; its item is current again.

        Whichever session made it, on whichever item that is here. None: there is none.
        """
        self.told = ""
        with self._rows.recording():
            acts = self._rows.progress.acts
            if acts:
                item = self._by_id[acts[-1].item_id]
                self.told = self._rows.append(item, "undo", *self._regard(item))
        if not acts:
            return None
        self.refresh()
        self._read.discard(item.item_id)
        self._show(item)
        return item

    def note(self, text: str, item_id: str | None = None) -> None:
        """Keeps a text on the item of that id, None: on the current one; "" takes it away.

        Writes nothing where it is the item's note already.
        """
        item = self._item(item_id)
        with self._rows.recording():
            new = text != self.note_of(item.item_id)
            said = self._rows.append(item, "note", *self._regard(item), note=text) if new else ""
        self.told = said
        self.refresh()

    def show(self, item_id: str) -> None:
        """Makes that item current, its time from now; a decision replaces an earlier one."""
        self._show(self._item(item_id))

    def choose(
        self,
        keep: Filter | None = None,
        order: QueueOrder | None = None,
        seed: int | None = None,
    ) -> None:
        """Builds the queue anew over the same file; what is None stays as it was.

        The queue then stays the same, whatever is decided. Current is the item that was just taken
        back, else the first that waits, else the one skipped longest ago; in a queue of decided
        items (AGAIN), the first not yet read again since. Raises ReviewError on a value that no
        item has.
        """
        keep = self.keep if keep is None else keep
        order = self.order if order is None else order
        seed = self.seed if seed is None else seed
        self.refresh()
        self.queue = build_queue(self.items, keep, order, seed, self._rows.progress.labels)
        self.keep, self.order, self.seed = keep, order, seed
        self._read.clear()
        self._lot = {item.item_id for item in self.queue} if by_lot(keep, order) else set()
        undone = (item for item in self.queue if item.item_id == self._rows.progress.undone)
        self._show(next(undone, None) or self._next())

    def label_of(self, item_id: str) -> Said | None:
        """The reviewer's decision in force on an item; None: there is none."""
        return self._rows.progress.labels.get(item_id)

    def note_of(self, item_id: str) -> str:
        """The reviewer's note on an item; "": there is none."""
        return self._rows.progress.notes.get(item_id, "")

    def summary(self) -> Summary:
        """Counts over the queue, and the reviewer's pace."""
        return summarise(self.queue, self.items[0].decisions, self._rows.progress)

    def refresh(self) -> None:
        """Takes up what other sessions wrote since. The current item stays."""
        self._rows.refresh()

    def _act(self, act: str, score: float | None = None, acceptable: bool | None = None) -> None:
        """Writes a decision or a skip on the current item and goes on to the next."""
        item = self._item(None)
        with self._rows.recording():
            there = self.label_of(item.item_id)
            said = self._rows.append(item, act, *self._regard(item), score, acceptable)
        if there is not None and there != self._met:
            counts = "that stands" if act == "skip" else "the later one counts"
            elsewhere = f"{item.item_id} was decided elsewhere meanwhile, as {there.act}; {counts}."
            said = f"{elsewhere} {said}".strip()
        self.told = said
        self.refresh()
        self._read.add(item.item_id)
        self._show(self._next())

    def _regard(self, item: Item) -> tuple[float, bool, bool]:
        """Seconds for which the item has been on show, whether blind all that time, and by lot."""
        seconds = self._clock() - self._since if item is self._current else 0.0
        blind = self._blind and item.item_id not in self._bared
        return seconds, blind, item.item_id in self._lot

    def _next(self) -> Item | None:
        if self.keep.review in AGAIN:
            return next((item for item in self.queue if item.item_id not in self._read), None)
        waiting = [item for item in self.queue if self.label_of(item.item_id) is None]
        skipped = self._rows.progress.skipped  # -1: before all that were skipped
        return min(waiting, key=lambda item: skipped.get(item.item_id, -1), default=None)

    def _item(self, item_id: str | None) -> Item:
        if item_id is not None:
            if item_id in self._by_id:
                return self._by_id[item_id]
            raise ReviewError(f"item {item_id!r} is not here: mend its id, or pass its run's files")
        if self._current is None:
            raise ReviewError("nothing is left in this queue: choose another or show an item")
        return self._current

    def _show(self, item: Item | None) -> None:
        self._current = item
        self._since = self._clock()
        self._met = self.label_of(item.item_id) if item else None
        self._bare()

    def _bare(self) -> None:
        if self._current is not None and not self._blind:
            self._bared.add(self._current.item_id)

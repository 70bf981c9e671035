"""One reviewer's rows on some items: in the file, and what they come to. Never keeps one back."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbutils.review.items import Item, PairItem, ReviewError
from nbutils.review.labels import TIME, HumanGrade, HumanLabel, LabelFile
from nbutils.review.progress import Progress, Said, replay


class ReviewRows:
    """A reviewer's side of a file that others may write to as well."""

    def __init__(
        self,
        items: Mapping[str, Item],
        file: str | Path,
        reviewer: str,
        now: Callable[[], datetime],
    ) -> None:
        """`items`, all pairs or all answers, by their ids. `refresh` does the first reading.

        Another `reviewer` may be set; then refresh.
        """
        pairs = isinstance(next(iter(items.values())), PairItem)
        self._file: LabelFile[Any] = LabelFile(file, HumanLabel if pairs else HumanGrade)
        self._fingerprints = {key: item.fingerprint for key, item in items.items()}
        self.reviewer, self._now = reviewer, now
        self.progress: Progress = replay([], reviewer, {})

    def refresh(self) -> None:
        """Takes up what was written since. Raises RecordError or OSError as LabelFile.read."""
        self.progress = replay(self._file.read(), self.reviewer, self._fingerprints)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Holds the file against other writers, and takes up what is new in it.

        Raises ReviewError for an OSError of the block: then nothing was recorded.
        """
        try:
            with self._file.lock():
                self.refresh()
                yield
        except OSError as error:
            what = f"{self._file.path}: {error.strerror or error}; nothing was recorded"
            remedy = "make the file and its folder writable, with room on the disk, and try again"
            raise ReviewError(f"{what}: {remedy}") from error

    def append(
        self,
        item: Item,
        act: Any,  # of the item's kind of row, which checks it
        seconds: float,
        blind: bool,
        drawn: bool,
        score: float | None = None,
        acceptable: bool | None = None,
        note: str | None = None,
    ) -> str:
        """Writes one row, and says what there is to say of that; "": nothing.

        Blind only where the reviewer has not been shown what is hidden before.
        """
        blind = blind and item.item_id not in self.progress.exposed
        time = self._now().astimezone(UTC).strftime(TIME)
        seconds, who = round(seconds, 3), self.reviewer
        row: Said
        if isinstance(item, PairItem):
            pair = item.item_id, item.fingerprint
            row = HumanLabel(*pair, act, seconds, who, blind, drawn, time, note)
        else:
            names = item.answer.question_id, item.answer.answerer, item.fingerprint
            row = HumanGrade(*names, act, score, acceptable, seconds, who, blind, drawn, time, note)
        self._file.append(row)
        if not self._file.cut:
            return ""
        kept = f"its {len(self._file.cut)} bytes are kept in {self._file.path.name}.cut"
        return f"The file's last row was cut off while it was written; {kept}."

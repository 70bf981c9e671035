"""Run folders: the files through which notebooks hand over. Never starts or asks a model."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nbutils.jsonl import Row, RowT, read_jsonl, write_jsonl
from nbutils.profiles import ROOT, Profile, load_profile

WRITTEN_BY = {
    "questions.jsonl": "01_questions",
    "answers.jsonl": "02_answers",
    "pairs.jsonl": "02_answers",
    "judgements.jsonl": "03_teacher_judgements",
    "resolutions.jsonl": "03_teacher_judgements",
    "student": "05_distil",
    "features.safetensors": "05_distil",
    "finetuning_events.jsonl": "05_distil",
    "scorecard.json": "06_evaluate",
    "all_grades.jsonl": "07_single_grading",
    "grading.json": "07_single_grading",
    "student_resolutions.jsonl": "06_evaluate",
    "people.json": "06_evaluate",
}


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message names the remedy."""


class RunFolder:
    """The files of one run, runs/<run_id>: notebooks hand over through them alone."""

    def __init__(self, run_id: str, root: Path = ROOT / "runs") -> None:
        """Raises RunError where the id is not a plain name of at most 64 characters."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", run_id):
            rule = "letters, digits, '-' and '_' only, at most 64, no path"
            raise RunError(f"run id {run_id!r} is not a plain name: use {rule}")
        self.run_id = run_id
        self.folder = root / run_id

    def path(self, name: str) -> Path:
        """Where to write the file `name`. Makes the run folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def need(self, name: str) -> Path:
        """Where the file or folder `name` is. Raises RunError where no notebook has written it."""
        path = self.folder / name
        if not path.exists():
            writer = WRITTEN_BY.get(name)
            remedy = f"run notebook {writer} first" if writer else "run the notebook that writes it"
            raise RunError(f"runs/{self.run_id}/{name}: there is no such file yet; {remedy}")
        return path

    def read(self, name: str, cls: type[RowT]) -> list[RowT]:
        """The rows of a JSONL file. Raises RunError where it is missing, RecordError if broken."""
        return read_jsonl(self.need(name), cls)

    def write(self, name: str, rows: Iterable[Row]) -> None:
        """Writes a JSONL file whole or not at all."""
        write_jsonl(self.path(name), rows)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder, and lets go by itself should the process die.

        Raises RunError where another holds it. The runner takes the lock for the whole series; the
        notebooks that it starts do not.
        """
        lock = FileLock(self.path(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remedy = "wait until that ends or choose another run id"
            raise RunError(f"run '{self.run_id}' is in use by another process; {remedy}") from None
        try:
            yield
        finally:
            lock.release()


def open_run(profile: str, run_id: str) -> tuple[Profile, RunFolder]:
    """A notebook's profile and run folder; run_id "" stands for the profile's name."""
    chosen = load_profile(profile)
    return chosen, RunFolder(run_id or chosen.name)

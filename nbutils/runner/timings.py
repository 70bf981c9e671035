"""Seconds and memory, in a run's timings.json. Never part of the scorecard, which must repeat."""

import json
from pathlib import Path

from filelock import FileLock

from nbutils.files import aside


def record_timing(folder: Path, section: str, key: str, value: dict[str, float]) -> None:
    """Puts `value` (such as {"seconds": 1.5}) under section and key, and keeps all the others.

    `folder` is the run's. The sections are "notebooks" (by notebook) and "judges" (by judge).
    """
    file = folder / "timings.json"
    with FileLock(folder / ".timings.lock"):
        timings = read_timings(folder)
        timings.setdefault(section, {})[key] = value
        with aside(file) as part:
            part.write_text(json.dumps(timings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_timings(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """All that was recorded in this run folder: section -> key -> measure -> value."""
    file = folder / "timings.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

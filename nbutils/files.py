"""Writing a file so that its name never stands for half of it. Never reads one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, renamed to it, on disk and whole, when the block ends well.

    Where the block raises, the old file stays as it was and the new part is removed.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

"""What each notebook of a run was made from, to skip what is unchanged. Never trusts a date."""

import hashlib
import json
import platform
import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat

from nbutils.files import aside
from nbutils.profiles import ROOT, Profile
from nbutils.runner.series import Notebook, locate

PACKAGE = Path(__file__).resolve().parent.parent
RUNNER = ("execute.py", "manifest.py", "report.py", "run.py", "series.py")  # notebooks use none
Entry = dict[str, Any]  # what -> its hash, value or {name: hash}; "writes" are the outputs


class Manifest:
    """The entries of runs/<id>/manifest.json, by notebook; each change is on disk at once."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "manifest.json"
        self._entries: dict[str, Entry] = {}
        if self._file.exists():
            self._entries = json.loads(self._file.read_text(encoding="utf-8"))

    def why_stale(self, name: str, inputs: Entry, writes: dict[str, str | None]) -> str | None:
        """What differs from the run that the manifest tells of; None where nothing does."""
        entry = self._entries.get(name)
        if entry is None:
            return "no finished run yet"
        for what, value in (inputs | {"writes": writes}).items():
            before = entry.get(what)
            if value != before:
                return _difference(what, before, value)
        return None

    def forget(self, name: str) -> None:
        """Called before a notebook runs: until it has ended well, nothing vouches for its files."""
        if self._entries.pop(name, None) is not None:
            self._save()

    def record(self, name: str, inputs: Entry, writes: dict[str, str | None]) -> None:
        self._entries[name] = inputs | {"writes": writes}
        self._save()

    def _save(self) -> None:
        text = json.dumps(self._entries, indent=2, sort_keys=True) + "\n"
        with aside(self._file) as part:
            part.write_text(text, encoding="utf-8")


def inputs_of(
    notebook: Notebook, parameters: dict[str, object], shared: Entry, root: Path, folder: Path
) -> Entry:
    """All that a notebook's outcome depends on, as it is now; `shared` comes from shared_inputs."""
    used = [name for name in notebook.reads if notebook.uses(name, parameters)]
    passed = {k: repr(value) for k, value in parameters.items() if notebook.uses(k, parameters)}
    reads = hashes(used, root, folder)
    return {"code": _code_hash(notebook.path), "parameters": passed, "reads": reads} | shared


def shared_inputs(profile: Profile) -> Entry:
    """What every notebook depends on: this package's source, the versions it runs on, the profile's
    choices and its document. What a run may spend, and how fast it asks, changes no result."""
    files = [path for path in PACKAGE.rglob("*.py") if path.name not in RUNNER]
    choices = profile.model_dump(mode="json", exclude={"file", "calls", "budget"})
    return {
        "nbutils": _hash_files(files, PACKAGE),
        "versions": _versions(),
        "profile": choices | {"document": choices["document"] | {"path": ""}},
        "document": _hash(profile.document.path),
    }


def hashes(names: Iterable[str], root: Path, folder: Path) -> dict[str, str | None]:
    """SHA-256 of each declared file or folder; None for one that is missing."""
    return {name: _hash(locate(name, root, folder)) for name in names}


def _hash(path: Path) -> str | None:
    if path.is_dir():
        return _hash_files([file for file in path.rglob("*") if file.is_file()], path)
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_files(files: list[Path], base: Path) -> str:
    """One hash over the files' names (relative to base) and contents, in the names' order."""
    parts = [f"{_hash(file)}  {file.relative_to(base).as_posix()}\n" for file in sorted(files)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _code_hash(path: Path) -> str:
    """Over the code cells alone: prose, saved outputs and metadata change no result."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _versions() -> dict[str, str]:
    """Python's version and those of the packages that pyproject.toml requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"python": platform.python_version()}
    for requirement in project["dependencies"]:
        name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _difference(what: str, before: Any, now: Any) -> str:
    """Names the part that changed: `reads: pairs.jsonl has changed`."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{what} has changed"
    names = [name for name in before | now if before.get(name) != now.get(name)]
    return f"{what}: {', '.join(names)} has changed"

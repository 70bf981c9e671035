"""Checks committed notebooks: `python -m tools.check_notebooks`. Never changes or runs one."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat.validator import iter_validate

from nbutils.profiles import ROOT
from nbutils.runner.series import (
    COMMITTED,
    PEOPLE,
    Notebook,
    SeriesError,
    load_notebook,
    load_series,
    read_notebook,
)

FIELDS = ("Question", "Reads", "Writes", "Takes", "Next")  # of the first cell, in this order
COMMON = {"profile": "recorded", "run_id": "", "seed": 0}  # parameters that the runner passes
LINES = 20  # of one code cell, at most


def check_series(folder: Path, root: Path) -> list[str]:
    """What is wrong with the notebooks of a folder and their hand-over, one line a fault.

    `root` is the repository that the names in data/ and benchmarks/ are looked up in.
    """
    faults = [fault for path in sorted(folder.glob("*.ipynb")) for fault in check_notebook(path)]
    try:
        series = load_series(folder)
    except SeriesError as error:
        return list(dict.fromkeys([*faults, str(error)]))
    return faults + list(_hand_over(series, root))


def check_notebook(path: Path) -> list[str]:
    """What is wrong with one notebook, one line a fault that begins with its name."""
    try:
        notebook = load_notebook(path)
    except SeriesError as error:
        return [str(error)]
    content = read_notebook(path)
    invalid = next(iter_validate(content), None)
    if invalid is not None:
        return [f"{path.name}: not a valid notebook: {str(invalid).splitlines()[0]}"]
    faults = [fault for check in CHECKS for fault in check(notebook, content)]
    return [f"{path.name}: {fault}" for fault in faults]


def _clean(notebook: Notebook, content: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(content.cells, 1):
        if cell.cell_type != "code":
            continue
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {number} has outputs or an execution count: clear all outputs"
        if cell.source.count("\n") + 1 > LINES:
            yield f"cell {number} has more than {LINES} lines: one idea a cell"


def _identity(notebook: Notebook, content: nbformat.NotebookNode) -> Iterator[str]:
    if (content.nbformat, content.nbformat_minor) < (4, 5):
        yield "is older than notebook format 4.5, which gives each cell an id: save it anew"
    ids = [cell.get("id", str(number)) for number, cell in enumerate(content.cells)]
    if len(set(ids)) < len(ids):
        yield f"cell id {max(ids, key=ids.count)!r} is there more than once: change one"
    kernel = content.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"its kernel is {kernel!r}: choose python3"


def _parameters(notebook: Notebook, content: nbformat.NotebookNode) -> Iterator[str]:
    first = next(cell for cell in content.cells if cell.cell_type == "code")
    if "parameters" not in first.metadata.get("tags", []):
        yield "the cell tagged `parameters` is not the first code cell"
    for name, default in COMMON.items():
        value = notebook.parameters.get(name, "none")
        if value != default:
            yield f"parameter {name} is {value!r}: write `{name} = {default!r}`"


def _first_cell(notebook: Notebook, content: nbformat.NotebookNode) -> Iterator[str]:
    """The first cell has a title and its fields; Reads and Writes name what the metadata does."""
    first = content.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is not markdown with a title (`# ...`)"
        return
    found = dict(re.findall(r"\*\*(\w+)\*\*(.*(?:\n(?!.*\*\*\w+\*\*).*)*)", first.source))
    if tuple(name for name in found if name in FIELDS) != FIELDS:
        yield f"the first cell does not have {', '.join(f'**{name}**' for name in FIELDS)} in order"
        return
    for field, declared in (("Reads", notebook.reads), ("Writes", notebook.writes)):
        named = re.findall(r"`([^`]+)`", found[field])
        if sorted(named) != sorted(declared):
            metadata = f"metadata nbutils.{field.lower()} names {', '.join(declared) or 'none'}"
            yield f"**{field}** names {', '.join(named) or 'none'} in backticks, but {metadata}"


def _prose(notebook: Notebook, content: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(content.cells, 1):
        if cell.cell_type != "markdown":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", cell.source):
            if "://" not in target and not (notebook.path.parent / target).exists():
                yield f"cell {number} links to {target}, which does not exist"
        if "$$" in cell.source or r"\begin{" in cell.source:
            yield f"cell {number} holds TeX, which the report cannot show: write it as code"


def _hand_over(series: list[Notebook], root: Path) -> Iterator[str]:
    """Whatever a notebook reads is committed or written by one before it, and written once."""
    written: dict[str, str] = {}
    for notebook in series:
        for name in notebook.reads:
            if name.startswith(COMMITTED):
                if not (root / name).exists():
                    yield f"{notebook.name}: reads {name}, which is not in the repository"
            elif name not in written and not name.startswith(PEOPLE):
                yield f"{notebook.name}: reads {name}, which no notebook before it writes"
        for name in notebook.writes:
            if name.startswith((*COMMITTED, PEOPLE)):
                yield f"{notebook.name}: writes {name}: a run writes into its own folder alone"
            if name in written:
                yield f"{notebook.name}: writes {name}, as {written[name]} does"
            written.setdefault(name, notebook.name)


Check = Callable[[Notebook, nbformat.NotebookNode], Iterator[str]]
CHECKS: tuple[Check, ...] = (_clean, _identity, _parameters, _first_cell, _prose)


def main() -> int:
    """Checks notebooks/. Returns 1 where something is wrong."""
    faults = check_series(ROOT / "notebooks", ROOT)
    print("\n".join(faults) or "notebooks: all checks passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""What each notebook of the series declares: parameters, files read and written. Never runs one."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

COMMITTED = ("data/", "benchmarks/")  # such names are in the repository, all others in the run,
PEOPLE = "labels/"  # but for what people wrote: beside the runs, and perhaps not there yet
Unless = dict[str, dict[str, object]]  # file or parameter -> parameters under which it is unused


class SeriesError(ValueError):
    """A notebook or a choice of them that breaks the rules; says which, where and the remedy."""


@dataclass(frozen=True)
class Notebook:
    """One notebook, as its file declares itself."""

    path: Path
    title: str  # first heading
    parameters: dict[str, object]  # name -> default, from the cell tagged `parameters`
    reads: tuple[str, ...]  # from the metadata: nbutils.reads
    writes: tuple[str, ...]  # from the metadata: nbutils.writes
    unless: Unless = field(default_factory=dict)  # from the metadata: nbutils.unless

    @property
    def name(self) -> str:
        return self.path.stem

    def uses(self, name: str, given: dict[str, object]) -> bool:
        """Whether a file or parameter counts under parameters `given`, the rest at defaults."""
        values = self.parameters | given
        needed = self.unless.get(name)
        return needed is None or any(values[key] != value for key, value in needed.items())


def load_series(folder: Path) -> list[Notebook]:
    """The notebooks of a folder in reading order. Raises SeriesError where there is none."""
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise SeriesError(f"{folder}: no notebook named like 00_title.ipynb; restore the folder")
    return [load_notebook(path) for path in paths]


def load_notebook(path: Path) -> Notebook:
    """Reads one notebook's declarations. Raises SeriesError where they are missing or malformed."""
    content = read_notebook(path)
    declared = content.metadata.get("nbutils", {})
    names = {}
    for key in ("reads", "writes"):
        names[key] = declared.get(key)
        if not isinstance(names[key], list) or not all(isinstance(n, str) for n in names[key]):
            example = '{"nbutils": {"reads": ["pairs.jsonl"], "writes": []}}'
            raise SeriesError(
                f"{path.name}: metadata nbutils.{key} is {names[key]!r}, not a list of file "
                f"names; write it like {example}"
            )
    parameters = read_parameters(content, path.name)
    reads, writes = tuple(names["reads"]), tuple(names["writes"])
    unless = declared.get("unless", {})
    _check_unless(unless, reads, parameters, path.name)
    title = content.cells[0].source.partition("\n")[0].lstrip("# ") if content.cells else ""
    return Notebook(path, title, parameters, reads, writes, unless)


def _check_unless(
    unless: Unless, reads: tuple[str, ...], parameters: dict[str, object], name: str
) -> None:
    """Raises SeriesError where `unless` is malformed or names what the notebook does not have."""
    example = '{"labels/human_labels.jsonl": {"labels": "teacher"}}'
    if not isinstance(unless, dict) or not all(isinstance(v, dict) and v for v in unless.values()):
        what = f"{name}: metadata nbutils.unless is {unless!r}, not names with parameters"
        raise SeriesError(f"{what}; write it like {example}")
    for unused, values in unless.items():
        if unused not in (*reads, *parameters):
            what = f"{name}: unless names {unused}, which is neither read nor a parameter"
            raise SeriesError(f"{what}: take it out")
        for key, value in values.items():
            if type(value) is not type(parameters.get(key)):
                what = f"{name}: unless names {key} = {value!r} for {unused}"
                raise SeriesError(f"{what}: give a parameter and a value of its type")


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook as its file has it, without nbformat's repairs. Raises SeriesError."""
    try:
        content = nbformat.reader.reads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise SeriesError(f"{path.name}: cannot be read as a notebook ({reason})") from None
    if content.get("nbformat") != 4:
        found = content.get("nbformat")
        raise SeriesError(f"{path.name}: notebook format is {found}, not 4: save it anew")
    return content


def read_parameters(content: nbformat.NotebookNode, name: str) -> dict[str, object]:
    """The defaults that the cell tagged `parameters` assigns.

    Raises SeriesError unless there is exactly one such cell and it assigns literals only.
    """
    tagged = [
        cell
        for cell in content.cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise SeriesError(f"{name}: {len(tagged)} cells are tagged `parameters`; tag exactly one")
    values: dict[str, object] = {}
    try:
        for statement in ast.parse(tagged[0].source).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    values[target] = ast.literal_eval(value)
                case _:
                    raise ValueError(f"line {statement.lineno} is not `name = literal`")
    except (SyntaxError, ValueError) as error:
        raise SeriesError(
            f"{name}: the cell tagged `parameters` may only assign literals, one name a line "
            f"({error}); move the rest to the next cell"
        ) from None
    return values


def select(series: list[Notebook], first: str | None, last: str | None) -> list[Notebook]:
    """The notebooks from `first` to `last`, each a number such as 03 or a name; both are included.

    Raises SeriesError on one that does not exist and on an empty range.
    """
    start = 0 if first is None else _position(series, first)
    end = len(series) - 1 if last is None else _position(series, last)
    if start > end:
        raise SeriesError(f"--from {first} comes after --to {last}: swap them")
    return series[start : end + 1]


def _position(series: list[Notebook], wanted: str) -> int:
    number = wanted.zfill(2) if wanted.isdecimal() else None
    for position, notebook in enumerate(series):
        if notebook.name == wanted.removesuffix(".ipynb") or notebook.name[:2] == number:
            return position
    names = ", ".join(notebook.name for notebook in series)
    raise SeriesError(f"there is no notebook {wanted!r}: choose a number or name of {names}")


def check_inputs(
    selected: list[Notebook], series: list[Notebook], root: Path, folder: Path
) -> None:
    """Raises SeriesError where a selected notebook reads a file that nothing will have written."""
    writers = {name: notebook.name for notebook in series for name in notebook.writes}
    coming: set[str] = set()
    for notebook in selected:
        for name in notebook.reads:
            if name in coming or name.startswith(PEOPLE):
                continue
            if not locate(name, root, folder).exists():
                writer = writers.get(name)
                remedy = f"start with --from {writer[:2]}" if writer else "restore it"
                raise SeriesError(f"{notebook.name} reads {name}, which is not there: {remedy}")
        coming.update(notebook.writes)


def locate(name: str, root: Path, folder: Path) -> Path:
    """Where a declared file is: in the repository `root` or in the run's `folder`."""
    return (root if name.startswith((*COMMITTED, PEOPLE)) else folder) / name


def choose_parameters(
    selected: list[Notebook], common: dict[str, object], given: dict[str, object]
) -> dict[str, dict[str, object]]:
    """By notebook, the values to pass: all of `common`, and those of `given` that it has.

    Raises SeriesError on a name that no selected notebook has, on one of `common` that a notebook
    lacks, and on a value whose type is not the default's.
    """
    for name in given:
        if not any(name in notebook.parameters for notebook in selected):
            known = sorted({name for notebook in selected for name in notebook.parameters})
            raise SeriesError(
                f"no selected notebook has a parameter {name!r}: there are {', '.join(known)}"
            )
    values = {}
    for notebook in selected:
        own = common | {name: v for name, v in given.items() if name in notebook.parameters}
        for name, value in own.items():
            if name not in notebook.parameters:
                raise SeriesError(f"{notebook.name} has no parameter {name!r}: add `{name} = ...`")
            default = notebook.parameters[name]
            if type(value) is not type(default):
                raise SeriesError(
                    f"{notebook.name}: parameter {name} takes {type(default).__name__} such as "
                    f"{default!r}, not {value!r}"
                )
        values[notebook.name] = own
    return values

"""The committed notebooks keep the rules, and the check of the rules sees each one broken."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nbutils.profiles import ROOT
from nbutils.runner.series import load_series
from nbutils.runs import WRITTEN_BY
from tools.check_notebooks import LINES, check_notebook, check_series

FIRST = """# Pairs
**Question** Which pairs do we compare?
**Reads** `data/d.txt` and
`data/e.txt`
**Writes** `pairs.jsonl`
**Takes** 2 s
**Next** [again](00_pairs.ipynb)"""
PARAMETERS = 'profile = "recorded"\nrun_id = ""\nseed = 0  # of the draw'


def good():
    """A notebook without a fault."""
    cells = [
        new_markdown_cell(FIRST),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("\n".join(["1"] * LINES)),
    ]
    names = {"reads": ["data/d.txt", "data/e.txt"], "writes": ["pairs.jsonl"]}
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new_notebook(cells=cells, metadata={"nbutils": names, "kernelspec": kernel})


def save(folder, notebook, name="00_pairs.ipynb"):
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    for file in ("d.txt", "e.txt"):
        (folder / "data" / file).touch()
    path = folder / "notebooks" / name
    path.write_text(json.dumps(notebook))  # as it is: nbformat.write would repair it
    return path


def test_the_committed_notebooks_keep_the_rules():
    assert check_series(ROOT / "notebooks", ROOT) == []


def test_errors_on_a_missing_file_name_the_notebook_that_writes_it():
    written = {file: nb.name for nb in load_series(ROOT / "notebooks") for file in nb.writes}
    assert {file: written.get(file) for file in WRITTEN_BY} == WRITTEN_BY


def test_a_good_notebook_has_no_fault(tmp_path):
    path = save(tmp_path, good())
    assert check_notebook(path) == []
    assert check_series(path.parent, tmp_path) == []


def first(old, new):
    def change(notebook):
        notebook.cells[0].source = notebook.cells[0].source.replace(old, new)

    return change


def parameters(old, new):
    def change(notebook):
        notebook.cells[1].source = notebook.cells[1].source.replace(old, new)

    return change


def output(notebook):
    notebook.cells[2].outputs = [new_output("stream", text="x")]


def count(notebook):
    notebook.cells[2].execution_count = 1


def long(notebook):
    notebook.cells[2].source += "\n1"


def untagged(notebook):
    notebook.cells[1].metadata.tags = []


def tagged_twice(notebook):
    notebook.cells[2].metadata.tags = ["parameters"]


def late(notebook):
    notebook.cells.insert(1, new_code_cell("1"))


def same_id(notebook):
    notebook.cells[2].id = notebook.cells[1].id


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-env"


def no_metadata(notebook):
    del notebook.metadata["nbutils"]


def writes_more(notebook):
    notebook.metadata.nbutils.writes = ["answers.jsonl", "pairs.jsonl"]


def unless_nothing(notebook):
    notebook.metadata.nbutils.unless = {"labels/human_labels.jsonl": {"seed": 0}}


def code_first(notebook):
    notebook.cells.pop(0)


def no_id(notebook):
    del notebook.cells[2]["id"]


def old_format(notebook):
    notebook.nbformat_minor = 4
    for cell in notebook.cells:
        del cell["id"]


BROKEN = [
    (output, "cell 3 has outputs or an execution count"),
    (count, "cell 3 has outputs or an execution count"),
    (long, "cell 3 has more than 20 lines"),
    (untagged, "0 cells are tagged `parameters`"),
    (tagged_twice, "2 cells are tagged `parameters`"),
    (late, "the cell tagged `parameters` is not the first code cell"),
    (parameters("seed = 0", "seed = 1"), "parameter seed is 1: write `seed = 0`"),
    (parameters("seed = 0", "seed = int()"), "may only assign literals"),
    (parameters("seed = 0", "import os"), "may only assign literals"),
    (parameters("seed = 0", "seed ="), "may only assign literals"),
    (parameters("seed = 0", ""), "parameter seed is 'none'"),
    (same_id, "is there more than once"),
    (no_id, "not a valid notebook"),
    (old_format, "is older than notebook format 4.5"),
    (other_kernel, "its kernel is 'my-env'"),
    (no_metadata, "metadata nbutils.reads is None"),
    (unless_nothing, "unless names labels/human_labels.jsonl, which is neither read nor a param"),
    (writes_more, "**Writes** names pairs.jsonl in backticks, but metadata nbutils.writes names"),
    (first("`data/e.txt`", ""), "**Reads** names data/d.txt in backticks, but metadata"),
    (first("**Takes**", "Takes"), "does not have **Question**, **Reads**"),
    (first("**Question** Which pairs do we compare?\n", ""), "does not have **Question**"),
    (first("# Pairs", "Pairs"), "the first cell is not markdown with a title"),
    (code_first, "the first cell is not markdown with a title"),
    (first("00_pairs", "04_review"), "links to 04_review.ipynb, which does not exist"),
    (first("2 s", "$$t$$"), "cell 1 holds TeX"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_each_rule_sees_a_notebook_that_breaks_it(tmp_path, change, message):
    notebook = good()
    change(notebook)
    faults = check_notebook(save(tmp_path, notebook))
    assert len(faults) == 1
    assert faults[0].startswith("00_pairs.ipynb: ")
    assert message in faults[0]


def test_the_hand_over_between_notebooks_is_checked(tmp_path):
    early, later = good(), good()
    early.cells[0].source = FIRST.replace("data/e.txt", "answers.jsonl")
    early.metadata.nbutils.reads = ["data/d.txt", "answers.jsonl"]  # nobody writes it
    later.cells[0].source = FIRST.replace("data/d.txt", "data/f.txt")  # not in the repository
    later.metadata.nbutils.reads = ["data/f.txt", "data/e.txt"]
    path = save(tmp_path, early)
    save(tmp_path, later, "01_pairs.ipynb")
    assert check_series(path.parent, tmp_path) == [
        "00_pairs: reads answers.jsonl, which no notebook before it writes",
        "01_pairs: reads data/f.txt, which is not in the repository",
        "01_pairs: writes pairs.jsonl, as 00_pairs does",
    ]


def test_what_people_said_is_read_by_a_run_and_never_written(tmp_path):
    notebook = good()
    named = FIRST.replace("data/e.txt", "labels/x.jsonl").replace("pairs.jsonl", "labels/y.jsonl")
    notebook.cells[0].source = named
    declared = {"reads": ["data/d.txt", "labels/x.jsonl"], "writes": ["labels/y.jsonl"]}
    notebook.metadata.nbutils = declared | {"unless": {"labels/x.jsonl": {"seed": 0}}}
    path = save(tmp_path, notebook)
    assert check_series(path.parent, tmp_path) == [
        "00_pairs: writes labels/y.jsonl: a run writes into its own folder alone"
    ]

"""The manifest: what makes a notebook stale."""

from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbutils.profiles import PROFILE_FILES, load_profile
from nbutils.runner.manifest import Manifest, hashes, inputs_of, shared_inputs
from nbutils.runner.series import Notebook


@pytest.fixture
def notebook(tmp_path):
    """Reads a committed file and a folder of the run, writes out.txt; all of them are there."""
    root, folder = tmp_path, tmp_path / "runs" / "r"
    for path in (root / "data/d.txt", folder / "student/head.txt", folder / "out.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    made = Notebook(root / "00_a.ipynb", "A", {}, ("data/d.txt", "student"), ("out.txt",))
    save(made, "1 + 1")
    return made


def save(notebook, code, prose="# A"):
    cells = [new_markdown_cell(prose), new_code_cell(code, execution_count=3)]
    nbformat.write(new_notebook(cells=cells), notebook.path)


def why_stale(notebook, **changed):
    """Records the notebook where it has no entry yet, else compares."""
    root, folder = notebook.path.parent, notebook.path.parent / "runs" / "r"
    shared = {"nbutils": "hash", "versions": {"torch": "2.13.0"}} | changed
    inputs = inputs_of(notebook, {"seed": changed.pop("seed", 0)}, shared, root, folder)
    writes = hashes(notebook.writes, root, folder)
    manifest = Manifest(folder)  # as the next run would read it
    stale = manifest.why_stale(notebook.name, inputs, writes)
    if stale == "no finished run yet":
        manifest.record(notebook.name, inputs, writes)
    return stale


def test_each_part_that_changes_is_named(notebook):
    root, folder = notebook.path.parent, notebook.path.parent / "runs" / "r"
    assert why_stale(notebook) == "no finished run yet"
    assert why_stale(notebook) is None
    save(notebook, "1 + 1", prose="# B")
    assert why_stale(notebook) is None  # prose changes no result
    save(notebook, "1 + 2")
    assert why_stale(notebook) == "code has changed"
    save(notebook, "1 + 1")
    assert why_stale(notebook, nbutils="other") == "nbutils has changed"
    torch = {"torch": "2.14.0"}
    assert why_stale(notebook, versions=torch) == "versions: torch has changed"
    for path, said in (
        (root / "data/d.txt", "reads: data/d.txt has changed"),
        (folder / "student/head.txt", "reads: student has changed"),
        (folder / "out.txt", "writes: out.txt has changed"),
    ):
        path.write_text("2")
        assert why_stale(notebook) == said
        path.unlink()
        assert why_stale(notebook) == said
        path.write_text("1")
    (folder / "student/more.txt").touch()
    assert why_stale(notebook) == "reads: student has changed"


def test_a_parameter_is_named_and_a_forgotten_notebook_is_stale(notebook):
    assert why_stale(notebook, seed=0) == "no finished run yet"
    assert why_stale(notebook, seed=1) == "parameters: seed has changed"
    Manifest(notebook.path.parent / "runs" / "r").forget(notebook.name)
    assert why_stale(notebook) == "no finished run yet"


def test_what_people_said_counts_for_a_notebook_unless_its_parameters_say_otherwise(notebook):
    labels = "labels/human_labels.jsonl"
    root, folder = notebook.path.parent, notebook.path.parent / "runs" / "r"
    distil = replace(
        notebook,
        parameters={"seed": 0, "labels": "teacher", "reviewer": ""},
        reads=("student", labels),
        unless={labels: {"labels": "teacher"}, "reviewer": {"labels": "teacher"}},
    )
    evaluate = replace(distil, unless={})

    def inputs(book, **given):
        return inputs_of(book, given, {}, root, folder)

    before = inputs(evaluate)
    assert before["reads"][labels] is None  # a file that is not there yet is no error
    assert list(inputs(distil)["reads"]) == ["student"]
    by_teacher, by_people = inputs(distil), inputs(distil, labels="human")
    (root / "labels").mkdir()
    (root / labels).write_text("{}\n")
    assert inputs(evaluate) != before
    assert inputs(distil) == by_teacher == inputs(distil, reviewer="ana")
    assert inputs(distil, labels="human") != by_people
    assert inputs(distil, labels="human") != inputs(distil, labels="human", reviewer="ana")
    assert inputs(evaluate) != inputs(evaluate, reviewer="ana")


def test_the_package_and_the_versions_it_runs_on_are_inputs():
    shared = shared_inputs(load_profile("recorded"))
    assert len(shared["nbutils"]) == 64  # SHA-256 in hexadecimal
    assert shared["versions"]["torch"].startswith("2.")
    assert "absent" not in shared["versions"].values()


def test_the_profile_s_choices_are_inputs_and_what_it_may_spend_is_not(tmp_path):
    shipped = (PROFILE_FILES / "recorded.toml").read_text().replace("data/kestrel/", "")
    (tmp_path / "document.md").write_text("# A")

    def shared(more=""):
        file = tmp_path / "mine.toml"
        file.write_text(shipped + more)
        return shared_inputs(load_profile(str(file)))

    before = shared()
    assert shared("[budget]\nmoney = 3.0\n[calls]\nconcurrency = 2\n") == before
    assert shared("[retrieval]\ntop_k = 2\n") != before
    (tmp_path / "document.md").write_text("# B")
    assert shared() != before

"""What a notebook declares of the labels that people gave, which lie outside the runs."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbutils.runner.series import Notebook, SeriesError, check_inputs, load_notebook, locate

LABELS = "labels/human_labels.jsonl"


def save(folder, **declared):
    cells = [
        new_markdown_cell("# A"),
        new_code_cell('labels = "teacher"\nquick = False', metadata={"tags": ["parameters"]}),
    ]
    book = new_notebook(cells=cells, metadata={"nbutils": declared})
    nbformat.write(book, folder / "05_a.ipynb")
    return folder / "05_a.ipynb"


def test_labels_lie_beside_the_runs_and_need_not_be_there(tmp_path):
    book = Notebook(tmp_path / "06_a.ipynb", "A", {}, (LABELS,), ())
    folder = tmp_path / "runs" / "r"
    assert locate(LABELS, tmp_path, folder) == tmp_path / LABELS
    assert locate("labels.jsonl", tmp_path, folder) == folder / "labels.jsonl"
    check_inputs([book], [book], tmp_path, folder)  # raises nothing
    other = Notebook(book.path, "A", {}, (LABELS, "pairs.jsonl"), ())
    with pytest.raises(SeriesError, match="reads pairs.jsonl, which is not there"):
        check_inputs([other], [other], tmp_path, folder)


def test_a_file_counts_unless_a_parameter_says_otherwise(tmp_path):
    unless = {LABELS: {"labels": "teacher", "quick": True}}
    book = load_notebook(save(tmp_path, reads=[LABELS, "pairs.jsonl"], writes=[], unless=unless))
    assert book.uses(LABELS, {})  # quick is False by default
    assert not book.uses(LABELS, {"quick": True})
    assert book.uses(LABELS, {"quick": True, "labels": "human"})
    assert book.uses("pairs.jsonl", {"quick": True})
    plain = load_notebook(save(tmp_path, reads=[LABELS], writes=[]))
    assert plain.uses(LABELS, {"quick": True})


@pytest.mark.parametrize(
    ("unless", "message"),
    [
        ([LABELS], "not names with parameters; write it like"),
        ({LABELS: {}}, "not names with parameters"),
        ({LABELS: "teacher"}, "not names with parameters"),
        ({"other.jsonl": {"labels": "teacher"}}, "unless names other.jsonl, which is neither"),
        ({LABELS: {"label": "teacher"}}, "unless names label = 'teacher' for labels/human"),
        ({LABELS: {"quick": 1}}, "unless names quick = 1 for labels/human_labels.jsonl: give a"),
    ],
)
def test_what_the_notebook_does_not_have_is_refused(tmp_path, unless, message):
    with pytest.raises(SeriesError, match="05_a.ipynb: .*" + message.replace("(", r"\(")):
        load_notebook(save(tmp_path, reads=[LABELS], writes=[], unless=unless))

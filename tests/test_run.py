"""The runner, on tiny notebooks in a temporary repository."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbutils import run
from nbutils.callpath.exchange import Call
from nbutils.callpath.store import STORE, Store
from nbutils.evaluation.agreement import Judge, scorecard
from nbutils.profiles import PROFILE_FILES
from nbutils.records import Judgement, Pair, Resolution
from nbutils.runs import RunFolder

pytestmark = pytest.mark.slow

PARAMETERS = 'profile = "recorded"\nrun_id = ""\nseed = 0'


def write_notebook(root, name, *code, reads=(), writes=(), parameters=PARAMETERS, prose="# Title"):
    """A notebook of the series: first cell prose, second the parameters, then `code`."""
    cells = [
        new_markdown_cell(prose),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell('from pathlib import Path\nfolder = Path("../runs", run_id)'),
        *map(new_code_cell, code),
    ]
    metadata = {
        "nbutils": {"reads": list(reads), "writes": list(writes)},
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    }
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def save_scorecard(file):
    """Of one judge on two pairs: it says a to both, and so does the teacher to the first alone."""
    pairs = [Pair(f"p{n}", "test", f"q{n}", "x", "y") for n in (1, 2)]
    verdicts = {"p1": "a", "p2": "b"}
    said = [
        Judgement(pair, order, "teacher", "pairwise-v1:0", "reply", verdict)
        for pair, verdict in verdicts.items()
        for order in ("original", "flipped")
    ]
    truth = {pair: Resolution(pair, "teacher", verdict) for pair, verdict in verdicts.items()}
    both_a = {pair: Resolution(pair, "longest", "a", margin=1.0) for pair in verdicts}
    card = scorecard(Judge("teacher", truth, said), [Judge("longest answer", both_a)], pairs, 0)
    file.write_text(json.dumps(card))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository of three notebooks: 00 writes a.txt, 01 makes b.txt of it, 02 stands alone."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/d.txt").write_text("d")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    write_notebook(
        tmp_path,
        "00_a",
        '(folder / "a.txt").write_text(f"{seed}" + Path("../data/d.txt").read_text())',
        reads=["data/d.txt"],
        writes=["a.txt"],
    )
    write_notebook(
        tmp_path,
        "01_b",
        '(folder / "b.txt").write_text((folder / "a.txt").read_text() + "b" * len(str(quick)))',
        reads=["a.txt"],
        writes=["b.txt"],
        parameters=PARAMETERS + "\nquick = False",
    )
    write_notebook(tmp_path, "02_c", "print('alone')")
    return tmp_path


def test_runs_in_order_skips_what_is_unchanged_and_says_why_not(root, capsys):
    save_scorecard(root / "data/card.json")
    shown = """print('alone'); import shutil
shutil.copy('../data/card.json', folder / 'scorecard.json');"""
    write_notebook(root, "02_c", shown, writes=["scorecard.json"])
    options = ["--run-id", "r", "--seed", "7", "--quick"]
    assert run.main(options) == 0
    folder = root / "runs/r"
    assert (folder / "a.txt").read_text() == "7d"
    assert (folder / "b.txt").read_text() == "7dbbbb"  # len("True") = 4: 01 alone has quick
    executed = nbformat.read(folder / "02_c.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "alone\n"
    timings = json.loads((folder / "timings.json").read_text())["notebooks"]
    assert set(timings) == {"00_a", "01_b", "02_c"}
    said = capsys.readouterr().out
    assert str(folder / "report.html") in said
    assert re.search(r"^longest answer +0\.50 ", said, re.MULTILINE)  # the scorecard's own table

    assert run.main(options) == 0
    said = capsys.readouterr().out
    assert said.count("skipped") == 3
    assert "longest answer" in said
    assert run.main([*options, "--to", "01"]) == 0  # does not reach the scorecard
    assert "longest answer" not in capsys.readouterr().out

    (root / "data/d.txt").write_text("e")  # an input of 00, whose output changes, so 01 follows
    prose = "# New title"  # which is no code
    write_notebook(root, "02_c", shown, writes=["scorecard.json"], prose=prose)
    assert run.main(options) == 0
    said = capsys.readouterr().out
    assert "00_a runs: reads: data/d.txt has changed" in said
    assert "01_b runs: reads: a.txt has changed" in said
    assert "02_c skipped" in said
    report = (folder / "report.html").read_text()
    assert "<h1>New title</h1>" in report and "alone" in report


def test_a_new_label_runs_what_reads_labels_and_nothing_else(root, capsys):
    shows = 'file = Path("../labels/human_labels.jsonl"); print(file.exists())'
    labels = ["labels/human_labels.jsonl"]
    write_notebook(root, "02_c", shows, reads=labels)
    options = ["--run-id", "r"]
    assert run.main(options) == 0  # there is no such file yet
    (root / "labels").mkdir()
    for text in ("{}\n", "{}\n{}\n"):
        (root / labels[0]).write_text(text)
        capsys.readouterr()
        assert run.main(options) == 0
        said = capsys.readouterr().out
        assert "02_c runs: reads: labels/human_labels.jsonl has changed" in said
        assert said.count("skipped") == 2
    executed = nbformat.read(root / "runs/r/02_c.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "True\n"


def test_a_failure_names_notebook_cell_error_and_copy_and_leaves_no_half_file(root, capsys):
    write_notebook(root, "00_a", "1 + 1", "# divides\n1 / 0", writes=["a.txt"])
    assert run.main(["--run-id", "r"]) == 1
    said = capsys.readouterr().out
    failed = root / "runs/r/00_a.failed.ipynb"
    # prose, parameters, folder, 1 + 1, then the fifth; papermill's own cell is not counted
    assert "00_a FAILED: cell 5 of 5 (1 / 0): ZeroDivisionError: division by zero" in said
    assert f"executed copy: {failed}" in said
    assert "01_b" not in said and "02_c" not in said
    notebooks = sorted(path.name for path in failed.parent.glob("*.ipynb"))
    assert notebooks == ["00_a.failed.ipynb"]
    assert "division by zero" in (root / "runs/r/report.html").read_text()


def test_keep_going_runs_what_does_not_depend_on_the_failure(root, capsys):
    write_notebook(root, "00_a", "import sys; sys.exit(0)", writes=["a.txt"])  # ends too soon
    assert run.main(["--run-id", "r", "--keep-going"]) == 1
    said, warned = capsys.readouterr()
    assert "00_a FAILED: it ended without writing a.txt" in said
    assert "01_b not run: a.txt was not written" in said
    assert "02_c done" in said
    assert "Failed or not run: 00_a, 01_b" in warned


def test_the_kernel_is_this_interpreter_whatever_else_is_installed(root, tmp_path, monkeypatch):
    wrong = tmp_path / "user" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    spec = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "x", "language": "p"}
    (wrong / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    big = "import sys; block = bytearray(400_000_000); block[::4096] = b'x' * 97_657"
    write_notebook(root, "02_c", big, "print(sys.executable)")
    assert run.main(["--run-id", "r", "--from", "02"]) == 0
    executed = nbformat.read(root / "runs/r/02_c.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.strip() == sys.executable
    timing = json.loads((root / "runs/r/timings.json").read_text())["notebooks"]["02_c"]
    assert 400 < timing["peak_memory_mb"] < 700  # the block and an idle kernel
    assert timing["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", "../x"], "not a plain name"),
        (["--profile", "nobody"], "profile 'nobody' is not known"),
        (["--from", "9"], "there is no notebook '9'"),
        (["--from", "02", "--to", "00_a"], "--from 02 comes after --to 00_a"),
        (["--from", "1"], "01_b reads a.txt, which is not there: start with --from 00"),
        (["-p", "epochs=3"], "no selected notebook has a parameter 'epochs'"),
        (["--to", "00", "--quick"], "no selected notebook has a parameter 'quick'"),
    ],
)
def test_what_cannot_run_as_asked_is_refused_before_anything_runs(root, capsys, arguments, message):
    assert run.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_a_parameter_takes_a_value_of_its_own_type(root, capsys):
    write_notebook(root, "02_c", parameters=PARAMETERS + "\nrate = 0.1")
    assert run.main(["--from", "02", "-p", "rate=fast"]) == 2
    assert "02_c: parameter rate takes float such as 0.1, not 'fast'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["-p", "seed=3"])
    assert "seed has an option, --seed" in capsys.readouterr().err


def test_a_second_run_on_the_same_id_is_refused_while_the_first_holds_it(root, capsys):
    with RunFolder("r", root / "runs").lock():
        assert run.main(["--run-id", "r"]) == 2
    assert "run 'r' is in use by another process" in capsys.readouterr().err
    assert not list((root / "runs/r").glob("*.ipynb"))


def test_no_process_outlives_a_runner_that_is_killed(root):
    beat = root / "beat"
    write_notebook(
        root,
        "00_a",
        f"import time\nwhile True:\n    Path({str(beat)!r}).touch()\n    time.sleep(0.1)",
        writes=["a.txt"],
    )
    code = f"from pathlib import Path; from nbutils import run; run.ROOT = Path({str(root)!r})"
    command = [sys.executable, "-c", f"{code}\nif __name__ == '__main__': run.main()"]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent) as runner:
        while not beat.exists():
            assert runner.poll() is None
            time.sleep(0.1)
        runner.kill()
    # the notebook's process looks for the runner every 0.5 s, the kernel for that every second
    give_up = time.monotonic() + 10
    while time.time() - beat.stat().st_mtime < 1:  # one that lives touches it every 0.1 s
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_a_missing_key_is_told_before_anything_is_made(root, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run.main(["--profile", "hosted"]) == 2
    assert "[question_writer] wants a key in OPENAI_API_KEY" in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_a_profile_of_ones_own_goes_to_the_notebooks_by_its_full_path(root, capsys, monkeypatch):
    mine = root / "mine.toml"
    shipped = (PROFILE_FILES / "recorded.toml").read_text()
    mine.write_text(shipped.replace('name = "recorded"', 'name = "mine"').replace("data/", ""))
    (root / "kestrel").mkdir()
    (root / "kestrel/document.md").write_text("# A document")
    write_notebook(root, "02_c", "print(profile)")
    monkeypatch.chdir(root)
    assert run.main(["--profile", "mine.toml", "--from", "02"]) == 0
    executed = nbformat.read(root / "runs/mine/02_c.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"{mine}\n"

    mine.write_text(mine.read_text() + "\n[budget]\ncalls = 5\n")  # decides no result
    assert run.main(["--profile", "mine.toml", "--from", "02"]) == 0
    assert "02_c skipped" in capsys.readouterr().out
    (root / "kestrel/document.md").write_text("# Another")
    assert run.main(["--profile", "mine.toml", "--from", "02"]) == 0
    assert "02_c runs: document has changed" in capsys.readouterr().out


def test_a_notebook_whose_calls_failed_runs_again_until_they_are_answered(root, capsys):
    fails = """from nbutils.callpath.exchange import Call
from nbutils.callpath.store import Store
store = Store(folder / "calls.sqlite")
if not (folder / "mended").exists():
    store.keep_error("key", "m", Call("teacher", "p1/original"), "500")"""
    write_notebook(root, "02_c", fails)
    assert run.main(["--run-id", "r", "--from", "02"]) == 0
    assert "1 calls failed and are asked again by the next run" in capsys.readouterr().out
    (root / "runs/r/mended").touch()
    for said in ("02_c runs: no finished run yet", "02_c skipped"):
        assert run.main(["--run-id", "r", "--from", "02"]) == 0
        assert said in capsys.readouterr().out


def test_the_run_ends_with_what_was_paid(root, capsys):
    folder = root / "runs/r"
    folder.mkdir(parents=True)
    store = Store(folder / STORE)
    store.settle(store.reserve("teacher", 3, 9.0), 0.25)
    store.keep_error("key", "m", Call("teacher", "p1/original"), "400")
    store.close()
    assert run.main(["--run-id", "r", "--from", "02"]) == 0
    assert "teacher: 0 replies, 1 failed, 3 sent, 0.25 cost" in capsys.readouterr().out

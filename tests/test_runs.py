import subprocess
import sys
from pathlib import Path

import pytest

from nbutils.jsonl import RecordError
from nbutils.profiles import PROFILE_FILES, ROOT
from nbutils.records import Pair
from nbutils.roles import ProfileError
from nbutils.runs import RunError, RunFolder, open_run

PAIR = Pair("p000", "train", "q000", "one", "two")


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "a\\b", "/tmp/x", "a b", "-x", "x" * 65])
def test_a_run_id_with_a_path_is_refused(tmp_path, run_id):
    with pytest.raises(RunError, match="is not a plain name"):
        RunFolder(run_id, root=tmp_path)


def test_rows_come_back_as_written(tmp_path):
    run = RunFolder("mine", root=tmp_path)
    run.write("pairs.jsonl", [PAIR])
    assert run.read("pairs.jsonl", Pair) == [PAIR]
    assert run.need("pairs.jsonl") == tmp_path / "mine" / "pairs.jsonl" == run.path("pairs.jsonl")


def test_a_missing_file_names_the_notebook_that_writes_it(tmp_path):
    run = RunFolder("mine", root=tmp_path)
    with pytest.raises(RunError, match="runs/mine/pairs.jsonl: .*; run notebook 02_answers first"):
        run.read("pairs.jsonl", Pair)
    with pytest.raises(RunError, match="run notebook 05_distil first"):
        run.need("student")
    assert not run.folder.exists()  # asking leaves nothing behind


def test_a_broken_file_is_the_reader_s_error(tmp_path):
    run = RunFolder("mine", root=tmp_path)
    run.path("pairs.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(RecordError, match="pairs.jsonl line 1"):
        run.read("pairs.jsonl", Pair)


def test_the_lock_refuses_a_second_run_and_lets_go(tmp_path):
    first, second = RunFolder("mine", root=tmp_path), RunFolder("mine", root=tmp_path)
    with first.lock(), pytest.raises(RunError, match="'mine' is in use"), second.lock():
        pass
    with second.lock(), RunFolder("other", root=tmp_path).lock():
        pass


def test_another_process_cannot_take_the_lock(tmp_path):
    code = (
        "import sys, pathlib; from nbutils.runs import RunFolder\n"
        "with RunFolder('mine', root=pathlib.Path(sys.argv[1])).lock(): print('taken')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with RunFolder("mine", root=tmp_path).lock():
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1 and "'mine' is in use by another process" in refused.stderr
    taken = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert taken.stdout == "taken\n"


def test_open_run_takes_the_profile_s_name_for_an_empty_id():
    profile, run = open_run("recorded", "")
    assert (profile.name, run.run_id) == ("recorded", "recorded")
    assert run.folder == Path(ROOT, "runs", "recorded")
    assert open_run("recorded", "mine")[1].run_id == "mine"


def test_a_profile_of_one_s_own_names_its_run(tmp_path):
    whole = (PROFILE_FILES / "recorded.toml").read_text(encoding="utf-8")
    file = tmp_path / "other.toml"
    file.write_text(whole.replace('name = "recorded"', 'name = "mine"'), encoding="utf-8")
    assert open_run(str(file), "")[1].run_id == "mine"
    with pytest.raises(ProfileError, match="there is no such file"):
        open_run(str(tmp_path / "none.toml"), "")

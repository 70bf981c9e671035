import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.corpus.splits import shared_sources
from nbutils.own import import_rows, main, refuse_own_rows
from nbutils.profiles import ROOT
from nbutils.records import Answer, Pair, Question, RecordError
from nbutils.runs import RunError, RunFolder

FILES = ("questions.jsonl", "answers.jsonl", "pairs.jsonl")


def row(number, source, answers=("x", "y"), **more):
    texts = {name: f"{name} says {number}" for name in answers}
    return {"question": f"Who is {number}?", "source": source, "answers": texts} | more


def save(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def six(folder, **more):
    return save(folder, *(row(n, f"Source {n // 2}.", **more) for n in range(6)))


@pytest.fixture
def run(tmp_path):
    return RunFolder("mine", tmp_path / "runs")


def test_rows_become_questions_answers_and_all_pairs(tmp_path, run):
    imported = import_rows(
        save(
            tmp_path,
            row(0, "Fog came.", ("x", "y", "z")),
            row(1, "Seals bark.", ("x", "y"), id="mine-1", section="Seals"),
            row(2, "Fog  came.\n", ("z",)),
        ),
        run,
        0,
    )
    questions = run.read("questions.jsonl", Question)
    assert questions == imported.questions
    assert [(q.question_id, q.section, q.chunk_id, q.source_chunk_id) for q in questions] == [
        ("q000", "s000", "s000", "s000"),
        ("mine-1", "Seals", "s001", "s001"),
        ("q002", "s000", "s000", "s000"),  # the same source but for its spaces
    ]
    assert [q.source for q in questions] == ["Fog came.", "Seals bark.", "Fog  came.\n"]
    assert {(q.kind, q.reference) for q in questions} == {(None, None)}
    answers = run.read("answers.jsonl", Answer)
    assert answers[:3] == [Answer("q000", who, f"{who} says 0") for who in "xyz"]
    pairs = run.read("pairs.jsonl", Pair)
    # q000 has three answers, so 3 pairs; mine-1 one; q002 none, for want of a second answer
    assert [pair.question_id for pair in pairs] == ["q000", "q000", "q000", "mine-1"]
    assert imported.pairing.unpaired == ["q002"]
    assert imported.summary().split("\n") == [
        "3 questions on 2 sources, 2 sections",
        "train 2, test 1",  # of three, the section of one is nearer to 30 %
        "answers: x 2, y 2, z 2",
        "4 pairs; 1 question(s) without one, for want of two answers: q002",
    ]
    sides = {q.question_id: q.split for q in questions}
    assert sides["q000"] == sides["q002"] != sides["mine-1"]


@given(st.integers(0, 2**32))
def test_a_source_never_stands_on_both_sides(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("own")
    questions = import_rows(six(folder), RunFolder("mine", folder), seed).questions
    assert {q.split for q in questions} == {"train", "test"}
    assert shared_sources(questions) == []
    for source in range(3):
        assert len({q.split for q in questions if q.source == f"Source {source}."}) == 1


def test_a_section_that_one_row_names_holds_for_its_source(tmp_path, run):
    rows = [row(0, "A."), row(1, "A.", section="S"), row(2, "B.", section="S"), row(3, "C.")]
    questions = import_rows(save(tmp_path, *rows), run, 0).questions
    assert [q.section for q in questions] == ["S", "S", "S", "s002"]


def test_given_splits_are_kept(tmp_path, run):
    rows = [row(0, "A.", split="test"), row(1, "B.", split="train"), row(2, "A.", split="test")]
    questions = import_rows(save(tmp_path, *rows), run, 0).questions
    assert [q.split for q in questions] == ["test", "train", "test"]


def test_one_source_cannot_be_split(tmp_path, run):
    path = save(tmp_path, row(0, "A."), row(1, "A."))
    with pytest.raises(RecordError, match="rows.jsonl: all rows have one source .*; add rows on"):
        import_rows(path, run, 0)


def test_rows_without_a_pair_are_refused(tmp_path, run):
    path = save(tmp_path, row(0, "A.", ("x",)), row(1, "B.", ("x",)))
    with pytest.raises(RecordError, match="rows.jsonl: no row has two answers"):
        import_rows(path, run, 0)
    assert not run.folder.exists() or list(run.folder.iterdir()) == []


def test_a_faulty_file_writes_nothing(tmp_path, run):
    with pytest.raises(RecordError, match="line 2: field 'source'"):
        import_rows(save(tmp_path, row(0, "A."), row(1, "")), run, 0)
    assert not run.folder.exists()


def contents(run):
    return {name: (run.folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("step", range(8))
def test_an_import_that_dies_leaves_no_old_pairs_beside_new_answers(
    tmp_path, run, monkeypatch, step
):
    import_rows(six(tmp_path), run, 0)
    before = contents(run)
    real, left = os.replace, [step]

    def die(source, target):
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        real(source, target)

    mended = six(tmp_path, answers=("x", "y", "z"))
    monkeypatch.setattr(os, "replace", die)
    # own.json, a part of each of the three, then the three themselves: seven renamings in all
    if step < 7:
        with pytest.raises(OSError, match="No space"):
            import_rows(mended, run, 0)
        assert not (run.folder / "pairs.jsonl").exists() or contents(run) == before
    monkeypatch.undo()
    import_rows(mended, run, 0)
    assert len(run.read("pairs.jsonl", Pair)) == 18  # 6 questions, 3 pairs each
    assert not list(run.folder.glob("*.part"))


def test_the_same_file_may_be_imported_again_and_another_not(tmp_path, run):
    import_rows(six(tmp_path), run, 0)
    mended = save(tmp_path, *(row(n, f"Source {n // 2}.", ("x", "y", "z")) for n in range(6)))
    import_rows(mended, run, 0)
    assert len(run.read("pairs.jsonl", Pair)) == 18  # 6 questions, 3 pairs each
    other = save(tmp_path, row(0, "A."), row(1, "B."), name="other.jsonl")
    with pytest.raises(RunError, match="runs/mine/questions.jsonl comes from rows.jsonl, not from"):
        import_rows(other, run, 0)


def test_a_notebook_s_rows_are_not_replaced(tmp_path, run):
    run.write("pairs.jsonl", [])
    with pytest.raises(RunError, match="pairs.jsonl comes from a notebook, .*another run id"):
        import_rows(six(tmp_path), run, 0)
    assert (run.folder / "pairs.jsonl").read_bytes() == b""


def test_a_notebook_does_not_replace_own_rows(tmp_path, run):
    refuse_own_rows(run)  # nothing is there yet
    import_rows(six(tmp_path), run, 0)
    with pytest.raises(RunError, match="runs/mine holds rows of rows.jsonl, .*--from 03"):
        refuse_own_rows(run)


def test_a_run_in_use_is_left_alone(tmp_path, run):
    with run.lock(), pytest.raises(RunError, match="is in use"):
        import_rows(six(tmp_path), run, 0)


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nbutils.own.RunFolder", lambda name: RunFolder(name, tmp_path / "runs"))
    command = [str(six(tmp_path)), "--run-id", "mine", "--profile", "recorded", "--seed", "4"]
    assert main(command) == 0
    said = capsys.readouterr().out.split("\n")
    assert said[0] == "6 questions on 3 sources, 3 sections"
    assert said[1] == "train 4, test 2"  # two of six are nearest to 30 %
    assert said[2:4] == ["answers: x 6, y 6", "6 pairs"]
    assert said[4] == (
        "Next: python -m nbutils.run --profile recorded --run-id mine --seed 4 --from 03"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--profile", "opne"], "profile 'opne' is not known"),
        (["--run-id", "a/b"], "run id 'a/b' is not a plain name"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(tmp_path, capsys, change, message):
    command = [str(six(tmp_path)), "--run-id", "x", "--profile", "recorded", *change]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_the_command_lists_the_faults(tmp_path):
    path = save(tmp_path, row(0, ""), row(1, "B.", (), split="dev"))
    command = [sys.executable, "-m", "nbutils.own", str(path), "--run-id", "x"]
    command += ["--profile", "recorded"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("rows.jsonl line") == 3 and "Traceback" not in done.stderr
    assert not (ROOT / "runs" / "x").exists()

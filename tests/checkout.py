"""A copy of the repository with a little document of its own, for runs of the series in tests."""

import os
import shutil
import subprocess
import sys

from nbutils.corpus.retrieval import chunk
from nbutils.jsonl import write_jsonl
from nbutils.profiles import ROOT
from nbutils.records import Question

DOCUMENT = """# The Island

## The Fog

The fog came in Year Three and stayed for eleven days. Nobody could see the pier from the hut.

## The Boats

Old Patience is a workboat of oak. She carries six people and all the fuel of the winter.
"""
ASKED = {
    "When did the fog come?": "In Year Three.",
    "How many people does Old Patience carry?": "Six.",
}


def questions():
    """One for each section: the first of train, the second of test."""
    chunks = chunk(DOCUMENT)
    for n, (asked, reference) in enumerate(ASKED.items()):
        piece = chunks[n - len(ASKED)]
        yield Question(
            question_id=f"q{n:03d}",
            split=("train", "test")[n],
            section=piece.section,
            kind="fact",
            question=asked,
            reference=reference,
            chunk_id=piece.chunk_id,
            source_chunk_id=piece.chunk_id,
            source=piece.text,
        )


def make_checkout(folder, profile):
    """Copies the repository to the folder; the profile is tiny.toml, its document island.md, and
    the run `tiny` has its questions."""
    for name in ("nbutils", "notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "island.md").write_text(DOCUMENT)
    (folder / "tiny.toml").write_text(profile)
    (folder / "runs" / "tiny").mkdir(parents=True)
    write_jsonl(folder / "runs" / "tiny" / "questions.jsonl", questions())
    return folder


def run_series(checkout, first="02", last="03", **environment):
    """The finished process of the runner, from one notebook to another."""
    command = [sys.executable, "-m", "nbutils.run", "--profile", "tiny.toml"]
    command += ["--from", first, "--to", last]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)

"""Notebooks 02 and 03 with live models that fail on purpose: what is kept, and what is not told."""

import pytest

from nbutils.jsonl import read_jsonl
from nbutils.records import Judgement
from tests.checkout import make_checkout, run_series
from tests.server import CHAT, Fault

pytestmark = pytest.mark.slow

KEYS = {"ANSWERER_CANARY": "sk-answerer-1f2e3d4c5b6a", "TEACHER_CANARY": "sk-teacher-a6b5c4d3e2f1"}
PROFILE = """
name = "tiny"
document = { path = "island.md" }
calls = { deadline_s = 1.0 }
pairs = { choose = "all" }
student = { model = "smollm2-135m-instruct" }

[question_writer]
service = "recorded"
model = "recorded"

[answerers.short]
service = "openai"
model = "short"
base_url = "OTHER"
key = "ANSWERER_CANARY"
sampling = { max_tokens = 8 }

[answerers.long]
service = "openai"
model = "long"
base_url = "OTHER"
key = "ANSWERER_CANARY"
sampling = { max_tokens = 9 }

[teacher]
service = "openai"
model = "judge"
base_url = "URL"
key = "TEACHER_CANARY"
sampling = { max_tokens = 40 }
"""


@pytest.fixture
def checkout(tmp_path, server, other_server):
    other_server.script("text:Six.", model="short")
    other_server.script("text:Nobody could see it.", model="long")
    server.script("verdict:[[A]]")
    return make_checkout(
        tmp_path, PROFILE.replace("URL", server.url).replace("OTHER", other_server.url)
    )


def no_key_told(checkout, *runs):
    """Whether no key stands in what the runs printed or in any file of the run folder."""
    told = "".join(run.stdout + run.stderr for run in runs).encode()
    files = [file for file in (checkout / "runs").rglob("*") if file.is_file()]
    whole = told + b"".join(file.read_bytes() for file in files)
    assert b"judge" in whole and len(files) > 5  # something is there to look through
    return not [key for key in KEYS.values() if key.encode() in whole or key[-8:].encode() in whole]


def test_a_series_that_fails_tells_no_key_and_goes_on_where_it_stopped(
    checkout, server, other_server
):
    server.faults(Fault("invalid_key"))  # quotes a part of the key
    refused = run_series(checkout, **KEYS)
    assert refused.returncode == 1
    assert "03_teacher_judgements FAILED" in refused.stdout
    assert "answers nobody: 401 invalid_api_key" in refused.stdout
    assert other_server.calls[CHAT] == 4  # two questions, two answerers

    server.faults(Fault("leak", marker="Old Patience"))  # quotes the whole of it
    holed = run_series(checkout, **KEYS)
    assert holed.returncode == 0
    assert "2 calls failed and are asked again by the next run" in holed.stdout
    rows = read_jsonl(checkout / "runs/tiny/judgements.jsonl", Judgement)
    unread = [row for row in rows if row.verdict is None]
    assert [row.pair_id for row in unread] == ["p001", "p001"] and len(rows) == 4
    assert all(row.reason.startswith("no reply: 500") for row in unread)
    assert no_key_told(checkout, refused, holed)

    server.faults()
    before = server.calls[CHAT]
    mended = run_series(checkout, **KEYS)
    assert mended.returncode == 0 and "02_answers skipped" in mended.stdout
    assert server.calls[CHAT] == before + 2
    rows = read_jsonl(checkout / "runs/tiny/judgements.jsonl", Judgement)
    assert all(row.verdict for row in rows)
    assert other_server.calls[CHAT] == 4
    for each, name in ((server, "TEACHER_CANARY"), (other_server, "ANSWERER_CANARY")):
        bearers = {seen.headers.get("authorization") for seen in each.requests()}
        assert bearers == {f"Bearer {KEYS[name]}"}

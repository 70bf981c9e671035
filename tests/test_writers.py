"""The students that write, over a loopback service that fine-tunes and with a tiny base of ours."""

import json

import pytest

from nbutils.profiles import load_profile
from nbutils.prompts import PAIRWISE
from nbutils.records import Answer, Judgement, Pair, Question
from nbutils.resolution import resolve_all
from nbutils.runs import RunFolder
from nbutils.writing import hosted, tuning
from nbutils.writing.jobfile import HostedError
from nbutils.writing.writers import TrainRows, judge_written, start_hosted, teach_written
from tests.chatty import save_chat_base
from tests.server import CHAT

pytestmark = pytest.mark.slow

PROFILE = """
name = "mine"
[document]
path = "."
[question_writer]
service = "recorded"
model = "recorded"
[answerers.one]
service = "extractive"
model = "extractive"
[answerers.two]
service = "extractive"
model = "extractive"
[teacher]
service = "openai"
model = "teacher"
base_url = "URL"
key = "none"
sampling = {max_tokens = 20}
[student]
model = "smollm2-135m-instruct"
"""
HOSTED = (
    '[hosted_student]\nmodel = "base"\nbase_url = "URL"\nkey = "none"\nvalidation_share = 0.4\n'
)
JOBS = "/v1/fine_tuning/jobs"
PAIRS = [Pair(f"p{n}", "train", f"q{n}", "one", "two") for n in range(30)]
QUESTIONS = [
    Question(f"q{n}", "train", f"s{n % 3}", None, "Who?", None, f"c{n}", f"c{n}", f"It was {n}.")
    for n in range(30)
]
ANSWERS = [Answer(f"q{n}", who, f"{n}, says {who}") for n in range(30) for who in ("one", "two")]
JUDGED = [
    Judgement(f"p{n}", order, "teacher", PAIRWISE.fingerprint, f"Because.\n[[{letter}]]", "a")
    for n in range(30)
    for order, letter in (("original", "A"), ("flipped", "B"))
]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(hosted, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(tuning, "LOOK_PAUSE", 0.01)


@pytest.fixture
def made(server, tmp_path):
    """A profile with the given tables added, and its run folder."""

    def make(tables):
        file = tmp_path / "mine.toml"
        file.write_text((PROFILE + tables).replace("URL", server.url))
        return load_profile(str(file)), RunFolder("r", tmp_path)

    return make


def rows():
    return TrainRows(PAIRS, QUESTIONS, ANSWERS, JUDGED, resolve_all(JUDGED))


def test_a_profile_without_them_has_none(made, server):
    profile, run = made("")
    assert start_hosted(profile, run, rows(), 0) == "this profile names no hosted student"
    assert teach_written(profile, run, rows(), 0) == {}
    assert judge_written(profile, run, PAIRS, QUESTIONS, ANSWERS) == []
    assert not server.requests()


def test_the_hosted_student_is_taught_once_and_judged_beside_its_base(made, server):
    profile, run = made(HOSTED)
    for _ in range(2):
        assert "ftjob-0001" in start_hosted(profile, run, rows(), 0)
    taught = teach_written(profile, run, rows(), 0)
    assert taught == {"hosted student": "ft:base:loopback::0001"}
    server.script("text:So.\n[[A]]", model="ft:base")
    server.script("text:No idea.", model="base")
    tuned, untuned = judge_written(profile, run, PAIRS, QUESTIONS, ANSWERS)
    assert (tuned.name, untuned.name) == ("hosted student", "hosted base, untuned")
    # Always the answer shown first: a in one order, b in the other.
    assert {row.verdict for row in tuned.resolutions.values()} == {"conflict"}
    assert {row.verdict for row in untuned.resolutions.values()} == {"unreadable"}
    assert server.calls[CHAT] == 2 * 2 * len(PAIRS)  # two judges, two orders
    jobs = [r for r in server.requests() if (r.method, r.path) == ("POST", JOBS)]
    assert len(jobs) == 1
    judge_written(profile, run, PAIRS, QUESTIONS, ANSWERS)
    assert server.calls[CHAT] == 2 * 2 * len(PAIRS)  # all of it is in the store


def test_no_section_is_taught_and_validated(made, server):
    profile, run = made(HOSTED)
    start_hosted(profile, run, rows(), 0)
    files = [r.body for r in server.requests() if r.path == "/v1/files" and r.method == "POST"]
    sources = [{n for n in range(30) if f"It was {n}." in body} for body in files]
    assert [len(found) for found in sources] == [20, 10]  # two sections of three, and the third
    assert not {n % 3 for n in sources[0]} & {n % 3 for n in sources[1]}


def test_a_refused_job_ends_at_the_start_with_the_way_out(made, server):
    server.set(refuse_jobs=403)
    profile, run = made(HOSTED)
    with pytest.raises(HostedError, match="the profile 'open'"):
        start_hosted(profile, run, rows(), 0)


def test_the_generative_student_is_taught_and_asked_through_the_call_path(
    made, tmp_path, one_thread
):
    toy = save_chat_base(tmp_path / "toy")
    table = f'[generative_student]\nmodel = "{toy}"\nepochs = 1\nrank = 2\nbatch = 10\n'
    profile, run = made(table + "alpha = 1.0\n")
    taught = teach_written(profile, run, rows(), 0)
    assert list(taught) == ["generative student"]
    assert (run.folder / "generative/adapter_model.safetensors").is_file()
    tuned, untuned = judge_written(profile, run, PAIRS[:2], QUESTIONS, ANSWERS)
    assert (tuned.name, untuned.name) == ("generative student", "generative base, untuned")
    # A random base writes nothing that can be read: counted, and no tie.
    assert {row.verdict for row in tuned.resolutions.values()} == {"unreadable"}
    assert json.loads((run.folder / "generative/generative.json").read_text())["seed"] == 0

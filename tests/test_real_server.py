"""The series against llama.cpp's server with the shipped base model: a real model, no imitation."""

import re
import urllib.request
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.spend import Purse
from nbutils.callpath.store import STORE, Store
from nbutils.corpus.vectors import StoredEmbedding
from nbutils.jsonl import read_jsonl
from nbutils.logprobs import NOT_GIVEN, verdict_probabilities
from nbutils.profiles import Budget, Limits
from nbutils.prompts import PAIRWISE, render_pairwise
from nbutils.records import Answer, Judgement, Pair, Resolution
from nbutils.roles import Role
from nbutils.services.embeddings import EmbeddingEndpoint
from nbutils.services.endpoints import OpenAIChat
from nbutils.verdicts import read_verdict
from tests.checkout import make_checkout, run_series

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m-instruct"
# The base does not follow the judge's prompt, so the server is told what a reply looks like.
GRAMMAR = 'root ::= "Verdict: [[" [ABC] "]]"'
PROFILE = """
name = "tiny"
document = {{ path = "island.md" }}
calls = {{ concurrency = 2 }}
pairs = {{ choose = "all" }}
student = {{ model = "{model}" }}

[question_writer]
service = "recorded"
model = "recorded"

[answerers.plain]
service = "openai"
model = "{model}"
base_url = "{address}"
key = "none"
sampling = {{ temperature = 0, max_tokens = 8 }}

[answerers.wild]
service = "openai"
model = "{model}"
base_url = "{address}"
key = "none"
sampling = {{ temperature = 1.5, seed = 3, max_tokens = 8 }}

[teacher]
service = "openai"
model = "{model}"
base_url = "{address}"
key = "none"
logprobs = 5

[teacher.sampling]
temperature = 0
max_tokens = 40
extra_body = {{ grammar = '''{grammar}''' }}
"""


def role(address, **fields):
    sampling = {"temperature": 0, "max_tokens": 40} | fields.pop("sampling", {})
    chosen = {"service": "openai", "model": MODEL, "base_url": address, "key": "none"}
    return Role(**chosen, sampling=sampling, **fields)


@pytest.fixture
def path(tmp_path):
    with closing(Store(tmp_path / STORE)) as store:
        path = CallPath(store, Limits(concurrency=2), Purse(store, Budget(), "USD"))
        yield path
        path.close()


def judged(order):
    texts = ("When did the fog come?", "The fog came in Year Three.", "Year Three.", "Year Nine.")
    return Call("teacher", f"p0/{order}", PAIRWISE.fingerprint, render_pairwise(*texts, order))


def test_its_log_probabilities_are_read_at_the_verdict(local_server, path):
    sampling = {"extra_body": {"grammar": GRAMMAR}}
    told = OpenAIChat(role(local_server, sampling=sampling, logprobs=5), "", 60.0)
    (reply,) = path.run(told, [judged("original")], "told")
    read = read_verdict(reply.text, reply.finish_reason)
    probabilities, why = verdict_probabilities(reply, read, "original")
    assert why is None and sum(probabilities) == pytest.approx(1)
    assert all(0 < share < 1 for share in probabilities)
    untold = OpenAIChat(role(local_server, sampling=sampling), "", 60.0)
    (plain,) = path.run(untold, [judged("original")], "untold")
    assert (plain.text, plain.tokens) == (reply.text, ())
    assert verdict_probabilities(plain, read_verdict(plain.text), "original") == (None, NOT_GIVEN)


def test_a_prompt_beyond_its_context_is_one_failed_row(local_server, path):
    long = Call("teacher", "p1/original", messages=[{"role": "user", "content": "fog " * 4000}])
    service = OpenAIChat(role(local_server, sampling={"max_tokens": 4}), "", 60.0)
    failed, answered = path.run(service, [long, judged("flipped")], "judgements")
    assert isinstance(failed, Failure) and "exceeds the available context size" in failed.why
    assert isinstance(answered, Reply) and answered.finish_reason == "length"
    assert read_verdict(answered.text, answered.finish_reason).reason.startswith("cut off")


def test_its_embeddings_make_a_vector_index(local_server, path):
    embedding = StoredEmbedding(path, EmbeddingEndpoint(role(local_server), "", 60.0))
    assert embedding.fetch({"c00": "The fog came.", "c01": "The boat is of oak."}, "chunks") == {}
    fog, boat = embedding.get_text_embedding_batch(["The fog came.", "The boat is of oak."])
    assert len(fog) == len(boat) == 576 and fog != boat


@pytest.fixture
def checkout(tmp_path, local_server):
    filled = PROFILE.format(model=MODEL, address=local_server, grammar=GRAMMAR)
    return make_checkout(tmp_path, filled)


def summary_of(checkout):
    done = run_series(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def printed(file: Path):
    """What the cells of an executed copy printed, on one line."""
    cells = nbformat.read(file, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return " ".join(" ".join(output.get("text", "") for output in outputs).split())


def prompt_tokens_seen(address):
    """All prompt tokens that the server was sent since its start, by its own count."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as answer:
        text = answer.read().decode()
    return sum(map(int, re.findall(r"^llamacpp:prompt_tokens(?:_cached)?_total (\d+)", text, re.M)))


def test_notebooks_02_and_03_with_a_real_model_as_answerer_and_as_judge(checkout, local_server):
    before = prompt_tokens_seen(local_server)
    summary = summary_of(checkout)
    run = checkout / "runs" / "tiny"
    answers = read_jsonl(run / "answers.jsonl", Answer)
    assert len(answers) == 4 and all(row.text for row in answers)
    pairs = read_jsonl(run / "pairs.jsonl", Pair)
    judgements = read_jsonl(run / "judgements.jsonl", Judgement)
    assert len(pairs) == 2 and len(judgements) == 4
    for row in judgements:
        assert row.source == "log-probabilities" and row.judge == MODEL
        assert row.probabilities and all(0 < share < 1 for share in row.probabilities)
        # it likes the first place: a where a is shown first, b where b is
        assert row.verdict == {"original": "a", "flipped": "b"}[row.order]
    resolutions = read_jsonl(run / "resolutions.jsonl", Resolution)
    assert [row.verdict for row in resolutions] == ["conflict"] * 2
    # 2 questions by 2 answerers, and 2 pairs in 2 orders: 8 calls, and the server saw no more
    assert "answerer: 4 replies, 0 failed, 4 sent" in summary
    assert "teacher: 4 replies, 0 failed, 4 sent" in summary
    with closing(Store(run / STORE)) as store:
        told = sum(row["tokens in"] for row in store.roles())
    seen = prompt_tokens_seen(local_server)
    assert seen - before == told > 0
    assert "soft targets: 4 judgements from log-probabilities, 0 from votes" in printed(
        run / "03_teacher_judgements.ipynb"
    )

    (run / "03_teacher_judgements.ipynb").unlink()  # so that it runs again
    again = summary_of(checkout)
    assert "02_answers skipped" in again and "03_teacher_judgements done" in again
    assert "teacher: 4 replies, 0 failed, 4 sent" in again
    assert prompt_tokens_seen(local_server) == seen
    assert "4 in the store, none to ask" in printed(run / "03_teacher_judgements.ipynb")
    assert read_jsonl(run / "judgements.jsonl", Judgement) == judgements

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from nbutils.callpath.service import CallError
from nbutils.roles import HostedRole
from nbutils.writing import tuning
from nbutils.writing.tuning import TuningService
from tests.server import Fault

JOBS = "/v1/fine_tuning/jobs"


def service(url):
    return TuningService(HostedRole(model="base", base_url=url), "sk-canary")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(tuning, "LOOK_PAUSE", 0.01)
    monkeypatch.setattr(tuning, "PATIENCE", 0.3)


def test_a_job_is_found_by_its_training_file_behind_many_others(server):
    own = service(server.url)
    first, held = own.upload("a.jsonl", b"a\n"), own.upload("b.jsonl", b"b\n")
    job = own.create(first, held)
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        for _ in range(230):  # the list is newest first, a hundred a page
            client.fine_tuning.jobs.create(model="base", training_file=held)
    before = server.calls[JOBS]
    assert own.listed(first) == job == "ftjob-0001"
    assert server.calls[JOBS] - before == 3
    assert own.listed("file-9999") == ""


def test_a_job_is_asked_for_once_whatever_comes_of_it(server):
    own = service(server.url)
    held = own.upload("b.jsonl", b"b\n")
    for fault in ("500", "429", "reset", "no_json"):
        before = server.calls[JOBS]
        server.faults(Fault(fault, path=JOBS))
        with pytest.raises(CallError) as error:
            own.create(held, held)
        assert error.value.kind in ("passing", "odd")
        assert server.calls[JOBS] == before + 1


def test_a_look_is_repeated_until_patience_ends(server, monkeypatch):
    monkeypatch.setattr(tuning, "PATIENCE", 20.0)
    own = service(server.url)
    held = own.upload("b.jsonl", b"b\n")
    job = own.create(held, held)
    for fault in ("503", "reset", "truncated", "html"):
        # The first, and then each second, request is let through.
        server.faults(Fault(fault, path=f"{JOBS}/{job}", every=2, retry_after=0.01))
        assert own.job(job)["id"] == own.job(job)["id"] == job
    monkeypatch.setattr(tuning, "PATIENCE", 0.3)
    server.faults(Fault("429", path=f"{JOBS}/{job}", retry_after=60))
    with pytest.raises(CallError, match="429"):  # at once: a minute is beyond its patience
        own.job(job)
    server.faults(Fault("404", path=f"{JOBS}/{job}"))
    before = server.calls[f"{JOBS}/{job}"]
    with pytest.raises(CallError, match="404"):
        own.job(job)
    assert server.calls[f"{JOBS}/{job}"] == before + 1


class SlowFiles(BaseHTTPRequestHandler):
    """A service that works on a file for a while, which ours does not."""

    looks = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"id": "file-1", "status": "pending"})

    def do_GET(self):
        type(self).looks += 1
        self._answer({"id": "file-1", "status": "processed" if self.looks == 3 else "running"})

    def _answer(self, table):
        body = json.dumps(table).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_an_upload_ends_when_the_service_has_taken_the_file_in():
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowFiles) as slow:
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        assert (
            service(f"http://127.0.0.1:{slow.server_port}/v1").upload("a.jsonl", b"a") == "file-1"
        )
        slow.shutdown()
    assert SlowFiles.looks == 3

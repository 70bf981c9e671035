"""The call path against a service that misbehaves, over HTTP: nothing lost, nothing paid twice."""

import gc
import json
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import closing

import pytest

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Failure
from nbutils.callpath.spend import Purse
from nbutils.callpath.stage import StageStopped
from nbutils.callpath.store import Store
from nbutils.profiles import Budget, Limits
from nbutils.roles import Role, read_key
from nbutils.services.endpoints import OpenAIChat
from tests.server import CHAT, ROOT, Fault

pytestmark = pytest.mark.slow

ROWS = 400
LENGTH = 50  # tokens of the longest reply

pytestmark = pytest.mark.slow
# A process of its own that asks `rows` calls: python -c STAGE url store rows concurrency budget
STAGE = """
import sys
from tests.test_call_path import calls, open_path, service

url, store, rows, concurrency, budget = sys.argv[1:]
path = open_path(store, concurrency=int(concurrency), budget_calls=int(budget) or None)
path.run(service(url), calls(int(rows)), "stage")
"""


def calls(count, marks=None, role="teacher"):
    """`row 0` and so on; marks (row -> text) adds to a row's text, for faults to find."""
    marks = marks or {}
    texts = [f"row {i} {marks.get(i, '')}".strip() for i in range(count)]
    return [
        Call(role, f"p{i:03d}", "p-v1:0", [{"role": "user", "content": text}])
        for i, text in enumerate(texts)
    ]


def service(url, key="", timeout_s=20.0, **role):
    role = {"sampling": {"max_tokens": LENGTH}, "key": "none"} | role
    chosen = Role(service="openai", model="m", base_url=url, **role)
    return OpenAIChat(chosen, key, timeout_s)


def open_path(store, concurrency=32, deadline_s=60.0, budget_calls=None, money=None):
    kept = Store(store)
    limits = Limits(concurrency=concurrency, deadline_s=deadline_s)
    return CallPath(kept, limits, Purse(kept, Budget(calls=budget_calls, money=money), "USD"))


@pytest.fixture
def path(tmp_path):
    """Opens call paths on one store file, and closes them."""
    opened = []

    def one(**options):
        opened.append(open_path(tmp_path / "calls.sqlite", **options))
        return opened[-1]

    yield one
    for each in opened:
        each.close()
        each.store.close()


def rows_of(tmp_path, table):
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as db:
        return db.execute(f"SELECT data_id FROM {table}").fetchall()


def attempts(server):
    """How often each row was asked, by its text."""
    bodies = [json.loads(seen.body) for seen in server.requests()]
    return Counter(body["messages"][-1]["content"] for body in bodies)


def texts(asked):
    return [call.messages[0]["content"] for call in asked]


def marked(kinds, start=0, step=1):
    """One row a kind, from row `start` on: row -> marker, and the rules that find them."""
    marks = {start + step * i: f"<{kind}>" for i, kind in enumerate(kinds)}
    return marks, [(kind, f"<{kind}>") for kind in kinds]


PASSING = (
    *("408", "409", "429", "500", "503", "reset", "early_reset", "truncated", "hung", "slow"),
    *("html", "no_json", "wrong_schema", "no_choices"),
)


def test_each_passing_fault_loses_no_row(server, path, tmp_path, capsys):
    # Rows 0 to 13 of every 20 meet one of the 14 faults at their first attempt: 280 of 400.
    marks = {i: f"<{PASSING[i % 20]}>" for i in range(ROWS) if i % 20 < len(PASSING)}
    retry_after = {"429": 0.2}
    server.faults(
        *(
            Fault(k, marker=f"<{k}>", attempts=1, retry_after=retry_after.get(k), seconds=0.1)
            for k in PASSING
        )
    )
    asked = calls(ROWS, marks)
    replies = path().run(service(server.url, timeout_s=1.0), asked, "judging")
    assert [reply.text for reply in replies] == texts(asked)
    assert sorted(rows_of(tmp_path, "calls")) == [(call.data_id,) for call in asked]
    assert rows_of(tmp_path, "errors") == []
    tries = attempts(server)
    again = [i for i in marks if "slow" not in marks[i]]
    assert {tries[text] for i, text in enumerate(texts(asked)) if i in again} == {2}
    assert {tries[text] for i, text in enumerate(texts(asked)) if i not in again} == {1}
    assert server.counts()["most_in_flight"] <= 32 + 20 + 20  # hung ones stay with the server
    said = capsys.readouterr().out
    assert f"{ROWS} replies paid for, 0 from the store, 0 failed" in said
    assert f"{ROWS + len(again)} requests" in said  # 400 + 260


# how often a row is asked that never gets a reply
FOR_GOOD = {
    **dict.fromkeys(("400", "context_length", "403", "404", "model_not_found", "redirect"), 1),
    **dict.fromkeys(("html", "no_json", "wrong_schema", "no_choices"), 3),
}
UNTIL_THE_DEADLINE = ("500", "429", "reset", "truncated")


def test_a_row_that_fails_for_good_is_one_error_and_the_rest_arrive(
    server, other_server, path, tmp_path, capsys
):
    marks, rules = marked([*FOR_GOOD, *UNTIL_THE_DEADLINE], start=100, step=20)
    server.faults(*(Fault(kind, marker=m, to=other_server.origin) for kind, m in rules))
    asked = calls(ROWS, marks)
    ours = path(deadline_s=2.5)
    replies = ours.run(service(server.url), asked, "judging")
    bad = {i for i, reply in enumerate(replies) if isinstance(reply, Failure)}
    assert bad == set(marks)
    assert all(replies[i].text == text for i, text in enumerate(texts(asked)) if i not in bad)
    failed = sorted(asked[i].data_id for i in bad)
    assert sorted(rows_of(tmp_path, "errors")) == [(data_id,) for data_id in failed]
    assert len(rows_of(tmp_path, "calls")) == ROWS - len(bad)
    tries = attempts(server)
    for kind, marker in rules:
        (count,) = (n for text, n in tries.items() if marker in text)
        assert count == FOR_GOOD[kind] if kind in FOR_GOOD else count >= 2, kind
    said = capsys.readouterr().out
    assert f"{ROWS - len(bad)} replies paid for, 0 from the store, {len(bad)} failed" in said
    assert sum(f"failed: {data_id}: " in said for data_id in failed) == 5
    assert f"and {len(bad) - 5} more" in said
    assert other_server.calls == {}  # nobody followed the redirect

    server.faults()  # the service is well again: only the failed rows are asked
    before = server.calls[CHAT]
    mended = ours.run(service(server.url), asked, "judging")
    assert [reply.text for reply in mended] == texts(asked)
    assert server.calls[CHAT] == before + len(bad)
    assert rows_of(tmp_path, "errors") == []


def test_a_short_list_of_failures_names_them_all(server, path, capsys):
    server.faults(Fault("context_length", marker="<long>"))
    path().run(service(server.url), calls(40, {35: "<long>"}), "judging")
    said = capsys.readouterr().out
    assert "failed: p035: 400 context_length_exceeded: This model's maximum context" in said


def test_replies_that_came_and_say_nothing_are_kept_and_counted(server, path, tmp_path, capsys):
    kinds = ("empty", "null", "refusal", "length", "content_filter")
    marks, rules = marked(kinds, start=100, step=20)
    server.faults(*(Fault(kind, marker=m) for kind, m in rules))
    asked = calls(ROWS, marks)

    def readable(reply):
        return reply.finish_reason == "stop" and reply.text.startswith("row")

    replies = path().run(service(server.url), asked, "judging", readable)
    odd = {i: (r.text, r.finish_reason) for i, r in enumerate(replies) if not readable(r)}
    assert odd == {
        100: ("", "stop"),
        120: ("", "stop"),
        140: ("I can't help with that.", "refusal"),
        160: ("row 160 <length>", "length"),
        180: ("", "content_filter"),
    }
    assert set(attempts(server).values()) == {1}  # they were paid for, and are not asked again
    assert len(rows_of(tmp_path, "calls")) == ROWS
    assert "0 failed, 5 unreadable" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["invalid_key", "insufficient_quota", "402"])
def test_a_service_that_answers_nobody_stops_the_stage(server, path, tmp_path, kind):
    server.set(latency=0.02)
    server.faults(Fault(kind, after=50))
    code = {"invalid_key": "invalid_api_key", "402": "Insufficient balance"}.get(kind, kind)
    with pytest.raises(StageStopped, match=f"{code}.*What arrived is kept") as stopped:
        path(concurrency=8).run(service(server.url), calls(ROWS), "judging")
    assert "\n" not in str(stopped.value) and server.url in str(stopped.value)
    assert 50 < server.calls[CHAT] <= 50 + 8  # those in flight when the first refusal came
    assert len(rows_of(tmp_path, "calls")) == 50
    assert rows_of(tmp_path, "errors") == []  # no row is to blame
    server.faults()
    before = server.calls[CHAT]
    replies = path().run(service(server.url), calls(ROWS), "judging")
    assert [reply.text for reply in replies] == texts(calls(ROWS))
    assert server.calls[CHAT] == before + ROWS - 50


@pytest.mark.parametrize("kind", ["invalid_key", "403", "model_not_found", "redirect", "400"])
def test_a_service_that_answers_nobody_from_the_start_is_asked_few_times(
    server, other_server, path, kind
):
    server.faults(Fault(kind, to=other_server.origin))
    with pytest.raises(StageStopped):
        path(concurrency=8).run(service(server.url), calls(ROWS), "judging")
    assert server.calls[CHAT] <= 20 + 8
    assert other_server.calls == {}


def test_the_same_request_twice_is_asked_once_and_a_warm_run_asks_nothing(server, path, tmp_path):
    asked = [*calls(200), *calls(200, role="teacher")[::-1]]
    replies = path().run(service(server.url), asked, "judging")
    assert [reply.text for reply in replies] == texts(asked)
    assert (server.calls[CHAT], server.repeated) == (200, 0)
    assert len(rows_of(tmp_path, "calls")) == 200
    again = path().run(service(server.url), asked, "judging")  # another path on the same file
    assert again == replies
    assert server.calls[CHAT] == 200
    # Another model, sampling or replicate is another request.
    path().run(service(server.url, sampling={"max_tokens": 49}), asked[:1], "judging")
    assert server.calls[CHAT] == 201


def test_no_more_calls_than_allowed_are_in_flight(server, path):
    server.set(latency=0.03)
    path(concurrency=8).run(service(server.url), calls(80), "judging")
    assert server.counts()["most_in_flight"] == 8


def test_calls_that_go_well_leave_nothing_to_collect(server, path):
    # The loop stands still while Python collects; 36 objects a call were a collection every 20.
    ours, asked = path(), service(server.url)
    ours.run(asked, calls(20), "warm up")
    gc.collect()
    gc.disable()
    try:
        ours.run(asked, calls(220), "judging")
        assert gc.collect() < 200
    finally:
        gc.enable()


def test_retry_after_is_honoured(server, path):
    server.faults(
        Fault("429", marker="<seconds>", attempts=1, retry_after=0.7),
        Fault("503", marker="<date>", attempts=1, retry_after=1, as_date=True),
    )
    path().run(service(server.url), calls(20, {3: "<seconds>", 4: "<date>"}), "judging")
    times = {}
    for seen in server.requests():
        text = json.loads(seen.body)["messages"][0]["content"]
        times.setdefault(text, []).append(seen.time)
    first, second = times["row 3 <seconds>"]
    assert 0.7 <= second - first < 1.7
    first, second = times["row 4 <date>"]  # whole seconds, rounded up: 1 to 2
    assert 0.95 <= second - first < 3


def test_a_call_that_backs_off_holds_nobody_up(server, path):
    server.faults(Fault("429", marker="<wait>", attempts=1, retry_after=2))
    path(concurrency=1).run(service(server.url), calls(101, {0: "<wait>"}), "judging")
    seen = server.requests()
    assert "<wait>" in seen[0].body and "<wait>" in seen[-1].body
    others = seen[1:-1]
    assert len(others) == 100 and others[-1].time - seen[0].time < 2 <= seen[-1].time - seen[0].time


def test_a_budget_in_calls_is_never_passed(server, path):
    server.faults(Fault("500", share=0.2, seed=3))  # attempts count too
    with pytest.raises(StageStopped, match=r"budget is reached: 120 requests sent.*run again"):
        path(budget_calls=120).run(service(server.url), calls(ROWS), "judging")
    assert server.calls[CHAT] == 120
    with pytest.raises(StageStopped, match="budget"):
        path(budget_calls=120).run(service(server.url), calls(ROWS), "judging")
    assert server.calls[CHAT] == 120


def test_a_budget_in_money_is_never_passed(server, path):
    # A reply `row 12` is two tokens of 0.001 each; one of full length would cost 50 * 0.001.
    # So the next call may be sent while 0.002 n + 0.050 <= 0.500: up to n = 225, then 226 paid.
    ours = path(money=0.5)
    with pytest.raises(StageStopped, match=r"budget\.money is 0\.5"):
        ours.run(service(server.url, price_out=1000.0), calls(ROWS), "judging")
    assert 225 <= server.calls[CHAT] <= 226
    assert ours.store.spent().cost == pytest.approx(0.002 * server.calls[CHAT])
    dear = service(server.url, price_out=1000.0)
    more = path(money=2.0).run(dear, calls(ROWS), "judging")
    assert [reply.text for reply in more] == texts(calls(ROWS))
    assert server.calls[CHAT] == ROWS and server.repeated == 0


def begin(server, store, rows, concurrency, budget=0):
    """A stage in a process of its own."""
    command = [sys.executable, "-c", STAGE, server.url, str(store)]
    command += [str(rows), str(concurrency), str(budget)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def wait_for(server, count, stage):
    end = time.monotonic() + 30
    while server.calls[CHAT] < count:
        assert stage.poll() is None, stage.communicate()[0]
        assert time.monotonic() < end, "the stage does not get on"
        time.sleep(0.02)


def test_kill_and_resume_pays_twice_for_no_more_than_was_in_flight(server, path, tmp_path):
    server.set(latency=0.1)
    stage = begin(server, tmp_path / "calls.sqlite", 300, 16)
    wait_for(server, 120, stage)
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    kept = len(rows_of(tmp_path, "calls"))
    before = server.calls[CHAT]
    assert 120 - 16 <= before - 16 <= kept <= before < 300
    server.set(latency=0)
    replies = path(concurrency=16).run(service(server.url), calls(300), "judging")
    assert [reply.text for reply in replies] == texts(calls(300))
    assert server.calls[CHAT] - before == 300 - kept  # what was kept is not asked again
    assert server.repeated == before - kept <= 16
    assert len(rows_of(tmp_path, "calls")) == 300


def test_ctrl_c_ends_promptly_and_keeps_what_arrived(server, path, tmp_path):
    server.set(latency=0.1)
    server.faults(Fault("hung", marker="row 17"))  # nobody waits for this one
    stage = begin(server, tmp_path / "calls.sqlite", 300, 16)
    wait_for(server, 120, stage)
    begun = time.monotonic()
    stage.send_signal(signal.SIGINT)
    said, _ = stage.communicate(timeout=20)
    assert time.monotonic() - begun < 3
    assert stage.returncode != 0 and "KeyboardInterrupt" in said
    kept = len(rows_of(tmp_path, "calls"))
    assert f"stage: {kept} replies paid for" in said
    before = server.calls[CHAT]
    assert before - 16 - 1 <= kept < 300
    server.set(latency=0)
    server.faults()
    path().run(service(server.url), calls(300), "judging")
    assert server.calls[CHAT] - before == 300 - kept
    assert server.repeated <= 16


def test_a_budget_in_calls_holds_over_a_kill(server, path, tmp_path):
    server.set(latency=0.05)
    stage = begin(server, tmp_path / "calls.sqlite", 300, 16, budget=150)
    wait_for(server, 60, stage)
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    server.set(latency=0)
    with pytest.raises(StageStopped, match="budget"):
        path(budget_calls=150).run(service(server.url), calls(300), "judging")
    assert 150 - 16 <= server.calls[CHAT] <= 150  # what was set aside at the kill is not sent again


CANARIES = {
    "TEACHER_CANARY": "sk-teacher-7f3a9b2c4d5e6f70",
    "WRITER_CANARY": "sk-writer-0a1b2c3d4e",
}


@pytest.mark.parametrize("kind", ["invalid_key", "leak", "html", "redirect"])
def test_a_key_goes_to_its_own_endpoint_and_nowhere_else(
    server, other_server, path, tmp_path, capsys, monkeypatch, kind
):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "CUSTOM_HEADERS"):
        monkeypatch.setenv(f"OPENAI_{name}", "X-Own: sk-default-99887766")
    for name, key in CANARIES.items():
        monkeypatch.setenv(name, key)
    teacher = Role(
        service="openai",
        model="m",
        base_url=server.url,
        key="TEACHER_CANARY",
        sampling={"max_tokens": LENGTH},
    )
    writer = teacher.model_copy(update={"base_url": other_server.url, "key": "WRITER_CANARY"})
    ours = path(concurrency=4, deadline_s=0.5)
    said = []
    for role, rows in ((teacher, calls(30)), (writer, calls(30, role="question_writer"))):
        own = OpenAIChat(role, read_key(role, "role"), 20.0)
        said += ours.run(own, rows[:10], "well")
        for each, else_where in ((server, other_server), (other_server, server)):
            each.faults(Fault(kind, to=else_where.origin))
        try:
            said += ours.run(own, rows[10:], "on purpose")
        except StageStopped as stopped:
            said += traceback.format_exception(stopped)
        server.faults()
        other_server.faults()
        said.append(repr(own))
    for each, own_key in ((server, "TEACHER_CANARY"), (other_server, "WRITER_CANARY")):
        assert each.calls[CHAT] > 10
        bearers = {seen.headers.get("authorization") for seen in each.requests()}
        assert bearers == {f"Bearer {CANARIES[own_key]}"}
        others = set(CANARIES.values()) - {CANARIES[own_key]} | {"sk-default"}
        whole = json.dumps([[seen.headers, seen.body] for seen in each.requests()])
        assert not [key for key in others if key in whole]
    everything = "\n".join(map(str, [*said, *capsys.readouterr()])).encode()
    everything += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"row 3" in everything  # the store's bytes are among them
    for key in CANARIES.values():
        for piece in (key, key[:8], key[3:], key[-8:]):
            assert piece.encode() not in everything, piece

import asyncio
import json
import math
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.service import CallError
from nbutils.callpath.store import Store
from nbutils.roles import Role
from nbutils.services.clients import redact
from nbutils.services.endpoints import OpenAIChat, asked, read_completion, refusal
from tests.server import CHAT, Fault

KEY = "sk-canary-0123456789abcdefghijklmnopqrstuvwxyz"
MESSAGES = [{"role": "user", "content": "Which boat?"}]
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-other-key",
    "OPENAI_ADMIN_KEY": "sk-admin-key",
    "OPENAI_WEBHOOK_SECRET": "whsec-secret",
    "OPENAI_ORG_ID": "org-secret",
    "OPENAI_PROJECT_ID": "proj-secret",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-custom-key\nX-Mine: custom-secret",
}


def chat(url, key=KEY, timeout_s=20.0, **role):
    fields = {"sampling": {"max_tokens": 50}} | role
    return OpenAIChat(Role(service="openai", model="m", base_url=url, **fields), key, timeout_s)


def send(service, messages=MESSAGES):
    """The one outcome of one call, whichever way it comes."""

    async def once():
        try:
            [outcome] = await service.send([Call("teacher", "p1", "x", messages)])
            return outcome
        except CallError as error:
            return error
        finally:
            await service.close()

    return asyncio.run(once())


@contextmanager
def speaking(answer):
    """The address of a server that reads a request and leaves the rest to answer(connection)."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                with suppress(OSError):  # the client has gone
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread.join()


def said(status, body, headers=""):
    """An answer with that status and body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return lambda connection: connection.sendall(head.encode() + data)


# What is asked, and what comes back


def test_a_reply_comes_with_its_finish_and_usage(server):
    server.script("verdict:[[A]]")
    reply = send(chat(server.url))
    assert reply.text.endswith("\n[[A]]") and reply.finish_reason == "stop"
    # The server counts 4 and a quarter of the 11 characters: 4 + 2
    assert (reply.prompt_tokens, reply.tokens) == (6, ())
    assert 0 < reply.completion_tokens <= 50


def test_the_request_holds_model_messages_and_sampling_and_no_more(server):
    sampling = {
        "max_tokens": 50,
        "temperature": 0,
        "top_k": 40,  # which openai's client does not know
        "extra_body": {"grammar": "root"},  # as its users know to write such things
    }
    send(chat(server.url, sampling=sampling))
    [seen] = server.requests()
    assert json.loads(seen.body) == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 50,
        "temperature": 0,
        "top_k": 40,
        "grammar": "root",
    }


def test_log_probabilities_of_the_last_tokens_come_where_they_are_asked_for(server):
    server.script("text:" + "word " * 20 + "[[B]]")
    service = chat(server.url, logprobs=3)
    assert service.sampling == {"max_tokens": 50, "logprobs": True, "top_logprobs": 3}
    reply = send(service)
    # 20 words, each but the first with the space before it, and " [[", "B", "]]": 23 in all
    assert "".join(token.text for token in reply.tokens) == reply.text
    assert len(reply.tokens) == 23 and [t.text for t in reply.tokens[-2:]] == ["B", "]]"]
    letter = reply.tokens[-2]
    assert letter.logprob == pytest.approx(math.log(0.9))
    assert [text for text, _ in letter.top] == ["B", "A", "C"]


def test_no_more_than_24_tokens_are_kept(server):
    server.script("text:" + "word " * 40)
    reply = send(chat(server.url, logprobs=1, sampling={"max_tokens": 99}))
    assert len(reply.tokens) == 24 and reply.text.endswith("".join(t.text for t in reply.tokens))


@pytest.mark.parametrize(
    ("fault", "text", "finish"),
    [
        ("empty", "", "stop"),
        ("null", "", "stop"),
        ("refusal", "I can't help with that.", "refusal"),
        ("content_filter", "", "content_filter"),
        ("length", "Which boat?", "length"),
    ],
)
def test_an_odd_finish_is_a_reply_like_others(server, fault, text, finish):
    server.faults(Fault(fault))
    reply = send(chat(server.url))
    assert (reply.text, reply.finish_reason) == (text, finish)


# Whose key goes where


@pytest.fixture
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_a_named_address_is_told_its_own_key_and_nothing_of_the_environment(server, environment):
    send(chat(server.url))
    [seen] = server.requests()
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    own = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type"}
    own |= {"user-agent", "authorization"}
    assert {n for n in seen.headers if not n.startswith("x-stainless-")} <= own
    everything = json.dumps([seen.headers, seen.body])
    assert not [value for value in ("-secret", "-key") if value in everything]


def test_the_default_address_is_told_the_environment_but_never_another_key(
    server, environment, monkeypatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert send(chat("")).text
    [seen] = server.requests()
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["openai-organization"] == "org-secret"
    assert seen.headers["openai-project"] == "proj-secret"
    assert seen.headers["x-mine"] == "custom-secret"
    assert "sk-" not in json.dumps([seen.headers, seen.body]).replace(KEY, "")


def test_a_server_that_wants_no_key_is_told_none_of_the_environment(server, environment):
    send(chat(server.url, key=""))
    [seen] = server.requests()
    assert seen.headers["authorization"] == "Bearer none"


def test_a_redirect_is_not_followed(server, other_server):
    server.faults(Fault("redirect", to=other_server.origin))
    error = send(chat(server.url))
    assert (error.kind, error.status) == ("row", 307)
    assert server.calls[CHAT] == 1 and not other_server.requests()


def test_what_is_said_on_this_machine_goes_through_no_proxy(server, other_server, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, other_server.origin)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        assert isinstance(send(chat(url)), Reply)
    assert not other_server.requests()


def test_another_machine_is_reached_through_the_proxy(other_server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", other_server.origin)
    send(chat("http://models.example.invalid/v1"))  # a name that no machine may have
    [seen] = other_server.requests()
    assert seen.headers["host"] == "models.example.invalid"


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "kind", "status", "charged"),
    [
        ("400", "row", 400, False),
        ("context_length", "row", 400, False),
        ("403", "row", 403, False),
        ("404", "row", 404, False),
        ("408", "passing", 408, False),
        ("409", "passing", 409, False),
        ("429", "passing", 429, False),
        ("500", "passing", 500, True),
        ("503", "passing", 503, True),
        ("insufficient_quota", "service", 429, False),
        ("invalid_key", "service", 401, False),
        ("html", "odd", None, True),
        ("no_json", "odd", None, True),
        ("wrong_schema", "odd", None, True),
        ("no_choices", "odd", None, True),
        ("truncated", "passing", None, True),
        ("reset", "passing", None, True),
    ],
)
def test_each_fault_has_its_kind(server, fault, kind, status, charged):
    server.faults(Fault(fault))
    error = send(chat(server.url))
    assert (error.kind, error.status, error.charged) == (kind, status, charged)
    assert error.retry_after is None and len(str(error)) > 10
    assert server.calls[CHAT] == 1  # whoever sends does not try again


def test_an_empty_account_ends_the_stage():
    with speaking(said(402, {"error": "Insufficient Balance"})) as url:
        error = send(chat(url))
    assert (error.kind, error.status, str(error)) == ("service", 402, "402: Insufficient Balance")


def test_a_quota_is_known_by_its_type_too():
    body = {"error": {"message": "x", "code": 429, "type": "insufficient_quota"}}
    with speaking(said(429, body)) as url:
        assert send(chat(url)).kind == "service"


def test_a_server_that_is_not_there_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = send(chat(f"http://127.0.0.1:{port}/v1"))
    assert (error.kind, error.charged) == ("passing", False)
    assert "the connection failed (ConnectError" in str(error)


def test_a_text_that_cannot_be_written_is_its_own_row_s_failure(server):
    error = send(chat(server.url), [{"role": "user", "content": "half a \ud83d character"}])
    assert (error.kind, error.charged) == ("row", False)
    assert "cannot be written" in str(error) and not server.requests()


def test_a_hung_server_is_left_after_the_time_out(server):
    server.faults(Fault("hung"))
    start = time.monotonic()
    error = send(chat(server.url, timeout_s=0.3))
    assert (error.kind, error.charged) == ("passing", True)
    assert time.monotonic() - start < 3


def test_a_server_that_sends_a_byte_now_and_then_gets_no_longer():
    def trickle(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):  # each byte starts a read time-out anew: 10 s in all
            connection.sendall(b" ")
            time.sleep(0.1)

    with speaking(trickle) as url:
        start = time.monotonic()
        error = send(chat(url, timeout_s=0.5))
        assert time.monotonic() - start < 3
    assert (error.kind, str(error)) == ("passing", "no reply within 0.5 s")


# Retry-After


def answered(headers, status=429):
    response = httpx2.Response(
        status, headers=headers, request=httpx2.Request("POST", "http://h/v1"), json={}
    )
    return refusal(openai.APIStatusError("refused", response=response, body={}), KEY)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After-Ms": "1500"}, 1.5),
        ({"Retry-After": "9", "Retry-After-Ms": "1500"}, 1.5),  # the finer one
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),  # long past
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After-Ms": "soon"}, None),
    ],
)
def test_retry_after_in_its_forms(headers, seconds):
    assert answered(headers).retry_after == answered(headers, 503).retry_after == seconds


def test_retry_after_as_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < answered({"Retry-After": date}).retry_after <= 30  # a date has whole seconds


@settings(max_examples=50)
@given(
    st.sampled_from(["Retry-After", "Retry-After-Ms"]),
    st.text(st.characters(codec="latin-1"))
    | st.from_regex(r"[-+]?[0-9]*[.]?[0-9]*(e[0-9]+)?|nan|inf", fullmatch=True)
    | st.from_regex(
        r"(Mon, )?[0-9]+ Jan [0-9]{1,5} [0-9]+:[0-9]+:[0-9]+( GMT| -0000)?", fullmatch=True
    ),
)
def test_any_retry_after_is_a_time_to_come_or_none(name, told):
    found = answered([(name.encode(), told.encode("latin-1"))]).retry_after
    assert found is None or found >= 0


# The key in a service's words


@pytest.mark.parametrize("fault", ["invalid_key", "leak"])
def test_a_key_that_the_service_echoes_is_taken_out(server, fault):
    server.faults(Fault(fault))
    error = send(chat(server.url))
    assert "[key]" in str(error)
    assert "canary" not in str(error) and KEY[-4:] not in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        said(200, {"error": f"no such key: {KEY}"}),
        said(200, [f"no such key: {KEY}"]),
        said(200, f"no such key: {KEY}".encode()),
        said(200, {"choices": [{"message": {"content": {"key": KEY}}}]}),
        said(500, {"error": {"code": KEY, "message": "x"}}),
        said(400, {"error": {"message": "x" * 290 + KEY}}),  # where the message is cut
        said(418, f"your key: {KEY}".encode()),
    ],
)
def test_no_answer_brings_the_key_into_an_error(answer):
    with speaking(answer) as url:
        error = send(chat(url))
    assert isinstance(error, CallError)
    assert "sk-" not in str(error) and KEY[-8:] not in str(error)


@pytest.mark.parametrize(
    ("key", "text", "left"),
    [
        (KEY, f"key: {KEY}.", "key: [key]."),
        (KEY, f"{KEY}{KEY}", "[key][key]"),
        ("sk-abcdefgh-stuvwxyz", "Incorrect key: sk-ab***wxyz.", "Incorrect key: [key]."),
        ("sk-abcdefgh-stuvwxyz", "no key sk-...xyz", "no key [key]"),
        ("sk-abcdefgh-stuvwxyz", "no key sk-abc\u2026", "no key [key]"),
        ("sk-abcdefgh-stuvwxyz", "no key \u2022\u2022\u2022\u2022wxyz!", "no key [key]!"),
        ("sk-abcdefgh-stuvwxyz", "no key sk-xxxxwxyz!", "no key [key]!"),
        ("sk-abcdefgh-stuvwxyz", "no key sk-abcdefgh", "no key [key]"),
        ("sk-abcdefgh-stuvwxyz", "it ends in -stuvwxyz", "it ends in [key]"),
        (
            "sk-abcdefgh-stuvwxyz",
            "wait... and try sk- keys again",
            "wait... and try sk- keys again",
        ),
        ("a.b*c", "a.b*c axbxc", "[key] axbxc"),  # no pattern, but a text
        ("ollama", "model ollama: wait...", "model [key]: wait..."),
        ("", "nothing to hide...", "nothing to hide..."),
    ],
)
def test_a_key_is_taken_out_whole_cut_or_masked(key, text, left):
    assert redact(text, key) == left


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60)


@given(keys, st.integers(8), st.integers(8), st.text(max_size=5))
def test_no_long_piece_of_a_key_s_ends_stays(key, head, tail, between):
    quoted = redact(f"{key[:head]}{between} {key[-tail:]} {key}", key)
    assert key not in quoted and key[:8] not in quoted and key[-8:] not in quoted


# Whatever the body


def brought(content):
    """What comes of a body of these bytes: a JSON object, a Reply of it, or the CallError."""

    async def raw():
        return SimpleNamespace(content=content, text=content.decode("utf-8", "replace"))

    try:
        return read_completion(asyncio.run(asked(raw, 5.0, KEY)), KEY)
    except CallError as error:
        assert error.kind == "odd" and error.charged and str(error).startswith("the reply is n")
        return error


def stored(reply):
    """The reply as it comes back from a store."""
    with closing(Store(":memory:")) as store:
        call = Call("teacher", "p1", "x", MESSAGES)
        store.settle(store.reserve("teacher", 1, 0.0), 0.0, [("key", "e", "m", call, reply)])
        return store.find(["key"])["key"]


texts = st.text(st.characters(codec=None), max_size=6)  # lone surrogates, as JSON can spell them
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**63, 10**400, 1e308])
    | st.floats(allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def nearly(**fields):
    """Objects of these fields, some of them missing and some of another kind."""
    return st.fixed_dictionaries({}, optional={n: f | anything for n, f in fields.items()})


token = nearly(token=texts, logprob=st.floats(max_value=0, allow_nan=False))
completions = nearly(
    choices=st.lists(
        nearly(
            message=nearly(content=texts, refusal=st.none() | texts),
            finish_reason=st.sampled_from(["stop", "length", None]),
            logprobs=nearly(content=st.lists(token | nearly(top_logprobs=st.lists(token)))),
        ),
        max_size=2,
    ),
    usage=nearly(prompt_tokens=st.integers(0, 9), completion_tokens=st.integers(0, 9)),
)


@given(anything | completions)
def test_any_json_is_a_reply_that_can_be_kept_or_an_odd_one(body):
    outcome = brought(json.dumps(body).encode())
    assert isinstance(outcome, CallError) or stored(outcome) == outcome


@given(st.binary(max_size=40))
def test_any_bytes_are_an_odd_reply(content):
    assert isinstance(brought(content), CallError)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"", b"\xff\xfe", b"null"]
)
def test_bodies_that_break_readers_are_odd(content):
    assert isinstance(brought(content), CallError)


def completion(usage=None, **message):
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    return brought(json.dumps(body).encode())


def test_half_a_character_is_shown_as_one_that_is_missing():
    assert completion(content="a\ud83db").text == "a\ufffdb"
    assert completion(content="\ud83d\udef6").text == "\U0001f6f6"


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"prompt_tokens": -1, "completion_tokens": 2**63}, {"prompt_tokens": "9"}],
)
def test_a_paid_reply_is_not_lost_to_a_usage_that_makes_no_sense(usage):
    assert completion(usage, content="text") == Reply("text", "stop")

import asyncio
import json

import pytest

from nbutils.callpath.exchange import Call
from nbutils.callpath.service import CallError
from nbutils.roles import Role, read_key
from nbutils.services.huggingface import ROUTER, HuggingFaceChat
from tests.server import CHAT, Fault

KEY = "hf_canary5f2e81c09d7744aa"
CALL = Call("answerer", "q1/x", messages=[{"role": "user", "content": "Which boat?"}])


def service(server, key=KEY, timeout_s=5.0, **fields):
    role = Role(
        service="huggingface",
        model="org/m",
        base_url=server.url,
        **{"sampling": {"temperature": 0, "max_tokens": 50}, **fields},
    )
    return HuggingFaceChat(role, key, timeout_s)


def ask(chat, call=CALL):
    async def once():
        try:
            (reply,) = await chat.send([call])
            return reply
        finally:
            await chat.close()

    return asyncio.run(once())


def error_of(server, fault, **fields):
    server.faults(fault)
    with pytest.raises(CallError) as error:
        ask(service(server, **fields))
    return error.value


def test_a_reply_comes_with_its_usage(server):
    server.script("text:Dunlin.")
    reply = ask(service(server))
    assert (reply.text, reply.finish_reason, reply.tokens) == ("Dunlin.", "stop", ())
    assert reply.prompt_tokens > 0 and reply.completion_tokens > 0
    (seen,) = server.requests()
    assert seen.path == CHAT and json.loads(seen.body) == {
        "model": "org/m",
        "messages": CALL.messages,
        "temperature": 0,
        "max_tokens": 50,
        "stream": False,
    }


def test_log_probabilities_are_asked_for_and_read(server):
    server.script("verdict:[[A]]", letters={"A": 0.7, "B": 0.3})
    reply = ask(service(server, logprobs=3))
    body = json.loads(server.requests()[0].body)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert "".join(token.text for token in reply.tokens) == reply.text
    assert all(len(token.top) == 3 for token in reply.tokens)
    # The server was told 0.7 for A at the verdict's letter: ln 0.7 = -0.357.
    letter = next(token for token in reply.tokens if token.text == "A")
    assert letter.logprob == pytest.approx(-0.357, abs=1e-3)


def test_the_provider_is_named_to_the_router():
    role = {"service": "huggingface", "model": "org/m", "sampling": {"max_tokens": 5}}
    chat = HuggingFaceChat(Role(**role, provider="cheapest"), KEY, 5.0)
    assert (chat.endpoint, chat.model) == (ROUTER, "org/m:cheapest")
    assert HuggingFaceChat(Role(**role), KEY, 5.0).model == "org/m"


def test_what_the_client_does_not_know_is_passed_on(server):
    sampling = {"max_completion_tokens": 9, "reasoning_effort": "low", "extra_body": {"top_k": 1}}
    ask(service(server, sampling=sampling))
    body = json.loads(server.requests()[0].body)
    assert (body["max_completion_tokens"], body["reasoning_effort"], body["top_k"]) == (9, "low", 1)
    assert "extra_body" not in body


@pytest.mark.parametrize(
    ("fault", "kind", "status", "words"),
    [
        ("400", "row", 400, "400 invalid_value: Invalid value"),
        ("context_length", "row", 400, "context_length_exceeded: This model's maximum"),
        ("403", "row", 403, "403 model_not_found"),
        ("404", "row", 404, "does not exist"),
        ("invalid_key", "service", 401, "401 invalid_api_key"),
        ("insufficient_quota", "service", 429, "You exceeded your current quota"),
        ("408", "passing", 408, "408"),
        ("409", "passing", 409, "409 conflict"),
        ("500", "passing", 500, "The server had an error"),
        ("503", "passing", 503, "overloaded"),
        ("reset", "passing", None, "the connection failed"),
        ("early_reset", "passing", None, "the connection failed"),
        ("truncated", "passing", None, "the connection failed"),
        ("html", "odd", None, "the reply is no JSON object"),
        ("no_json", "odd", None, "the reply is no JSON object"),
        ("wrong_schema", "odd", None, "the reply is no chat completion"),
        ("no_choices", "odd", None, "the reply is no chat completion"),
    ],
)
def test_each_fault_is_of_its_kind_and_sent_once(server, fault, kind, status, words):
    error = error_of(server, Fault(fault))
    assert (error.kind, error.status) == (kind, status) and words in str(error)
    assert error.charged == (kind == "odd" or status in (500, 503) or status is None)
    assert server.calls[CHAT] == 1


def test_retry_after_is_read(server):
    error = error_of(server, Fault("429", retry_after=1.5))
    assert (error.kind, error.retry_after) == ("passing", 1.5)


@pytest.mark.parametrize("fault", [Fault("hung"), Fault("slow", seconds=30)])
def test_no_reply_in_time(server, fault):
    error = error_of(server, fault, timeout_s=0.3)
    assert (error.kind, str(error), error.charged) == ("passing", "no reply within 0.3 s", True)


def test_nobody_listens(server):
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(CallError, match="the connection failed") as error:
        ask(service(Nowhere))
    assert (error.value.kind, error.value.charged) == ("passing", False)


@pytest.mark.parametrize("fault", ["empty", "null"])
def test_an_empty_reply_is_a_reply(server, fault):
    server.faults(Fault(fault))
    assert ask(service(server)).text == ""


def test_half_a_character_is_the_row_s_own_fault(server):
    call = Call("answerer", "q1/x", messages=[{"role": "user", "content": "Which \ud800?"}])
    with pytest.raises(CallError, match="the request cannot be written") as error:
        ask(service(server), call)
    assert error.value.kind == "row" and not server.requests()


@pytest.mark.parametrize("fault", ["leak", "invalid_key"])
def test_the_key_is_in_no_message(server, fault):
    error = error_of(server, Fault(fault))
    assert KEY not in str(error) and KEY not in repr(error.__cause__)
    assert "[key]" in str(error)


def test_the_key_goes_to_its_own_address_only(server, other_server, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hf_ofsomebodyelse")
    ask(service(server))
    ask(service(server, key=""))  # of a server that wants none
    assert [seen.headers["authorization"] for seen in server.requests()] == [
        f"Bearer {KEY}",
        "Bearer none",
    ]
    server.faults(Fault("redirect", to=other_server.origin))
    ask(service(server))
    (followed,) = other_server.requests()
    assert "authorization" not in followed.headers
    whole = json.dumps([seen.headers for seen in [*server.requests(), followed]])
    assert "ofsomebodyelse" not in whole


def test_both_names_of_the_variable_will_do(monkeypatch):
    role = Role(service="huggingface", model="m", sampling={"max_tokens": 5})
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HUGGING_FACE_TOKEN", "hf_second")
    assert read_key(role, "teacher") == "hf_second"
    monkeypatch.setenv("HF_TOKEN", "hf_first")
    assert read_key(role, "teacher") == "hf_first"


def test_many_at_a_time_share_one_client(server):
    server.set(latency=0.2)
    chat = service(server)

    async def together():
        replies = await asyncio.gather(*(chat.send([CALL]) for _ in range(40)))
        await chat.close()
        return replies

    assert len(asyncio.run(together())) == 40
    assert server.counts()["most_in_flight"] == 40

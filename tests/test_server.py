"""The loopback server as openai's own client meets it, retries off."""

import asyncio
import json
import math
import time
from contextlib import suppress

import openai
import pytest

from nbutils.callpath.exchange import UNRECORDED
from nbutils.callpath.recorded import recorded_calls
from nbutils.records import load_dataset
from tests.server import CHAT, Fault, Server
from tests.server.recorded import KESTREL, write_replies

HELLO = [{"role": "user", "content": "hello"}]


def client(server, key="any", timeout=20.0):
    return openai.AsyncOpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=timeout)


def ask(server, messages=HELLO, key="any", timeout=20.0, **options):
    """One chat completion."""

    async def send():
        async with client(server, key, timeout) as api:
            return await api.chat.completions.create(model="m", messages=messages, **options)

    return asyncio.run(send())


def run(server, use):
    """What `use` makes of a client."""

    async def within():
        async with client(server) as api:
            return await use(api)

    return asyncio.run(within())


def test_a_reply_its_usage_and_what_was_seen(server):
    server.script("verdict:[[B]]")
    done = ask(server)
    assert done.choices[0].message.content.splitlines()[-1] == "[[B]]"
    assert (done.choices[0].finish_reason, done.choices[0].logprobs) == ("stop", None)
    assert done.usage.prompt_tokens == 4 + 5 // 4
    assert ask(server).choices[0].message.content == done.choices[0].message.content
    ask(server, temperature=0.0)
    assert server.calls == {CHAT: 3}
    assert server.repeated == 1  # the third differs by its temperature
    first, second, third = server.requests()
    assert (first.attempt, second.attempt, third.attempt) == (1, 2, 1)
    assert first.body_hash == second.body_hash != third.body_hash
    assert first.headers["authorization"] == "Bearer any"
    assert json.loads(third.body)["temperature"] == 0.0
    assert [seen.status for seen in (first, second, third)] == [200] * 3


def test_a_reply_is_cut_at_the_length_asked_for(server):
    server.script("text:one two three four")
    done = ask(server, max_completion_tokens=2)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("one two", "length")
    assert done.usage.completion_tokens == 2


def test_the_longest_fitting_name_chooses_the_script(server):
    server.script("text:base")
    server.script("text:tuned", model="m")
    assert ask(server).choices[0].message.content == "tuned"
    server.reset()
    assert ask(server).choices[0].message.content == "hello"


def test_log_probabilities_at_the_letter(server):
    server.script("verdict:[[B]]", letters={"A": 0.25, "B": 0.7, "C": 0.05})
    content = ask(server, logprobs=True, top_logprobs=5).choices[0].logprobs.content
    assert [entry.token.strip() for entry in content[-3:]] == ["[[", "B", "]]"]
    assert "".join(entry.token for entry in content).endswith("says.\n[[B]]")
    letter = content[-2]
    assert math.exp(letter.logprob) == pytest.approx(0.7)
    assert bytes(letter.bytes) == b"B"
    shares = {entry.token: math.exp(entry.logprob) for entry in letter.top_logprobs}
    assert list(shares) == ["B", "A", "C", "~0", "~1"]
    assert shares["A"] == pytest.approx(0.25) and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    server.set(logprobs="ignored")
    assert ask(server, logprobs=True, top_logprobs=5).choices[0].logprobs is None
    server.set(logprobs="refused")
    with pytest.raises(openai.BadRequestError, match="logprobs is not supported"):
        ask(server, logprobs=True)


def test_embeddings_as_floats_and_as_base64_are_the_same(server):
    texts = ["seals on the skerry", "the skerry and its seals", "a ledger of fuel"]

    async def both(api):
        plain = await api.embeddings.create(model="e", input=texts, encoding_format="float")
        packed = await api.embeddings.create(model="e", input=texts)  # the client asks for base64
        return [[row.embedding for row in got.data] for got in (plain, packed)]

    floats, unpacked = run(server, both)
    asked = [json.loads(seen.body).get("encoding_format") for seen in server.requests()]
    assert asked == ["float", "base64"]
    for row, same in zip(floats, unpacked, strict=True):
        assert same == pytest.approx(row, abs=1e-6) and math.hypot(*row) == pytest.approx(1)
    near, far = (sum(map(float.__mul__, floats[0], floats[i])) for i in (1, 2))
    assert near > far


def test_a_key_that_is_not_the_one_is_refused_and_echoed_in_part(server):
    server.set(key="sk-right-key")
    assert ask(server, key="sk-right-key").choices
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(server, key="sk-canary-0123456789")
    assert caught.value.code == "invalid_api_key"
    assert "sk-canar********6789" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("400", openai.BadRequestError, "invalid_value"),
        ("402", openai.APIStatusError, None),
        ("403", openai.PermissionDeniedError, "model_not_found"),
        ("404", openai.NotFoundError, None),
        ("408", openai.APIStatusError, None),
        ("409", openai.ConflictError, "conflict"),
        ("429", openai.RateLimitError, "rate_limit"),
        ("500", openai.InternalServerError, None),
        ("503", openai.InternalServerError, None),
        ("model_not_found", openai.NotFoundError, "model_not_found"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("insufficient_quota", openai.RateLimitError, "insufficient_quota"),
        ("invalid_key", openai.AuthenticationError, "invalid_api_key"),
        ("reset", openai.APIConnectionError, None),
        ("early_reset", openai.APIConnectionError, None),
        ("truncated", openai.APIConnectionError, None),
        ("hung", openai.APITimeoutError, None),
    ],
)
def test_errors_as_the_client_raises_them(server, kind, error, code):
    server.faults(Fault(kind))
    with pytest.raises(error) as caught:
        ask(server, timeout=0.2 if kind == "hung" else 20)
    assert caught.value.code == code
    assert server.calls[CHAT] == 1


def test_whole_answers_that_are_no_good(server):
    def choice(kind):
        server.faults(Fault(kind))
        return ask(server).choices[0]

    assert choice("empty").message.content == ""
    assert choice("null").message.content is None
    assert choice("refusal").message.refusal == "I can't help with that."
    assert choice("length").finish_reason == "length"
    assert choice("content_filter").finish_reason == "content_filter"
    server.faults(Fault("html"))
    assert isinstance(ask(server), str)  # openai gives the page itself
    server.faults(Fault("no_json"))
    with pytest.raises(json.JSONDecodeError):
        ask(server)
    server.faults(Fault("wrong_schema"))
    assert ask(server).choices is None
    server.faults(Fault("no_choices"))
    assert ask(server).choices == []


def test_retry_after_in_seconds_and_as_a_date(server):
    server.faults(Fault("429", retry_after=0.25), Fault("503"))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(server)
    assert caught.value.response.headers["retry-after"] == "0.25"
    server.faults(Fault("429", retry_after=2, as_date=True))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(server)
    assert caught.value.response.headers["retry-after"].endswith("GMT")


def test_a_redirect_leads_to_another_origin(server, other_server):
    server.faults(Fault("redirect", to=other_server.origin))
    assert ask(server, key="sk-canary").choices
    assert other_server.calls == {CHAT: 1}
    assert [seen.status for seen in server.requests()] == [307]


def test_which_requests_a_fault_meets(server):
    def statuses(count, **messages):
        async def send(api):
            for i in range(count):
                said = [{"role": "user", "content": messages.get("content", f"row {i}")}]
                with suppress(openai.APIStatusError):
                    await api.chat.completions.create(model="m", messages=said)

        run(server, send)
        seen = [request.status for request in server.requests()]
        server.reset()
        return seen

    server.faults(Fault("500", every=3))
    assert statuses(6) == [200, 200, 500, 200, 200, 500]
    server.faults(Fault("500", attempts=2))
    assert statuses(4, content="same") == [500, 500, 200, 200]
    server.faults(Fault("500", marker="row 1"))
    assert statuses(3) == [200, 500, 200]
    server.faults(Fault("500", after=2))
    assert statuses(4) == [200, 200, 500, 500]
    server.faults(Fault("500", share=0.2, seed=1))
    drawn = statuses(100)
    assert 10 <= drawn.count(500) <= 32  # 20 expected, deviation 4
    server.faults(Fault("500", share=0.2, seed=1))
    assert statuses(100) == drawn


def test_latency_and_how_many_are_in_flight(server):
    server.set(latency=0.1)

    async def many(api):
        rows = [[{"role": "user", "content": str(i)}] for i in range(8)]
        await asyncio.gather(
            *(api.chat.completions.create(model="m", messages=row) for row in rows)
        )

    begun = time.perf_counter()
    run(server, many)
    assert time.perf_counter() - begun >= 0.1
    counts = server.counts()
    assert (counts["most_in_flight"], counts["in_flight"], counts["answered"]) == (8, 0, 8)


def test_a_fault_and_a_setting_that_do_not_exist_are_refused(server):
    with pytest.raises(ValueError, match="fault 'flood' is none of 400, 402"):
        Fault("flood")
    with pytest.raises(OSError, match="400"):
        server.set(speed=1)


def test_the_recorded_replies_over_http(server, tmp_path):
    every = recorded_calls(load_dataset(KESTREL))
    calls = [(call, reply) for call, reply in every if call.prompt != UNRECORDED]
    keys = write_replies(tmp_path / "replies.jsonl")
    assert len({json.dumps(call.messages) for call, _ in calls}) == keys < len(calls)
    server.script(f"file:{tmp_path / 'replies.jsonl'}")
    by_role = {call.role: (call, reply) for call, reply in calls}
    assert set(by_role) == {"question_writer", "teacher", "grader"}
    for call, reply in by_role.values():
        assert ask(server, call.messages).choices[0].message.content == reply
    with pytest.raises(openai.BadRequestError, match="no reply is recorded"):
        ask(server)


def training_file(examples):
    line = json.dumps({"messages": [*HELLO, {"role": "assistant", "content": "hi"}]})
    return ("events.jsonl", "\n".join([line] * examples).encode())


async def upload(api, examples=12):
    return await api.files.create(file=training_file(examples), purpose="fine-tune")


def test_a_job_from_its_file_to_a_model_that_answers(server):
    server.script("text:base")
    server.script("text:tuned", model="ft:")

    async def whole(api):
        file = await upload(api)
        assert (file.filename, file.bytes) == ("events.jsonl", len(training_file(12)[1]))
        assert (await api.files.content(file.id)).content == training_file(12)[1]
        jobs = api.fine_tuning.jobs
        job = await jobs.create(training_file=file.id, model="base", suffix="judge")
        assert (job.status, job.fine_tuned_model) == ("validating_files", None)
        with pytest.raises(openai.NotFoundError):
            await api.chat.completions.create(model="ft:base:x", messages=HELLO)
        states = [await jobs.retrieve(job.id) for _ in range(3)]
        assert [state.status for state in states] == ["queued", "running", "succeeded"]
        said = [event.message async for event in jobs.list_events(job.id, limit=2)]  # three pages
        assert said[0] == f"New fine-tuned model created: {states[2].fine_tuned_model}"
        assert said[-1] == f"Created fine-tuning job: {job.id}" and len(said) == 6
        model = states[2].fine_tuned_model
        return await api.chat.completions.create(model=model, messages=HELLO)

    assert run(server, whole).choices[0].message.content == "tuned"


def test_jobs_are_listed_newest_first_over_pages_and_can_be_cancelled(server):
    async def several(api):
        file = await upload(api)
        jobs = api.fine_tuning.jobs
        made = [(await jobs.create(training_file=file.id, model="base")).id for _ in range(3)]
        listed = [job.id async for job in jobs.list(limit=2)]
        cancelled = await jobs.cancel(made[0])
        with pytest.raises(openai.BadRequestError, match="already ended"):
            await jobs.cancel(made[0])
        return made, listed, cancelled

    made, listed, cancelled = run(server, several)
    assert listed == made[::-1]
    assert (cancelled.id, cancelled.status) == (made[0], "cancelled")


def test_a_job_that_is_refused_one_that_fails_and_one_without_its_file(server):
    async def refused(api):
        file = await upload(api)
        return await api.fine_tuning.jobs.create(training_file=file.id, model="base")

    server.set(refuse_jobs=403)
    with pytest.raises(openai.PermissionDeniedError, match="no longer create fine-tuning jobs"):
        run(server, refused)
    server.set(refuse_jobs=0, job_error="The job failed due to a server error", job_polls=1)

    async def failing(api, examples):
        file = await upload(api, examples)
        job = await api.fine_tuning.jobs.create(training_file=file.id, model="base")
        return (await api.fine_tuning.jobs.retrieve(job.id)).error.message

    assert run(server, lambda api: failing(api, 12)) == "The job failed due to a server error"
    assert "has 4 example(s)" in run(server, lambda api: failing(api, 4))
    with pytest.raises(openai.BadRequestError, match="invalid training_file: file-9"):
        run(server, lambda api: api.fine_tuning.jobs.create(training_file="file-9", model="b"))


def test_it_ends_when_told_and_frees_its_port():
    with Server(key="sk-k", latency=0.01) as own:
        assert ask(own, key="sk-k").choices
    assert own.process.poll() is not None
    with pytest.raises(openai.APIConnectionError):
        ask(own, key="sk-k")

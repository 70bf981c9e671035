import asyncio
import shutil
import threading

import pytest
import torch
from transformers import GenerationConfig

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price, Purse
from nbutils.callpath.stage import StageStopped
from nbutils.callpath.store import Store
from nbutils.causal_lm import weights_sha256
from nbutils.profiles import Budget, Limits
from nbutils.roles import Role
from nbutils.services import local
from nbutils.services.local import TAIL, LocalChat, LocalError
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.generation import Chooser, Interrupted, generate
from tests.chatty import loaded, said, save_chat_base
from tests.tiny import TOYS, WORDS

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = 30  # tokens of the longest reply
WINDOW = 1024  # of the tiny base
STOPS = [WORDS.index("<|im_end|>"), WORDS.index("snow")]  # of the toy model
FRAME = 5  # tokens of the template around a user's message and before the reply


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """As on a processor without bfloat16, where a batch and one row come to the same."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = save_chat_base(tmp_path_factory.mktemp("models") / "toy")
    GenerationConfig(eos_token_id=STOPS).save_pretrained(made)
    return made


@pytest.fixture
def chat(folder):
    """Makes a service of the toy model; more sampling, and logprobs, where they are given."""

    def make(logprobs=0, model=folder, adapter="", **sampling):
        sampling = {"max_tokens": LONG} | sampling
        role = {"model": str(model), "adapter": str(adapter), "logprobs": logprobs}
        return LocalChat(Role(service="local", sampling=sampling, **role))

    return make


def call(text, replicate=0):
    return Call("teacher", text[:9], "p:0", [said("user", text)], replicate)


CALLS = [call(text) for text in ("gull", "tern boat ice", "hut", "", *TOYS[:7])]


def ask(service, calls):
    """The outcomes of one send, in a loop of its own."""
    return asyncio.run(service.send(calls))


# Who answers.


def test_the_endpoint_is_of_the_weights_wherever_they_lie(chat, folder, tmp_path):
    known = weights_sha256(str(folder))[:12]
    moved = shutil.copytree(folder, tmp_path / "toy")
    for model in (folder, moved):
        assert (chat(model=model).endpoint, chat(model=model).model) == (f"local:{known}", "toy")
    other = save_chat_base(tmp_path / "other", seed=1)
    assert chat(model=other).endpoint not in (f"local:{known}", chat(model="org/name").endpoint)


def test_the_shipped_weights_and_the_hub_s_are_named_without_a_look(chat):
    # The first 12 digits of weights.SHA256.
    assert chat(model="smollm2-135m-instruct").endpoint == "local:b179c9523d0e"
    assert (chat(model="org/name").endpoint, chat(model="org/name").model) == (
        "local:org/name",
        "org/name",
    )


def test_what_was_asked_for_is_part_of_the_request(chat):
    assert chat().sampling == {"max_tokens": LONG}
    assert chat(logprobs=3, seed=1).sampling == {"max_tokens": LONG, "seed": 1, "top_logprobs": 3}
    assert (chat().longest, chat().price, chat().concurrency) == (LONG, Price(0.0, 0.0), 1)


@pytest.mark.parametrize(
    ("sampling", "why"),
    [
        ({"top_k": 5}, "sampling.top_k: Extra inputs .* known are max_tokens, max_completion_t"),
        ({"temperature": -1}, "sampling.temperature: .* greater than or equal to 0"),
        ({"top_p": 0}, "sampling.top_p: .* greater than 0"),
        ({"seed": "one"}, "sampling.seed: .* valid integer"),
    ],
)
def test_sampling_that_would_be_ignored_is_refused(chat, sampling, why):
    with pytest.raises(LocalError, match=why):
        chat(**sampling)


def test_a_folder_without_weights_is_refused_at_once(chat, tmp_path):
    with pytest.raises(LocalError, match=r"no \*.safetensors file"):
        chat(model=tmp_path)
    with pytest.raises(LocalError, match="adapter_model.safetensors is missing: train"):
        chat(adapter=tmp_path)


def test_a_model_that_cannot_chat_answers_nobody(chat, tmp_path):
    mute = save_chat_base(tmp_path / "mute", template=None)
    with pytest.raises(CallError, match="cannot be loaded: .* has no chat template") as raised:
        ask(chat(model=mute), CALLS)
    assert raised.value.kind == "service"


def test_a_hub_that_is_out_of_reach_answers_nobody(chat, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CallError, match="the local model org/name cannot be loaded: ") as raised:
        ask(chat(model="org/name"), CALLS)
    assert raised.value.kind == "service" and "\n" not in str(raised.value)


# Replies.


def test_one_reply_a_call_in_order_as_each_alone(chat, folder):
    service = chat()
    lm, tokenizer = loaded(folder)
    form = ChatFormat(tokenizer, STOPS, "toy")
    replies = ask(service, CALLS)
    for asked, reply in zip(CALLS, replies, strict=True):
        prompt = form.prompt(asked.messages)
        (own,) = generate(lm, [prompt], STOPS, LONG, Chooser())
        stopped = own[-1] in STOPS
        assert reply == Reply(
            form.text(own[:-1] if stopped else own),
            "stop" if stopped else "length",
            len(prompt),
            len(own),
        )
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    assert all(r.completion_tokens == LONG for r in replies if r.finish_reason == "length")


def test_a_row_that_does_not_fit_fails_alone(chat):
    room = WINDOW - LONG - FRAME
    calls = [CALLS[0], call("gull " * room), call("gull " * (room + 1)), CALLS[1]]
    first, fits, odd, last = ask(chat(), calls)
    assert (first, last) == tuple(ask(chat(), CALLS[:2]))
    assert fits.prompt_tokens == WINDOW - LONG
    why = "the prompt has 995 tokens and the reply may have 30; toy reads 1024 in all: shorten"
    assert isinstance(odd, CallError) and odd.kind == "row" and str(odd).startswith(why)


def test_a_row_that_the_template_refuses_fails_alone(chat, folder, tmp_path):
    template = (
        "{% if 'skua' in messages[0]['content'] %}{{ raise_exception('no skua') }}{% endif %}"
    )
    picky = save_chat_base(tmp_path / "picky", template + "{{ messages[0]['content'] }}")
    good, odd = ask(chat(model=picky), [call("gull"), call("skua")])
    assert isinstance(good, Reply)
    assert odd.kind == "row" and "refuses messages of user (no skua)" in str(odd)


def test_replies_to_a_seed_depend_on_the_call_alone(chat):
    def drawn(calls, **sampling):
        return [reply.text for reply in ask(chat(temperature=1.5, **sampling), calls)]

    one = drawn(CALLS, seed=1)
    assert one == drawn(CALLS, seed=1)
    assert one[::-1] == drawn(CALLS[::-1], seed=1)
    assert one[2:4] == drawn(CALLS[2:4], seed=1)
    assert one != drawn(CALLS, seed=2)
    again = drawn([call("gull", replicate) for replicate in range(4)], seed=1)
    assert again[0] == one[0] and len(set(again)) == 4
    assert drawn(CALLS) != drawn(CALLS)  # no seed


def test_the_likeliest_token_unless_told_otherwise(chat):
    plain = ask(chat(), CALLS)
    assert plain == ask(chat(temperature=0, seed=3), CALLS)
    assert plain == ask(chat(temperature=2.0, top_p=1e-6), CALLS)  # the first alone takes part
    assert plain != ask(chat(temperature=2.0, seed=3), CALLS)


def test_the_last_tokens_come_with_the_likeliest_in_their_place(chat, folder):
    service = chat(logprobs=4, temperature=0.2, seed=2)
    replies = ask(service, CALLS)
    lm, tokenizer = loaded(folder)
    form = ChatFormat(tokenizer, STOPS, "toy")
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    checked = 0
    for asked, reply in zip(CALLS, replies, strict=True):
        said_tokens = reply.completion_tokens - (reply.finish_reason == "stop")
        assert len(reply.tokens) == min(TAIL, said_tokens)
        assert reply.text.endswith("".join(token.text for token in reply.tokens))
        prompt = form.prompt(asked.messages)
        ids = prompt + tokenizer.convert_tokens_to_ids(reply.text.split())
        if len(ids) != len(prompt) + said_tokens:  # it wrote a special token, which is no text
            continue
        with torch.no_grad():
            logits = lm(input_ids=torch.tensor([ids])).logits[0].float()
        logged = torch.log_softmax(logits, -1)[-len(reply.tokens) - 1 : -1]
        for token, own in zip(reply.tokens, logged, strict=True):
            word = tokenizer.convert_tokens_to_ids(token.text.strip())
            assert token.logprob == pytest.approx(own[word].item(), abs=1e-4)
            best = own.topk(4)
            assert [share for _, share in token.top] == pytest.approx(
                best.values.tolist(), abs=1e-4
            )
            spelt = [words[other] for other in best.indices.tolist()]
            assert [text.strip() for text, _ in token.top] == [
                "" if word.startswith("<") else word for word in spelt
            ]
        checked += len(reply.tokens) == TAIL
    assert checked >= 2, checked


def test_without_logprobs_no_tokens_are_kept(chat):
    assert all(reply.tokens == () for reply in ask(chat(), CALLS))


# A memory that is too small.


def too_small_for(rows, monkeypatch):
    """Lets a pass of more rows end as the processor's own allocator ends it; gives the sizes."""
    sizes, whole = [], local.generate

    def short(lm, prompts, *rest):
        sizes.append(len(prompts))
        if len(prompts) > rows:
            torch.empty(1 << 60, dtype=torch.uint8)  # a billion gigabytes
        return whole(lm, prompts, *rest)

    monkeypatch.setattr(local, "generate", short)
    return sizes


def test_where_the_memory_is_short_fewer_rows_are_computed_at_a_time(chat, monkeypatch):
    plain = ask(chat(), CALLS[:8])
    sizes = too_small_for(3, monkeypatch)
    service = chat(seed=1)
    assert ask(service, CALLS[:8]) == plain
    assert sizes == [8, 4, 2, 2, 2, 2]
    sizes.clear()
    assert ask(service, CALLS[:3]) == plain[:3]
    assert sizes == [2, 1]


def test_a_row_that_the_memory_never_holds_fails_alone(chat, monkeypatch):
    too_small_for(0, monkeypatch)
    outcomes = ask(chat(), CALLS[:2])
    for outcome in outcomes:
        assert outcome.kind == "row" and "the memory holds no prompt of" in str(outcome)


def test_another_error_of_the_library_is_not_hidden(chat, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(local, "generate", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        ask(chat(), CALLS)


# Among other work.


def test_the_event_loop_goes_on_meanwhile(chat, monkeypatch):
    went_on, whole = threading.Event(), local.generate

    def patient(*arguments):
        assert went_on.wait(10), "the loop stood still"
        return whole(*arguments)

    async def both():
        service = chat()
        sent = asyncio.create_task(service.send(CALLS))
        await asyncio.sleep(0.05)
        went_on.set()
        return await sent

    monkeypatch.setattr(local, "generate", patient)
    assert len(asyncio.run(both())) == len(CALLS)


def test_what_nobody_waits_for_is_given_up(chat, monkeypatch):
    begun, ended, whole = threading.Event(), threading.Event(), local.generate

    def watched(*arguments):
        begun.set()
        try:
            return whole(*arguments)
        except Interrupted:
            ended.set()
            raise

    async def cancelled():
        service = chat(max_tokens=1000)
        sent = asyncio.create_task(service.send(CALLS[:1]))
        await asyncio.to_thread(begun.wait, 10)
        sent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sent
        assert await asyncio.to_thread(ended.wait, 3), "it went on"

    monkeypatch.setattr(local, "generate", watched)
    asyncio.run(cancelled())


@pytest.fixture
def path(tmp_path):
    """Opens the call path of one store, and closes it."""
    opened = []

    def one():
        store = Store(tmp_path / "calls.sqlite")
        opened.append((CallPath(store, Limits(), Purse(store, Budget(), "EUR")), store))
        return opened[-1][0]

    yield one
    for call_path, store in opened:
        call_path.close()
        store.close()


def test_it_answers_through_the_call_path_and_only_once(chat, path, capsys, monkeypatch):
    service = chat(seed=1, temperature=1.0)
    calls = [*CALLS, call("gull " * WINDOW)]
    first = path().run(service, calls, "answers")
    assert [type(outcome) for outcome in first] == [Reply] * len(CALLS) + [Failure]
    assert first[:-1] == ask(chat(seed=1, temperature=1.0), CALLS)  # whatever went together
    told = capsys.readouterr().out
    assert f"toy at {service.endpoint}" in told and "1 failed" in told
    monkeypatch.setattr(local, "load_lm", None)  # a second run loads no model
    assert path().run(chat(seed=1, temperature=1.0), CALLS, "again") == first[:-1]


def test_a_model_that_is_not_there_stops_the_stage(path, folder, tmp_path, chat):
    mute = save_chat_base(tmp_path / "mute", template=None)
    with pytest.raises(StageStopped, match="has no chat template; take an instruct model"):
        path().run(chat(model=mute), CALLS, "answers")

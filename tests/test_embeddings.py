import asyncio
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.callpath.exchange import Call, Failure
from nbutils.callpath.service import CallError
from nbutils.corpus.vectors import EmbeddingError, StoredEmbedding, unpack
from nbutils.roles import Role
from nbutils.services.embeddings import EmbeddingEndpoint, LocalEmbedding, read_vectors
from tests import tiny as make
from tests.server import Fault
from tests.server.chat import embed
from tests.words import call_path

EMBEDDINGS = "/v1/embeddings"


def calls(*texts):
    return [
        Call("embedder", f"c{n:02d}", messages=[{"role": "text", "content": text}])
        for n, text in enumerate(texts)
    ]


def endpoint(server, **more):
    role = {"service": "openai", "model": "m", "base_url": server.url, "price_in": 1.0, **more}
    return EmbeddingEndpoint(Role(**role), "secret-key", 5.0)


def sent(server):
    return [json.loads(seen.body)["input"] for seen in server.requests()]


def test_many_texts_go_in_one_request_and_come_back_in_order(server, tmp_path):
    texts = [f"seal number {n}" for n in range(100)]
    with call_path(tmp_path) as path:
        replies = path.run(endpoint(server), calls(*texts), "chunks")
        for text, reply in zip(texts, replies, strict=True):
            assert np.array_equal(unpack(reply.text), np.array(embed(text), np.float32))
        # The server counts 1 + 14 // 4 = 4 tokens a text: 400 at 1.0 a million
        assert path.store.spent().cost == pytest.approx(400 / 1e6)
        assert sum(reply.prompt_tokens for reply in replies) == 400
    assert sorted(map(len, sent(server))) == [36, 64]


def test_what_is_sent_is_openai_s_form(server, tmp_path):
    with call_path(tmp_path) as path:
        [reply] = path.run(endpoint(server, sampling={"dimensions": 8}), calls("fog"), "chunks")
    assert len(unpack(reply.text)) == 8
    [seen] = server.requests()
    assert json.loads(seen.body) == {
        "model": "m",
        "input": ["fog"],
        "encoding_format": "float",
        "dimensions": 8,
    }
    assert seen.headers["authorization"] == "Bearer secret-key"


def test_one_text_that_is_refused_fails_alone(server, tmp_path):
    server.faults(Fault("context_length", marker="poison", path=EMBEDDINGS))
    texts = [f"fog {n}" for n in range(10)] + ["poison"] + [f"seal {n}" for n in range(9)]
    with call_path(tmp_path) as path:
        outcomes = path.run(endpoint(server), calls(*texts), "chunks")
    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Failure)]
    assert failed == [10] and "maximum context length" in outcomes[10].why
    for text, outcome in zip(texts[:10], outcomes[:10], strict=True):
        assert np.array_equal(unpack(outcome.text), np.array(embed(text), np.float32))
    # 20, then halves: 10 | 10, 5 | 5, 2 | 3, 1 | 1 of those with the poison in them
    assert [len(some) for some in sent(server)] == [20, 10, 10, 5, 2, 1, 1, 3, 5]


def test_a_passing_error_is_tried_again(server, tmp_path):
    server.faults(Fault("429", attempts=1, retry_after=0.01, path=EMBEDDINGS))
    with call_path(tmp_path) as path:
        [reply] = path.run(endpoint(server), calls("fog"), "chunks")
    assert unpack(reply.text).any() and server.calls[EMBEDDINGS] == 2


def test_a_reply_without_vectors_is_tried_three_times(server, tmp_path):
    server.faults(Fault("wrong_schema", path=EMBEDDINGS))
    with call_path(tmp_path) as path:
        [failure] = path.run(endpoint(server), calls("fog"), "chunks")
    assert isinstance(failure, Failure) and "holds no embeddings (KeyError: 'data')" in failure.why
    assert server.calls[EMBEDDINGS] == 3


def test_a_key_in_an_error_is_not_shown(server, tmp_path):
    server.faults(Fault("leak", path=EMBEDDINGS, attempts=1))
    service = endpoint(server)
    with pytest.raises(CallError) as raised:
        asyncio.run(service.send(calls("fog")))
    assert "secret-key" not in str(raised.value) and "500" in str(raised.value)


def rows(*vectors, usage=None):
    data = [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    return {"data": data, "usage": usage}


def test_vectors_are_matched_by_their_index():
    body = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [1, 0]}]}
    first, second = read_vectors(body, ["a", "b"])
    assert unpack(first.text).tolist() == [1, 0] and unpack(second.text).tolist() == [0, 2]
    assert first.prompt_tokens is None and first.completion_tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        rows([1.0, 0.0]),  # one vector for two texts
        rows([1.0], [1.0, 2.0]),
        rows([1.0], [float("nan")]),
        rows([1.0], [1e300]),  # beyond float32
        rows([1.0], [0.0]),
        rows([1.0], ["x"]),
        rows([1.0], []),
        {"data": [{"index": 0, "embedding": [1.0]}] * 2},
    ],
)
def test_a_reply_without_a_sound_vector_for_each_text_is_refused(body):
    with pytest.raises(CallError, match="holds no embeddings") as raised:
        read_vectors(body, ["a", "b"])
    assert raised.value.kind == "odd"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=9), st.integers(0, 10_000))
def test_the_shares_of_a_request_s_tokens_sum_to_it(texts, total):
    body = rows(*[[1.0]] * len(texts), usage={"prompt_tokens": total})
    counts = [reply.prompt_tokens for reply in read_vectors(body, texts)]
    assert sum(counts) == total and min(counts) >= 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make.save_base(tmp_path_factory.mktemp("local"), make.llama_config())


@pytest.fixture(scope="module")
def local(folder):
    return LocalEmbedding(Role(service="local", model=str(folder)))


def test_a_local_vector_is_the_unit_mean_of_the_last_states(local, folder, one_thread):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = ["gull tern", "boat", "wind snow rain ice rock cliff"]  # padded, in one pass
    replies = asyncio.run(local.send(calls(*texts)))
    for text, reply in zip(texts, replies, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(0)
        want = (mean / mean.norm()).numpy()
        assert unpack(reply.text) == pytest.approx(want, abs=1e-5)
        assert reply.prompt_tokens == len(states)


def test_a_mark_in_a_text_is_no_token_of_the_model(local, one_thread):
    plain, marked = asyncio.run(local.send(calls("gull", "gull <|im_end|>")))
    # Two pieces of the vocabulary's special token stay unknown words, several of them.
    assert marked.prompt_tokens > plain.prompt_tokens + 1


def test_a_text_that_is_too_long_fails_alone(local, one_thread):
    long = "gull " * 1025  # the tiny base reads 1024 tokens
    good, bad, empty = asyncio.run(local.send(calls("gull", long, "")))
    assert unpack(good.text).any()
    assert isinstance(bad, CallError) and "has 1025 tokens" in str(bad) and bad.kind == "row"
    assert isinstance(empty, CallError)


def test_the_endpoint_changes_with_the_weights(tmp_path, local):
    again = make.save_base(tmp_path / "again", make.llama_config(), seed=1)
    other = LocalEmbedding(Role(service="local", model=str(again)))
    assert local.endpoint != other.endpoint and other.model == "again"
    assert all(len(one.endpoint) == len("local:") + 12 for one in (local, other))


def test_a_local_role_that_cannot_be_played_is_refused(tmp_path, folder):
    with pytest.raises(EmbeddingError, match="no [*].safetensors file"):
        LocalEmbedding(Role(service="local", model=str(tmp_path)))
    warm = Role(service="local", model=str(folder), sampling={"temperature": 1})
    with pytest.raises(EmbeddingError, match="sampling has temperature, .*; take"):
        LocalEmbedding(warm)


def test_a_model_that_cannot_be_loaded_stops_the_stage(tmp_path, folder):
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    service = LocalEmbedding(Role(service="local", model=str(tmp_path)))
    with pytest.raises(CallError, match="cannot be loaded") as raised:
        asyncio.run(service.send(calls("gull")))
    assert raised.value.kind == "service"


def test_the_shipped_base_embeds(tmp_path):
    service = LocalEmbedding(Role(service="local", model="smollm2-135m-instruct"))
    texts = {"a": "The boat leaks.", "b": "Fog came."}
    with call_path(tmp_path) as path:
        embedding = StoredEmbedding(path, service)
        embedding.need(texts, "chunks")
        first, second = (np.array(embedding.get_text_embedding(text)) for text in texts.values())
    assert len(first) == 576 and first @ first == pytest.approx(1, abs=1e-5)
    assert first @ second < 0.999

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nbutils.callpath.exchange import Reply
from nbutils.callpath.service import CallError
from nbutils.corpus.vectors import EmbeddingError, StoredEmbedding, pack, unpack
from tests.words import SIZE, Words, call_path, embed

finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float32, st.integers(1, 20), elements=finite).filter(np.any))
def test_a_packed_vector_comes_back_bit_for_bit(vector):
    assert np.array_equal(unpack(pack(vector)), vector)


def test_the_form_is_base64_of_little_endian_float32():
    # 1.0 is 0x3f800000: bytes 00 00 80 3f
    assert pack(np.array([1.0], np.float32)) == "AACAPw=="


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not base64!", "the reply is no vector"),
        ("AAA=", "the reply is no vector"),  # two bytes
        ("", "empty, not finite or all zero"),
        (pack(np.array([1, np.nan], np.float32)), "empty, not finite or all zero"),
        (pack(np.array([1, np.inf], np.float32)), "empty, not finite or all zero"),
        (pack(np.zeros(3, np.float32)), "empty, not finite or all zero"),
    ],
)
def test_what_is_no_vector_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        unpack(text)


def test_texts_are_asked_together_and_once(tmp_path, capsys):
    service = Words()
    with call_path(tmp_path) as path:
        embedding = StoredEmbedding(path, service)
        assert embedding.fetch({"c00": "fog", "c01": "boat", "c02": "fog"}, "chunks") == {}
        assert embedding.fetch({"q000": "boat", "q001": "seal"}, "questions") == {}
        assert embedding.get_query_embedding("seal") == embed("seal").tolist()
        assert embedding.get_text_embedding("fog") == embed("fog").tolist()
        assert embedding.get_text_embedding_batch(["fog", "boat"]) == [
            embed("fog").tolist(),
            embed("boat").tolist(),
        ]
    assert service.sent == [["fog", "boat"], ["seal"]]
    said = capsys.readouterr().out
    assert said.count("to ask") == 2  # a stage for the chunks and one for the questions


def test_a_second_run_asks_nothing(tmp_path):
    again = Words()
    for service in (Words(), again):
        with call_path(tmp_path) as path:
            StoredEmbedding(path, service).need({"c00": "fog", "c01": "boat"}, "chunks")
    assert again.sent == []


def test_a_text_that_failed_is_named_and_the_others_are_kept(tmp_path):
    service = Words({"fog": CallError("the text has 900 tokens", "row", 400)})
    with call_path(tmp_path) as path:
        embedding = StoredEmbedding(path, service)
        failed = embedding.fetch({"c00": "fog", "c01": "boat"}, "chunks")
        assert failed == {"c00": "the text has 900 tokens"}
        assert embedding.get_text_embedding("boat") == embed("boat").tolist()
        with pytest.raises(EmbeddingError, match="chunks: 1 of 2 texts .* first c00: the text has"):
            embedding.need({"c00": "fog", "c01": "boat"}, "chunks")
    assert service.sent == [["fog", "boat"], ["fog"]]


def test_a_vector_of_another_length_is_an_error(tmp_path):
    service = Words({"boat": Reply(pack(np.ones(3, np.float32)))})
    with call_path(tmp_path) as path:
        embedding = StoredEmbedding(path, service)
        why = f"embedder c01: its vector has 3 numbers, and those before have {SIZE}; .* its model"
        with pytest.raises(EmbeddingError, match=why):
            embedding.fetch({"c00": "fog", "c01": "boat"}, "chunks")


def test_a_damaged_vector_is_an_error(tmp_path, capsys):
    service = Words({"boat": Reply("[1, 2]")})
    why = "embedder c01: the reply is no vector; move"
    with call_path(tmp_path) as path, pytest.raises(EmbeddingError, match=why):
        StoredEmbedding(path, service).fetch({"c00": "fog", "c01": "boat"}, "chunks")
    assert "1 unreadable" in capsys.readouterr().out

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nbutils.callpath.service import CallError
from nbutils.corpus.documents import DocumentError, load_document
from nbutils.corpus.retrieval import Retriever, chunk, hit_rate, says_something
from nbutils.corpus.vectors import EmbeddingError, StoredEmbedding
from nbutils.profiles import DATA, ROOT
from nbutils.records import Chunk, Question, load_dataset
from nbutils.roles import Role
from nbutils.services.embeddings import EmbeddingEndpoint
from tests.words import Words, call_path, embed


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


def test_the_recorded_chunks_come_out_identical(data):
    chunks = chunk(load_document(DATA / "document.md"))
    assert len(chunks) == 53
    assert chunks == data.chunks


def test_chunks_do_not_depend_on_the_folder(tmp_path, data):
    short = tmp_path / "d"
    long = tmp_path / ("a-folder-with-a-long-name-" * 8) / ("and-one-more-inside-it-" * 8)
    for folder in (short, long):
        folder.mkdir(parents=True)
        shutil.copy(DATA / "document.md", folder / "document.md")
    assert chunk(load_document(short / "document.md")) == data.chunks
    assert chunk(load_document(long / "document.md")) == data.chunks


def test_the_recorded_top_sources_come_out_identical(data):
    retriever = Retriever(data.chunks)
    found, failed = retriever.find({q.question_id: q.question for q in data.questions})
    assert (len(found), failed) == (264, {})
    assert found == {q.question_id: [q.source_chunk_id] for q in data.questions}


def test_hit_rate_of_the_recorded_questions(data):
    found = {q.question_id: [q.source_chunk_id] for q in data.questions}
    table = hit_rate(data.questions, found)
    assert table["questions"].to_dict() == {"all": 264, "train": 177, "test": 65, "mixed": 22}
    assert round(table.loc["all", "hit_rate"], 2) == 0.86  # as the data card says


def test_hit_rate_counts_by_split():
    def question(number, split, gold):
        text = ("s", "fact", "?", "r", gold, "c00", "t")
        return Question(f"q{number}", split, *text)

    asked = [question(0, "train", "c1"), question(1, "train", "c2"), question(2, "test", "c3")]
    table = hit_rate(asked, {"q0": ["c9", "c1"], "q1": ["c3"], "q2": ["c3"]})
    # q0 and q2 are found, q1 is not: 2 of 3 in all, 1 of 2 in train, 1 of 1 in test
    assert table["hits"].to_dict() == {"all": 2, "train": 1, "test": 1}
    assert table["hit_rate"].to_dict() == {"all": 2 / 3, "train": 0.5, "test": 1.0}


def test_top_k_chunks_come_best_first(data):
    best, second, third = Retriever(data.chunks, top_k=3).top("How many hectares is the island?")
    assert len({best, second, third}) == 3
    assert [best] == Retriever(data.chunks).top("How many hectares is the island?")
    with pytest.raises(DocumentError, match="there are 2 chunks, and top_k is 3"):
        Retriever(data.chunks[:2], top_k=3)


def test_a_bare_heading_is_a_chunk_that_is_never_found():
    chunks = chunk("# Boats\n\n## Dunlin boats\nThe Dunlin leaks.\n## Fog\nFog came.\n")
    assert [says_something(item) for item in chunks] == [False, True, True]
    assert Retriever(chunks).top("boats boats") == ["c01"]
    with pytest.raises(DocumentError, match="there are 2 chunks, and top_k is 3"):
        Retriever(chunks, top_k=3)


CHUNKS = [
    Chunk("c00", "A", "# A"),
    Chunk("c01", "A", "The boat leaks and the boat is old."),
    Chunk("c02", "B", "Fog came over the sea."),
    Chunk("c03", "B", "Seals are counted in May."),
]


def test_a_vector_index_finds_the_nearest_by_cosine(tmp_path):
    asked = {
        "q0": "Which boat leaks in fog over the sea?",
        "q1": "Who counted seals in May by the sea?",
    }
    service = Words()
    with call_path(tmp_path) as path:
        retriever = Retriever(CHUNKS, 2, StoredEmbedding(path, service))
        found, failed = retriever.find(asked)
        assert retriever.top(asked["q1"]) == found["q1"]

    def cosine(question, item):
        a, b = embed(question), embed(item.text)
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    want = {}
    for name, text in asked.items():
        near = {item.chunk_id: cosine(text, item) for item in CHUNKS[1:]}
        assert len(set(near.values())) == 3
        want[name] = sorted(near, key=near.__getitem__, reverse=True)[:2]
    assert (found, failed) == (want, {}) and found["q1"][0] == "c03"
    # The three chunks that say something in one stage, the two questions in another.
    assert service.sent == [[item.text for item in CHUNKS[1:]], list(asked.values())]


def test_a_question_without_a_vector_is_named_and_the_others_are_found(tmp_path):
    service = Words({"Fog?": CallError("refused", "row", 400)})
    with call_path(tmp_path) as path:
        retriever = Retriever(CHUNKS, 1, StoredEmbedding(path, service))
        found, failed = retriever.find({"q0": "Fog?", "q1": "boat"})
    assert (found, failed) == ({"q1": ["c01"]}, {"q0": "refused"})


def test_a_chunk_without_a_vector_is_an_error(tmp_path):
    service = Words({CHUNKS[2].text: CallError("refused", "row", 400)})
    with call_path(tmp_path) as path, pytest.raises(EmbeddingError, match="first c02: refused"):
        Retriever(CHUNKS, 1, StoredEmbedding(path, service))


def test_a_vector_index_over_http(tmp_path, server, data):
    wide = {"dimensions": 1024}  # else many words of the server's would share a place
    role = Role(service="openai", model="m", base_url=server.url, sampling=wide)
    service = EmbeddingEndpoint(role, "", 5.0)
    asked = {q.question_id: q.question for q in data.questions[:40]}
    with call_path(tmp_path) as path:
        found, failed = Retriever(data.chunks, 3, StoredEmbedding(path, service)).find(asked)
    assert failed == {} and all(len(set(names)) == 3 for names in found.values())
    # 53 chunks and 40 questions, at most 64 texts a request
    assert server.calls["/v1/embeddings"] == 2
    hits = sum(q.chunk_id in found[q.question_id] for q in data.questions[:40])
    assert hits > 20  # counting words finds most; 3 of 53 at random would be 2 of 40


def sections(text):
    return [item.section for item in chunk(text)]


def test_a_section_is_the_highest_heading_below_the_title():
    text = "# Book\nlead\n## Boats\none\n### Dunlin\ntwo\n## Radio\nthree\n"
    assert sections(text) == ["Book", "Boats", "Boats", "Radio"]


def test_without_a_title_a_section_is_the_highest_heading():
    assert sections("# Boats\none\n## Dunlin\ntwo\n# Radio\nthree") == ["Boats", "Boats", "Radio"]


def test_text_before_any_heading_is_a_section_of_its_own():
    assert sections("hello\n\n# T\n## A/B\nx\n## C\ny") == ["(no heading)", "T", "A/B", "C"]
    assert sections("hello") == ["(no heading)"]


def test_a_hash_in_a_code_block_is_no_heading():
    assert sections("# T\n## A\n```\n# not a heading\n```\nx\n## B\ny") == ["T", "A", "B"]


def test_no_chunk_crosses_a_section():
    long = "word " * 400
    chunks = chunk(f"## A\n{long}\n## B\n{long}")
    assert [item.chunk_id for item in chunks] == ["c00", "c01", "c02", "c03"]
    assert [item.section for item in chunks] == ["A", "A", "B", "B"]
    assert " ".join(item.text for item in chunks).split().count("word") == 800  # nothing is lost


def test_it_needs_no_network_and_no_other_readers(data):
    code = """
import socket, sys
def refuse(*args, **kwargs): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.modules["llama_index.readers.file"] = None  # as if not installed
from nbutils.corpus.documents import load_document
from nbutils.profiles import DATA
from nbutils.corpus.retrieval import Retriever, chunk
import json
chunks = chunk(load_document(DATA / "document.md"))
found = Retriever(chunks).top("How many hectares does Kestrel Island cover?")
print(json.dumps([len(chunks), found]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # and no warning or log line
    assert json.loads(done.stdout) == [53, ["c01"]]

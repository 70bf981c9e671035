import json
import shutil
import subprocess
import sys

import pytest

from nbutils.profiles import DATA, ROOT
from nbutils.records import Question, load_dataset
from nbutils.retrieval import DocumentError, Retriever, chunk, hit_rate, load_document


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
    found = {q.question_id: retriever.top(q.question) for q in data.questions}
    assert len(found) == 264
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


def test_line_ends_and_byte_order_mark_do_not_change_the_text(tmp_path):
    (tmp_path / "x.md").write_bytes(b"\xef\xbb\xbf# T\r\n\r\nBoats.\r\n")
    assert load_document(tmp_path / "x.md") == "# T\n\nBoats.\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.md", b"caf\xe9", "x.md: is not UTF-8 .*; save it as UTF-8"),
        ("x.md", b" \n\n", "x.md: holds no text"),
        ("x.pdf", b"%PDF-1.7", "x.pdf: '.pdf' is not .md or .txt; convert it"),
        ("y.md", b"text", "x.md: there is no such file"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=message):
        load_document(tmp_path / ("x" + (tmp_path / name).suffix))


def test_it_needs_no_network_and_no_other_readers(data):
    code = """
import socket, sys
def refuse(*args, **kwargs): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.modules["llama_index.readers.file"] = None  # as if not installed
from nbutils.profiles import DATA
from nbutils.retrieval import Retriever, chunk, load_document
import json
chunks = chunk(load_document(DATA / "document.md"))
found = Retriever(chunks).top("How many hectares does Kestrel Island cover?")
print(json.dumps([len(chunks), found]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # and no warning or log line
    assert json.loads(done.stdout) == [53, ["c01"]]

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.callpath.exchange import Failure, Reply
from nbutils.callpath.recorded import recorded_calls
from nbutils.callpath.service import CallError
from nbutils.callpath.store import Store
from nbutils.corpus.questions import (
    Draft,
    QuestionError,
    asked_chunks,
    place_questions,
    plan,
    write_questions,
)
from nbutils.corpus.retrieval import Retriever, chunk
from nbutils.corpus.splits import SplitError
from nbutils.corpus.vectors import StoredEmbedding
from nbutils.models import ReplayModel
from nbutils.profiles import DATA, DocumentChoice, RetrievalChoice, SplitChoice, load_profile
from nbutils.records import Chunk, load_dataset
from tests.words import Words, call_path

TEXT = "# Book\nAbout.\n## Boats\nThe Dunlin leaks.\n## Fog\nFog came.\n## Seals\nSeals bark.\n"


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture
def writer(data, tmp_path):
    store = Store(tmp_path / "calls.sqlite")
    store.fill(recorded_calls(data))
    yield ReplayModel(store)
    store.close()


def choice(n=2, cap=0, out=()):
    return DocumentChoice(
        path=DATA / "document.md", leave_out=out, questions_per_chunk=n, max_questions=cap
    )


def ids(chunks):
    return [piece.chunk_id for piece in chunks]


def test_the_recorded_questions_come_out_field_by_field(data, writer):
    profile = load_profile("recorded")
    written = write_questions(data.chunks, writer, profile.document, 0)
    retriever = Retriever(data.chunks, profile.retrieval.top_k)
    placed = place_questions(
        written.drafts, data.chunks, retriever, profile.document, profile.split, 0
    )
    assert placed.questions == data.questions
    # 38 of 264 questions find another chunk than their own: 86 % are found
    assert len(placed.missed) == 38 and placed.failed == {}
    counts = written.table()["count"].to_dict()
    assert (counts.pop("asked for"), counts.pop("questions")) == (264, 264)
    assert set(counts.values()) == {0}


def test_a_cap_changes_no_question_that_it_leaves(data, writer):
    profile = load_profile("recorded")
    few = profile.document.model_copy(update={"max_questions": 60})  # ten whole chunks
    written = write_questions(data.chunks, writer, few, 3)
    split = profile.split
    placed = place_questions(written.drafts, data.chunks, Retriever(data.chunks), few, split, 3)
    recorded = {q.question_id: q for q in data.questions}
    assert len(placed.questions) == 60
    assert all(recorded[q.question_id] == q for q in placed.questions)


def test_the_preamble_is_not_asked_about():
    chunks = chunk(TEXT)
    assert ids(asked_chunks(chunks, choice())) == ["c01", "c02", "c03"]
    assert ids(asked_chunks(chunks, choice(out=("Fog",)))) == ["c01", "c03"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Just this.", ["c00"]),  # no heading, and no other section
        ("# Boats\none\n# Fog\ntwo", ["c00", "c01"]),  # no title
        ("---\ntitle: x\n---\n# Boats\none\n# Fog\ntwo", ["c01", "c02"]),  # before any heading
        ("# Book\none", ["c00"]),  # a title, and nothing below it
        ("# A\none\n# B\n## C\ntwo", ["c00", "c02"]),  # A is no title; B is a bare heading
        ("# Book\n## A\none\n## B\ntwo", ["c01", "c02"]),  # the title has no text of its own
    ],
)
def test_which_chunks_are_asked_about(text, asked):
    assert ids(asked_chunks(chunk(text), choice())) == asked


def test_a_section_that_is_not_there_cannot_be_left_out():
    with pytest.raises(QuestionError, match=r"\['Radio'\], .*; its sections are Book, Boats, Fog"):
        asked_chunks(chunk(TEXT), choice(out=("Radio",)))


def test_somebody_must_be_left_to_ask_about():
    with pytest.raises(QuestionError, match="none of the 4 chunks is left .*; shorten leave_out"):
        asked_chunks(chunk(TEXT), choice(out=("Boats", "Fog", "Seals")))


CHUNKS = [Chunk(f"c{n:02d}", f"S{n}", f"## S{n}\ntext {n}") for n in range(40)]


@given(st.integers(1, 7), st.integers(1, 300), st.integers(0, 2**32))
def test_a_cap_is_kept_and_samples_the_whole_document(n, cap, seed):
    shares = plan(CHUNKS, choice(n, cap), seed)
    assert sum(shares.values()) == min(cap, 40 * n)
    assert list(shares) == sorted(shares)  # in the document's order
    # All chunks but one have their full number.
    assert sum(share < n for share in shares.values()) <= 1
    more = plan(CHUNKS, choice(n, cap + n), seed)
    assert all(more[name] >= share for name, share in shares.items())


def test_without_a_cap_every_chunk_is_asked():
    assert plan(CHUNKS, choice(3), 1) == {piece.chunk_id: 3 for piece in CHUNKS}


def test_a_cap_of_8_at_6_a_chunk_is_6_and_2():
    assert sorted(plan(CHUNKS, choice(6, 8), 5).values()) == [2, 6]


def test_chunks_under_a_cap_come_from_everywhere():
    picked = Counter(name for seed in range(200) for name in plan(CHUNKS, choice(1, 10), seed))
    # 10 of 40 chunks, 200 times: 50 each on average, and none is forgotten
    assert len(picked) == 40 and min(picked.values()) > 25


class Writer:
    """Answers with the text for each chunk; keeps the calls."""

    name = "writer"

    def __init__(self, **replies):
        self.replies, self.calls, self.readable = replies, [], None

    def ask(self, calls, what, readable=None):
        self.calls, self.readable = calls, readable
        outcomes = [self.replies[call.data_id] for call in calls]
        return [Reply(text, "stop") if isinstance(text, str) else text for text in outcomes]


def lines(*questions):
    rows = [{"question": text, "kind": "fact", "reference": "r"} for text in questions]
    return "\n".join(json.dumps(row) for row in rows)


def test_one_call_a_chunk_under_the_prompt(data):
    writer = Writer(c01=lines("a?", "b?"), c02=lines("c?", "d?"), c03=lines("e?", "f?"))
    write_questions(chunk(TEXT), writer, choice(), 0)
    assert [call.data_id for call in writer.calls] == ["c01", "c02", "c03"]
    for call, piece in zip(writer.calls, chunk(TEXT)[1:], strict=True):
        assert (call.role, call.prompt) == ("question_writer", "questions-v1:1b4fb00fdf6c")
        system, user = (message["content"] for message in call.messages)
        assert "write 2 questions" in system and piece.text in user
    assert writer.readable(Reply(lines("a?"))) and not writer.readable(Reply("Sorry."))


def test_whatever_goes_wrong_is_counted():
    writer = Writer(
        c01=lines("Question: Who rows?", "Who sails the Dunlin now?", "Who bails?"),  # one too many
        c02=Failure("no reply within 120 s"),
        c03=lines("who ROWS") + "\nThat is all.",  # a duplicate, a broken line, one too few
    )
    written = write_questions(chunk(TEXT), writer, choice(), 0)
    assert [(d.chunk_id, d.number, d.question) for d in written.drafts] == [
        ("c01", 0, "Who rows?"),
        ("c01", 1, "Who sails the Dunlin now?"),
    ]
    assert written.failed == {"c02": "no reply within 120 s"}
    [(dropped, kept)] = written.duplicates
    assert (dropped.question, kept.question) == ("who ROWS", "Who rows?")
    [(name, broken)] = written.broken
    assert (name, broken.line, broken.text) == ("c03", 2, "That is all.")
    assert (written.cleaned, written.surplus, written.short) == (1, 1, {"c03": 1})
    assert written.table()["count"].to_dict() == {
        "asked for": 6,
        "chunks whose call failed": 1,
        "chunks with fewer than asked for": 1,
        "surplus questions, dropped": 1,
        "broken lines, dropped": 1,
        "duplicates, dropped": 1,
        "labels removed": 1,
        "pairs that read alike, kept": 0,
        "questions": 2,
    }


def test_no_question_at_all_is_an_error_that_says_why():
    writer = Writer(c01=Failure("refused"), c02="Sorry.\nNo.", c03="")
    why = "1 of 3 calls failed, 2 lines are broken; the first: c01: refused; try another writer"
    with pytest.raises(QuestionError, match=f"no question came: {why}"):
        write_questions(chunk(TEXT), writer, choice(), 0)
    empty = Writer(c01="", c02="", c03="")
    with pytest.raises(QuestionError, match="the first: the replies are empty"):
        write_questions(chunk(TEXT), empty, choice(), 0)


def test_questions_that_read_alike_are_kept_and_reported():
    writer = Writer(
        c01=lines("Which boatmaster repaired the old Dunlin in the winter?", "Why does it leak?"),
        c02=lines("Which boatmaster repaired the old Dunlin in that winter?", "When did fog come?"),
        c03=lines("How many seals bark?", "Where do they bark?"),
    )
    written = write_questions(chunk(TEXT), writer, choice(), 0)
    assert len(written.drafts) == 6
    [(first, second, cosine)] = written.alike
    assert (first.chunk_id, second.chunk_id) == ("c01", "c02") and 0.8 <= cosine < 1


def drafts(chunks, n=2):
    rows = []
    for piece in chunks:
        words = piece.text.split()[-2:]
        rows += [
            Draft(piece.chunk_id, k, f"{words[0]} {words[1]} {k}?", "fact", "r") for k in range(n)
        ]
    return rows


def test_ids_count_from_the_first_chunk_that_may_be_asked():
    chunks = chunk("# Boats\nThe Dunlin leaks.\n# Fog\nFog came.")
    placed = place_questions(drafts(chunks), chunks, Retriever(chunks), choice(), SplitChoice(), 0)
    assert [q.question_id for q in placed.questions] == ["q000", "q001", "q002", "q003"]
    titled = chunk(TEXT)
    some = drafts(titled[2:])  # c02 and c03: c01 was not sampled
    placed = place_questions(some, titled, Retriever(titled), choice(), SplitChoice(), 0)
    assert [q.question_id for q in placed.questions] == ["q002", "q003", "q004", "q005"]


def test_a_source_of_k_chunks_is_their_texts_best_first(tmp_path):
    chunks = chunk(
        "# Book\nAbout.\n## Boats\nA boat leaks.\n### Dunlin\nThe Dunlin boat leaks.\n"
        "## Fog\nFog came.\n### May\nThe fog came.\n## Seals\nSeals bark.\n"
    )
    split = SplitChoice(test=("Fog",))
    with call_path(tmp_path) as path:
        retriever = Retriever(chunks, 2, StoredEmbedding(path, Words()))
        placed = place_questions(drafts(chunks[1:]), chunks, retriever, choice(), split, 0)
    assert placed.sides == {"Boats": "train", "Fog": "test", "Seals": "train"}
    texts = {piece.chunk_id: piece.text for piece in chunks}
    sides = {"c00": "none", "c01": "train", "c02": "train", "c03": "test", "c04": "test"}
    sides["c05"] = "train"
    for q in placed.questions:
        first, second = q.source_chunk_ids
        assert [first, second] == placed.found[q.question_id]
        assert q.source_chunk_id == f"{first}+{second}"
        assert q.source == f"{texts[first]}\n\n{texts[second]}"
        # Whatever takes in a chunk of the other side or of the preamble is mixed.
        own = sides[q.chunk_id]
        assert q.split == (own if {sides[first], sides[second]} == {own} else "mixed")
        assert (q.question_id in placed.missed) == (q.chunk_id not in (first, second))
    assert {q.split for q in placed.questions} == {"train", "test", "mixed"}


def test_a_question_that_retrieval_misses_is_kept_and_named():
    chunks = chunk(TEXT)
    lost = Draft("c01", 0, "Seals bark?", "fact", "r")
    found = Draft("c03", 0, "Seals bark where?", "fact", "r")
    split = SplitChoice(test=("Seals",))
    rows = [lost, found, Draft("c02", 0, "Fog came?", "fact", "r")]
    placed = place_questions(rows, chunks, Retriever(chunks), choice(), split, 0)
    assert placed.missed == ["q000"]
    assert [(q.source_chunk_id, q.split) for q in placed.questions] == [
        ("c03", "mixed"),
        ("c03", "test"),
        ("c02", "train"),
    ]


def test_a_question_that_cannot_be_embedded_is_left_out_and_named(tmp_path):
    chunks = chunk(TEXT)
    rows = drafts(chunks[1:])
    service = Words({rows[2].question: CallError("refused", "row", 400)})
    with call_path(tmp_path) as path:
        retriever = Retriever(chunks, 1, StoredEmbedding(path, service))
        placed = place_questions(rows, chunks, retriever, choice(), SplitChoice(), 0)
    assert placed.failed == {"q002": "refused"}
    assert [q.question_id for q in placed.questions] == ["q000", "q001", "q003", "q004", "q005"]


def test_a_named_test_section_that_is_not_there_is_an_error():
    chunks = chunk(TEXT)
    with pytest.raises(SplitError, match=r"split.test names \['Radio'\], .* its sections are Book"):
        place_questions(
            drafts(chunks[1:]),
            chunks,
            Retriever(chunks),
            choice(),
            SplitChoice(test=("Radio",)),
            0,
        )


def test_named_test_sections_must_leave_both_sides():
    chunks = chunk(TEXT)
    for test, side in (("Boats", "Fog", "Seals"), "test"), (("Book",), "train"):
        with pytest.raises(SplitError, match=f"split.test leaves {side} alone with questions"):
            place_questions(
                drafts(chunks[1:]), chunks, Retriever(chunks), choice(), SplitChoice(test=test), 0
            )


def test_a_side_that_is_left_without_a_question_is_an_error():
    chunks = chunk(TEXT)
    lost = Draft("c01", 0, "Seals bark?", "fact", "r")
    found = Draft("c03", 0, "Seals bark where?", "fact", "r")
    # Both are answered from c03: with Boats in test, its question is mixed.
    split = SplitChoice(test=("Boats",))
    with pytest.raises(SplitError, match="no question is left in test: .*; lower top_k"):
        place_questions([lost, found], chunks, Retriever(chunks), choice(), split, 0)
    split = SplitChoice(test=("Seals",))
    with pytest.raises(SplitError, match="no question is left in train"):
        place_questions([lost, found], chunks, Retriever(chunks), choice(), split, 0)


def test_a_document_of_one_section_cannot_be_split():
    chunks = chunk("Just this text here.")
    with pytest.raises(SplitError, match="a split by whole sections needs two"):
        place_questions(drafts(chunks), chunks, Retriever(chunks), choice(), SplitChoice(), 0)


def test_the_split_is_drawn_by_the_seed_where_none_is_named(data):
    rows = [Draft(q.chunk_id, 0, q.question, "fact", "r") for q in data.questions[::6]]
    out = load_profile("recorded").document
    splits = [
        tuple(
            q.split
            for q in place_questions(
                rows, data.chunks, Retriever(data.chunks), out, SplitChoice(), seed
            ).questions
        )
        for seed in (0, 0, 1)
    ]
    assert splits[0] == splits[1] != splits[2]


def test_a_vector_profile_places_by_its_own_index(data, tmp_path):
    profile = load_profile("recorded")
    profile = profile.model_copy(
        update={"retrieval": RetrievalChoice(index="vector", top_k=2), "split": SplitChoice()}
    )
    rows = [Draft(q.chunk_id, n % 6, q.question, q.kind, "r") for n, q in enumerate(data.questions)]
    with call_path(tmp_path) as path:
        retriever = Retriever(data.chunks, 2, StoredEmbedding(path, Words()))
        placed = place_questions(rows, data.chunks, retriever, profile.document, profile.split, 0)
    assert [q.question_id for q in placed.questions] == [q.question_id for q in data.questions]
    sides = {}
    for q in placed.questions:  # no chunk stands on both sides
        for name in q.source_chunk_ids if q.split != "mixed" else ():
            assert sides.setdefault(name, q.split) == q.split

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import calls, prompts
from nbutils.calls import ReplayMiss, Request, Store, StoreError, recorded_calls, recorded_store
from nbutils.models import ReplayModel
from nbutils.profiles import DATA, ROOT
from nbutils.prompts import PAIRWISE, render_pairwise
from nbutils.records import load_dataset


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store") / "calls.sqlite", data)


def first_pair(data):
    pair = data.pairs[0]
    question = next(q for q in data.questions if q.question_id == pair.question_id)
    texts = {row.answerer: row.text for row in data.answers if row.question_id == pair.question_id}
    shown = (question.question, question.source, texts[pair.answerer_a], texts[pair.answerer_b])
    return pair, shown


def test_every_recorded_row_has_one_call(data):
    made = list(recorded_calls(data))
    # 44 chunks with questions; 1244 answers less 264 of the live answerer; 1131 pairs twice
    roles = {"question_writer": 44, "answerer": 980, "teacher": 2262, "grader": 1124}
    assert Counter(request.role for request, _ in made) == roles
    assert len({request.key() for request, _ in made}) == len(made)


def test_the_recorded_prompts_are_those_of_today():
    now = {"question_writer": prompts.QUESTIONS, "teacher": PAIRWISE, "grader": prompts.GRADE}
    assert {role: prompt.fingerprint for role, prompt in now.items()} == calls.RECORDED_PROMPTS


def test_a_question_writer_s_reply_is_its_rows(data, store):
    chunk = next(c for c in data.chunks if c.chunk_id == "c01")
    messages = prompts.render_questions(chunk.text, 6)
    writer = ReplayModel(store, "question_writer")
    reply = writer.reply("c01", prompts.QUESTIONS.fingerprint, messages)
    rows = [q for q in data.questions if q.chunk_id == "c01"]
    names = ("question", "kind", "reference")
    assert [json.loads(line) for line in reply.split("\n")] == [
        {name: getattr(q, name) for name in names} for q in rows
    ]


def test_a_reply_comes_back_under_its_order(data, store):
    pair, shown = first_pair(data)
    teacher = ReplayModel(store, "teacher")
    for order in ("original", "flipped"):
        [row] = [j for j in data.judgements if (j.pair_id, j.order) == (pair.pair_id, order)]
        messages = render_pairwise(*shown, order)
        asked = (f"{pair.pair_id}/{order}", PAIRWISE.fingerprint, messages)
        assert teacher.reply(*asked) == row.reply


def test_a_miss_names_the_row_and_the_remedy(data, store):
    _, shown = first_pair(data)
    messages = render_pairwise(*shown, "original")
    with pytest.raises(ReplayMiss, match="teacher p9999/original: no reply is recorded; .*ask for"):
        ReplayModel(store, "teacher").reply("p9999/original", PAIRWISE.fingerprint, messages)
    with pytest.raises(ReplayMiss, match="answerer q000/extractive-bm25: no reply is recorded"):
        ReplayModel(store, "answerer").reply("q000/extractive-bm25")


def test_a_changed_prompt_is_an_error(data, store):
    pair, shown = first_pair(data)
    changed = replace(PAIRWISE, system=PAIRWISE.system + " Be brief.").fingerprint
    messages = render_pairwise(*shown, "original")
    message = f"{pair.pair_id}/original: recorded under {PAIRWISE.fingerprint}, asked .*{changed}"
    with pytest.raises(ReplayMiss, match=message):
        ReplayModel(store, "teacher").reply(f"{pair.pair_id}/original", changed, messages)


def test_a_prompt_changed_in_the_code_is_an_error_at_replay(data, tmp_path, monkeypatch):
    changed = replace(PAIRWISE, system=PAIRWISE.system + " Be brief.")
    monkeypatch.setattr(prompts, "PAIRWISE", changed)  # as if edited before the store was filled
    pair, shown = first_pair(data)
    model = ReplayModel(recorded_store(tmp_path / "calls.sqlite", data), "teacher")
    messages = render_pairwise(*shown, "original")
    assert "Be brief." in messages[0]["content"]
    with pytest.raises(ReplayMiss, match="restore that prompt"):
        model.reply(f"{pair.pair_id}/original", changed.fingerprint, messages)


def test_a_changed_text_is_an_error(data, store):
    pair, (question, source, a, b) = first_pair(data)
    teacher = ReplayModel(store, "teacher")
    for shown in ((question, source, a + "!", b), (question, source[:1000], a, b)):
        messages = render_pairwise(*shown, "original")
        with pytest.raises(ReplayMiss, match="the text asked about is not the recorded one"):
            teacher.reply(f"{pair.pair_id}/original", PAIRWISE.fingerprint, messages)


def test_filling_again_puts_the_new_rows_in_place_of_the_old(tmp_path):
    store = Store(tmp_path / "calls.sqlite")
    one, two = Request("recorded", "teacher", "p1"), Request("recorded", "teacher", "p2")
    store.fill([(one, "old"), (two, "gone")])
    store.fill([(one, "new")])
    assert store.replay(one) == "new"
    with pytest.raises(ReplayMiss):
        store.replay(two)


def test_a_fill_that_fails_changes_nothing(tmp_path):
    store = Store(tmp_path / "calls.sqlite")
    one = Request("recorded", "teacher", "p1")
    store.fill([(one, "kept")])
    with pytest.raises(StoreError, match="UNIQUE"):
        store.fill([(one, "first"), (one, "second")])
    assert store.replay(one) == "kept"


def test_replies_outlive_a_process_that_is_killed(tmp_path):
    # In 2023 nothing was saved until a loop ended: whatever stopped it, all replies were lost.
    path = tmp_path / "calls.sqlite"
    script = (
        "import os, sys; from nbutils.calls import Request, Store\n"
        "Store(sys.argv[1]).fill([(Request('recorded', 'teacher', 'p1'), 'reply')])\n"
        "os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert Store(path).replay(Request("recorded", "teacher", "p1")) == "reply"


def test_two_stores_on_one_file(tmp_path):
    one = Request("recorded", "teacher", "p1")
    writer, reader = Store(tmp_path / "calls.sqlite"), Store(tmp_path / "calls.sqlite")
    writer.fill([(one, "reply")])
    assert reader.replay(one) == "reply"
    mode = sqlite3.connect(tmp_path / "calls.sqlite").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


texts = st.text(st.characters(codec=None))  # lone surrogates too


@given(texts, texts, texts, st.none() | st.lists(st.dictionaries(texts, texts)))
def test_equal_requests_have_one_key_and_others_another(role, data_id, prompt, messages):
    request = Request("recorded", role, data_id, prompt, messages)
    assert request.key() == replace(request).key()
    assert len(request.key()) == 64
    assert request.key() != replace(request, data_id=data_id + "x").key()
    assert request.key() != replace(request, messages=[*(messages or []), {"role": "x"}]).key()


def test_the_key_is_that_of_the_canonical_json():
    # printf '{"data_id":"p1","messages":null,"model":"m","prompt":"x","role":"t"}' | sha256sum
    key = "1323dbe918c1fa04be2430fd55fc37758a4f2e4041073e977d0ef96082091ace"
    assert Request("m", "t", "p1", "x").key() == key


def torn(path, data):
    recorded_store(path, data).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def overwritten(path, data):
    recorded_store(path, data).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * 8192 + whole[16384:])


def text(path, data):
    path.write_text("these are notes, no store\n" * 100, encoding="utf-8")


def short_text(path, data):
    path.write_text("x", encoding="utf-8")


@pytest.mark.parametrize("spoil", [torn, overwritten, text, short_text])
def test_a_torn_or_foreign_file_is_a_clear_error(tmp_path, data, spoil):
    path = tmp_path / "calls.sqlite"
    spoil(path, data)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="calls.sqlite: no whole store of calls .*; move it away"):
        Store(path)
    assert path.read_bytes() == before


def test_another_program_s_sqlite_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "calls.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE calls (mine)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's SQLite file .*; move it away"):
        Store(path)
    assert path.read_bytes() == before


def test_an_older_layout_is_an_error(tmp_path):
    Store(tmp_path / "calls.sqlite").close()
    with sqlite3.connect(tmp_path / "calls.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="older store"):
        Store(tmp_path / "calls.sqlite")


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(StoreError, match="unable to open .*see that its folder exists"):
        Store(tmp_path / "none" / "calls.sqlite")

import json
from collections import Counter
from dataclasses import replace

import pytest

from nbutils import prompts
from nbutils.callpath.exchange import Call
from nbutils.callpath.recorded import (
    RECORDED_PROMPTS,
    ReplayDiffers,
    as_recorded,
    recorded_answer,
    recorded_calls,
)
from nbutils.callpath.store import ReplayMiss, Store
from nbutils.profiles import DATA
from nbutils.prompts import PAIRWISE, render_pairwise
from nbutils.records import load_dataset
from nbutils.roles import Role

RECORDED = Role(service="recorded", model="recorded")
COPIED = Role(service="extractive", model="extractive")
LIVE = Role(service="openai", model="m", sampling={"max_tokens": 1})


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture(scope="module")
def store(data):
    opened = Store(":memory:")
    opened.fill(recorded_calls(data))
    yield opened
    opened.close()


def replayed(store, *call):
    [reply] = store.replay([Call(*call)])
    return reply.text


def first_pair(data):
    pair = data.pairs[0]
    question = next(q for q in data.questions if q.question_id == pair.question_id)
    texts = {row.answerer: row.text for row in data.answers if row.question_id == pair.question_id}
    shown = (question.question, question.source, texts[pair.answerer_a], texts[pair.answerer_b])
    return pair, shown


def test_every_recorded_row_has_one_call(data, store):
    made = list(recorded_calls(data))
    # 44 chunks with questions; 1244 answers less 264 of the live answerer; 1131 pairs twice
    roles = {"question_writer": 44, "answerer": 980, "teacher": 2262, "grader": 1124}
    assert Counter(call.role for call, _ in made) == roles
    assert len({(call.role, call.data_id) for call, _ in made}) == len(made)
    assert [reply.text for reply in store.replay([call for call, _ in made])] == [
        text for _, text in made
    ]


def test_the_recorded_prompts_are_those_of_today():
    now = {"question_writer": prompts.QUESTIONS, "teacher": PAIRWISE, "grader": prompts.GRADE}
    assert {role: prompt.fingerprint for role, prompt in now.items()} == RECORDED_PROMPTS


def test_a_question_writer_s_reply_is_its_rows(data, store):
    chunk = next(c for c in data.chunks if c.chunk_id == "c01")
    messages = prompts.render_questions(chunk.text, 6)
    reply = replayed(store, "question_writer", "c01", prompts.QUESTIONS.fingerprint, messages)
    rows = [q for q in data.questions if q.chunk_id == "c01"]
    names = ("question", "kind", "reference")
    assert [json.loads(line) for line in reply.split("\n")] == [
        {name: getattr(q, name) for name in names} for q in rows
    ]


def test_a_reply_comes_back_under_its_order(data, store):
    pair, shown = first_pair(data)
    for order in ("original", "flipped"):
        [row] = [j for j in data.judgements if (j.pair_id, j.order) == (pair.pair_id, order)]
        messages = render_pairwise(*shown, order)
        name = f"{pair.pair_id}/{order}"
        assert replayed(store, "teacher", name, PAIRWISE.fingerprint, messages) == row.reply


def test_a_recorded_answer_replies_to_its_question_and_source_alone(data, store):
    [row] = [a for a in data.answers if (a.question_id, a.answerer) == ("q000", "gemma-3-270m")]
    question = data.questions[0]
    assert question.question_id == "q000"
    name = "q000/gemma-3-270m"
    assert store.replay([recorded_answer(name, question)])[0].text == row.text
    for other in ({"question": "Who?"}, {"source": question.source + " More."}):
        with pytest.raises(ReplayMiss, match=f"{name}: the text asked about is not the recorded"):
            store.replay([recorded_answer(name, replace(question, **other))])
    with pytest.raises(ReplayMiss, match="answerer q000/extractive-bm25: no reply is recorded"):
        store.replay([recorded_answer("q000/extractive-bm25", question)])


def test_a_changed_prompt_is_an_error(data, store):
    pair, shown = first_pair(data)
    changed = replace(PAIRWISE, system=PAIRWISE.system + " Be brief.").fingerprint
    messages = render_pairwise(*shown, "original")
    message = f"{pair.pair_id}/original: recorded under {PAIRWISE.fingerprint}, asked .*{changed}"
    with pytest.raises(ReplayMiss, match=message):
        replayed(store, "teacher", f"{pair.pair_id}/original", changed, messages)


def test_a_prompt_changed_in_the_code_is_an_error_at_replay(data, monkeypatch):
    changed = replace(PAIRWISE, system=PAIRWISE.system + " Be brief.")
    monkeypatch.setattr(prompts, "PAIRWISE", changed)  # as if edited before the store was filled
    pair, shown = first_pair(data)
    store = Store(":memory:")
    store.fill(recorded_calls(data))
    messages = render_pairwise(*shown, "original")
    assert "Be brief." in messages[0]["content"]
    with pytest.raises(ReplayMiss, match="restore that prompt"):
        replayed(store, "teacher", f"{pair.pair_id}/original", changed.fingerprint, messages)


def test_a_changed_text_is_an_error(data, store):
    pair, (question, source, a, b) = first_pair(data)
    for shown in ((question, source, a + "!", b), (question, source[:1000], a, b)):
        messages = render_pairwise(*shown, "original")
        with pytest.raises(ReplayMiss, match="the text asked about is not the recorded one"):
            name = f"{pair.pair_id}/original"
            replayed(store, "teacher", name, PAIRWISE.fingerprint, messages)


def test_rows_of_a_replay_are_the_recorded_ones_in_any_order(data):
    rows = data.answers[:3]
    assert as_recorded([RECORDED, COPIED], rows[::-1], rows) == "3 rows, all as recorded"


@pytest.mark.parametrize("spoil", ["changed", "missing", "one more"])
def test_a_replay_that_came_out_otherwise_names_its_first_row(data, spoil):
    rows, other = data.answers[:3], data.answers[3]
    made = {
        "changed": [rows[0], replace(rows[1], text="Otherwise."), rows[2]],
        "missing": [rows[0], rows[2]],
        "one more": [*rows, other],
    }[spoil]
    named = other if spoil == "one more" else rows[1]
    with pytest.raises(ReplayDiffers, match=f"{named.question_id} {named.answerer}: not as recor"):
        as_recorded([RECORDED], made, rows)


def test_rows_of_a_live_role_are_compared_with_nothing(data):
    rows = [replace(data.answers[0], text="Otherwise.")]
    assert as_recorded([RECORDED, LIVE], rows, data.answers[:1]) == "1 rows, live"

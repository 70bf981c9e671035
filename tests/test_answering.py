import json
from dataclasses import replace

import pytest

from nbutils.callpath.exchange import Failure, Reply
from nbutils.corpus.answering import (
    Answered,
    ChatAnswerer,
    ExtractiveAnswerer,
    answer_questions,
    answerers,
    split_sentences,
)
from nbutils.models import ModelError, Models
from nbutils.profiles import DATA, load_profile
from nbutils.prompts import ANSWER, render_answer
from nbutils.records import Answer, load_dataset
from nbutils.roles import Role
from nbutils.runs import RunFolder
from tests.server import Fault

LIVE = Role(service="openai", model="m", sampling={"max_tokens": 9})


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture
def questions(data):
    """q0 to q2, whose sources are c0, c1 and c2."""
    return [
        replace(
            data.questions[0],
            question_id=f"q{n}",
            question=f"Question {n}?",
            chunk_id=f"c{n}",
            source_chunk_id=f"c{n}",
            source=f"Source {n} has one long sentence.",
        )
        for n in range(3)
    ]


class Scripted:
    """A chat model that gives the replies of a table, by data id, and keeps its calls."""

    name = "scripted"

    def __init__(self, replies):
        self.replies, self.calls = replies, []

    def ask(self, calls, what, readable=None):
        self.calls += calls
        self.what, self.readable = what, readable
        return [self.replies[call.data_id] for call in calls]


def scripted(role=LIVE, **replies):
    model = Scripted({f"{question}/x": reply for question, reply in replies.items()})
    return ChatAnswerer("x", role, model), model


# The extractive answerer


def test_the_recorded_extractive_answers_come_out_identical(data):
    recorded = {a.question_id: a.text for a in data.answers if a.answerer == "extractive-bm25"}
    texts = ExtractiveAnswerer().answer_all(data.questions)
    assert len(texts) == 264
    assert dict(zip((q.question_id for q in data.questions), texts, strict=True)) == recorded


def test_sentences_drop_headings_tables_and_short_ones():
    source = (
        "# Boats\n\nOld Patience is a\nworkboat. She leaks badly. Was it six tonnes? Yes!\n| a |"
    )
    # "She leaks badly." has three words, "Yes!" one: more than three are wanted
    assert split_sentences(source) == ["Old Patience is a workboat.", "Was it six tonnes?"]


def test_one_sentence_is_always_drawn_and_of_many_only_the_best_three(data):
    answerer = ExtractiveAnswerer()
    lone = replace(data.questions[0], source="There is one sentence here.")
    assert answerer.answer(lone) == "There is one sentence here."
    text = " ".join(f"The boat number {n} has {'oars ' * n}aboard." for n in (3, 2, 1))
    text += " Nothing on the subject here. Nor is it here."
    asked = [
        replace(
            data.questions[0], question_id=f"q{n}", question="Which boat has oars?", source=text
        )
        for n in range(60)
    ]
    drawn = [answerer.answer(q) for q in asked]
    assert {a.split(" has")[0] for a in drawn} == {f"The boat number {n}" for n in (1, 2, 3)}


def test_a_source_without_sentences_and_an_id_without_number_are_errors(data):
    table = replace(data.questions[0], source="## Boats\n| name | tonnes |")
    with pytest.raises(ModelError, match="question q000: the source has no sentence; leave"):
        ExtractiveAnswerer().answer(table)
    with pytest.raises(ModelError, match="question first: the id has no number .* like q017"):
        ExtractiveAnswerer().answer(replace(data.questions[0], question_id="first"))


def test_a_table_as_source_stops_nobody_else_s_answer(questions):
    asked = [questions[0], replace(questions[1], source="| a |"), questions[2]]
    first, table, third = ExtractiveAnswerer().answer_all(asked)
    assert (first, third) == (questions[0].source, questions[2].source)
    assert isinstance(table, Failure) and "q1: the source has no sentence" in table.why


# Chat models


def test_a_live_answerer_is_shown_question_and_source(questions):
    answerer, model = scripted(q0=Reply(" Dunlin. \n"), q1=Reply("Plover."))
    assert answerer.answer_all(questions[:2]) == ["Dunlin.", "Plover."]
    assert [call.data_id for call in model.calls] == ["q0/x", "q1/x"]
    assert {(call.role, call.prompt) for call in model.calls} == {("answerer", ANSWER.fingerprint)}
    assert model.calls[1].messages == render_answer("Question 1?", questions[1].source)
    assert model.what == "answers of x"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply("", "content_filter"), "the reply is empty (finish reason content_filter)"),
        (Reply(" \n"), "the reply is empty (finish reason None)"),
        (Failure("400: too long"), "400: too long"),
    ],
)
def test_a_reply_that_says_nothing_is_no_answer(questions, reply, why):
    answerer, model = scripted(q0=reply)
    assert answerer.answer_all(questions[:1]) == [Failure(why)]
    # The call path counts it as unreadable, if it came at all.
    assert isinstance(reply, Failure) or not model.readable(reply)
    assert model.readable(Reply("Dunlin."))


def test_failed_calls_are_in_failed_and_nowhere_else(questions):
    answerer, _ = scripted(q0=Reply("One."), q1=Failure("500: gone"), q2=Reply(""))
    both = {"x": answerer, "copied": ExtractiveAnswerer()}
    answered = answer_questions(questions, both, {})
    assert answered.failed == {
        ("q1", "x"): "500: gone",
        ("q2", "x"): "the reply is empty (finish reason None)",
    }
    assert [(row.question_id, row.answerer) for row in answered.answers] == [
        ("q0", "x"),
        ("q0", "copied"),
        ("q1", "copied"),
        ("q2", "copied"),
    ]
    assert answered.answers[0] == Answer("q0", "x", "One.")


def test_where_retrieval_missed_an_answerer_may_not_be_asked(questions):
    missed = replace(questions[1], source_chunk_id="c9")
    several = replace(questions[2], source_chunk_id="c9+c2")  # found, though not as the best
    only = LIVE.model_copy(update={"only_where_found": True})
    answerer, model = scripted(only, q0=Reply("One."), q2=Reply("Three."))
    answered = answer_questions([questions[0], missed, several], {"x": answerer}, {})
    assert [row.question_id for row in answered.answers] == ["q0", "q2"]
    assert len(model.calls) == 2 and answered.failed == {}  # nobody failed
    everyone, model = scripted(q0=Reply("1"), q1=Reply("2"), q2=Reply("3"))
    answer_questions([questions[0], missed, several], {"x": everyone}, {})
    assert len(model.calls) == 3
    only_copied = ExtractiveAnswerer(only_where_found=True)
    assert answer_questions([missed], {"x": only_copied}, {}) == Answered([], {})


def test_planted_errors_go_to_their_own_answers(questions):
    answerer, _ = scripted(q0=Reply("One."), q1=Reply("Two."))
    errors = {("q1", "x"): "two for three", ("q0", "y"): "another's"}
    rows = answer_questions(questions[:2], {"x": answerer}, errors).answers
    assert [row.error for row in rows] == [None, "two for three"]


# A profile's answerers


def test_the_recorded_profile_gives_every_recorded_answer(data, tmp_path):
    profile = load_profile("recorded")
    with Models(profile, RunFolder("mine", tmp_path)) as models:
        answered = answer_questions(data.questions, answerers(profile, models), models.errors)
    assert answered.failed == {} and len(answered.answers) == 1244
    made, recorded = (
        {(row.question_id, row.answerer): row for row in rows}
        for rows in (answered.answers, data.answers)
    )
    assert made == recorded
    # and they stand by question, then in the profile's order
    places = {name: n for n, name in enumerate(profile.answerers)}
    asked = {q.question_id: n for n, q in enumerate(data.questions)}
    order = [(asked[row.question_id], places[row.answerer]) for row in answered.answers]
    assert order == sorted(order)


MINE = """\
name = "mine"
document.path = "book.md"
student.model = "smollm2-135m-instruct"
question_writer = {{ service = "recorded", model = "recorded" }}
teacher = {{ service = "recorded", model = "recorded" }}

[answerers.copied]
service = "extractive"
model = "extractive"
only_where_found = true

[answerers.live]
service = "openai"
model = "m"
base_url = "{url}"
key = "none"
sampling.max_tokens = 50
"""


def test_a_live_answerer_over_http(server, questions, tmp_path):
    (tmp_path / "mine.toml").write_text(MINE.format(url=server.url), encoding="utf-8")
    profile = load_profile(str(tmp_path / "mine.toml"))
    server.script("text:It is so.")
    server.faults(Fault("context_length", marker="Question 1?"), Fault("null", marker="Question 2"))
    missed = [questions[0], replace(questions[1], source_chunk_id="c9"), questions[2]]
    with Models(profile, RunFolder("mine", tmp_path)) as models:
        answered = answer_questions(missed, answerers(profile, models), models.errors)
    assert [(row.question_id, row.answerer, row.text) for row in answered.answers] == [
        ("q0", "copied", questions[0].source),
        ("q0", "live", "It is so."),
        ("q2", "copied", questions[2].source),
    ]
    assert set(answered.failed) == {("q1", "live"), ("q2", "live")}
    assert "maximum context length" in answered.failed["q1", "live"]
    assert "empty" in answered.failed["q2", "live"]
    shown = [json.loads(seen.body)["messages"][-1]["content"] for seen in server.requests()]
    assert sorted("Source 1" in text for text in shown) == [False, False, True]

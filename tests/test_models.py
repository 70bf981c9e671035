from dataclasses import replace

import pytest

from nbutils.calls import Store, recorded_store
from nbutils.models import ExtractiveAnswerer, ModelError, answerers, split_sentences
from nbutils.profiles import DATA, Role, load_profile
from nbutils.records import load_dataset


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


def recorded_answers(data, answerer):
    return {row.question_id: row.text for row in data.answers if row.answerer == answerer}


def test_the_recorded_extractive_answers_come_out_identical(data):
    answerer = ExtractiveAnswerer()
    answers = {q.question_id: answerer.answer(q) for q in data.questions}
    assert len(answers) == 264
    assert answers == recorded_answers(data, "extractive-bm25")


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


def test_the_profile_s_answerers_give_every_recorded_answer(data, tmp_path):
    store = recorded_store(tmp_path / "calls.sqlite", data)
    questions = {q.question_id: q for q in data.questions}
    answer = answerers(load_profile("recorded"), store)
    assert len(data.answers) == 1244
    for row in data.answers:
        assert answer[row.answerer](questions[row.question_id]) == row.text


def test_a_model_that_cannot_answer_is_named(tmp_path):
    profile = load_profile("recorded")
    odd = replace(profile, answerers={"mine": Role("some-model")})
    with pytest.raises(ModelError, match=r"\[answerers.mine\]: model 'some-model' cannot answer"):
        answerers(odd, Store(tmp_path / "calls.sqlite"))

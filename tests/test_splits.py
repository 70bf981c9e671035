from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.corpus.splits import (
    SplitError,
    choose_pairs,
    like_texts,
    make_pairs,
    near_duplicates,
    question_split,
    shared_sources,
    split_sections,
)
from nbutils.profiles import DATA
from nbutils.records import Answer, Question, load_dataset

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=2).filter(lambda x: len(set(x)) > 1), seeds)
def test_whole_sections_about_seventy_to_thirty(sections, seed):
    sides = split_sections(sections, seed)
    sizes = Counter(sections)
    test = sum(sizes[name] for name, side in sides.items() if side == "test")
    assert set(sides) == set(sizes) and set(sides.values()) == {"train", "test"}
    # Above 30 %: by at most half of the section that came last.
    over = test - 0.3 * len(sections)
    assert over <= max(sizes.values()) / 2
    # Below 30 %: whatever train section is added, test is farther from 30 % than before.
    train = [sizes[name] for name, side in sides.items() if side == "train"]
    assert all(over + size / 2 > 0 for size in train)
    assert split_sections(sections, seed) == split_sections(sorted(sections), seed) == sides


def test_the_recorded_sections_by_seed(data):
    sections = [q.section for q in data.questions]  # 22 sections of 12 questions: 264
    shares = []
    for seed in range(20):
        sides = split_sections(sections, seed)
        shares.append(sum(sides[name] == "test" for name in sections) / 264)
    assert set(shares) == {7 * 12 / 264}  # 6 are 72, 7 are 84: the nearer to 0.3 x 264 = 79.2
    assert split_sections(sections, 0) != split_sections(sections, 1)


def test_one_section_cannot_be_split():
    with pytest.raises(SplitError, match=r"1 section\(s\): Boats; .* add Markdown headings"):
        split_sections(["Boats", "Boats"], 0)


def test_few_sections_fill_both_sides():
    # aim 0.3 x 3 = 0.9: the first section of 1 goes (0 + 0.5 <= 0.9), no other (1 + 0.5 > 0.9)
    assert Counter(split_sections("abc", 5).values()) == {"train": 2, "test": 1}
    # aim 0.3 x 2 = 0.6: the same
    assert Counter(split_sections("ab", 5).values()) == {"train": 1, "test": 1}
    # aim 0.3 x 10 = 3: a does not (0 + 4 > 3), so b does (0 + 1 <= 3), whichever is drawn first
    for seed in range(10):
        assert split_sections("aaaaaaaabb", seed) == {"a": "train", "b": "test"}


def test_a_question_whose_source_crosses_the_border_is_mixed():
    sides = {"A": "train", "B": "train", "C": "test"}
    assert question_split("A", ["A"], sides) == question_split("A", ["B"], sides) == "train"
    assert question_split("C", ["C"], sides) == "test"
    assert question_split("A", ["C"], sides) == question_split("C", ["B"], sides) == "mixed"
    assert question_split("C", ["(no heading)"], sides) == "mixed"


def test_every_one_of_several_sources_must_lie_on_the_gold_chunk_s_side():
    sides = {"A": "train", "B": "train", "C": "test"}
    assert question_split("A", ["B", "A", "A"], sides) == "train"
    assert question_split("A", ["B", "A", "C"], sides) == "mixed"
    assert question_split("C", ["C", "preamble"], sides) == "mixed"


def test_the_recorded_split_follows_the_rule(data):
    sides = {q.section: q.split for q in data.questions if q.split != "mixed"}
    at = {c.chunk_id: c.section for c in data.chunks}
    for q in data.questions:
        assert question_split(q.section, [at[q.source_chunk_id]], sides) == q.split


def test_the_recorded_split_leaks_nothing(data):
    assert shared_sources(data.questions) == []
    assert near_duplicates(data.questions) == []


def test_a_planted_leak_is_found(data):
    test = next(q for q in data.questions if q.split == "test")
    same = replace(test, question_id="q900", split="train")
    alike = replace(same, question_id="q901", question=test.question.replace("?", ", please?"))
    questions = [*data.questions, same, alike]
    others = [
        q.question_id for q in data.questions if q.split == "test" and q.source == test.source
    ]
    assert shared_sources(questions) == others
    first, second = near_duplicates(questions)
    assert (first.test_id, first.train_id) == (test.question_id, "q900")
    assert first.cosine == pytest.approx(1) and 0.8 <= second.cosine < 1
    assert second.train_id == "q901"


def test_a_chunk_shared_by_two_longer_sources_is_found(data):
    test = next(q for q in data.questions if q.split == "test")
    one = replace(test, question_id="q900", source_chunk_id="c90+c91", source="a\n\nb")
    other = replace(one, question_id="q901", split="train", source_chunk_id="c92+c91", source="c")
    assert shared_sources([one, other]) == ["q900"]
    assert shared_sources([one, replace(other, source_chunk_id="c92+c93")]) == []


def test_like_texts_are_those_that_the_check_of_the_split_finds(data):
    texts = [q.question for q in data.questions]
    assert like_texts(texts) == []
    planted = texts[7].replace("?", ", please?")
    [(first, second, cosine)] = like_texts([*texts, planted])
    assert (first, second) == (7, 264) and 0.8 <= cosine < 1
    pair = [
        replace(data.questions[0], split=split, question=text, question_id=split)
        for split, text in (("train", texts[7]), ("test", planted))
    ]
    [like] = near_duplicates([*pair, *(replace(q, split="mixed") for q in data.questions)])
    assert like.cosine == pytest.approx(cosine, abs=0.02)  # weighted over one more text


def test_like_texts_across_blocks():
    asked = "Who counts the seals in May?"
    texts = [f"{n * 7919} and {n * 104729}" for n in range(700)]
    found = like_texts([asked, *texts, asked])  # in blocks of 512: the first and the second
    assert (0, 701, pytest.approx(1)) in found
    assert like_texts([]) == like_texts(["?"]) == []


def test_near_duplicates_of_one_side_are_none(data):
    assert near_duplicates([q for q in data.questions if q.split == "train"]) == []


def rows(answerers=("w", "x", "y", "z"), number=50):
    text = ("s", "fact", "?", "r", "c0", "c0", "t")
    questions = [Question(f"q{n:03d}", "test" if n % 3 else "train", *text) for n in range(number)]
    return questions, [Answer(q.question_id, who, "t") for q in questions for who in answerers]


@given(seeds)
def test_two_random_answerers_a_question(seed):
    questions, answers = rows()
    pairs = make_pairs(questions, answers, seed, "two").pairs
    assert [(p.question_id, p.split) for p in pairs] == [
        (q.question_id, q.split) for q in questions
    ]
    assert [p.pair_id for p in pairs] == [f"p{n:03d}" for n in range(50)]
    assert pairs == make_pairs(questions, answers, seed, "two").pairs


def test_every_couple_comes_in_both_orders():
    pairs = make_pairs(*rows(number=400), 7, "two").pairs
    counts = Counter((p.answerer_a, p.answerer_b) for p in pairs)
    assert len(counts) == 12  # 4 answerers x 3 others; 400 / 12 = 33 each on average
    assert min(counts.values()) > 10


def test_all_pairs_have_every_couple_once():
    pairs = make_pairs(*rows(number=40), 7, "all").pairs
    couples = Counter((p.question_id, frozenset((p.answerer_a, p.answerer_b))) for p in pairs)
    assert len(couples) == len(pairs) == 40 * 6  # 4 answerers: 4 x 3 / 2 = 6 couples
    assert 0 < sum(p.answerer_a < p.answerer_b for p in pairs) < 240


@pytest.mark.parametrize("per_question", ["two", "all"])
def test_a_lone_answer_makes_no_pair_and_stops_no_other(per_question):
    questions, answers = rows(number=6)
    whole = make_pairs(questions, answers, 3, per_question)
    lost = {("q001", who) for who in "wxy"} | {("q004", who) for who in "wxyz"}
    left = [row for row in answers if (row.question_id, row.answerer) not in lost]
    pairing = make_pairs(questions, left, 3, per_question)
    assert (whole.unpaired, pairing.unpaired) == ([], ["q001", "q004"])
    counts = Counter(pair.question_id for pair in pairing.pairs)
    assert counts == dict.fromkeys(
        ["q000", "q002", "q003", "q005"], 1 if per_question == "two" else 6
    )
    assert "2 question(s) without one, for want of two answers: q001, q004" in pairing.summary()


def test_an_answer_to_no_question_of_the_list_makes_no_pair():
    questions, answers = rows(number=2)
    assert {p.question_id for p in make_pairs(questions[:1], answers, 0, "all").pairs} == {"q000"}


def test_the_recorded_pairs_are_chosen_as_far_as_they_have_answers(data):
    whole = choose_pairs("recorded", data.questions, data.answers, 0, data.pairs)
    assert (whole.pairs, whole.unpaired, whole.dropped) == (data.pairs, [], [])
    pair = data.pairs[0]
    lost = (pair.question_id, pair.answerer_a)
    answers = [row for row in data.answers if (row.question_id, row.answerer) != lost]
    some = choose_pairs("recorded", data.questions, answers, 0, data.pairs)
    gone = [
        p.pair_id
        for p in data.pairs
        if p.question_id == lost[0] and lost[1] in (p.answerer_a, p.answerer_b)
    ]
    assert pair.pair_id in some.dropped and some.dropped == gone
    assert len(some.pairs) == len(data.pairs) - len(gone)
    assert (
        f"{len(gone)} recorded pair(s) left out, for want of an answer: {gone[0]}" in some.summary()
    )


def test_recorded_pairs_of_other_questions_are_not_missed(data):
    some = data.questions[:10]
    chosen = choose_pairs("recorded", some, data.answers, 0, data.pairs)
    assert chosen.dropped == [] and {p.question_id for p in chosen.pairs} == {
        q.question_id for q in some
    }


def test_new_pairs_are_chosen_as_make_pairs_makes_them(data):
    for choose in ("two", "all"):
        made = make_pairs(data.questions, data.answers, 5, choose)
        assert choose_pairs(choose, data.questions, data.answers, 5, data.pairs) == made


@pytest.mark.parametrize("choose", ["recorded", "two", "all"])
def test_no_pair_at_all_is_an_error(data, choose):
    with pytest.raises(SplitError, match="no pair comes of 264 questions and 0 answers"):
        choose_pairs(choose, data.questions, [], 0, data.pairs)


def test_a_summary_names_no_more_than_five():
    questions, _ = rows(number=7)
    pairing = make_pairs(questions, [], 0, "two")
    assert pairing.summary() == (
        "0 pairs; 7 question(s) without one, for want of two answers: "
        "q000, q001, q002, q003, q004, ..."
    )

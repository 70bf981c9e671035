"""Splits by whole sections, their check, and the pairs. Never lets a section stand on both sides.

The recorded data bring their own split and pairs; these are the same rules for any other document.
"""

import random
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from sklearn.feature_extraction.text import TfidfVectorizer

from nbutils.records import Answer, Pair, Question, Split

TEST_SHARE = 0.3
NAMED = 5  # questions or pairs that a summary names
BLOCK = 512  # texts compared at a time
NEAR_DUPLICATE = 0.8  # cosine; unlike questions that share names stay under 0.6 in data/kestrel


class SplitError(ValueError):
    """Questions that cannot be split or paired; the message names them and the remedy."""


@dataclass(frozen=True)
class Likeness:
    """A test question and a train question that read alike."""

    test_id: str
    train_id: str
    cosine: float  # 0 (no character n-gram in common) to 1


def split_sections(sections: Iterable[str], seed: int) -> dict[str, Split]:
    """Gives whole sections to train or test, about 70/30 by count.

    `sections` names the section of each question, so a section counts as often as it is asked
    about. In an order shuffled by the seed, a section goes to test where that brings test nearer to
    30 %: with 10 questions the aim is 3, so after a section of 2 another of 2 still goes there
    (4 is no farther from 3 than 2 is), one of 3 does not. Neither side is ever left empty.

    Raises SplitError on fewer than two sections.
    """
    sizes = Counter(sections)
    if len(sizes) < 2:
        have = f"{len(sizes)} section(s): {', '.join(sizes)}"
        raise SplitError(f"{have}; a split by whole sections needs two: add Markdown headings")
    shuffled = random.Random(seed).sample(sorted(sizes), len(sizes))
    aim = TEST_SHARE * sizes.total()
    test: set[str] = set()
    filled = 0
    for name in shuffled:
        if filled + sizes[name] / 2 <= aim:
            test.add(name)
            filled += sizes[name]
    return {name: "test" if name in test else "train" for name in sizes}


def question_split(gold: str, sources: Iterable[str], sides: Mapping[str, Split]) -> Split:
    """The side of a question: that of its gold chunk's section, if all its sources' are the same.

    `sources` names the section of each retrieved chunk. One from the other side, or from a section
    on neither (such as a preamble that no question asks about), makes the question `mixed`: it
    serves retrieval figures only.
    """
    return sides[gold] if all(sides.get(name) == sides[gold] for name in sources) else "mixed"


def shared_sources(questions: Sequence[Question]) -> list[str]:
    """Ids of the test questions that share a source with a train question. Should be empty.

    Shared: the same text, or one of the retrieved chunks.
    """
    train = [q for q in questions if q.split == "train"]
    texts = {q.source for q in train}
    chunks = {name for q in train for name in q.source_chunk_ids}
    return [
        q.question_id
        for q in questions
        if q.split == "test" and (q.source in texts or not chunks.isdisjoint(q.source_chunk_ids))
    ]


def near_duplicates(
    questions: Sequence[Question], threshold: float = NEAR_DUPLICATE
) -> list[Likeness]:
    """Test and train questions that read alike, the most alike first. Should be empty.

    Alike: cosine of at least `threshold` between TF-IDF vectors of the character n-grams of 3 to 5
    letters within words (scikit-learn's char_wb), weighted over all questions given.
    """
    train = [q for q in questions if q.split == "train"]
    test = [q for q in questions if q.split == "test"]
    if not train or not test:
        return []
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    vectors.fit(q.question for q in questions)
    left, right = (vectors.transform(q.question for q in side) for side in (test, train))
    found = [
        Likeness(test[i].question_id, train[j].question_id, cosine)
        for i, j, cosine in _close(left, right, threshold)
    ]
    return sorted(found, key=lambda like: (-like.cosine, like.test_id, like.train_id))


def like_texts(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Every two texts that read alike: the places of the earlier and the later, and their cosine.

    Measured as in near_duplicates, by the same threshold; the most alike come first.
    """
    if not any(text.strip() for text in texts):
        return []
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(texts)
    found = [(i, j, cosine) for i, j, cosine in _close(vectors, vectors, NEAR_DUPLICATE) if i < j]
    return sorted(found, key=lambda row: (-row[2], row[0], row[1]))


@dataclass(frozen=True)
class Pairing:
    """The pairs of some questions, and what could not be paired."""

    pairs: list[Pair]
    unpaired: list[str]  # ids of the questions without a pair, for want of two answers
    dropped: list[str]  # ids of recorded pairs of which an answer is missing

    def summary(self) -> str:
        """`334 pairs; 1 question(s) without one, for want of two answers: q003`"""
        text = f"{len(self.pairs):,} pairs"
        for names, what in (
            (self.unpaired, "question(s) without one, for want of two answers"),
            (self.dropped, "recorded pair(s) left out, for want of an answer"),
        ):
            if names:
                more = ", ..." if len(names) > NAMED else ""
                text += f"; {len(names):,} {what}: {', '.join(names[:NAMED])}{more}"
        return text


def choose_pairs(
    choose: Literal["recorded", "two", "all"],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    seed: int,
    recorded: Sequence[Pair],
) -> Pairing:
    """The pairs of a profile's choice: the recorded ones as far as they have answers, or new ones.

    Raises SplitError where not one pair comes of it.
    """
    if choose == "recorded":
        there = {(row.question_id, row.answerer) for row in answers}
        found = _recorded(questions, there, recorded)
    else:
        found = make_pairs(questions, answers, seed, choose)
    if not found.pairs:
        why = f"no pair comes of {len(questions)} questions and {len(answers)} answers"
        raise SplitError(f"{why}; see which answerers failed, and run notebook 02 again")
    return found


def make_pairs(
    questions: Sequence[Question],
    answers: Sequence[Answer],
    seed: int,
    per_question: Literal["two", "all"],
) -> Pairing:
    """Pairs of answers, numbered p000, p001, ... in the order of the questions.

    "two": two answerers of each question, drawn at random. "all": every two answerers of it. Which
    of the two is a is drawn too. A question with fewer than two answers gets no pair and is named.
    """
    draw = random.Random(seed)
    by_question: dict[str, list[str]] = {q.question_id: [] for q in questions}
    for row in answers:
        by_question.get(row.question_id, []).append(row.answerer)
    pairs: list[Pair] = []
    unpaired = [name for name, who in by_question.items() if len(who) < 2]
    for q in questions:
        who = by_question[q.question_id]
        few = [tuple(who)] if len(who) > 1 else []
        for couple in few if per_question == "two" else combinations(who, 2):
            first, second = draw.sample(couple, 2)
            pairs.append(Pair(f"p{len(pairs):03d}", q.split, q.question_id, first, second))
    return Pairing(pairs, unpaired, [])


def _recorded(
    questions: Sequence[Question], there: Container[tuple[str, str]], recorded: Sequence[Pair]
) -> Pairing:
    """The recorded pairs of these questions whose answers are both there."""
    asked = {q.question_id for q in questions}
    mine = [pair for pair in recorded if pair.question_id in asked]
    whole = [
        pair
        for pair in mine
        if all((pair.question_id, who) in there for who in (pair.answerer_a, pair.answerer_b))
    ]
    kept, paired = set(whole), {pair.question_id for pair in whole}
    return Pairing(
        whole,
        [q.question_id for q in questions if q.question_id not in paired],
        [pair.pair_id for pair in mine if pair not in kept],
    )


def _close(left: Any, right: Any, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Rows of two sparse matrices (unit rows) of at least that cosine; a block at a time.

    All at once, the cosines of some ten thousand texts would not fit into memory.
    """
    for start in range(0, left.shape[0], BLOCK):
        cosines = (left[start : start + BLOCK] @ right.T).tocoo()
        near = cosines.data >= threshold
        for i, j, cosine in zip(
            cosines.row[near], cosines.col[near], cosines.data[near], strict=True
        ):
            yield start + int(i), int(j), float(cosine)

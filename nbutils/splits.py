"""Splits by whole sections, their check, and the pairs. Never lets a section stand on both sides.

The recorded data bring their own split and pairs; these are the same rules for any other document.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from sklearn.feature_extraction.text import TfidfVectorizer

from nbutils.records import Answer, Pair, Question, Split

TEST_SHARE = 0.3
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


def question_split(gold: str, source: str, sides: Mapping[str, Split]) -> Split:
    """The side of a question: that of its gold chunk's section if its source's is the same.

    A source from the other side, or from a section on neither (such as a preamble that no question
    asks about), makes the question `mixed`: it serves retrieval figures only.
    """
    return sides[gold] if sides.get(source) == sides[gold] else "mixed"


def shared_sources(questions: Sequence[Question]) -> list[str]:
    """Ids of the test questions whose source text is a train question's too. Should be empty."""
    train = {q.source for q in questions if q.split == "train"}
    return [q.question_id for q in questions if q.split == "test" and q.source in train]


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
    cosines = (left @ right.T).tocoo()
    alike = [
        Likeness(test[i].question_id, train[j].question_id, float(cosine))
        for i, j, cosine in zip(cosines.row, cosines.col, cosines.data, strict=True)
        if cosine >= threshold
    ]
    return sorted(alike, key=lambda like: (-like.cosine, like.test_id, like.train_id))


def make_pairs(
    questions: Sequence[Question],
    answers: Sequence[Answer],
    seed: int,
    per_question: Literal["two", "all"],
) -> list[Pair]:
    """Pairs of answers, numbered p000, p001, ... in the order of the questions.

    "two": two answerers of each question, drawn at random. "all": every two answerers of it. Which
    of the two is a is drawn too. Raises SplitError where a question has fewer than two answers.
    """
    draw = random.Random(seed)
    pairs: list[Pair] = []
    for q in questions:
        who = [row.answerer for row in answers if row.question_id == q.question_id]
        if len(who) < 2:
            why = f"has {len(who)} answer(s), and a pair needs two"
            raise SplitError(f"question {q.question_id} {why}: run more answerers on it")
        couples = [tuple(who)] if per_question == "two" else list(combinations(who, 2))
        for couple in couples:
            first, second = draw.sample(couple, 2)
            pairs.append(Pair(f"p{len(pairs):03d}", q.split, q.question_id, first, second))
    return pairs

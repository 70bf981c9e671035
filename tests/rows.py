"""Small frozen rows and graded tables, for the tests of grading."""

import numpy as np

from nbutils.grading import graded
from nbutils.grading.frozen import Frozen
from nbutils.records import Answer, Grade, Question

PROMPT = "grade-v1:test"


def question(name: str, split: str = "train", section: str = "s") -> Question:
    return Question(name, split, section, "fact", f"{name}?", "", "c", "c", f"source of {name}")


def grade(name: str, answerer: str, score: float | None) -> Grade:
    reason = "no marker on the last line" if score is None else None
    return Grade(name, answerer, "teacher", PROMPT, "", score, reason)


def table(scores, threshold=0.8, split="test"):
    """A graded table of {(question, answerer): score}; the text is the answerer's name."""
    questions = [question(name, split) for name in dict.fromkeys(name for name, _ in scores)]
    answers = [Answer(name, who, who) for name, who in scores]
    grades = [grade(name, who, score) for (name, who), score in scores.items()]
    return graded.table(questions, answers, grades, threshold)


def frozen(features, asked, scores, pairs=(), sections=None):
    """Rows of features, with every score that is not None, and pairs (a, b, verdict, target)."""
    features = np.array(features, dtype=float)
    count = max(asked) + 1
    sections = sections or [f"s{number}" for number in range(count)]
    graded_places = [place for place, score in enumerate(scores) if score is not None]
    return Frozen(
        keys=tuple((f"q{q}", f"w{place}") for place, q in enumerate(asked)),
        questions=tuple(question(f"q{n}", section=sections[n]) for n in range(count)),
        features=features,
        asked=np.array(asked),
        graded=np.array(graded_places, dtype=int),
        scores=np.array([scores[place] for place in graded_places], dtype=float),
        ends=np.array([pair[:2] for pair in pairs], dtype=int).reshape(-1, 2),
        verdicts=np.array([pair[2] for pair in pairs], dtype=int),
        targets=np.array([pair[3] for pair in pairs], dtype=float).reshape(-1, 3),
    )


def drawn(questions=24, seed=0, sections=6, width=5):
    """Questions with three answers each, whose first feature makes them good, and their pairs."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(3 * questions, width))
    asked = np.repeat(np.arange(questions), 3).tolist()
    noisy = features[:, 0] + 0.3 * draw.normal(size=len(features))
    scores = np.round(1 / (1 + np.exp(-3 * noisy)), 2).tolist()
    pairs = []
    for first in range(0, len(features), 3):
        told = 0 if noisy[first] > noisy[first + 1] else 1
        target = [0.05, 0.05, 0.05]
        target[told] = 0.9
        pairs.append((first, first + 1, told, target))
    return frozen(features, asked, scores, pairs, [f"s{n % sections}" for n in range(questions)])

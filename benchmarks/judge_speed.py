"""How many pairs a second three ways of judging do, side by side. Never writes a file.

`python benchmarks/judge_speed.py` judges all pairs of a few test questions by the student, one tree
pass a question; by the same student, one pass an answer; and by its untuned base, which generates a
reasoned verdict in both orders, as the teacher does (in batches of eight). The ways take turns,
question by question, so that whatever else the machine does slows all three.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch

from nbutils.evaluation.untuned import judge_generated
from nbutils.judge import judge_pairs
from nbutils.profiles import DATA, ROOT
from nbutils.records import Dataset, Pair, load_dataset
from nbutils.scoring.backbone import Base, Group
from nbutils.scoring.student import CARD, Student, load

TARGET = 10  # times the generating base
TREE = "student, one tree pass a question"
SEPARATE = "student, one pass an answer"
GENERATED = "untuned base, a reply an order"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints pairs a second and ratios. Returns 1 where there is no student."""
    parser = argparse.ArgumentParser(prog="python benchmarks/judge_speed.py")
    parser.add_argument("--student", type=Path, default=ROOT / "runs" / "recorded" / "student")
    parser.add_argument("--questions", type=int, default=4, help="test questions to judge")
    options = parser.parse_args(arguments)
    if not (options.student / CARD).is_file():
        print(f"{options.student}: there is no student yet; make run trains one", file=sys.stderr)
        return 1
    base = Base()
    student = load(options.student, base)
    data = load_dataset(DATA)
    warm_up, *groups = sample(data, options.questions + 1)
    with redirect_stdout(sys.stderr):  # the bars
        seconds = measure(ways(student, base, data), warm_up, groups)
    pairs = sum(map(len, groups))
    kind = f"{student.kind} student with {student.settings.folds} members, {base.dtype}"
    print(f"{pairs} pairs of {len(groups)} questions; {kind}, {torch.get_num_threads()} threads")
    print(table(pairs, seconds))
    return 0


def sample(data: Dataset, count: int) -> list[list[Pair]]:
    """The pairs of `count` test questions, drawn by a fixed seed: one list a question."""
    groups: dict[str, list[Pair]] = {}
    for pair in data.pairs:
        if pair.split == "test":
            groups.setdefault(pair.question_id, []).append(pair)
    return random.Random(0).sample(list(groups.values()), count)


def ways(
    student: Student, base: Base, data: Dataset
) -> dict[str, Callable[[Sequence[Pair]], object]]:
    """Each way of judging, as a function of one question's pairs."""
    return {
        TREE: lambda pairs: judge_pairs(student, pairs, data.questions, data.answers, "tree"),
        SEPARATE: lambda pairs: judge_separately(student, pairs, data),
        GENERATED: lambda pairs: judge_generated(base, pairs, data.questions, data.answers),
    }


def judge_separately(student: Student, pairs: Sequence[Pair], data: Dataset) -> list[str]:
    """The student's verdicts on one question's pairs, each answer scored once, in its own pass."""
    (asked,) = (row for row in data.questions if row.question_id == pairs[0].question_id)
    compared = {end for pair in pairs for end in (pair.answerer_a, pair.answerer_b)}
    scores = {
        row.answerer: student.scores(Group(asked.question, asked.source, (row.text,)))[0]
        for row in data.answers
        if row.question_id == asked.question_id and row.answerer in compared
    }
    return [student.verdict(scores[p.answerer_a], scores[p.answerer_b])[0] for p in pairs]


def measure(
    ways: dict[str, Callable[[Sequence[Pair]], object]],
    warm_up: Sequence[Pair],
    groups: Sequence[Sequence[Pair]],
) -> dict[str, float]:
    """Seconds that each way takes for all groups, after one uncounted question."""
    seconds = dict.fromkeys(ways, 0.0)
    for judge in ways.values():
        judge(warm_up)
    for pairs in groups:
        for name, judge in ways.items():
            begun = time.perf_counter()
            judge(pairs)
            seconds[name] += time.perf_counter() - begun
    return seconds


def table(pairs: int, seconds: dict[str, float]) -> str:
    """One line a way: pairs a second, seconds a pair, and how many times as fast as generating."""
    lines = [f"{'':34} {'pairs/s':>8} {'s/pair':>8} {'ratio':>7}"]
    for name, spent in seconds.items():
        ratio = seconds[GENERATED] / spent
        lines.append(f"{name:34} {pairs / spent:8.2f} {spent / pairs:8.3f} {ratio:6.1f}x")
    reached = seconds[GENERATED] / seconds[TREE] >= TARGET
    lines.append(f"target: the tree at least {TARGET}x: {'reached' if reached else 'missed'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

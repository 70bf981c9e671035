"""Chooses the student's settings on the train split alone. Never reads a test row.

`python benchmarks/choose_student.py` trains each candidate below as notebook 05 does and writes its
cross-validation (folds of whole sections; every pair scored by a member that did not see its
section) to benchmarks/student_choice.csv: about half an hour on two cores with bfloat16. A
candidate that is there already is not trained again.
"""

import csv
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from nbutils.files import aside
from nbutils.judging import grade_answers, judge_pairs
from nbutils.models import replay
from nbutils.profiles import DATA
from nbutils.records import load_dataset
from nbutils.resolution import resolve_all
from nbutils.scoring.backbone import Base
from nbutils.scoring.student import Kind, Settings
from nbutils.scoring.targets import Example, examples
from nbutils.scoring.training import read_examples, train

TABLE = Path(__file__).with_name("student_choice.csv")
START = Settings(rate=2e-4, epochs=2, folds=3)
CANDIDATES: list[tuple[str, Kind, Settings]] = [
    ("no grades", "probe", replace(START, grade_weight=0.0)),
    ("start", "probe", START),
    ("grades weigh as much", "probe", replace(START, grade_weight=1.0)),
    ("weaker penalty", "probe", replace(START, decay=1.0)),
    ("stronger penalty", "probe", replace(START, decay=16.0)),
    ("one layer", "probe", replace(START, layers=(15,))),
    ("later layers", "probe", replace(START, layers=(15, 20, 25), last=24)),
    ("start", "lora", START),
    ("grades weigh as much", "lora", replace(START, grade_weight=1.0)),
    ("faster", "lora", replace(START, rate=5e-4)),
]
FIGURES = ("pairs", "agreement", "preferred_pairs", "preference", "graded_pairs", "grade_order")


def main() -> None:
    """Trains what is missing in the table; each row is written as soon as it is there."""
    rows = load_training_rows()
    base = Base()
    done = read_table()
    readings, read_for = [], None
    for name, kind, settings in CANDIDATES:
        if (name, kind) in {(row["candidate"], row["student"]) for row in done}:
            continue
        if read_for != (settings.layers, settings.first):
            readings = read_examples(base, rows, settings)
            read_for = (settings.layers, settings.first)
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            student, _ = train(base, rows, readings, settings, kind, 0, Path(folder))
        seconds = time.perf_counter() - begun
        figures = {key: round(student.card["cross_validation"][key], 4) for key in FIGURES}
        row = {"candidate": name, "student": kind} | asdict(settings)
        row |= figures | {"seconds": round(seconds, 1)}
        print(name, kind, figures, f"{seconds:.0f} s", flush=True)
        done.append({key: str(value) for key, value in row.items()})
        write_table(done)


def load_training_rows() -> list[Example]:
    """The train split's examples, from the recorded replies."""
    data = load_dataset(DATA)
    pairs = [pair for pair in data.pairs if pair.split == "train"]
    asked = {pair.question_id for pair in pairs}
    answers = [answer for answer in data.answers if answer.question_id in asked]
    questions = [question for question in data.questions if question.question_id in asked]
    graded_ids = {(row.question_id, row.answerer) for row in data.grades}
    graded = [row for row in answers if (row.question_id, row.answerer) in graded_ids]
    teacher = replay(data)
    judgements = judge_pairs(pairs, questions, answers, teacher)
    grades = grade_answers(graded, questions, teacher)
    return examples(questions, answers, pairs, resolve_all(judgements), grades)


def read_table() -> list[dict[str, str]]:
    """The rows there are, as text."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(rows: list[dict[str, str]]) -> None:
    """Writes all rows aside, then renames."""
    with aside(TABLE) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

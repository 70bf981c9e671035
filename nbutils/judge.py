"""A trained student at work: on pairs of the series, or on rows of a user's own. Never trains.

`python -m nbutils.judge --student DIR IN.jsonl OUT.jsonl` judges rows such as
{"question": "...", "source": "...", "answers": ["...", "..."]}   two or more answers: verdicts
{"question": "...", "source": "...", "answer": "..."}             one answer: a grade
and appends a row to OUT for each. Run again, it goes on where it stopped.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from nbutils.files import aside
from nbutils.records import Answer, Pair, Question, Resolution
from nbutils.scoring.backbone import BackboneError, Base, Group
from nbutils.scoring.student import Student, StudentError, load
from nbutils.weights import WeightsError

Row = dict[str, Any]


class RowError(ValueError):
    """A row that cannot be judged; the message names field, value and remedy."""


def judge_pairs(
    student: Student,
    pairs: Iterable[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    name: str,
) -> list[Resolution]:
    """The student's resolution of each pair, with probabilities as target and the scores' margin.

    One pass a question scores all answers of its pairs. Both orders give the same by construction.
    """
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row.text for row in answers}
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.question_id, []).append(pair)
    found = []
    for question_id, own in tqdm(groups.items(), name, file=sys.stdout, mininterval=2):
        ends = [end for pair in own for end in (pair.answerer_a, pair.answerer_b)]
        names = list(dict.fromkeys(ends))
        question = asked[question_id]
        group = Group(
            question.question, question.source, tuple(texts[question_id, end] for end in names)
        )
        score = dict(zip(names, student.scores(group), strict=True))
        for pair in own:
            a, b = score[pair.answerer_a], score[pair.answerer_b]
            label, shares = student.verdict(a, b)
            found.append(Resolution(pair.pair_id, name, label, target=shares, margin=a - b))
    return found


def judge_row(student: Student, row: Row) -> Row:
    """Scores with verdicts on every two answers (by their places), or the grade of one answer.

    Raises RowError where a field is missing, unknown, empty or of another type.
    """
    answers = _answers(row)
    for field in ("question", "source"):
        if not _is_text(row.get(field)) or not row[field].strip():
            raise RowError(
                f"field {field!r}: {row.get(field)!r:.60} is not a text; write it as one"
            )
    try:
        scores = student.scores(Group(row["question"], row["source"], tuple(answers)))
    except BackboneError as error:
        raise RowError(str(error)) from None
    if "answer" in row:
        return {"grade": round(student.grade(scores[0]), 4)}
    verdicts = []
    for first, second in combinations(range(len(answers)), 2):
        label, shares = student.verdict(scores[first], scores[second])
        chances = dict(zip(("a", "b", "tie"), (round(share, 4) for share in shares), strict=True))
        verdicts.append({"a": first, "b": second, "verdict": label, "probabilities": chances})
    return {"scores": [round(score, 4) for score in scores], "verdicts": verdicts}


def _answers(row: Row) -> list[str]:
    known = {"id", "question", "source", "answer", "answers"}
    for field in sorted(row.keys() - known):
        raise RowError(f"field {field!r} is unknown; known are {', '.join(sorted(known))}")
    if ("answer" in row) == ("answers" in row):
        raise RowError("give either 'answer' (to be graded) or 'answers' (to be compared)")
    if "answer" in row:
        if not _is_text(row["answer"]):
            raise RowError(f"field 'answer': {row['answer']!r:.60} is not a text; write it as one")
        return [row["answer"]]
    answers = row["answers"]
    if not isinstance(answers, list) or not all(map(_is_text, answers)):
        raise RowError(f"field 'answers': {answers!r:.60} is not a list of texts; write it as one")
    if len(answers) < 2:
        raise RowError(f"field 'answers' has {len(answers)}; give two or more, or use 'answer'")
    return answers


def _is_text(value: object) -> bool:
    """Whether it is text that a tokenizer can read, so without the half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def judge_file(student: Student, source: Path, out: Path) -> tuple[int, int, int]:
    """Judges each line of `source` into `out`. Returns how many were judged now, before, and bad.

    Each result is on disk before the next row is begun. Bad rows go to OUT.bad.jsonl, with line
    and reason. Raises RowError where `out` was made from other rows or by another student.
    """
    maker = str(student.card["weights_sha256"])[:16]
    done = _finished(out, maker)
    judged, bad = 0, []
    lines = list(_lines(source))
    with out.open("a", encoding="utf-8", errors="backslashreplace") as file:
        for number, text, mark in tqdm(lines, "judging", unit="row"):
            if number in done:
                if done[number] != mark:
                    raise RowError(
                        f"{source} line {number} is not the row that {out} has a result for; "
                        "write to a new file"
                    )
                continue
            try:
                row = _parsed(text)
                result = {"line": number, "row": mark, "student": maker}
                result |= {"id": row["id"]} if "id" in row else {}
                result |= judge_row(student, row)
            except RowError as error:
                bad.append({"line": number, "error": str(error)})
                continue
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            judged += 1
    _write_bad(out.with_name(out.name.removesuffix(".jsonl") + ".bad.jsonl"), bad)
    return judged, len(done), len(bad)


def _parsed(text: bytes) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deep
        raise RowError(f"not JSON ({error}); mend the line") from None
    if not isinstance(row, dict):
        raise RowError(f"{row!r:.60} is not an object; write one {{...}} a line")
    return row


def _lines(source: Path) -> Iterator[tuple[int, bytes, str]]:
    """Line number, text and fingerprint of each line that is not blank."""
    for number, line in enumerate(source.read_bytes().splitlines(), 1):
        if line.strip():
            mark = hashlib.sha256(line.strip()).hexdigest()[:16]
            yield number, line, mark


def _finished(out: Path, maker: str) -> dict[int, str]:
    """Line number -> fingerprint of the rows in `out`. Cuts off a last line that was torn."""
    if not out.exists():
        return {}
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            found[int(row["line"])] = str(row["row"])
            made = row["student"]
        except (ValueError, KeyError, TypeError):
            raise RowError(f"{out} line {number} is no result of ours; name a new file") from None
        if made != maker:
            raise RowError(
                f"{out} line {number} is by student {made}, not {maker}; name a new file"
            )
    if len(whole) < len(content):
        with out.open("rb+") as file:
            file.truncate(len(whole))
    return found


def _write_bad(file: Path, bad: Sequence[Row]) -> None:
    with aside(file) as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in bad), encoding="utf-8")
    if not bad:
        file.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges a file. Returns 0, 1 where rows were bad, 2 where it cannot run as asked."""
    parser = argparse.ArgumentParser(
        prog="python -m nbutils.judge", description="Judge rows with a student."
    )
    parser.add_argument("--student", type=Path, required=True, help="folder that 05_distil wrote")
    parser.add_argument("source", type=Path, metavar="IN.jsonl")
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    options = parser.parse_args(arguments)
    try:
        if not options.source.is_file():
            raise RowError(f"{options.source}: no such file; name a JSONL file of rows")
        with FileLock(f"{options.out}.lock", timeout=0):
            student = load(options.student, Base())
            judged, before, bad = judge_file(student, options.source, options.out)
    except (RowError, StudentError, WeightsError, OSError) as error:
        problem = "another run is writing it" if isinstance(error, Timeout) else error
        print(f"nbutils.judge: {problem}", file=sys.stderr)
        return 2
    print(f"{judged} rows judged, {before} already there, {bad} bad: {options.out}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

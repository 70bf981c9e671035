import json

import pytest

from nbutils.corpus.own_rows import read_rows
from nbutils.records import RecordError


def row(**more):
    """A good row with those fields changed or added; None takes one out."""
    good = {
        "question": "Who rows?",
        "source": "Strake rows.",
        "answers": {"x": "Strake", "y": "Tey"},
    }
    return {name: value for name, value in (good | more).items() if value is not None}


def save(folder, *rows):
    """A file of those rows; a row that is text is written as it is."""
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def faults(folder, *rows):
    with pytest.raises(RecordError) as raised:
        read_rows(save(folder, *rows))
    return str(raised.value).split("\n")


def test_rows_come_as_they_are(tmp_path):
    first, second = read_rows(
        save(tmp_path, row(), row(question="Who bails?", id="mine-1", section="Boats"))
    )
    assert (first.line, first.question, first.source) == (1, "Who rows?", "Strake rows.")
    assert first.answers == {"x": "Strake", "y": "Tey"}
    assert (first.id, first.section, first.split) == ("", "", "")
    assert (second.line, second.id, second.section) == (2, "mine-1", "Boats")


def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path):
    path = save(tmp_path, row(), row(question="Who bails?"))
    plain = read_rows(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path) == plain


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (row(question=None), "field 'question' is missing; a row must have it"),
        (row(source=None), "field 'source' is missing; a row must have it"),
        (row(answers=None), "field 'answers' is missing; a row must have it"),
        (row(question=7), "field 'question': value 7 is not text; mend that value"),
        (row(source=" "), "field 'source': value ' ' is blank; mend that value"),
        (row(source="\ud800"), "field 'source': value '\\ud800' holds half a character; mend"),
        (row(score=1), "field 'score': value 1 is not known; the fields are question, source,"),
        (row(answers=["a", "b"]), "field 'answers': value ['a', 'b'] is not an object of answers"),
        (row(answers={}), "field 'answers': value {} is not an object of answers by name; write"),
        (row(answers={"x": ""}), "field 'answers.x': value '' is blank; mend that answer or leave"),
        (row(answers={"x": None}), "field 'answers.x': value None is not text; mend that answer"),
        (row(answers={"a/b": "t"}), "field 'answers': value 'a/b' is no plain name of an answerer"),
        (row(answers={" a": "t"}), "field 'answers': value ' a' is no plain name of an answerer"),
        (row(answers={"": "t"}), "field 'answers': value '' is no plain name of an answerer; use"),
        (row(id="a b"), "field 'id': value 'a b' is no plain name; use letters"),
        (row(split="dev"), "field 'split': value 'dev' is not train or test; mend it or leave"),
        ("", "the line is blank; remove it"),
        ("[1]", "[1] is not a JSON object; write one a line"),
        ('{"question": "Who', "not a whole JSON object"),
        ('{"id": "a", "id": "b"}', "field 'id': value 'b' is there a second time; keep one"),
    ],
)
def test_a_fault_names_file_line_field_value_and_remedy(tmp_path, bad, fault):
    [message] = faults(tmp_path, row(question="Who bails?"), bad)
    assert message.startswith(f"{tmp_path.name}/rows.jsonl line 2: {fault}")


def test_all_faults_are_listed_by_line(tmp_path):
    found = faults(tmp_path, row(question=None, source=3), "{", row(answers={"x": 1, "y": " "}))
    lines = [
        message.split(": ")[0].removeprefix(f"{tmp_path.name}/rows.jsonl ") for message in found
    ]
    assert lines == ["line 1", "line 1", "line 2", "line 3", "line 3"]


def test_the_first_twenty_are_listed(tmp_path):
    found = faults(tmp_path, *[row(question=f"Who {n}?", source=n) for n in range(23)])
    assert len(found) == 21 and found[-1] == "and 3 more"
    assert found[19].split(": ")[0].endswith("line 20")


@pytest.mark.parametrize(
    ("rows", "line", "fault"),
    [
        (
            [row(id="a"), row(question="Who bails?", id="a")],
            2,
            "field 'id': value 'a' stands on line 1 already; rename one",
        ),
        (
            [row(), row(question="Who bails?", id="q000")],  # what the first row is numbered as
            2,
            "field 'id': value 'q000' stands on line 1 already; rename one",
        ),
        (
            [row(), row(source="Strake  rows.\n", answers={"z": "t"})],
            2,
            "field 'question': value 'Who rows?' is asked of the same source on line 1; put all",
        ),
        (
            [row(section="A"), row(question="Who bails?", section="B")],
            2,
            "field 'section': value 'B' is not that of the same source on line 1: A; give",
        ),
        (
            [row(split="train"), row(question="Who bails?", split="test")],
            2,
            "field 'split': value 'test' stands in train on line 1 with the same source; keep",
        ),
        (
            [
                row(split="train", section="A"),
                row(source="Other.", split="test", section="A"),
            ],
            2,
            "field 'split': value 'test' stands in train on line 1 with the same section; keep",
        ),
        (
            [row(split="train"), row(source="Other."), row(source="Third.", split="test")],
            2,
            "field 'split' is missing, and 2 other rows have it; give it to all or to none",
        ),
        (
            [row(split="test"), row(source="Other.", split="test")],
            1,
            "field 'split': value 'test' is that of all rows; put some sources on the other side",
        ),
    ],
)
def test_faults_between_rows_are_found(tmp_path, rows, line, fault):
    [message] = faults(tmp_path, *rows)
    assert message.startswith(f"{tmp_path.name}/rows.jsonl line {line}: {fault}")


def test_the_same_question_on_another_source_is_none(tmp_path):
    assert len(read_rows(save(tmp_path, row(), row(source="Tey rows.")))) == 2


def test_a_missing_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(RecordError, match="rows.jsonl: there is no such file; mend the path"):
        read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(RecordError, match="rows.jsonl: holds no row; write one JSON object a line"):
        read_rows(save(tmp_path))

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.jsonl import RecordError, Row, line_of, read_jsonl, row_of, write_jsonl


@dataclass(frozen=True)
class Shelf(Row):
    """A row with a field of every kind that rows have."""

    name: str
    side: Literal["left", "right", "top"]
    full: bool
    height: float | None
    shares: tuple[float, float, float] | None = None
    note: str | None = None
    key = ("name",)
    optional: ClassVar[tuple[str, ...]] = ("note",)


GOOD = {"name": "s1", "side": "left", "full": True, "height": 2, "shares": None}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "data" / "shelves.jsonl"
    path.parent.mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def test_reads_a_good_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, GOOD | {"name": "s2", "shares": [0, 0.5, 0.5], "note": "new"})
    assert read_jsonl(path, Shelf) == [
        Shelf("s1", "left", True, 2.0),
        Shelf("s2", "left", True, 2.0, (0.0, 0.5, 0.5), "new"),
    ]
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # the last line may lack its newline
    assert len(read_jsonl(path, Shelf)) == 2
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_jsonl(path, Shelf)) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "the line is blank"),
        ('{"name": "s1", "side": "le', "not a whole JSON object"),
        ("[1, 2]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("[" * 100_000, "not a whole JSON object"),
        ('{"name": "s1", "name": "s2"}', "field 'name': value 's2' is there a second time"),
        (
            GOOD | {"hight": 3},
            "field 'hight': value 3 is not a field of Shelf; the fields are name",
        ),
        ({k: v for k, v in GOOD.items() if k != "full"}, "field 'full' is missing"),
        ({k: v for k, v in GOOD.items() if k != "shares"}, "field 'shares' is missing"),
        (GOOD | {"side": "up"}, "field 'side': value 'up' is not left, right or top"),
        (GOOD | {"side": ["left"]}, "is not left, right or top"),
        (GOOD | {"name": 3}, "field 'name': value 3 is not text"),
        (GOOD | {"name": None}, "field 'name': value None is not text"),
        (GOOD | {"full": 1}, "field 'full': value 1 is not true or false"),
        (GOOD | {"height": "2"}, "field 'height': value '2' is not a finite number or null"),
        (GOOD | {"height": True}, "is not a finite number or null"),
        (GOOD | {"height": float("nan")}, "is not a finite number or null"),
        (GOOD | {"height": float("-inf")}, "is not a finite number or null"),
        (GOOD | {"height": 10**400}, "is not a finite number or null"),
        (GOOD | {"shares": [0.5, 0.5]}, "is not a list of 3 numbers or null"),
        (GOOD | {"shares": [0.5, 0.5, "0"]}, "is not a finite number or null"),
        (GOOD | {"note": 1}, "field 'note': value 1 is not text or null"),
        (GOOD | {"name": "first"}, "field 'name': value 'first' stands on line 1 already"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object, message: str) -> None:
    path = write(tmp_path, GOOD | {"name": "first"}, bad, GOOD | {"name": "last"})
    with pytest.raises(RecordError) as error:
        read_jsonl(path, Shelf)
    assert str(error.value).startswith("data/shelves.jsonl line 2: ")
    assert message in str(error.value)
    assert len(str(error.value)) < 500


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(path.read_bytes().replace(b"s1", b"s\xff"))
    with pytest.raises(RecordError, match=r"line 1: not a whole JSON object \('utf-8'"):
        read_jsonl(path, Shelf)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"shelves\.jsonl: there is no such file"):
        read_jsonl(tmp_path / "shelves.jsonl", Shelf)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "shelves.jsonl"
    write_jsonl(path, [Shelf("s1", "left", True, 1.0)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(path, [Shelf("s2", "left", True, 1.0), Shelf("s3", "left", True, float("nan"))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "shelves.jsonl"
    write_jsonl(path, [Shelf("s1", "left", True, 1.0)])
    with path.open() as old:
        write_jsonl(path, [Shelf("s2", "left", True, 1.0)])
        assert '"s1"' in old.read()
    assert [shelf.name for shelf in read_jsonl(path, Shelf)] == ["s2"]


def test_fields_are_written_in_order_and_only_optional_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "shelves.jsonl"
    write_jsonl(path, [Shelf("sé", "top", False, None)])
    line = '{"name": "sé", "side": "top", "full": false, "height": null, "shares": null}\n'
    assert path.read_text(encoding="utf-8") == line


shelves = st.builds(
    Shelf,
    name=st.text() | st.sampled_from(["\ud800", "\u2028\x85\r", "\x00"]),
    side=st.sampled_from(["left", "right", "top"]),
    full=st.booleans(),
    height=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    shares=st.none() | st.tuples(*[st.floats(0, 1)] * 3),
    note=st.none() | st.text(),
)


@settings(deadline=None)  # it waits for the disk
@given(st.lists(shelves, unique_by=lambda shelf: shelf.name))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Shelf]
) -> None:
    path = tmp_path_factory.getbasetemp() / "again.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path, Shelf) == rows


def test_one_row_is_one_line() -> None:
    line = b'{"name": "s\\u2028", "side": "top", "full": false, "height": null, "shares": null}'
    row = Shelf("s\u2028", "top", False, None)
    assert row_of(line, Shelf) == row_of(line_of(row), Shelf) == row
    assert line_of(row).count(b"\n") == 1 and line_of(row).endswith(b"}\n")
    with pytest.raises(RecordError, match="^field 'side': value 'up' is not left, right or top"):
        row_of(line.replace(b"top", b"up"), Shelf)


@dataclass(frozen=True)
class Step(Row):
    """A row of a file in which rows may repeat."""

    what: str
    key = ()


def test_rows_without_a_key_may_repeat(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write_jsonl(path, [Step("up"), Step("up")])
    assert read_jsonl(path, Step) == [Step("up"), Step("up")]

"""Strict JSONL: typed rows to a file and back. Never repairs, guesses or skips a bad row."""

import json
import reprlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nbutils.files import aside


class RecordError(ValueError):
    """A row that breaks the rules; the message names file, line, field, value and remedy."""


@dataclass(frozen=True)
class Row:
    """What every row class says of itself."""

    key: ClassVar[tuple[str, ...]]  # the fields that no two rows of a file share; (): rows may
    optional: ClassVar[tuple[str, ...]] = ()  # fields left out of the file where they are None


RowT = TypeVar("RowT", bound=Row)


def read_jsonl(path: str | Path, cls: type[RowT]) -> list[RowT]:
    """All rows of a file, one JSON object a line.

    Raises RecordError on a missing file, a blank or truncated line, a field that is unknown,
    missing, twice there or of the wrong type or value, and a second row of the same key.
    """
    path = Path(path)
    name = short(path)
    if not path.is_file():
        raise RecordError(f"{name}: there is no such file; write it or restore it first")
    lines = path.read_bytes().split(b"\n")
    rows: list[RowT] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        try:
            row = row_of(line, cls)
            key = tuple(getattr(row, field) for field in cls.key)
            if key and key in seen:
                why = f"stands on line {seen[key]} already"
                raise fault(" + ".join(cls.key), " + ".join(key), why, "keep one of the two")
        except RecordError as error:
            raise RecordError(f"{name} line {number}: {error}") from None
        seen[key] = number
        rows.append(row)
    return rows


def write_jsonl(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes rows in their fields' order. The old file stays until the new one is whole."""
    path = Path(path)
    with aside(path) as part, part.open("wb") as file:
        for row in rows:
            file.write(line_of(row))


def line_of(row: Row) -> bytes:
    """A row as its line, with the line's end.

    A lone surrogate, which UTF-8 cannot hold, is written as its JSON escape. Raises ValueError on a
    number that is not finite.
    """
    values = asdict(row)
    kept = {k: v for k, v in values.items() if v is not None or k not in row.optional}
    line = json.dumps(kept, ensure_ascii=False, allow_nan=False) + "\n"
    return line.encode("utf-8", "backslashreplace")


def row_of(line: bytes, cls: type[RowT]) -> RowT:
    """One line, with or without its end, as a row.

    Raises RecordError with field, value and remedy, which does not know file and line.
    """
    values = read_object(line)
    known = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    for name, value in values.items():
        if name not in names:
            why = f"is not a field of {cls.__name__}"
            raise fault(name, value, why, f"the fields are {', '.join(names)}")
        try:
            values[name] = _convert(value, known[name])
        except TypeError as error:
            raise fault(name, value, f"is not {error}", "mend that value") from None
    for name in names:
        if name not in values and name not in cls.optional:
            raise RecordError(f"field '{name}' is missing; a {cls.__name__} row must have it")
    return cls(**values)


def read_object(line: bytes) -> dict[str, Any]:
    """The JSON object of one line. Raises RecordError, which does not know file and line."""
    if not line.strip():
        raise RecordError("the line is blank; remove it")
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_no_field_twice)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        why = f"not a whole JSON object ({error})"
        raise RecordError(f"{why}, perhaps cut off: {_shown(line)}; write the file again") from None
    if not isinstance(values, dict):
        raise RecordError(f"{_shown(values)} is not a JSON object; write one a line")
    return values


def fault(field: str, value: object, why: str, remedy: str) -> RecordError:
    """The error for one value; who knows the file and the line puts them in front."""
    return RecordError(f"field '{field}': value {_shown(value)} {why}; {remedy}")


def short(path: Path) -> str:
    """File and folder, without the way to them, so that messages are the same on every machine."""
    return str(Path(path.parent.name, path.name))


def _shown(value: object) -> str:
    """The value, short enough for a message."""
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = 80
    return shorten.repr(value)


def _no_field_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in items:
        if name in values:
            raise fault(name, value, "is there a second time", "keep one of the two")
        values[name] = value
    return values


def _convert(value: Any, hint: Any) -> Any:
    """A JSON value as its field holds it. Raises TypeError that says what the field takes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # only ever X | None here
        if value is None:
            return None
        try:
            return _convert(value, args[0])
        except TypeError as error:
            raise TypeError(f"{str(error).replace(' or ', ', ')} or null") from None
    if origin is Literal:
        if value in args:
            return value
        raise TypeError(f"{', '.join(args[:-1])} or {args[-1]}")
    if origin is tuple:
        if isinstance(value, list) and len(value) == len(args):
            return tuple(_convert(item, float) for item in value)
        raise TypeError(f"a list of {len(args)} numbers")
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if hint is not float and type(value) is hint:
        return value
    raise TypeError({str: "text", bool: "true or false", float: "a finite number"}[hint])

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.jsonl import RecordError, line_of
from nbutils.review import label_file
from nbutils.review.label_file import LabelFile
from nbutils.review.labels import HumanLabel
from tests.disks import files_up_to, nobody

ROOT = Path(__file__).parent.parent


def row(number: int, note: str | None = None) -> HumanLabel:
    label = "a" if note is None else "note"
    pair = (f"p{number}", "0123456789abcdef", label)
    return HumanLabel(*pair, 1.0, "anna", True, True, "2026-01-31T08:15:00Z", note)


def open_file(folder: Path) -> LabelFile[HumanLabel]:
    return LabelFile(folder / "labels" / "human_labels.jsonl", HumanLabel)


def test_rows_come_back_in_their_order(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    assert file.read() == []
    for number in range(3):
        file.append(row(number))
    assert file.read() == open_file(tmp_path).read() == [row(0), row(1), row(2)]
    assert file.path.read_bytes() == b"".join(line_of(row(n)) for n in range(3))
    assert file.cut == b""


@given(st.lists(st.text() | st.sampled_from(["\ud800", "\u2028\u2029\x85\r\n", "\x00", "ä日🦅"])))
def test_any_note_comes_back(tmp_path_factory: pytest.TempPathFactory, notes: list[str]) -> None:
    file = open_file(tmp_path_factory.mktemp("notes"))
    rows = [row(number, note) for number, note in enumerate(notes)]
    for one in rows:
        file.append(one)
    assert file.read() == open_file(file.path.parent.parent).read() == rows


def test_a_write_cut_off_anywhere_costs_that_row_alone(tmp_path: Path) -> None:
    first, last, new = row(1), row(2, "Überprüft 日"), row(3)
    before, line = line_of(first), line_of(last)
    for length in range(len(line) + 1):
        file = open_file(tmp_path / str(length))
        file.path.parent.mkdir(parents=True)
        file.path.write_bytes(before + line[:length])
        whole = length >= len(line) - 1  # at most the line's end is missing
        kept = [first, last] if whole else [first]
        cut = b"" if whole else line[:length]
        assert file.read() == kept
        assert file.cut == cut
        file.append(new)
        assert file.read() == open_file(tmp_path / str(length)).read() == [*kept, new]
        assert file.path.read_bytes() == b"".join(map(line_of, [*kept, new]))
        assert file.cut == b""
        aside = file.path.with_name("human_labels.jsonl.cut")
        assert (aside.read_bytes() if aside.exists() else b"") == (cut and cut + b"\n")


def test_what_was_cut_off_before_is_kept_too(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    for part in (b'{"pair_', b"\x00\x00"):  # a power cut may leave zeros
        file.append(row(0))
        with file.path.open("ab") as raw:
            raw.write(part)
        file.append(row(1))
    assert file.read() == [row(0), row(1)] * 2
    assert file.path.with_name("human_labels.jsonl.cut").read_bytes() == b'{"pair_\n\x00\x00\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "the line is blank; remove it"),
        (b'{"pair_id": "p', "not a whole JSON object"),
        (line_of(row(1)).replace(b'"a"', b'"A"').strip(), "field 'label': value 'A' is not a, b"),
        (line_of(row(1)).replace(b"1.0", b'"1"').strip(), "field 'seconds': value '1' is not a fi"),
        (line_of(row(1)).replace(b"Z", b"").strip(), "is not a time in UTC; write it such as 2026"),
        (line_of(row(1)).replace(b'"blind": true, ', b"").strip(), "field 'blind' is missing"),
    ],
)
def test_a_broken_line_is_named_and_stays(tmp_path: Path, line: bytes, message: str) -> None:
    file = open_file(tmp_path)
    file.append(row(0))
    assert file.read() == [row(0)]
    data = line_of(row(0)) + line + b"\n" + line_of(row(2))
    file.path.write_bytes(data)
    for reader in (file, open_file(tmp_path), file):  # a second reading finds it again
        with pytest.raises(RecordError) as error:
            reader.read()
        assert str(error.value).startswith("labels/human_labels.jsonl line 2: ")
        assert message in str(error.value)
    assert file.path.read_bytes() == data


def test_a_whole_last_line_that_is_wrong_is_no_cut(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.append(row(0))
    with file.path.open("ab") as raw:
        raw.write(line_of(row(1)).strip().replace(b'"a"', b'"A"'))
    with pytest.raises(RecordError, match="line 2: field 'label': value 'A'"):
        file.read()


def test_only_what_is_new_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = open_file(tmp_path), open_file(tmp_path)
    for number in range(50):
        file.append(row(number))
    file.read(), other.read()
    parsed: list[bytes] = []
    parse = label_file.row_of
    monkeypatch.setattr(label_file, "row_of", lambda *a: parsed.append(a[0]) or parse(*a))
    file.append(row(50))
    assert parsed == [line_of(row(50))]  # to see that it can be read again
    assert len(file.read()) == len(other.read()) == 51
    assert len(parsed) == 3


@pytest.mark.parametrize("numbers", [[], [7], [0, 9, 2], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
def test_another_file_under_the_name_is_read_anew(tmp_path: Path, numbers: list[int]) -> None:
    file = open_file(tmp_path)
    for number in range(3):
        file.append(row(number))
    assert len(file.read()) == 3
    file.path.write_bytes(b"".join(line_of(row(n)) for n in numbers))  # in place: the same inode
    assert file.read() == [row(n) for n in numbers]
    file.path.unlink()
    assert file.read() == []


def test_a_row_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.append(row(0))
    bad = HumanLabel("p1", "0123456789abcdef", "a", 1.0, None, True, True, "2026-01-31T08:15:00Z")
    with pytest.raises(RecordError, match="field 'reviewer': value None is not text"):
        file.append(bad)
    assert file.read() == [row(0)]


WRITER = """
import sys
from nbutils.review.label_file import LabelFile
from tests.test_label_file import open_file, row
from pathlib import Path
first, note = int(sys.argv[2]), "n" * 5000
file = open_file(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 60):
    file.append(row(number, note))
    assert row(number, note) in file.read()
"""


def test_two_processes_lose_and_mix_no_row(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    writers = [subprocess.Popen([*command, first], **pipes) for first in ("0", "1000")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    numbers = [int(one.pair_id[1:]) for one in open_file(tmp_path).read()]
    assert [n for n in numbers if n < 1000] == [*range(60)]
    assert [n for n in numbers if n >= 1000] == [*range(1000, 1060)]


HOLDER = """
import sys, time
from pathlib import Path
from tests.test_label_file import open_file
with open_file(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_who_comes_second_waits_and_says_so_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_file, "WAIT_S", 0.2)
    file = open_file(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OSError, match=r"human_labels\.jsonl\.lock' could not be acquired"):
            file.append(row(0))
        assert file.read() == []
        holder.communicate("done\n", timeout=60)
    file.append(row(0))
    assert file.read() == [row(0)]


def test_a_disk_that_is_full_in_the_middle_of_a_row_leaves_none_of_it(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.append(row(0))
    size = len(line_of(row(0)))
    with files_up_to(size + 20), pytest.raises(OSError, match="File too large"):
        file.append(row(1))
    assert file.path.read_bytes() == line_of(row(0))
    file.append(row(2))
    assert file.read() == [row(0), row(2)]


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_what_may_not_be_written_is_named(locked: str) -> None:
    with TemporaryDirectory() as folder:  # pytest's own are closed to nobody
        Path(folder).chmod(0o755)
        file = open_file(Path(folder))
        file.append(row(0))
        lock = Path(f"{file.path}.lock")
        if locked == "file":
            lock.chmod(0o666)
            file.path.chmod(0o444)
        else:
            lock.unlink()
            file.path.parent.chmod(0o555)
        with nobody(), pytest.raises(PermissionError, match=re.escape(str(file.path))):
            file.append(row(1))
        file.path.parent.chmod(0o755)
        assert file.read() == [row(0)]

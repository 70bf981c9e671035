"""The sums of benchmarks/call_path.py, and each way once on a few calls."""

import csv

import pytest

from benchmarks import call_path
from benchmarks.call_path import CASES, POISON, Measured, ideal_seconds, line, table, targets
from benchmarks.call_path_ways import LLAMA, OURS, PLAIN, SEQUENTIAL, WAYS, load_rows, poisoned

pytestmark = pytest.mark.slow

# 2,000 calls, 32 at a time, 0.2 s each: 62.5 rounds of 0.2 s are 12.5 s.
GOOD = Measured("clean", 2000, OURS, 2000, 13.75, 12.5, 4.0, 0, 2000)
CLIENT = Measured("clean", 2000, PLAIN, 2000, 13.0, 12.5, 5.0, 0, 2000)
FAULTY = Measured("20 % 429", 2000, OURS, 2000, 15.0, 12.5, 5.0, 0, 2500)


@pytest.fixture(scope="module")
def rows():
    return load_rows()


def test_the_table_by_hand():
    assert ideal_seconds(2000, 0.2) == 12.5
    assert line(GOOD) == "| clean | 2,000 | nbutils | 1.10 | 0 | 2,000 | 4.00 |"  # 13.75 / 12.5
    # 40 calls in 9 s are 2,000 in 450 s, 36 times the ideal; 0.1 s of CPU are 5 s.
    one = Measured("clean", 2000, SEQUENTIAL, 40, 9.0, 12.5, 0.1, 1, 40)
    assert line(one) == r"| clean | 2,000 | one call at a time\* | 36.00 | 1 of 40 | 40 | 5.00 |"
    assert table([GOOD, one]).endswith("measured on 40 calls; time and CPU are scaled.")
    assert "scaled" not in table([GOOD])


def test_the_aims_by_hand():
    said = targets([GOOD, CLIENT, FAULTY])  # wall 1.10, CPU 4 / 5 = 0.80, nothing lost
    assert said.count(": reached") == 3 and "0.80 times the plain" in said
    slow = Measured("clean", 2000, OURS, 2000, 14.5, 12.5, 5.6, 0, 2000)  # 1.16 and 1.12
    assert targets([slow, CLIENT, FAULTY]).count(": missed") == 2
    lossy = Measured("20 % 429", 2000, OURS, 2000, 15.0, 12.5, 5.0, 1, 2500)
    assert "lost where trying again helps, 1: none: missed" in targets([GOOD, CLIENT, lossy])
    # A row that is bad for good is lost to every way, and counts against none.
    bad = Measured("one bad row", 2000, OURS, 2000, 13.0, 12.5, 5.0, 2, 2000)
    assert targets([GOOD, CLIENT, bad]).count(": reached") == 3


def test_every_call_is_a_request_of_its_own(rows):
    asked = [str(messages) for row in rows for messages in row.messages]
    assert len(asked) == len(set(asked)) >= 2000 + 2 * call_path.WARM_UP
    assert all(POISON in str(messages) for messages in poisoned(rows[0], POISON).messages)
    assert not any(POISON in prompt for prompt in asked)


@pytest.mark.parametrize("way", [OURS, PLAIN, LLAMA, SEQUENTIAL])
def test_each_way_asks_what_it_should(server, rows, way):
    done = call_path.measure("clean", 16, way, 0.0, server, rows[:2], rows[2:10])
    assert (done.asked, done.lost, done.counted) == (16, 0, 16)
    assert done.seconds > 0 and done.cpu_seconds > 0 and set(WAYS) >= {way}


@pytest.mark.parametrize("way", [OURS, PLAIN])
def test_a_bad_row_costs_its_own_two_calls(server, rows, way):
    chosen = [*rows[2:8], poisoned(rows[8], POISON)]
    done = call_path.measure("one bad row", 14, way, 0.0, server, rows[:2], chosen)
    assert (done.lost, done.counted) == (2, 14)


def test_sequential_calls_are_measured_once_and_scaled(monkeypatch, rows):
    measured = []

    def measure(case, calls, way, latency, server, warm_up, part):
        measured.append((way, calls, len(part)))
        return Measured(case, calls, way, 2 * len(part), 8.0, calls / 160, 0.1, 0, 2 * len(part))

    monkeypatch.setattr(call_path, "measure", measure)
    done = call_path.measure_case("one bad row", [400, 2000], 0.2, None, rows)
    assert len(done) == 2 * len(WAYS)
    assert [part for way, _, part in measured if way == SEQUENTIAL] == [20]  # 40 calls
    first, second = (row for row in done if row.way == SEQUENTIAL)
    # 8 s for 40 calls are 80 s for 400, 32 times 2.5 s; and 400 s for 2,000, 32 times 12.5 s.
    assert first.ratio == pytest.approx(32) and second.ratio == pytest.approx(32)
    assert (second.calls, second.ideal_seconds) == (2000, 12.5)


def test_the_file_holds_every_row_and_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(call_path, "TABLE", tmp_path / "call_path.csv")
    call_path.write_table([GOOD, CLIENT], {"cores": "2"})
    with (tmp_path / "call_path.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["way"], first["seconds"], first["cores"]) == (OURS, "13.75", "2")
    assert second["way"] == PLAIN


def test_the_committed_table_has_every_case_and_way():
    with call_path.TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["case"], int(row["calls"]), row["way"]) for row in rows}
    assert found == {(c, n, way) for c in CASES for n in (400, 2000) for way in WAYS}
    assert all(
        row["lost"] == "0" for row in rows if row["way"] == OURS and "bad" not in row["case"]
    )


def test_an_odd_number_of_calls_is_refused(capsys):
    with pytest.raises(SystemExit):
        call_path.main(["--calls", "401"])
    assert "--calls takes even numbers from 2 to" in capsys.readouterr().err

"""What four ways of asking a judge cost, side by side. Never asks a real service.

`python -m benchmarks.call_path` judges pairs of data/kestrel in both orders, each order one call,
against tests/server.py on this machine, which takes 200 ms a reply: by the call path of nbutils, by
llama_index's PairwiseComparisonEvaluator under its BatchEvalRunner, by a plain AsyncOpenAI behind a
semaphore, and one call at a time; 32 calls at a time but for the last. Every client is warm. It
prints a Markdown table and writes benchmarks/call_path.csv. Five minutes, mostly waiting, on a
machine that has nothing else to do: on a busy one the wall time says little.
"""

import argparse
import csv
import gc
import io
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.call_path_ways import (
    OURS,
    PLAIN,
    SEQUENTIAL,
    WAYS,
    WORKERS,
    Row,
    load_rows,
    poisoned,
)
from nbutils.files import aside
from tests.server import CHAT, Fault, Server

TABLE = Path(__file__).with_name("call_path.csv")
WARM_UP = 32  # pairs, asked before the clock runs
POISON = "[[[ too long ]]]"
SEQUENTIAL_CALLS = 40  # measured; time and CPU are scaled to the whole
CASES: dict[str, list[Fault]] = {
    "clean": [],
    "20 % 429": [Fault("429", share=0.2, retry_after=0.1)],
    "5 % resets": [Fault("reset", share=0.05)],
    "one bad row": [Fault("context_length", marker=POISON)],
}
MOST_WALL, MOST_CPU = 1.15, 1.1  # the aims: times the ideal, times the plain client


@dataclass(frozen=True)
class Measured:
    """What one way took in one case."""

    case: str
    calls: int
    way: str
    asked: int  # calls measured: all, but for the sequential way
    seconds: float  # of those
    ideal_seconds: float  # calls / workers * latency; sequential ways are held to it too
    cpu_seconds: float  # of this process, all threads
    lost: int  # calls whose reply the caller does not get
    counted: int  # requests that the server counted

    @property
    def ratio(self) -> float:
        """Wall time over the ideal, scaled to all calls."""
        return self.seconds * self.calls / self.asked / self.ideal_seconds

    @property
    def cpu(self) -> float:
        """CPU seconds, scaled to all calls."""
        return self.cpu_seconds * self.calls / self.asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, and writes it unless --quick is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_path")
    parser.add_argument("--calls", type=int, nargs="+", default=[400, 2000], help="even numbers")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that a reply takes")
    parser.add_argument("--quick", action="store_true", help="64 calls of 50 ms, and no file")
    options = parser.parse_args(arguments)
    counts, latency = ([64], 0.05) if options.quick else (options.calls, options.latency)
    rows = load_rows()
    most = 2 * (len(rows) - WARM_UP)
    if any(count % 2 or not 0 < count <= most for count in counts):
        parser.error(f"--calls takes even numbers from 2 to {most}")
    facts = machine(latency)
    measured = []
    with Server() as server:
        for case in CASES:
            for row in measure_case(case, counts, latency, server, rows):
                print(line(row), file=sys.stderr, flush=True)
                measured.append(row)
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    print(table(measured))
    print(targets(measured))
    if not options.quick:
        write_table(measured, facts)
    return 0


def measure_case(
    case: str, counts: Sequence[int], latency: float, server: Server, rows: Sequence[Row]
) -> list[Measured]:
    """Every way at every number of calls; the sequential one is measured once and scaled."""
    done = []
    for calls in counts:
        chosen = list(rows[WARM_UP : WARM_UP + calls // 2])
        if case == "one bad row":
            chosen[len(chosen) // 2] = poisoned(chosen[len(chosen) // 2], POISON)
        for way in WAYS:
            known = [m for m in done if m.way == way == SEQUENTIAL]
            if known:
                ideal = ideal_seconds(calls, latency)
                done.append(Measured(**asdict(known[0]) | {"calls": calls, "ideal_seconds": ideal}))
                continue
            part = sequential_part(chosen) if way == SEQUENTIAL else chosen
            done.append(measure(case, calls, way, latency, server, rows[:WARM_UP], part))
    return done


def measure(
    case: str,
    calls: int,
    way: str,
    latency: float,
    server: Server,
    warm_up: Sequence[Row],
    rows: Sequence[Row],
) -> Measured:
    """One way in one case, its client made and warmed before the clock runs."""
    server.reset()
    server.script("verdict:[[A]]")
    for row in (*warm_up, *rows):
        _ = row.messages  # written before the clock runs
    asker = WAYS[way](server.url)
    with redirect_stdout(io.StringIO()):  # the call path's progress
        asker.ask(warm_up if way != SEQUENTIAL else warm_up[:1])
        server.set(latency=latency)
        server.faults(*CASES[case])
        before = server.calls[CHAT]
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        got = asker.ask(rows)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    counted, asked = server.calls[CHAT] - before, 2 * len(rows)
    asker.close()
    ideal = ideal_seconds(calls, latency)
    return Measured(case, calls, way, asked, wall, ideal, cpu, asked - got, counted)


def ideal_seconds(calls: int, latency: float) -> float:
    """All workers busy to the end: calls / workers * latency."""
    return calls / WORKERS * latency


def sequential_part(rows: Sequence[Row]) -> list[Row]:
    """The rows that the sequential way is measured on, the bad one among them."""
    middle, half = len(rows) // 2, SEQUENTIAL_CALLS // 4
    return list(rows[max(0, middle - half) : middle + half])


def table(measured: Sequence[Measured]) -> str:
    """One line a way, case and number of calls."""
    head = "| case | calls | way | wall over ideal | lost | requests counted | CPU seconds |"
    lines = [head, "| --- | ---: | --- | ---: | ---: | ---: | ---: |", *map(line, measured)]
    if any(row.asked != row.calls for row in measured):
        lines.append(f"\n\\* measured on {SEQUENTIAL_CALLS} calls; time and CPU are scaled.")
    return "\n".join(lines)


def line(row: Measured) -> str:
    of = "" if row.asked == row.calls else f" of {row.asked}"
    cells = [row.case, f"{row.calls:,}", row.way + ("\\*" if of else ""), f"{row.ratio:.2f}"]
    cells += [f"{row.lost:,}{of}", f"{row.counted:,}", f"{row.cpu:.2f}"]
    return f"| {' | '.join(cells)} |"


def targets(measured: Sequence[Measured]) -> str:
    """Each aim and whether it was reached, at the largest number of calls."""
    largest = max(row.calls for row in measured)
    clean = {row.way: row for row in measured if (row.case, row.calls) == ("clean", largest)}
    wall, cpu = clean[OURS].ratio, clean[OURS].cpu / clean[PLAIN].cpu
    # A bad row stays bad: both its orders are failures on record.
    lost = sum(row.lost for row in measured if row.way == OURS and row.case != "one bad row")
    aims = [
        (f"wall over ideal, {largest:,} calls, clean: at most {MOST_WALL}", wall <= MOST_WALL),
        (f"CPU, {cpu:.2f} times the plain client's: at most {MOST_CPU}", cpu <= MOST_CPU),
        (f"lost where trying again helps, {lost}: none", lost == 0),
    ]
    return "\n".join(f"- {aim}: {'reached' if met else 'missed'}" for aim, met in aims)


def machine(latency: float) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "latency": f"{latency:g} s",
        "workers": str(WORKERS),
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}",  # what else the machine was doing
        "processor": f"{platform.machine()} {_processor()}".strip(),
        "python": platform.python_version(),
        "openai": version("openai"),
        "llama-index-core": version("llama-index-core"),
    }


def _processor() -> str:
    """Its name, where Linux tells it."""
    with suppress(OSError):
        for entry in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return ""


def write_table(measured: Sequence[Measured], facts: dict[str, str]) -> None:
    """Writes all rows aside, then renames."""
    rounded = ("seconds", "cpu_seconds", "ideal_seconds")
    rows = [
        asdict(row) | {name: round(getattr(row, name), 3) for name in rounded} | facts
        for row in measured
    ]
    with aside(TABLE) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())

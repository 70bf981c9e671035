"""Puts results into the README: `python -m tools.readme_result`. Never makes up a figure.

Reads scorecard.json and grading.json of runs/recorded and benchmarks/call_path.csv; writes
docs/agreement.png and the three tables, each between its marks.
"""

import csv
import json
import sys

from nbutils.evaluation.agreement import NAMED, Card, table
from nbutils.figures import plots
from nbutils.files import aside
from nbutils.profiles import ROOT
from nbutils.runs import RunError, RunFolder

RESULT = "<!-- result: python -m tools.readme_result -->", "<!-- end of result -->"
GRADES = "<!-- grading: python -m tools.readme_result -->", "<!-- end of grading -->"
CALLS = "<!-- call path: python -m benchmarks.call_path -->", "<!-- end of call path -->"


def result_table(card: Card) -> str:
    """The judges' figures as a Markdown table: all pairs, then preference on the two subsets."""
    head = ["judge", "agreement", "preference", *(f"preference, {name}" for name in NAMED.values())]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for judge, figures in card["judges"].items():
        whole = figures["all"]
        cells = [judge]
        for key in ("agreement", "preference"):
            low, high = whole[f"{key}_low"], whole[f"{key}_high"]
            cells.append(f"{whole[key]:.3f} ({low:.3f} to {high:.3f})")
        cells += [f"{figures[name]['preference']:.3f}" for name in NAMED.values()]
        lines.append(f"| {' | '.join(cells)} |")
    ceiling = table(card).iloc[-1]
    lines.append(f"| {ceiling.name} | {ceiling['agreement']:.3f} | | | |")
    return "\n".join(lines)


def grades_table(card: Card) -> str:
    """The judges of single answers as a Markdown table; intervals draw whole questions."""
    keys = {"agreement": "agreement", "balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
    head = ["judge", *keys.values(), "F1", "accepted"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for judge, figures in card["judges"].items():
        row, cells = figures["all"], [judge]
        for key in keys:
            low, high = row[f"{key}_low"], row[f"{key}_high"]
            cells.append("" if low is None else f"{row[key]:.3f} ({low:.3f} to {high:.3f})")
        cells += [f"{row['f1']:.3f}", f"{row['said acceptable']} of {row['answers']}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def calls_table(rows: list[dict[str, str]]) -> str:
    """The benchmark's largest case of each kind, a column a way, as a Markdown table."""
    largest = max(int(row["calls"]) for row in rows)
    rows = [row for row in rows if int(row["calls"]) == largest]
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines = [f"| {largest:,} calls | {' | '.join(ways)} |", f"|{' --- |' * (1 + len(ways))}"]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = [_calls_cell(row, largest) for row in rows if row["case"] == case]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _calls_cell(row: dict[str, str], calls: int) -> str:
    """`1.09 x ideal, 3.4 s CPU, none lost`; what was measured on a part is scaled."""
    scale = calls / int(row["asked"])
    ratio = float(row["seconds"]) * scale / float(row["ideal_seconds"])
    lost = f"{int(row['lost']):,} lost" if scale == 1 else f"scaled from {row['asked']}"
    return f"{ratio:.2f} x ideal, {float(row['cpu_seconds']) * scale:.1f} s CPU, {lost}"


def between(text: str, marks: tuple[str, str], table: str) -> str:
    """The text with the table between the marks. Raises ValueError where one is missing."""
    before, start, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not start or not end:
        raise ValueError(f"README.md: {marks[0]} or {marks[1]} is missing; put both back")
    return f"{before}{start}\n{table}\n{end}{after}"


def main() -> int:
    """Writes the figure and the tables. Returns 1 where there is no run or a mark is missing."""
    readme = ROOT / "README.md"
    with (ROOT / "benchmarks" / "call_path.csv").open(newline="", encoding="utf-8") as file:
        calls = calls_table(list(csv.DictReader(file)))
    try:
        run = RunFolder("recorded")
        card = json.loads(run.need("scorecard.json").read_text(encoding="utf-8"))
        grades = json.loads(run.need("grading.json").read_text(encoding="utf-8"))
        text = between(readme.read_text(encoding="utf-8"), RESULT, result_table(card))
        text = between(text, GRADES, grades_table(grades))
        text = between(text, CALLS, calls)
    except (RunError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    figure = ROOT / "docs" / "agreement.png"
    figure.parent.mkdir(exist_ok=True)
    plots.agreement(card).savefig(figure, dpi=110)
    with aside(readme) as part:
        part.write_text(text, encoding="utf-8")
    print(f"README.md and {figure.relative_to(ROOT)} show runs/recorded and benchmarks/")
    return 0


if __name__ == "__main__":
    sys.exit(main())

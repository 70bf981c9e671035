"""Puts a run's result into the README: `python -m tools.readme_result`. Never makes up a figure.

Reads runs/recorded/scorecard.json; writes docs/agreement.png and the table between the two marks.
"""

import json
import sys

from nbutils import plots
from nbutils.agreement import NAMED, Card, table
from nbutils.files import aside
from nbutils.profiles import ROOT
from nbutils.runs import RunError, RunFolder

START, END = "<!-- result: python -m tools.readme_result -->", "<!-- end of result -->"


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


def main() -> int:
    """Writes the figure and the table. Returns 1 where there is no run or the marks are missing."""
    try:
        card = json.loads(RunFolder("recorded").need("scorecard.json").read_text(encoding="utf-8"))
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    readme = ROOT / "README.md"
    before, start, rest = readme.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"README.md: {START} or {END} is missing; put both back", file=sys.stderr)
        return 1
    figure = ROOT / "docs" / "agreement.png"
    figure.parent.mkdir(exist_ok=True)
    plots.agreement(card).savefig(figure, dpi=110)
    with aside(readme) as part:
        part.write_text(f"{before}{start}\n{result_table(card)}\n{end}{after}", encoding="utf-8")
    print(f"README.md and {figure.relative_to(ROOT)} show the result of runs/recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The series under papermill: `python -m nbutils.run`. Never runs a notebook that is up to date."""

import argparse
import ast
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from nbutils.callpath.store import STORE, Store
from nbutils.profiles import ROOT, Profile, load_profile
from nbutils.roles import ProfileError, read_key
from nbutils.runner.execute import execute, renew_prose
from nbutils.runner.manifest import Entry, Manifest, hashes, inputs_of, shared_inputs
from nbutils.runner.report import write_report
from nbutils.runner.series import (
    Notebook,
    SeriesError,
    check_inputs,
    choose_parameters,
    load_series,
    select,
)
from nbutils.runner.timings import record_timing
from nbutils.runs import RunError, RunFolder


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the series. Returns 0, 1 where a notebook failed, 2 where it cannot run as asked."""
    options = _parse(arguments)
    try:
        return _run(options)
    except (SeriesError, ProfileError, RunError) as error:
        print(f"nbutils.run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with the notebook that was running.")
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nbutils.run",
        description="Runs the notebooks in order into runs/RUN_ID; skips those whose code, "
        "parameters and inputs have not changed.",
    )
    parser.add_argument("--profile", default="recorded", help="which model plays which role")
    parser.add_argument("--run-id", default="", help="the run folder's name (else the profile's)")
    parser.add_argument("--seed", type=int, default=0, help="parameter `seed` of every notebook")
    parser.add_argument("--from", dest="first", metavar="NB", help="first notebook: 03 or a name")
    parser.add_argument("--to", dest="last", metavar="NB", help="last notebook: 05 or a name")
    parser.add_argument("--quick", action="store_true", help="the probe only: sets quick = True")
    parser.add_argument(
        "--keep-going", action="store_true", help="go on with what a failed notebook lets run"
    )
    parser.add_argument(
        "-p",
        dest="given",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_name_and_value,
        help="another parameter, for each notebook that has it",
    )
    return parser.parse_args(arguments)


def _name_and_value(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    if name in ("profile", "run_id", "seed", "quick"):
        raise argparse.ArgumentTypeError(f"{name} has an option, --{name.replace('_', '-')}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # text without quotes


def _run(options: argparse.Namespace) -> int:
    start = time.monotonic()
    profile = load_profile(options.profile)
    for name, role in profile.endpoints().items():
        read_key(role, name)  # a missing key is told before any work
    run = RunFolder(options.run_id or profile.name, ROOT / "runs")
    series = load_series(ROOT / "notebooks")
    selected = select(series, options.first, options.last)
    # A notebook runs in another folder, so a profile of one's own goes by its full path.
    named = str(profile.file) if options.profile.endswith(".toml") else profile.name
    common = {"profile": named, "run_id": run.run_id, "seed": options.seed}
    given = dict(options.given) | ({"quick": True} if options.quick else {})
    parameters = choose_parameters(selected, common, given)
    check_inputs(selected, series, ROOT, run.folder)
    with run.lock():
        state = _State(run.folder, profile)
        for number, notebook in enumerate(selected, 1):
            label = f"[{number}/{len(selected)}] {notebook.name}"
            state.step(notebook, parameters[notebook.name], label)
            if state.failed and not options.keep_going:
                break
        report = write_report(run.folder, series, state.failed)
        paid = _paid(run.folder)
    if any("scorecard.json" in n.writes and n.name in state.good for n in selected):
        _print_scorecard(run.folder / "scorecard.json")
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    peak = f", peak memory {state.peak_memory_mb / 1000:.1f} GB" if state.peak_memory_mb else ""
    print(f"{minutes} min {seconds} s{peak}\nReport: {report}")
    if paid:
        print(paid)
    if state.failed:
        print(f"Failed or not run: {', '.join(state.failed)}", file=sys.stderr)
    return 1 if state.failed else 0


def _print_scorecard(file: Path) -> None:
    from nbutils.evaluation.agreement import (
        table,  # takes seconds to import, for the end of a run alone
    )

    figures = table(json.loads(file.read_text(encoding="utf-8")))
    text = figures.to_string(float_format="{:.2f}".format, na_rep="-", line_width=100)
    print(f"\nScorecard ({file}):\n{text}\n")


def _paid(folder: Path) -> str:
    """The calls of the run so far, by role; "" where none was sent."""
    if not (folder / STORE).exists():
        return ""
    with closing(Store(folder / STORE)) as store:
        sent = [row for row in store.roles() if row["sent"]]
    names = ("replies", "failed", "sent", "cost")
    lines = [f"  {row['role']}: " + ", ".join(f"{row[n]:.6g} {n}" for n in names) for row in sent]
    return "\n".join(["Calls of this run, over all its starts:", *lines]) if sent else ""


class _State:
    """What a run has done so far. Made under the run folder's lock."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        for left_over in folder.glob("*.running.ipynb"):
            left_over.unlink()
        self.good: set[str] = set()  # notebooks that ran well or were up to date
        self.failed: dict[str, str] = {}  # notebooks that failed or could not run, and why
        self.peak_memory_mb = 0.0
        self._folder = folder
        self._manifest = Manifest(folder)
        self._shared = shared_inputs(profile)
        self._lacking: set[str] = set()  # files that the failed ones would have written

    def step(self, notebook: Notebook, parameters: dict[str, object], label: str) -> None:
        """Runs one notebook, or skips it; prints which, why and how it went."""
        failure = self._blocked(notebook)
        how = ""
        if failure is None:
            inputs = inputs_of(notebook, parameters, self._shared, ROOT, self._folder)
            stale = self._why_stale(notebook, inputs)
            if stale is None:
                renew_prose(notebook.path, self._copy(notebook))
                how = "skipped: its code, parameters and inputs have not changed"
            else:
                print(f"{label} runs: {stale}", flush=True)
                self._manifest.forget(notebook.name)
                before = self._failed_calls()
                how, failure = self._execute(notebook, parameters, label)
                again = len(self._failed_calls() - before)
                if failure is None and not again:
                    self._manifest.record(notebook.name, inputs, self._writes(notebook))
                elif failure is None:
                    how += f"; {again} calls failed and are asked again by the next run"
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{clear}{label} {failure or how}", flush=True)
        if failure is None:
            self.good.add(notebook.name)
        else:
            self.failed[notebook.name] = failure
            self._lacking.update(notebook.writes)

    def _blocked(self, notebook: Notebook) -> str | None:
        lacking = [name for name in notebook.reads if name in self._lacking]
        return f"not run: {', '.join(lacking)} was not written" if lacking else None

    def _why_stale(self, notebook: Notebook, inputs: Entry) -> str | None:
        stale = self._manifest.why_stale(notebook.name, inputs, self._writes(notebook))
        if stale is None and not self._copy(notebook).exists():
            return "its executed copy is gone"
        return stale

    def _failed_calls(self) -> set[tuple[str, str]]:
        """The calls whose last try failed, each with its time."""
        if not (self._folder / STORE).exists():
            return set()
        with closing(Store(self._folder / STORE)) as store:
            return store.failed()

    def _copy(self, notebook: Notebook) -> Path:
        return self._folder / f"{notebook.name}.ipynb"

    def _writes(self, notebook: Notebook) -> dict[str, str | None]:
        return hashes(notebook.writes, ROOT, self._folder)

    def _execute(
        self, notebook: Notebook, parameters: dict[str, object], label: str
    ) -> tuple[str, str | None]:
        """How it went and, if it failed, what to print: cell, error and the executed copy.

        The executed copy takes its name at the end: 05_distil.ipynb or 05_distil.failed.ipynb.
        """
        copy = self._copy(notebook)
        running, failed = (copy.with_suffix(f".{word}.ipynb") for word in ("running", "failed"))
        try:
            outcome = execute(notebook.path, running, parameters, label)
            failure = outcome.failure
            missing = [name for name, found in self._writes(notebook).items() if found is None]
            if failure is None and missing:
                failure = f"it ended without writing {', '.join(missing)}"
            for old in (copy, failed):
                old.unlink(missing_ok=True)
            if running.exists():
                os.replace(running, failed if failure else copy)
        finally:
            running.unlink(missing_ok=True)
        self.peak_memory_mb = max(self.peak_memory_mb, outcome.peak_memory_mb)
        if failure:
            return "", f"FAILED: {failure}\n  executed copy: {failed}"
        measured = {"seconds": outcome.seconds, "peak_memory_mb": outcome.peak_memory_mb}
        record_timing(self._folder, "notebooks", notebook.name, measured)
        return f"done: {outcome.seconds:.0f} s, {outcome.peak_memory_mb:.0f} MB", None


if __name__ == "__main__":
    sys.exit(main())

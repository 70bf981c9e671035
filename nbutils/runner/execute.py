"""Executes one notebook under papermill in a process of its own. Never writes over a good copy."""

import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nbformat
import papermill
from ipykernel.kernelspec import write_kernel_spec
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines

from nbutils.files import aside
from nbutils.profiles import ROOT

LOG_SECONDS = 30  # in a log, not a terminal, at most one status line in so many seconds


@dataclass(frozen=True)
class Outcome:
    """How one execution ended."""

    seconds: float
    peak_memory_mb: float  # of the largest process: the kernel's
    failure: str | None = None  # cell and error, where it failed


def execute(source: Path, copy: Path, parameters: dict[str, object], label: str) -> Outcome:
    """Runs `source` and saves the executed copy, failed or not, as `copy`.

    The process of its own gives this notebook's own peak memory. The kernel is the interpreter that
    runs this, whatever kernels are installed, and starts in the notebook's folder. While it runs,
    one line, opened by `label`, shows the cell and what the notebook printed last.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as kernels:
        arguments = (send, os.getpid(), Path(kernels), source, copy, parameters, label)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        send.close()
        try:
            return receive.recv()
        except EOFError:
            return Outcome(0.0, 0.0, "its process was ended from outside: was memory short?")
        finally:
            process.terminate()
            process.join()


def renew_prose(source: Path, copy: Path) -> None:
    """Gives an executed copy, whose code is still that of `source`, the source's present prose."""
    notebook, executed = (nbformat.read(path, as_version=4) for path in (source, copy))
    done = [cell for cell in executed.cells if cell.cell_type == "code"]
    cells = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        cells.append(done.pop(0))
        if done and _is_injected(done[0]):
            cells.append(done.pop(0))
    if [cell.source for cell in cells] != [cell.source for cell in executed.cells]:
        executed.cells = cells
        with aside(copy) as part:
            nbformat.write(executed, part)


def _work(
    send: Connection,
    parent: int,
    kernels: Path,
    source: Path,
    copy: Path,
    parameters: dict[str, object],
    label: str,
) -> None:
    """The life of the process that execute() starts."""
    os.setsid()  # Ctrl-C reaches the runner alone, which then ends this process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    start = time.monotonic()
    _use_this_interpreter(kernels)
    failure = _execute_here(source, copy, parameters, label)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # bytes on macOS, else KiB
    peak = used / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    send.send(Outcome(round(time.monotonic() - start, 1), round(peak), failure))


def _end_with(parent: int) -> None:
    """Ends this process, and so its kernel, soon after the runner is gone, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _use_this_interpreter(folder: Path) -> None:
    """Makes kernel `python3` this interpreter and sets what the kernel inherits."""
    quiet = ["--IPKernelApp.log_level=ERROR"]
    write_kernel_spec(folder / "kernels" / "python3", extra_arguments=quiet)
    before = os.environ.get("PYTHONPATH")
    os.environ |= {
        "JUPYTER_PATH": str(folder),  # searched before the user's and the system's kernels
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([before] if before else [])]),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _execute_here(
    source: Path, copy: Path, parameters: dict[str, object], label: str
) -> str | None:
    """Runs the notebook under papermill; says what failed, or None."""
    line = _Line(label, len(nbformat.read(source, as_version=4).cells))
    papermill_engines.register("nbutils", _Engine)
    try:
        papermill.execute_notebook(
            source,
            copy,
            parameters,
            engine_name="nbutils",
            kernel_name="python3",
            progress_bar=False,
            coalesce_streams=True,  # prints of one cell as one output, settled as in a terminal
            stdout_file=line,
            stderr_file=line,
            cwd=source.parent,
            line=line,
        )
    except papermill.PapermillExecutionError as error:
        return f"{line.where()}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"{line.where()}: the kernel died: was memory short?"
    except Exception as error:  # the process ends here: whatever it was goes to the runner
        return f"{line.where()}: {type(error).__name__}: {error}"
    return None


def _is_injected(cell: nbformat.NotebookNode) -> bool:
    """Whether papermill added this cell, after the one tagged `parameters`."""
    return "injected-parameters" in cell.metadata.get("tags", [])


class _Line:
    """The status line, rewritten in a terminal; also the file that the notebook's prints go to."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._number = 0  # of the cell, in the source notebook, from 1
        self._source = self._said = ""
        self._shown = time.monotonic()

    def enter(self, cell: nbformat.NotebookNode) -> None:
        self._number += not _is_injected(cell)
        self._source, self._said = cell.source, ""
        self._show()

    def where(self) -> str:
        """`cell 7 of 31 (scores = judge(pairs))`"""
        code = [line for line in self._source.splitlines() if line and not line.startswith("#")]
        return f"cell {self._number} of {self._total} ({code[0][:60] if code else ''})"

    def write(self, text: str) -> None:
        lines = [part.strip() for part in re.split(r"[\r\n]", text) if part.strip()]
        if lines:
            self._said = "".join(c for c in lines[-1] if c.isprintable())
            self._show()

    def flush(self) -> None:
        """Nothing waits: papermill calls this after each write."""

    def _show(self) -> None:
        text = f"{self._label}  cell {self._number}/{self._total}  {self._said}".rstrip()
        if sys.stdout.isatty():
            print(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K", end="", flush=True)
        elif time.monotonic() - self._shown >= LOG_SECONDS:
            self._shown = time.monotonic()
            print(text, flush=True)


class _Engine(NBClientEngine):
    """Papermill's own engine, which here also tells the status line of each cell."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, line: _Line, **kwargs: Any
    ) -> Any:
        start = nb_man.cell_start

        def cell_start(cell: nbformat.NotebookNode, cell_index: int) -> None:
            line.enter(cell)
            start(cell, cell_index)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

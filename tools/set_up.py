"""Makes .venv and all that is in it: `python3 tools/set_up.py`. Never touches another environment.

Standard library alone, in the syntax of Python 3.7: an older Python can still be told that it is.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
DISK = 3  # GB: .venv takes 2.1 with torch's CPU build, the weights 0.1, pip's downloads the rest
DISK_CUDA = 10  # GB, roughly, with the CUDA build


def main() -> int:
    """Sets up; where it cannot, prints one clear sentence and returns 1."""
    ready = ROOT / ".venv" / "ready"  # there only after a set-up that ended well: make looks at it
    if ready.exists():
        ready.unlink()
    problem = problem_with_python() or problem_with_disk() or set_up()
    if problem:
        print(f"Set-up: {problem}", file=sys.stderr)
        return 1
    ready.touch()
    return 0


def problem_with_python() -> str:
    """Says, with the remedy, that this Python is too old or cannot make environments; else ""."""
    remedy = "name another, such as make run PYTHON=python3.12"
    found = f"{sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info[:2] < OLDEST:
        return f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, but {found}: {remedy}."
    try:
        import ensurepip  # noqa: F401  (Debian keeps it in a package of its own)
    except ImportError:
        return f"{sys.executable} lacks ensurepip: install python3-venv, or {remedy}."
    return ""


def problem_with_disk() -> str:
    """Says, with the remedy, that a first set-up has no room beside the checkout; else ""."""
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if (ROOT / ".venv").exists() or free >= DISK:
        return ""
    need = f"{DISK} GB of free disk ({DISK_CUDA} GB with torch's CUDA build)"
    return f"{need} are needed, but {ROOT} has {free:.1f} GB: make room or move the checkout."


def set_up() -> str:
    """Makes the environment, installs the requirements, fetches the weights; says what failed."""
    folder = ROOT / ".venv"
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    if active and Path(active).resolve() != folder:
        print(f"{active} is active but left alone. To use it as it is: make run PY=python")
    python = folder / "bin" / "python"
    if not is_whole(python):
        venv.create(str(folder), clear=True, with_pip=True)
    print("Installing the requirements into .venv: some minutes at first.", flush=True)
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    install = ["-m", "pip", "install", *quiet, "-c", "constraints.txt", "-e", ".[dev]"]
    if subprocess.run([str(python), *install], cwd=str(ROOT)).returncode:
        return (
            "pip could not install the requirements; its lines above say why. No network: connect "
            f"and repeat the command. No wheel for Python {sys.version_info[0]}."
            f"{sys.version_info[1]} here: name another, such as make run PYTHON=python3.11."
        )
    if subprocess.run([str(python), "-m", "nbutils.weights"], cwd=str(ROOT)).returncode:
        return "only the model's weights are missing, as said above."
    return ""


def is_whole(python: Path) -> bool:
    """Whether this environment's Python runs, has pip and is of the version that runs this."""
    version = "import pip, sys; print(*sys.version_info[:2])"
    try:
        ended = subprocess.run([str(python), "-c", version], stdout=subprocess.PIPE)
    except OSError:
        return False
    return ended.stdout.decode().split() == [str(number) for number in sys.version_info[:2]]


if __name__ == "__main__":
    sys.exit(main())

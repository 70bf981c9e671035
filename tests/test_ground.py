"""The set-up: three lists of requirements that agree, and failures that say one clear sentence."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from types import SimpleNamespace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import nbutils
from nbutils.profiles import ROOT
from tools import set_up

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOMES = packages_distributions()  # module -> the packages that install it
OWN = sys.stdlib_module_names | {"nbutils", "tools", "benchmarks", "tests"}
CUDA = ("cuda-", "nvidia-", "triton")  # come with torch's CUDA build, which pins them itself


def required():
    """Every requirement of pyproject.toml, those of the extras among them."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in sum(extras, PROJECT["dependencies"])]


def pinned():
    """The versions of constraints.txt by name. Each line is `name==version`, each name once."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    names = [canonicalize_name(name) for name, _ in pairs]
    assert len(set(names)) == len(names)
    return {name: Version(version) for name, (_, version) in zip(names, pairs, strict=True)}


def test_every_requirement_is_pinned_within_its_range():
    pins = pinned()
    for requirement in required():
        assert len(list(requirement.specifier)) == 2, f"{requirement}: no lower and upper bound"
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_pins_have_no_local_version_and_no_nbutils():
    pins = pinned()
    assert [name for name, version in pins.items() if version.local] == []
    assert "nbutils" not in pins


def test_whatever_the_requirements_require_is_pinned_too():
    """A walk over what is installed here finds no name that constraints.txt lacks."""
    seen, waiting = set(), [(canonicalize_name(r.name), "") for r in required()]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name.startswith(CUDA):
            continue
        seen.add((name, extra))
        for found in map(Requirement, requires(name) or []):
            if found.marker is None or found.marker.evaluate({"extra": extra}):
                here = canonicalize_name(found.name)
                waiting += [(here, further) for further in ("", *found.extras)]
    assert {name for name, _ in seen} - set(pinned()) == set()


def test_whatever_the_code_imports_is_required():
    """Also what another requirement would bring along anyway."""
    names = {canonicalize_name(r.name) for r in required()}
    missing = set()
    for file in (
        f
        for folder in ("nbutils", "tools", "benchmarks", "tests")
        for f in ROOT.glob(f"{folder}/**/*.py")
    ):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for module in {module.partition(".")[0] for module in modules}:
                homes = {canonicalize_name(home) for home in HOMES.get(module, [])}
                if module not in OWN and not homes & names:
                    missing.add((file.name, module))
    assert missing == set()


def test_environment_yml_has_the_same_set_and_a_python_that_will_do():
    lines = [line.split("#")[0].strip() for line in (ROOT / "environment.yml").open()]
    start = lines.index("- pip:")
    assert lines[start + 1 :] == ["- -c constraints.txt", "- -e .[dev]"]  # pip reads both files
    assert list(PROJECT["optional-dependencies"]) == ["dev"]  # no extra is left out
    (python,) = [line.removeprefix("- python=") for line in lines if "python=" in line]
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])
    assert PROJECT["requires-python"] == f">={set_up.OLDEST[0]}.{set_up.OLDEST[1]}"


def test_an_old_python_can_read_the_set_up_and_is_told(monkeypatch, capsys):
    ast.parse((ROOT / "tools/set_up.py").read_text(), feature_version=(3, 7))
    monkeypatch.setattr(set_up.sys, "version_info", (3, 10, 14, "final", 0))
    monkeypatch.setattr(set_up, "ROOT", Path("/nonexistent"))
    assert set_up.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("Set-up: Python 3.11 or newer is needed, but ")
    assert said.endswith("is 3.10: name another, such as make run PYTHON=python3.12.\n")


def test_a_full_disk_is_told_before_anything_is_made(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2_940_000_000))
    assert set_up.main() == 1
    assert f"are needed, but {tmp_path} has 2.9 GB: make room" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_set_up_that_fails_is_told_and_is_not_taken_for_done(tmp_path):
    """Real make, real pip, an index that has nothing; a stamp of earlier is withdrawn."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "tools/set_up.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    ready = tmp_path / ".venv" / "ready"
    ready.parent.mkdir()
    ready.touch()
    os.utime(ready, (0, 0))  # older than what it depends on
    nothing = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "VIRTUAL_ENV": "/some/env"}
    ended = make(tmp_path, "test", f"PYTHON={sys.executable}", **nothing)
    assert ended.returncode != 0
    assert "/some/env is active but left alone." in ended.stdout
    assert "Set-up: pip could not install the requirements" in ended.stderr
    assert "pytest" not in ended.stdout  # make went no further
    assert not ready.exists()


def test_an_active_environment_is_used_as_it_is_where_asked(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    assert make(tmp_path, "-n", "test", "PY=python").stdout == "python -m pytest \n"


def make(folder, *arguments, **environment):
    """Runs make as from a user's shell, whatever make or pip settings this test runs under."""
    settings = ("MAKE", "MFLAGS", "PIP_", "ARGS", "PY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=kept | environment, capture_output=True, text=True
    )


def test_the_package_s_map_names_every_module_once():
    named, folder = [], ""
    for row in nbutils.__doc__.split("\n\n")[2].splitlines():
        heading = row[:17].strip()  # a package's ends with a slash; none: its row goes on
        folder = (heading if heading.endswith("/") else "") if heading else folder
        named += [folder + name for name in re.findall(r"\w+", re.sub(r"\([^)]*\)", "", row[17:]))]
    files = (path.relative_to(ROOT / "nbutils") for path in (ROOT / "nbutils").rglob("[a-z]*.py"))
    assert sorted(named) == sorted(path.with_suffix("").as_posix() for path in files)

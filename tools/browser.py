"""Notebook servers on loopback and a Chromium, for tests and pictures. Never opens to a network."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
PRINTED = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\w+")
START_S = 60  # a server has so long to answer
OWN = {  # what JupyterLab would ask of the network, or of the reader
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
DARK = {"apputils-extension/themes": {"theme": "JupyterLab Dark"}}


class BrowserError(RuntimeError):
    """No browser, or no server; the message names the remedy."""


def find_chromium() -> str:
    """The path of a Chromium: $CHROMIUM, else one on PATH. Raises BrowserError without one."""
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else CHROMIUMS:
        path = shutil.which(name)
        if path:
            return path
    what = f"$CHROMIUM, {named!r}, cannot be run" if named else f"no {', '.join(CHROMIUMS)} on PATH"
    raise BrowserError(
        f"{what}: install a Chromium (Debian's package chromium) or name one in $CHROMIUM; "
        "make test ARGS=--no-browser leaves out the tests that need it"
    )


@contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium under Playwright."""
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    if os.geteuid() == 0:
        quiet.append("--no-sandbox")  # root has no sandbox to give
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=quiet, ignore_default_args=["--hide-scrollbars"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serve_lab(checkout: Path, folder: Path, dark: bool = False) -> Iterator[str]:
    """JupyterLab on a checkout; gives the address of its root, token and all.

    `folder` takes its settings and its log, so that none of the user's own comes in.
    """
    settings = folder / "settings"
    for name, values in (OWN | (DARK if dark else {})).items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port, token = _free_port(), os.urandom(16).hex()
    own = {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--LabApp.news_url="]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--allow-root"] if os.geteuid() == 0 else []
    address = f"http://127.0.0.1:{port}/"
    with _running(command, checkout, folder, own) as log:
        _wait(lambda: _answers(f"{address}api?token={token}"), log)
        yield f"{address}lab?token={token}"


@contextmanager
def serve_review(checkout: Path, folder: Path) -> Iterator[str]:
    """`make review` on a checkout; gives the address that it prints, token and all."""
    command = ["make", "--no-print-directory", "review", f"PY={sys.executable}"]
    command += [f"ARGS=--port={_free_port()}"]
    with _running(command, checkout, folder, {}) as log:
        _wait(lambda: PRINTED.search(log.read_text()), log)
        yield PRINTED.findall(log.read_text())[0]


@contextmanager
def _running(
    command: list[str], checkout: Path, folder: Path, own: dict[str, str]
) -> Iterator[Path]:
    """A server in the checkout with its own Jupyter folders; gives its log."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    apart = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    with log.open("w") as file:
        server = subprocess.Popen(
            command,
            cwd=checkout,
            env=kept | apart | own,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and what it started, kindly at first: it then ends its kernels."""
    for sign, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        try:
            os.killpg(server.pid, sign)
            server.wait(seconds)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait(ready: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > deadline:
            raise BrowserError(f"no server after {START_S} s; it said: {log.read_text()[-2000:]}")
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

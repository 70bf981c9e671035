"""llama.cpp's own server with the shipped base model, over real HTTP. Never part of the package.

`python -m tests.local_server` prints the address under which it speaks OpenAI's API (chat
completions with log-probabilities, embeddings) and ends when its standard input closes, so that it
never outlives whoever started it.
"""

import faulthandler
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbutils.weights import GGUF_NAME, base_model

SLOTS = 2  # calls worked on at the same time, each with CONTEXT tokens
CONTEXT = 2048
THREADS = 1  # two that wait for each other are many times slower where a third process is busy
READY_WITHIN = 120  # seconds


@contextmanager
def running() -> Iterator[str]:
    """A server in a process of its own, on a free port of this machine: its address with /v1."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "tests.local_server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as process:
        assert process.stdin and process.stdout
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Loads the model, serves it, says where, and ends with its standard input."""
    import xllamacpp  # a hundred megabytes, for this process alone

    weights = base_model() / GGUF_NAME  # fetched where it is missing, which may take its time
    faulthandler.dump_traceback_later(READY_WITHIN, exit=True)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.port = 0  # a free one
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.embedding = True  # beside chat completions
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.endpoint_metrics = True  # what it has worked on, at /metrics
    params.verbosity = 0
    server = xllamacpp.Server(params)  # returns once the model is loaded and the port is open
    print(f"{server.listening_address}/v1", flush=True)
    faulthandler.cancel_dump_traceback_later()
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""Starts the loopback server and prints its port as one line of JSON. Never serves another host."""

import argparse
import asyncio
import json
import os
import sys
import threading

from aiohttp import web

from tests.server.app import make_app
from tests.server.recorded import recorded_replies


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that an answer takes")
    parser.add_argument("--key", default="", help="the key that requests must bear; none if empty")
    parser.add_argument("--reply", default="echo", help="echo, verdict:[[A]], text:..., file:PATH")
    parser.add_argument("--recorded", action="store_true", help="reply as data/kestrel recorded")
    parser.add_argument("--while-stdin", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    app = make_app()
    app["settings"].latency = options.latency
    app["settings"].key = options.key
    app["settings"].replies[""] = "recorded" if options.recorded else options.reply
    if options.recorded:
        app["settings"].recorded.update(recorded_replies())
    if options.while_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        asyncio.run(_serve(app, options.port))
    except KeyboardInterrupt:
        sys.exit(130)


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


def _end_with_stdin() -> None:
    """So that a server never outlives the test run that started it, however that ended."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

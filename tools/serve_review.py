"""Serves notebook 04 as a page without code: `make review`. Never answers without its token.

Voila checks the token, which it makes up at each start, for the page, the kernel and its web
socket; what it serves to anybody is its own static files, and here no picture of the checkout.
"""

import sys

from traitlets.config import Config
from voila.app import Voila

from nbutils.profiles import ROOT

# The browser enforces that nothing comes from elsewhere: Voila's own page asks a CDN for icons.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' ws://127.0.0.1:*; frame-ancestors 'none'; form-action 'self'"
)
CONFIG = {
    "Voila": {
        "ip": "127.0.0.1",
        "open_browser": False,
        "auto_token": True,
        "tornado_settings": {"headers": {"Content-Security-Policy": POLICY}},
    },
    "VoilaConfiguration": {
        "strip_sources": True,
        "file_allowlist": [],
        "show_tracebacks": True,  # a missing file's remedy, for whoever started this
    },
}


def main() -> None:
    """Serves until Ctrl-C, and prints the address with its token. Options are Voila's own."""
    notebook = str(ROOT / "notebooks" / "04_review.ipynb")
    Voila.launch_instance([notebook, *sys.argv[1:]], config=Config(CONFIG))


if __name__ == "__main__":
    main()

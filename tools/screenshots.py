"""Takes the README's pictures of the review: `python -m tools.screenshots`. Never touches labels.

A copy of the checkout is opened in a real JupyterLab, light and dark, and reviewed there.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from nbutils.profiles import ROOT
from nbutils.runs import RunError, RunFolder
from tools.browser import BrowserError, open_browser, serve_lab
from tools.person import Person

NEEDED = ("questions", "answers", "pairs", "judgements", "resolutions")
PICTURES = {"docs/review.png": False, "docs/review-dark.png": True}  # whether it is dark


def copy_checkout(folder: Path) -> Path:
    """What notebook 04 needs, without anybody's labels. Raises RunError before `make run`."""
    run = RunFolder("recorded")
    (folder / "runs" / "recorded").mkdir(parents=True)
    for name in NEEDED:
        shutil.copy(run.need(f"{name}.jsonl"), folder / "runs" / "recorded")
    for name in ("nbutils", "notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def take(person: Person, address: str, picture: Path) -> list[str]:
    """Decides the first pair and takes the picture; says what is amiss on the way."""
    person.open_notebook(address, "notebooks/04_review.ipynb")
    found = person.run_all()
    person.look()
    person.review.get_by_label("Mark words of the source").check()
    found += person.amiss()  # beside the open sidebar
    person.press("Control+b")
    person.page.locator("#jp-left-stack").wait_for(state="hidden")
    found += person.amiss()
    person.click("A (a)")
    person.see("You: A.")
    found += person.amiss()
    person.page.screenshot(path=picture)
    return found


def main() -> int:
    """Writes the pictures. Returns 1 where there is no run or browser, or something is amiss."""
    try:
        with tempfile.TemporaryDirectory() as name, open_browser() as browser:
            for picture, dark in PICTURES.items():
                folder = Path(name, "dark" if dark else "light")
                checkout = copy_checkout(folder / "checkout")
                with serve_lab(checkout, folder, dark) as address:
                    amiss = take(Person(browser, dark), address, ROOT / picture)
                if amiss:
                    print(f"{picture}: {'; '.join(amiss)}", file=sys.stderr)
                    return 1
    except (RunError, BrowserError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{' and '.join(PICTURES)} show notebook 04 on runs/recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A person reviews in a real browser: in JupyterLab, and on the page that `make review` serves."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import nbformat
import pytest
import websocket

from nbutils.profiles import ROOT
from nbutils.review.labels import HumanGrade, HumanLabel, LabelFile
from nbutils.review.queue import build_queue
from nbutils.review.session import Filter, pair_items
from nbutils.runs import RunFolder
from tests import hostile
from tests.checkout import make_checkout
from tests.person import Person
from tools.browser import BrowserError, find_chromium, open_browser, serve_lab, serve_review

pytestmark = pytest.mark.slow
NOTEBOOK = "notebooks/04_review.ipynb"
NOTE = "größer als gedacht — 日本 ✓ abcnsu"


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, for this module alone: Playwright holds the thread's event loop."""
    try:
        with open_browser() as found:
            yield found
    except BrowserError as error:
        pytest.fail(str(error))


@pytest.fixture
def person(browser):
    someone = Person(browser)
    yield someone
    someone.close()


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository whose run `recorded` is hostile."""
    folder = tmp_path / "checkout"
    make_checkout(folder, "")
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    hostile.write_run(folder / "runs" / "recorded")
    return folder


def run_papermill(checkout, executed):
    """The finished process that executed notebook 04 where nobody sits."""
    command = [sys.executable, "-m", "papermill", "--cwd", "notebooks", NOTEBOOK, str(executed)]
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=checkout, env=os.environ | own, capture_output=True, text=True
    )


def rows(checkout):
    return LabelFile(checkout / "labels" / "human_labels.jsonl", HumanLabel).read()


def queue(checkout):
    """The pairs in the order in which they come up."""
    from nbutils.records import Answer, Judgement, Pair, Question, Resolution

    run = RunFolder("recorded", checkout / "runs")
    kinds = {"pairs": Pair, "questions": Question, "answers": Answer, "judgements": Judgement}
    parts = [run.read(f"{k}.jsonl", v) for k, v in (kinds | {"resolutions": Resolution}).items()]
    return build_queue(pair_items(*parts), Filter(), "shuffled", 0, {})


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(address, method="GET"):
    """Status and text of an answer, as they come."""
    asked = urllib.request.Request(address, method=method)
    try:
        with urllib.request.build_opener(NoRedirect).open(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def listens(address):
    """Whether a web socket opens."""
    try:
        websocket.create_connection(address, timeout=20).close()
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code == 403
        return False
    return True


def end_kernels(address):
    """Ends every kernel of JupyterLab, as a crash would."""
    root, token = address.split("lab?token=")
    for kernel in json.loads(ask(f"{root}api/kernels?token={token}")[1]):
        ask(f"{root}api/kernels/{kernel['id']}?token={token}", "DELETE")


def until(happened, seconds=20):
    """Waits for what the page does on disk."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.mark.browser
def test_a_review_in_jupyterlab(person, checkout, tmp_path):
    with serve_lab(checkout, tmp_path / "lab") as address:
        person.open_notebook(address, NOTEBOOK)
        assert person.run_all() == []
        person.look()
        cells = person.cells()
        first, second, third, *later = queue(checkout)

        # the first with the mouse: hidden, decided, shown
        assert person.question() == first.question.question and not person.knows()
        assert person.speaks_of(later[:50]) == []
        person.nothing_acted()
        person.click("A (a)")
        person.see("You: A.")
        assert person.knows()
        person.nothing_acted(person.review.locator(".nbr-reveal"))

        # the second and the third with the keyboard; a notebook's own keys do nothing here
        person.press("n")
        person.see(second.question.question)
        assert not person.knows()
        person.press("d", "d", "0", "0", "x", "v", "z", "m", "y")
        person.press("t")
        person.see("You: tie.")
        person.press("Enter")
        person.see(third.question.question)
        person.press("b")
        person.see("You: B.")

        # taken back, and a note whose letters are no keys
        person.press("u")
        person.see("Taken back.")
        assert not person.knows()
        person.review.get_by_placeholder("Note on this item").click()
        person.page.keyboard.insert_text(NOTE[:-6])
        person.press(*NOTE[-6:], "Enter")
        person.see("Note kept.")
        assert person.amiss() == []
        person.click("Queue")
        person.review.locator("select").last.wait_for()
        person.review.locator("select").last.focus()
        person.press("b", "Escape")  # a letter in a menu is no key either
        assert not person.knows()
        person.click("Queue")
        assert person.cells() == cells

        # saved, without what the widgets hold
        before = (checkout / NOTEBOOK).stat().st_mtime_ns
        person.press("Control+s")
        until(lambda: (checkout / NOTEBOOK).stat().st_mtime_ns > before)
        saved = nbformat.read(checkout / NOTEBOOK, as_version=4)
        assert "widgets" not in saved.metadata and hostile.TEXT not in json.dumps(saved)

        # the page is lost, then the kernel too
        person.page.reload()
        person.look()
        person.see(third.question.question)
        assert person.review.get_by_placeholder("Note on this item").input_value() == NOTE
        end_kernels(address)
        person.click("A (a)")
        person.see("No answer from the kernel")
        person.page.reload()
        person.wait_for_kernel()
        assert person.run_all() == []
        person.look()
        person.see(f"2 of {hostile.PAIRS}")
        assert person.question() == third.question.question and not person.knows()
        assert person.review.get_by_placeholder("Note on this item").input_value() == NOTE

        # one answer at a time, in the review below
        person.look(1)
        person.nothing_acted()
        person.review.locator(".nbr-question").click()
        person.press("8", "y")
        person.see("You: 0.8, acceptable.")
        person.press("Enter")
        person.see("1 of 306")
        person.click("Not acceptable (n)")
        person.click("10 (x)")
        person.see("You: 1.0, not acceptable.")
        assert person.amiss() == []

    found = [(row.pair_id, row.label, row.note, row.blind, row.reviewer) for row in rows(checkout)]
    grades = LabelFile(checkout / "labels" / "human_grades.jsonl", HumanGrade).read()
    assert [(row.score, row.acceptable) for row in grades] == [(0.8, True), (1.0, False)]
    assert found == [
        (first.item_id, "a", None, True, ""),
        (second.item_id, "tie", None, True, ""),
        (third.item_id, "b", None, True, ""),
        (third.item_id, "undo", None, False, ""),
        (third.item_id, "note", NOTE, False, ""),
    ]


@pytest.mark.browser
def test_a_review_on_the_page_of_its_own(person, checkout, tmp_path):
    with serve_review(checkout, tmp_path / "voila") as address:
        first, second = queue(checkout)[:2]
        person.page.goto(address)
        person.look()
        person.see(first.question.question)
        assert (
            not person.knows() and "ReviewSession" not in person.source()
        )  # nor is there any code
        person.nothing_acted()
        person.press("b")  # nothing yet: who does not look at the review does not decide
        person.review.locator(".nbr-question").click()
        person.press("b")
        person.see("You: B.")
        person.press("n")
        person.see(second.question.question)
        person.click("Tie (t)")
        person.see("You: tie.")
        person.press("u")
        person.see("Taken back.")
        assert person.amiss() == []
        person.page.reload()
        person.look()
        person.see(second.question.question)
        person.see(f"1 of {hostile.PAIRS}")
    found = [(row.pair_id, row.label) for row in rows(checkout)]
    assert found == [
        (first.item_id, "b"),
        (second.item_id, "tie"),
        (second.item_id, "undo"),
    ]


@pytest.mark.browser
def test_headless_there_is_a_table_and_no_widget(person, checkout, tmp_path):
    executed = checkout / "executed.ipynb"
    done = run_papermill(checkout, executed)
    assert done.returncode == 0, done.stderr[-2000:]
    copy = nbformat.read(executed, as_version=4)
    assert "widgets" not in copy.metadata and not (checkout / "labels").exists()
    with serve_lab(checkout, tmp_path / "lab") as address:  # which typesets formulas in outputs
        person.open_notebook(address, "executed.ipynb")
        for text in (f"The first 10 of {hostile.PAIRS} in", "The first 10 of 306 in"):
            table = person.page.locator(".jp-OutputArea-output").filter(has_text=text)
            table.scroll_into_view_if_needed()
            person.nothing_acted(table)


def test_without_the_token_there_is_neither_page_nor_kernel(checkout, tmp_path):
    with serve_review(checkout, tmp_path / "voila") as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        root, token = address.split("?token=")
        status, page = ask(address)
        kernel = re.search(r'"kernelId": *"([\w-]+)"', page).group(1)
        api, channels = f"{root}api/kernels/{kernel}", f"ws{root[4:]}api/kernels/{kernel}/channels"
        for wrong in ("", "?token=", f"?token={token[:-1]}"):
            assert ask(root + wrong) == (302, "")  # to where a token can be given
            assert ask(api + wrong)[0] == 403 and not listens(channels + wrong)
        assert status == 200 and ask(address.replace("/?", f"/api/kernels/{kernel}?"))[0] == 200
        assert listens(f"{channels}?token={token}")
        (checkout / "picture.png").write_bytes(b"of somebody")
        assert ask(f"{root}voila/files/picture.png")[0] == 403  # Voila serves pictures to anybody
        assert ask(f"{root}voila/files/notebooks/picture.png")[0] == 403


def test_without_a_chromium_one_is_told_what_to_install_and_what_to_leave_out(monkeypatch):
    remedy = "Debian's package chromium.*make test ARGS=--no-browser"
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(BrowserError, match=f"'/nowhere/chromium', cannot be run.*{remedy}"):
        find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BrowserError, match=f"no chromium, .* on PATH: .*{remedy}"):
        find_chromium()


def test_the_flag_leaves_out_the_browser_and_says_so():
    command = [sys.executable, "-m", "pytest", "--no-browser", "--collect-only", "-q", __file__]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    kept, _, left_out = told.partition("left out by --no-browser")
    for name in ("in_jupyterlab", "on_the_page_of_its_own", "headless"):
        assert name in left_out and name not in kept
    assert "without_the_token" in kept and "without_the_token" not in left_out

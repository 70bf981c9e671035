"""A person reviews in a real browser: in JupyterLab, and on the page that `make review` serves."""

import json
import re
import shutil
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import nbformat
import pytest
import websocket

from nbutils.labels import HumanLabel, LabelFile
from nbutils.profiles import ROOT
from nbutils.review import Filter, pair_items
from nbutils.review_queue import build_queue
from nbutils.runs import RunFolder
from tests import hostile
from tests.checkout import make_checkout
from tests.person import Person
from tools.browser import open_browser, serve_lab, serve_review

pytestmark = pytest.mark.slow
NOTEBOOK = "notebooks/04_review.ipynb"
NOTE = "größer als gedacht — 日本 ✓ abcnsu"


def STANDIN(folder):
    nb = nbformat.read("/work/exp/wl/nb/p.ipynb", 4)
    nb.cells[0].source = nb.cells[0].source.replace(', Path("/work/main/runs")', "").replace(',("student_resolutions",Resolution)',"").replace("q,a,p,j,r,s", "q,a,p,j,r")
    nb.cells[1].source = "from nbutils.labels import LABELS\nreview(ReviewSession(pair_items(p,q,a,j,r), LABELS / 'human_labels.jsonl'))"
    nbformat.write(nb, folder / NOTEBOOK)


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


@pytest.fixture
def person(browser):
    someone = Person(browser)
    yield someone
    someone.page.screenshot(path="/work/exp/wl/shots/last.png"); someone.close()


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository whose run `recorded` is hostile."""
    folder = tmp_path / "checkout"
    make_checkout(folder, "")
    shutil.copy(ROOT / "Makefile", folder)
    hostile.write_run(folder / "runs" / "recorded")
    STANDIN(folder)
    return folder


def rows(checkout):
    return LabelFile(checkout / "labels" / "human_labels.jsonl", HumanLabel).read()


def queue(checkout):
    """The pairs in the order in which they come up."""
    from nbutils.records import Answer, Judgement, Pair, Question, Resolution

    run = RunFolder("recorded", checkout / "runs")
    kinds = {"pairs": Pair, "questions": Question, "answers": Answer, "judgements": Judgement}
    parts = [run.read(f"{k}.jsonl", v) for k, v in (kinds | {"resolutions": Resolution}).items()]
    return build_queue(pair_items(*parts), Filter(), "shuffled", 0, {})


def hidden(person):
    """Nothing on the page says who wrote what or what the teacher said."""
    page = person.source()
    secrets = [name.split()[0] for name in hostile.ANSWERERS.values()] + [hostile.REASON]
    return [secret for secret in secrets if secret in page] == []


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
        cells = person.pages()
        first, second, third = queue(checkout)[:3]

        # the first with the mouse: hidden, decided, shown
        assert person.question() == first.question.question and hidden(person)
        person.nothing_acted()
        person.click("A (a)")
        person.see("You: A.")
        assert not hidden(person)
        person.nothing_acted(".nbr-reveal")

        # the second and the third with the keyboard; a notebook's own keys do nothing here
        person.press("n")
        person.see(second.question.question)
        assert hidden(person)
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
        assert hidden(person)
        person.page.get_by_placeholder("Note on this item").click()
        person.page.keyboard.insert_text(NOTE[:-6])
        person.press(*NOTE[-6:], "Enter")
        person.see("Note kept.")
        person.fits()
        assert person.pages() == cells

        # saved, without what the widgets hold
        before = (checkout / NOTEBOOK).stat().st_mtime_ns
        person.press("Control+s")
        until(lambda: (checkout / NOTEBOOK).stat().st_mtime_ns > before)
        saved = nbformat.read(checkout / NOTEBOOK, as_version=4)
        assert "widgets" not in saved.metadata and hostile.TEXT not in json.dumps(saved)

        # the page is lost, then the kernel too
        person.page.reload()
        person.see(third.question.question)
        assert person.page.get_by_placeholder("Note on this item").input_value() == NOTE
        end_kernels(address)
        person.click("A (a)")
        person.see("No answer from the kernel")
        person.page.reload()
        person.page.wait_for_selector(".jp-Notebook .jp-Cell")
        assert person.run_all() == []
        person.see("2 of 60")
        assert person.question() == third.question.question and hidden(person)
        assert person.page.get_by_placeholder("Note on this item").input_value() == NOTE

    found = [(row.pair_id, row.label, row.note, row.blind, row.reviewer) for row in rows(checkout)]
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
        person.open(address)
        person.see(first.question.question)
        assert hidden(person) and "ReviewSession" not in person.source()  # nor is there any code
        person.nothing_acted()
        person.press("b")  # the keys are on at once: nothing else is on the page
        person.see("You: B.")
        person.press("n")
        person.see(second.question.question)
        person.click("Tie (t)")
        person.see("You: tie.")
        person.press("u")
        person.see("Taken back.")
        person.fits()
        person.page.reload()
        person.see(second.question.question)
        person.see("1 of 60")
    found = [(row.pair_id, row.label) for row in rows(checkout)]
    assert found == [
        (first.item_id, "b"),
        (second.item_id, "tie"),
        (second.item_id, "undo"),
    ]


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

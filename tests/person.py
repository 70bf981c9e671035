"""A person at a review in a browser: looks, clicks, presses keys, and notices what is amiss."""

import json
from urllib.parse import urlsplit

from tests.hostile import PIXEL, TEXT

REVIEW = ".nbutils-keys"
NO_OPTIONS = """() => {
  const page = document.documentElement.cloneNode(true);
  page.querySelectorAll("option").forEach((option) => option.remove());
  return page.outerHTML;
}"""
ACTED = "script, img, mjx-container, .MathJax, .katex, strong, em, a"


class Person:
    """One page of a browser."""

    def __init__(self, browser, dark=False, width=1366, height=768):
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.asked = []  # addresses that the page asked for
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.set_default_timeout(30_000)

    def open(self, address):
        self.page.goto(address)

    def open_notebook(self, address, path):
        """Opens a notebook in JupyterLab, by the address of its start page."""
        self.open(address.replace("/lab?", f"/lab/tree/{path}?"))
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.get_by_text("| Idle").first.wait_for()

    def run_all(self):
        """Runs every cell, and says what each error was."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_function(
            """() => [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
            .every((prompt) => /\\[\\d+\\]/.test(prompt.textContent))"""
        )
        return self.page.locator(".jp-OutputArea-output[data-mime-type*=error]").all_inner_texts()

    def see(self, text):
        """Waits until the review shows a text."""
        self.page.locator(REVIEW).get_by_text(text).first.wait_for()

    def click(self, name):
        self.page.locator(REVIEW).get_by_role("button", name=name).click()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def question(self):
        return self.page.inner_text(f"{REVIEW} .nbr-question")

    def pages(self):
        """The number of cells in the notebook."""
        return self.page.locator(".jp-Notebook .jp-Cell").count()

    def source(self):
        """The page as it is now, without what menus offer."""
        return self.page.evaluate(NO_OPTIONS)

    def nothing_acted(self, part=REVIEW):
        """The texts in that part of the page are all there, and none of them did anything."""
        shown = self.page.locator(part)
        assert TEXT in shown.inner_text()
        assert shown.locator(ACTED).count() == 0
        assert self.page.evaluate("window.canary") is None
        assert not [address for address in self.asked if PIXEL in address]
        hosts = {urlsplit(a).hostname for a in self.asked if a.startswith(("http", "ws"))}
        assert hosts == {"127.0.0.1"}, hosts  # nothing from elsewhere

    def fits(self):
        """Nothing lies to the right of what can be seen, and no button lies below it."""
        box = self.page.locator(REVIEW).bounding_box()
        wide = self.page.evaluate(
            f"""() => [...document.querySelectorAll("{REVIEW}, {REVIEW} *")]
            .filter((one) => one.scrollWidth > one.clientWidth + 1
              && getComputedStyle(one).overflowX !== "visible" && one.clientWidth > 0)
            .map((one) => one.className + " " + one.scrollWidth + " > " + one.clientWidth)"""
        )
        size = self.page.viewport_size
        assert wide == [] and box["x"] + box["width"] <= size["width"], json.dumps(wide)

    def close(self):
        self.context.close()

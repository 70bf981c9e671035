"""A person who also looks for what should not be on the page."""

import re
from urllib.parse import urlsplit

from tests.hostile import ANSWERERS, PIXEL, REASON, TEXT
from tools import person

ACTED = "script, img, mjx-container, .MathJax, .katex, strong, em, a"  # what a text could become
WITHOUT_MENUS = """() => {
  const page = document.documentElement.cloneNode(true);
  page.querySelectorAll("option").forEach((option) => option.remove());
  return page.outerHTML;
}"""


class Person(person.Person):
    """Remembers what the page asked for."""

    def __init__(self, browser):
        super().__init__(browser)
        self.asked, self.stopped = [], []  # addresses; those that the page's own policy stopped
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", self._note_failure)

    def _note_failure(self, request):
        if request.failure == "csp":
            self.stopped.append(request.url)

    def question(self):
        return self.review.locator(".nbr-question").inner_text()

    def cells(self):
        return self.page.locator(".jp-Notebook .jp-Cell").count()

    def source(self):
        """The page as it is now, without what menus offer."""
        return self.page.evaluate(WITHOUT_MENUS)

    def knows(self):
        """Which answerers, and which reason of the teacher, stand anywhere on the page."""
        page = self.source()
        secrets = [*(name.split()[0] for name in ANSWERERS.values()), REASON]
        return [secret for secret in secrets if secret in page]

    def speaks_of(self, items):
        """Which of the items the page names, whose verdicts might stand beside them."""
        said = set(re.findall(r"\w+", self.page.evaluate("document.body.textContent")))
        return [item.item_id for item in items if item.item_id in said]

    def nothing_acted(self, part=None):
        """The hostile texts of the review, or of that part, show as they are and did nothing."""
        shown = self.review if part is None else part
        assert TEXT in shown.text_content()
        assert shown.locator(ACTED).count() == 0
        assert self.page.evaluate("window.canary") is None
        assert not [address for address in self.asked if PIXEL in address]
        went_out = [address for address in self.asked if address not in self.stopped]
        hosts = {urlsplit(a).hostname for a in went_out if a.startswith(("http", "ws"))}
        assert hosts == {"127.0.0.1"}  # nothing came from elsewhere

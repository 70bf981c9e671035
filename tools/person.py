"""A person at a review in a browser: opens it, clicks, presses keys, looks. Never waits by time."""

from typing import Any

REVIEW = ".nbutils-keys"
RAN = """() => [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
  .every((prompt) => /\\[\\d+\\]/.test(prompt.textContent))"""
TOO_WIDE = f"""() => [...document.querySelectorAll("{REVIEW}, {REVIEW} *, .jp-WindowedPanel-outer")]
  .filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1
    && getComputedStyle(one).overflowX !== "visible")
  .map((one) => `${{one.className}}: ${{one.scrollWidth}} px in ${{one.clientWidth}}`)"""
SCROLL = """(review) => review.scrollIntoView({ block: "start" })"""


class Person:
    """One page of a browser, at a laptop's size."""

    def __init__(self, browser: Any, dark: bool = False) -> None:
        self.context = browser.new_context(
            viewport={"width": 1366, "height": 768}, color_scheme="dark" if dark else "light"
        )
        self.page = self.context.new_page()
        self.number = 0  # of the review that the person sits at, where a page has several
        self.page.on("dialog", lambda dialog: dialog.accept())

    def open_notebook(self, address: str, path: str) -> None:
        """Opens a notebook by the address of JupyterLab's start page, and waits for its kernel."""
        self.page.goto(address.replace("/lab?", f"/lab/tree/{path}?"))
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """What is run before, JupyterLab may lose."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.get_by_text("| Idle").first.wait_for()

    def run_all(self) -> list[str]:
        """Runs every cell to the end; gives the errors that are shown."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_function(RAN)
        errors = self.page.locator(".jp-OutputArea-output[data-mime-type*=error]")
        found: list[str] = errors.all_inner_texts()
        return found

    @property
    def review(self) -> Any:
        """The review, as Playwright finds it."""
        return self.page.locator(REVIEW).nth(self.number)

    def look(self, number: int = 0) -> None:
        """Sits down at a review, and scrolls it to the top."""
        self.number = number
        self.review.evaluate(SCROLL)

    def see(self, text: str) -> None:
        """Waits until the review shows a text."""
        self.review.get_by_text(text).first.wait_for()

    def click(self, name: str) -> None:
        """Clicks a button of the review."""
        self.review.get_by_role("button", name=name, exact=True).click()

    def press(self, *keys: str) -> None:
        """Presses keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def amiss(self) -> list[str]:
        """With the review at the top: what scrolls sideways, and which buttons are out of sight."""
        self.look(self.number)
        found: list[str] = self.page.evaluate(TOO_WIDE)
        for button in self.review.locator("button:visible").all():
            box = button.bounding_box()
            if box["x"] + box["width"] > 1366 or box["y"] + box["height"] > 768:
                found.append(f"{button.inner_text()}: out of sight")
        return found

    def close(self) -> None:
        """Closes the page."""
        self.context.close()

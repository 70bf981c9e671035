"""The report: one page that loads and runs nothing."""

import base64
from html.parser import HTMLParser

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nbutils.runner.report import write_report
from nbutils.runner.series import Notebook
from nbutils.runner.timings import record_timing

PIXEL = base64.b64encode(b"not really a picture").decode()


class Page(HTMLParser):
    """What a browser would find: tags, and the values of attributes that load something."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.links, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.loads += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.ids += [values["id"]] if "id" in values else []


def report_of(tmp_path, *cells, name="00_a"):
    """The page of a run whose first notebook has these cells; its second has not run."""
    nbformat.write(new_notebook(cells=list(cells)), tmp_path / f"{name}.ipynb")
    series = [Notebook(tmp_path / f"{nb}.ipynb", f"Title <{nb}>", {}, (), ()) for nb in NAMES]
    return write_report(tmp_path, series, {}).read_text(encoding="utf-8")


NAMES = ("00_a", "01_b")


def test_outputs_are_shown_without_anything_from_outside(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%|    | 0/3"}
    outputs = [
        new_output("stream", name="stdout", text="a < b\x1b[31m red"),
        new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"}),
        new_output("execute_result", data={"text/html": "<table></table>", "text/plain": "t"}),
        new_output("execute_result", data={"text/plain": "'<script>alert(1)</script>'"}),
        new_output("display_data", data=widget),
        new_output("error", ename="E", evalue="v", traceback=["<module>", "E: v"]),
    ]
    prose = "# One\n[two](01_b.ipynb#top) [readme](../README.md)"
    text = report_of(tmp_path, new_markdown_cell(prose), new_code_cell("1 < 2", outputs=outputs))
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.loads == [f"data:image/png;base64,{PIXEL}"]
    assert "default-src 'none'" in text  # and the browser keeps to it
    assert "a &lt; b red" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<table></table>" in text
    assert "&lt;module&gt;\nE: v" in text
    assert "0/3" not in text  # a widget says nothing without its script
    assert page.tags.count("details") == 1  # the code is folded
    assert page.links == ["#00_a", "#01_b", "../../README.md"]


def test_the_contents_name_every_notebook_and_how_it_went(tmp_path):
    record_timing(tmp_path, "notebooks", "00_a", {"seconds": 12.4})
    text = report_of(tmp_path, new_markdown_cell("# One\n# One"))
    assert '<a href="#00_a">00_a</a>: Title &lt;00_a&gt; <small>(12 s)</small>' in text
    assert "<li>01_b: Title &lt;01_b&gt; <small>(not run)</small>" in text
    assert Page(text).ids == ["00_a"]  # headings, which may repeat, have none
    assert not list(tmp_path.glob("*.part"))


def test_a_failed_copy_stands_in_the_report_with_what_went_wrong(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("half")]), tmp_path / "01_b.failed.ipynb")
    series = [Notebook(tmp_path / "01_b.ipynb", "B", {}, (), ())]
    text = write_report(tmp_path, series, {"01_b": "FAILED: cell 2"}).read_text(encoding="utf-8")
    assert "half" in text
    assert "(FAILED: cell 2)" in text

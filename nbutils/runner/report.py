"""One HTML page of a run's executed notebooks. Never loads or runs anything when it is opened."""

import re
from html import escape
from pathlib import Path

import nbformat
from nbconvert.filters import Highlight2HTML, markdown2html, strip_ansi
from pygments.formatters import HtmlFormatter

from nbutils.files import aside
from nbutils.runner.series import Notebook
from nbutils.runner.timings import read_timings

# The browser enforces what the page promises: no script, nothing from outside.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
       max-width: 60rem; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 1.6em 0 .5em; }
section { border-top: 3px solid #456; margin-top: 3rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; margin: .5em 0; }
code { font-size: 90%; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { border: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top; }
details > summary { cursor: pointer; color: #567; font-size: 13px; }
.code pre { background: #f6f7f9; padding: .6em; }
.output { overflow-x: auto; margin: .5em 0 1em; }
.stderr { background: #fff6e5; }
.error { background: #fdecea; }
.missing { color: #a22; }
"""


def write_report(folder: Path, series: list[Notebook], failed: dict[str, str]) -> Path:
    """Writes report.html into a run's folder and returns its path.

    Every notebook of the series stands in it: its executed copy, else the copy that failed, else a
    line that says that it has not run. `failed` says by notebook what went wrong in this run.
    """
    contents, sections = [], []
    timings = read_timings(folder).get("notebooks", {})
    for notebook in series:
        found = [folder / f"{notebook.name}{end}" for end in (".ipynb", ".failed.ipynb")]
        copy = next((path for path in found if path.exists()), None)
        took = timings.get(notebook.name, {}).get("seconds")
        state = failed.get(notebook.name) or (f"{took:.0f} s" if copy and took else "not run")
        link = f'<a href="#{notebook.name}">{notebook.name}</a>' if copy else notebook.name
        title = escape(notebook.title)
        contents.append(f"<li>{link}: {title} <small>({escape(state)})</small></li>")
        if copy:
            cells = nbformat.read(copy, as_version=4).cells
            body = "\n".join(_cell(cell) for cell in cells)
            sections.append(f'<section id="{notebook.name}">\n{body}\n</section>')
    highlight = HtmlFormatter().get_style_defs(".highlight")
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width">
<title>Run {folder.name}</title>
<style>{STYLE}{highlight}</style>
</head>
<body>
<h1>Run {folder.name}</h1>
<ul>
{chr(10).join(contents)}
</ul>
{chr(10).join(sections)}
</body>
</html>
"""
    report = folder / "report.html"
    with aside(report) as part:
        part.write_text(page, encoding="utf-8")
    return report


def _cell(cell: nbformat.NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return _prose(cell.source)
    if cell.cell_type != "code" or not cell.source.strip():
        return ""
    code = Highlight2HTML()(cell.source)
    outputs = "".join(f'<div class="output">{_output(output)}</div>' for output in cell.outputs)
    return f'<details class="code"><summary>code</summary>{code}</details>\n{outputs}'


def _prose(source: str) -> str:
    """Markdown as HTML whose links between notebooks stay within the page; no heading has an id."""
    html = markdown2html(source)
    html = re.sub(r'<a class="anchor-link".*?</a>', "", html)
    html = re.sub(r'(<h[1-6]) id="[^"]*"', r"\1", html)  # two notebooks may share a heading
    html = re.sub(r'href="(?:\./)?(\d\d_\w+)\.ipynb(?:#[^"]*)?"', r'href="#\1"', html)
    return html.replace('href="../', 'href="../../')  # as seen from runs/<id>/


def _output(output: nbformat.NotebookNode) -> str:
    """The richest form of an output that needs no script: picture, HTML, else text."""
    if output.output_type == "stream":
        return f'<pre class="{output.name}">{_plain(output.text)}</pre>'
    if output.output_type == "error":
        return f'<pre class="error">{_plain(chr(10).join(output.traceback))}</pre>'
    data = output.data
    if "application/vnd.jupyter.widget-view+json" in data:
        return ""
    if "image/png" in data:
        encoded = "".join(data["image/png"].split())
        return f'<img alt="figure" src="data:image/png;base64,{encoded}">'
    if "text/html" in data:
        return data["text/html"]
    if "text/markdown" in data:
        return _prose(data["text/markdown"])
    return f"<pre>{_plain(data.get('text/plain', ''))}</pre>"


def _plain(text: str) -> str:
    return escape(strip_ansi(text))

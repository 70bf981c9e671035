"""Text and tables for a reader's eye. Never changes what they say."""

import hashlib
import math
import re
from html import escape
from textwrap import fill

import pandas as pd
from pandas.io.formats.style import Styler

COLUMNS = 96  # characters of a line: what a notebook shows without breaking words


def wrap(text: str) -> str:
    """The text with its long lines broken between words; its own line ends stay.

    >>> print(wrap("word " * 20 + "end"))
    word word word word word word word word word word word word word word word word word word word
    word end
    """
    return "\n".join(fill(line, COLUMNS, break_on_hyphens=False) for line in text.splitlines())


def safe(text: str) -> str:
    r"""The text as HTML that shows it as it is: no tag, no entity and no formula of it acts.

    `$` and `\` stand in elements of their own, which no typesetter of formulas joins. What UTF-8
    cannot hold (a lone surrogate) shows as U+FFFD.

    >>> safe("<b> costs $5")
    '&lt;b&gt; costs <span>$</span>5'
    """
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub(r"[$\\]", r"<span>\g<0></span>", escape(whole))


def wrap_table(frame: pd.DataFrame) -> Styler:
    """A table of long texts: wrapped, flush left, escaped; shares with two decimals.

    The row labels show where they say more than a number.
    """
    name = hashlib.sha256(frame.to_json().encode()).hexdigest()[:8]  # the same in every run
    props = "text-align: left; vertical-align: top; white-space: pre-wrap; max-width: 32em"
    table = (
        Styler(frame, uuid=name, cell_ids=False)
        .format(_cell)
        .format_index(_cell)
        .format_index(_cell, axis="columns")
        .set_table_styles([{"selector": "th, td", "props": props}])
    )
    return table.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else table


def _cell(value: object) -> str:
    """A share has two decimals; what is missing is left empty."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return safe(str(value))

"""Text and tables for a reader's eye. Never changes what they say."""

import hashlib
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


def wrap_table(frame: pd.DataFrame) -> Styler:
    """A table of long texts: wrapped, flush left, escaped; shares with two decimals.

    The row labels show where they say more than a number.
    """
    name = hashlib.sha256(frame.to_json().encode()).hexdigest()[:8]  # the same in every run
    props = "text-align: left; vertical-align: top; white-space: pre-wrap; max-width: 32em"
    table = (
        Styler(frame, uuid=name, cell_ids=False)
        .format(escape="html", precision=2, na_rep="")
        .format_index(escape="html")
        .format_index(escape="html", axis="columns")
        .set_table_styles([{"selector": "th, td", "props": props}])
    )
    return table.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else table

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from nbutils.display import COLUMNS, wrap, wrap_table
from tests.shown import Shown

LINE = st.text(alphabet="ab -.", max_size=300)


@given(st.lists(LINE))
def test_wrapping_keeps_every_letter_and_no_line_is_long(lines):
    text = "\n".join(lines)
    wrapped = wrap(text)
    assert "".join(wrapped.split()) == "".join(text.split())
    assert all(len(line) <= COLUMNS for line in wrapped.splitlines())


def test_a_word_is_broken_only_where_it_is_longer_than_a_line():
    assert wrap("word " * 20 + "end") == "word " * 18 + "word\nword end"  # 19 x 5 - 1 = 94 <= 96
    assert wrap("x" * 100) == "x" * 96 + "\n" + "x" * 4


def test_line_ends_and_indentation_stay():
    assert wrap("one\n\n  two") == "one\n\n  two"


def test_a_table_shows_text_as_text():
    html = wrap_table(pd.DataFrame({"<i>": ["<b>bold</b>\nline"], "share": [2 / 3]})).to_html()
    assert "&lt;b&gt;bold&lt;/b&gt;\nline" in html and "&lt;i&gt;" in html
    assert "<b>" not in html and "<i>" not in html
    assert "0.67" in html  # 2 / 3


def test_a_formula_is_shown_as_it_was_written():
    frame = pd.DataFrame({"$a$": ["\\(x\\) $y$", None]}, index=["\\[z\\]", "w"])
    shown = Shown(wrap_table(frame).to_html()).texts
    found = "".join(shown)
    assert "$a$" in found and "\\(x\\) $y$" in found and "\\[z\\]" in found
    # no typesetter joins a delimiter to what it would enclose: each stands by itself
    assert all(piece in ("$", "\\") or not {"$", "\\"} & set(piece) for piece in shown)


def test_numbers_are_short_and_what_is_missing_is_left_empty():
    frame = pd.DataFrame({"share": [2 / 3, None], "count": [3, 4], "text": ["x", None]})
    shown = Shown(wrap_table(frame).to_html()).texts
    assert [piece for piece in shown if piece.strip()][-4:] == ["0.67", "3", "x", "4"]


def test_labels_show_where_they_are_more_than_numbers():
    rows = [["x"], ["y"]]
    assert "row_heading" not in wrap_table(pd.DataFrame(rows)).to_html()
    html = wrap_table(pd.DataFrame(rows, index=["gold <1>", "found"])).to_html()
    assert "gold &lt;1&gt;" in html


def test_the_same_table_comes_out_the_same():
    frame = pd.DataFrame({"text": ["one", "two"]})
    assert wrap_table(frame).to_html() == wrap_table(frame.copy()).to_html()

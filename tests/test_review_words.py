import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.display import safe
from nbutils.review.words import marked, words
from tests.shown import Shown

WRITTEN = st.text(st.characters(exclude_categories=()), max_size=60)
ACTING = st.lists(
    st.sampled_from(["<b>", "&lt;", "$", "\\(", "<!--", "word", "3,600", " ", "\n", '"', "\ud800"])
).map("".join)


def as_utf8(text):
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(WRITTEN | ACTING, WRITTEN | ACTING, WRITTEN)
def test_every_text_is_shown_as_it_is_and_nothing_of_it_acts(text, other, source):
    for html in (safe(text), marked(text, other, source), marked(text, None, None)):
        shown = Shown(html)
        assert "".join(shown.texts) == as_utf8(text)
        assert shown.tags <= {"span", "mark", "u"}
        html.encode("utf-8")  # a lone surrogate would not pass
        for piece in shown.texts:  # no typesetter joins a delimiter to what it would enclose
            assert piece in ("$", "\\") or not {"$", "\\"} & set(piece)


def test_words_are_told_apart_by_letters_not_by_capitals():
    assert words("It covers 3,600 hectares; it\u2019s the South-East.") == {
        *("it", "covers", "3,600", "hectares", "it's", "the", "south-east")
    }


@pytest.mark.parametrize(
    ("text", "other", "source", "html"),
    [
        ("It has 3 hills.", "it had 3 hills", None, "It {has} 3 hills."),
        ("It has 3 hills.", None, "3 HILLS it has", "It has [3 hills]."),  # it, has: short
        ("Cold Hat, hard", "", "cold hard", "{[Cold]}{ Hat}, {[hard]}"),
        ("two words here", "", None, "{two words here}"),  # one mark, the spaces too
        ("a <b> c", "a c", "", "a &lt;{b}&gt; c"),
        ("", "x", "y", ""),
    ],
)
def test_marks(text, other, source, html):
    signs = {
        '<mark class="nbr-differs">': "{",
        "</mark>": "}",
        '<u class="nbr-sourced">': "[",
        "</u>": "]",
    }
    found = marked(text, other, source)
    for tag, sign in signs.items():
        found = found.replace(tag, sign)
    assert found == html

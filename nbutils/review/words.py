"""The words of an answer that are worth a mark. Never changes what it says."""

import re
from collections.abc import Container, Iterator
from itertools import groupby

from nbutils.display import safe

WORD = re.compile(r"\w+(?:[.,:'\u2019-]\w+)*")  # 3,600 and south-east are one word each
LONG = 4  # letters of a word that is worth a mark where it stands in the source
DIFFERS, SOURCED = "nbr-differs", "nbr-sourced"  # classes of the two marks


def words(text: str) -> set[str]:
    """The words of a text; capitals do not count.

    >>> sorted(words("It covers 3,600 hectares."))
    ['3,600', 'covers', 'hectares', 'it']
    """
    return {_key(found.group()) for found in WORD.finditer(text)}


def marked(text: str, other: str | None, source: str | None) -> str:
    """The text as safe HTML with marks; None leaves a kind of mark out.

    `<mark class="nbr-differs">` has the words that `other` does not have. `<u class="nbr-sourced">`
    has those that stand in `source`, if they are worth it: four letters or more, or with a digit.
    Marked words with nothing but space between them share one mark.
    """
    theirs = None if other is None else words(other)
    known = None if source is None else words(source)
    html = ""
    for marks, group in groupby(_joined(list(_pieces(text, theirs, known))), lambda p: p[1]):
        inner = safe("".join(piece for piece, _ in group))
        if marks[1]:
            inner = f'<u class="{SOURCED}">{inner}</u>'
        html += f'<mark class="{DIFFERS}">{inner}</mark>' if marks[0] else inner
    return html


Piece = tuple[str, tuple[bool, bool]]  # a text, whether it differs, whether it stands in the source


def _pieces(
    text: str, theirs: Container[str] | None, known: Container[str] | None
) -> Iterator[Piece]:
    """The text in order, a word or what stands between two words at a time."""
    end = 0
    for found in WORD.finditer(text):
        key = _key(found.group())
        worth = len(key) >= LONG or any(letter.isdigit() for letter in key)
        differs = theirs is not None and key not in theirs
        yield text[end : found.start()], (False, False)
        yield found.group(), (differs, known is not None and worth and key in known)
        end = found.end()
    yield text[end:], (False, False)


def _joined(pieces: list[Piece]) -> Iterator[Piece]:
    """The same pieces; a space between two words takes on the marks that both have."""
    yield pieces[0]
    for before, piece, after in zip(pieces, pieces[1:], pieces[2:], strict=False):
        space = piece[0].isspace()
        shared = (before[1][0] and after[1][0], before[1][1] and after[1][1])
        yield (piece[0], shared) if space else piece
    if len(pieces) > 1:
        yield pieces[-1]


def _key(word: str) -> str:
    return word.casefold().replace("\u2019", "'")

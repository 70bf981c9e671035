"""A judge's reply becomes a verdict, a score, or unreadable with the reason. Never guesses."""

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nbutils.records import Label, Order

Letter = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Verdict:
    """The letter that a reply gives, in the labels that the judge was shown."""

    letter: Letter | None  # None: unreadable
    reason: str | None = None  # why it is unreadable
    recovered: bool = False  # it stood alone on the line before the last
    # reply[place] is its letter; None where the line holds its marker more than once.
    place: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Score:
    """The score that a reply gives."""

    value: float | None  # 0 to 1; None: unreadable
    reason: str | None = None  # why it is unreadable


def read_verdict(reply: str, finish_reason: str | None = None) -> Verdict:
    r"""The verdict on the reply's last non-empty line, or unreadable with the reason.

    The line must hold one distinct marker among [[A]], [[B]] and [[C]], which opens or ends the
    line or its last sentence and is neither quoted nor negated nor conditional. Where that line
    holds none and takes nothing back, a marker alone on the line before it is recovered.

    >>> read_verdict("One could think [[A]], but it is wrong.\n[[B]]").letter
    'B'
    >>> read_verdict("It is [[A]] or [[B]].").reason
    'different markers on the last line'
    """
    lines, reason = _lines(reply, finish_reason)
    if not lines:
        return Verdict(None, reason)
    mark, reason = _read_line(lines[-1].text, _LETTER)
    if mark:
        return Verdict(_LETTERS[mark[1]], place=_place(lines[-1], mark))
    if reason == _NONE and len(lines) > 1 and not _takes_back(lines[-1].text):
        alone, _ = _read_line(lines[-2].text, _LETTER)
        if alone and not _has_word(_LETTER.sub("", _TAG.sub("", lines[-2].text))):
            return Verdict(_LETTERS[alone[1]], recovered=True, place=_place(lines[-2], alone))
    return Verdict(None, reason)


def read_score(reply: str, finish_reason: str | None = None) -> Score:
    r"""The score on the reply's last non-empty line, or unreadable with the reason.

    The same rule as for verdicts, with a number from 0 to 1 in the brackets, and no recovery.

    >>> read_score("The year is right, the place is missing.\n[[0.5]]").value
    0.5
    """
    lines, reason = _lines(reply, finish_reason)
    if not lines:
        return Score(None, reason)
    mark, reason = _read_line(lines[-1].text, _NUMBER)
    if mark is None:
        return Score(None, reason)
    value = float(mark[1])
    return Score(value) if 0 <= value <= 1 else Score(None, "the score is not from 0 to 1")


def in_pair_labels(letter: Letter, order: Order) -> Label:
    """The pair's own label for the letter that the judge was shown.

    >>> in_pair_labels("A", "flipped")  # flipped shows the pair's b as A
    'b'
    """
    shown: dict[Order, dict[Letter, Label]] = {
        "original": {"A": "a", "B": "b", "C": "tie"},
        "flipped": {"A": "b", "B": "a", "C": "tie"},
    }
    return shown[order][letter]


def _words(text: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{text})\b", re.IGNORECASE)


_LETTERS: dict[str, Letter] = {"A": "A", "B": "B", "C": "C", "a": "A", "b": "B", "c": "C"}
_NONE = "no marker on the last line"
# Finish reasons of a reply that is not whole: OpenAI's, Mistral's, and those of vLLM and SGLang.
_CUT = ("length", "content_filter", "model_length", "error", "abort")

# No pattern repeats a repetition: each takes time in proportion to the line.
_LETTER = re.compile(r"\[\[[\s*_`]*([ABCabc])[\s*_`]*\]\]")
_NUMBER = re.compile(r"\[\[[\s*_`]*(-?[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[\s*_`]*\]\]")
_TAG = re.compile(r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?>")
_ODD_TAG = _words(  # what it holds is quoted, struck out or only thought
    "q|quote|blockquote|cite|answer_[ab]|question|source|s|del|strike|not|if|think(?:ing)?"
)
_DOUBLE_QUOTE = re.compile(r'["\u201c-\u201f\u00ab\u00bb\u300c-\u300f\uff02]')
_CLOSING = ("'", "\u2019", "\u203a")
_SINGLE_QUOTE = re.compile(  # an apostrophe inside a word is neither
    "(?P<close>(?<=[^\\s(])['\u2019\u203a](?!\\w))|(?<!\\w)['\u2018\u201a\u2039]"
)
_SENTENCE_END = re.compile("(?<=[^.\u2026\\s][.!?])[\"'\u201d\u2019\u00bb)*_`]*\\s+")
_CLAUSE_END = re.compile(r";|(?<!\bnot), (?:and )?(?=(?:so|therefore|thus|hence)\b)(?!so to)", re.I)
_LEAD = re.compile(  # over lower-case words and colons with single spaces between them
    r"(?:(?:so|thus|therefore|hence|and|the|my|our|final|overall) )*"
    r"(?:verdict|decision|answer|winner|choice|judge?ment|conclusion|score|grade)(?: is| [:=])+"
    r"|so|thus|therefore|hence|"
)
_NEGATED = _words(
    r"not(?! only)|no(?! doubt| question)|never|neither|nor|cannot|\w+n['\u2019]t"
    r"|(?:is|do|does|ca|wo)nt|hardly|anything but|far from|reject\w*|refus\w*|ignor\w*"
    r"|disregard\w*|rul(?:e|ed|ing) out|(?:wrong|false|incorrect) (?:to|that)"
)
_IF = _words(
    "if|unless|whether|suppos(?:e|ing)|assum(?:e|ing)|provid(?:ed|ing) that|in case"
    "|depend(?:s|ing)|either|otherwise"
)
_MAYBE = _words("would|could|might|may|maybe|perhaps|possibly|had it|were it|should it")
_SAID = _words(
    "says|said|saying|claims?|claimed|quot(?:es?|ed|ing)|writes|wrote|pretends"
    "|instruct(?:s|ed|ions?)|(?:asks|asked|tells|told|orders|ordered|wants|begs|urges) "
    "(?:me|us|you|for|to|that|the judge)"
)
_NOT_THIS = re.compile(  # right before the marker
    r"\b(?:instead of|than|over|against|unlike|except|without|but not|contains?|includes?|reads"
    r"|text|string|words?|phrase|marker|outputs?|prints?)\W*$|\[\s*$",
    re.I,
)
_BAD_OR_OPEN = re.compile(  # right after the marker
    r"\W*(?:(?:is|was|looks|seems|and|even) )*(?:worse|wrong|false|incorrect|weaker|loses|lost"
    r"|or|vs|when|provided)\b|[\s`)]*[?/\]]",
    re.I,
)
_REASON = re.compile(r"\b(?:because|since|as|for|[Aa]nswers? [ABCabc]|[ABC])\b")
_TAKES_BACK = re.compile(
    r"\b(?:on reflection|second thoughts?|after all|correction|reconsider\w*|chang\w+ my|to sway"
    r"|kidding|(?:ignore|disregard|scratch) (?:that|this|the|it|my)"
    r"|I (?:(?:do|did|will|shall) not|\w+n['\u2019]t) (?:follow|agree|mean|accept)"
    r"|(?:verdict|winner|decision)\W+(?:is\W+)?(?:answer\W+)?[ABC])\b"
    r"|^\W*(?:actually|wait)\b|^\W*(?:no|sorry)\s*[,.:;!]|^\W*[ABC]\W*$"
    r"|\[\[|\]\]|\[\s*[ABC]\s*\]|[\u3010\u3011\uff3b\uff3d]|</?think",
    re.I,
)


class _Line(NamedTuple):
    """A line without the spaces around it, and where in the reply it starts."""

    start: int
    text: str


def _lines(reply: str, finish_reason: str | None) -> tuple[list[_Line], str | None]:
    """The reply's non-empty lines, or none of them and why the reply cannot be read at all."""
    if finish_reason == "refusal":
        return [], "the model refused"
    if finish_reason in _CUT:
        return [], f"cut off: finish reason '{finish_reason}'"
    lines, start = [], 0
    for line in reply.splitlines(keepends=True):
        if line.strip():
            lines.append(_Line(start + len(line) - len(line.lstrip()), line.strip()))
        start += len(line)
    return lines, None if lines else "the reply is empty"


def _place(line: _Line, mark: re.Match[str]) -> int | None:
    """Where the letter of a line's only marker stands in the reply; None where there are more."""
    if len(_LETTER.findall(mark.string)) > 1:
        return None
    place = mark.start(1)
    for tag in _TAG.finditer(line.text):  # each was read as one space
        if tag.start() < place:
            place += len(tag[0]) - 1
    return line.start + place


def _read_line(line: str, marker: re.Pattern[str]) -> tuple[re.Match[str] | None, str | None]:
    """A marker that the line gives as its verdict, tags read as spaces, or None and why not."""
    text = _TAG.sub(" ", line)
    found = list(marker.finditer(text))
    if not found:
        return None, _NONE
    if len({mark[1].upper() for mark in found}) > 1:
        return None, "different markers on the last line"
    starts = [0, *(end.end() for end in _SENTENCE_END.finditer(text))]
    last_word = next(i for i in reversed(range(len(text))) if text[i].isalnum())
    start = max(i for i in starts if i <= last_word)
    in_last = [mark for mark in found if mark.start() >= start]
    if not in_last:  # then it must open the line
        start = 0
    first, last = (in_last[0], in_last[-1]) if in_last else (found[0], found[0])
    stop = min((i for i in starts if i >= last.end()), default=len(text))
    lead = re.findall(r"\w+|[:=]", _plain(text[start : first.start()]).lower())
    opens = _LEAD.fullmatch(" ".join(lead)) is not None
    before = _CLAUSE_END.split(_plain(text[start : last.start()]))[-1]
    after = _plain(text[first.end() : stop])
    claim = _REASON.split(after, maxsplit=1)[0]  # what is said of the verdict, without the why
    if _is_quoted(line, text[: last.start()], text[last.end() :], opens) or _is_reported(before):
        return None, "the marker is quoted"
    if "~~" in line or _NEGATED.search(before) or _NEGATED.search(claim):
        return None, "the marker is negated"
    if _IF.search(before) or _IF.search(after) or _MAYBE.search(before) or _MAYBE.search(claim):
        return None, "the marker is conditional"
    if _NOT_THIS.search(before) or _BAD_OR_OPEN.match(after):
        return None, "the marker is not given as the verdict"
    if not opens and _has_word(text[last.end() :]):
        return None, "the marker neither opens nor ends the line or its last sentence"
    return first, None


def _is_quoted(line: str, before: str, after: str, opens: bool) -> bool:
    """Whether quotation marks, a code span, a block quote or a tag hold the marker."""
    if line.startswith(">") or "<!--" in line or any(map(_ODD_TAG.search, _TAG.findall(line))):
        return True
    if any(len(_DOUBLE_QUOTE.findall(side)) % 2 for side in (before, after)):
        return True
    single = [found["close"] for found in _SINGLE_QUOTE.finditer(before)]
    if (single and single[-1] is None) or after.lstrip("*_`").startswith(_CLOSING):
        return True
    return before.count("`") % 2 == 1 and not opens


def _is_reported(before: str) -> bool:
    """Whether the words before the marker tell what somebody says; a comma ends the report."""
    head, _, tail = before.rpartition(",")
    words = head.split()
    return _SAID.search(tail) is not None or bool(words and _SAID.fullmatch(words[-1]))


def _takes_back(line: str) -> bool:
    """Whether a line after a lone marker speaks against it, or closes a quotation around it."""
    return bool(_TAKES_BACK.search(line)) or len(_DOUBLE_QUOTE.findall(line)) % 2 == 1


def _plain(text: str) -> str:
    """The text without emphasis."""
    return text.replace("*", "").replace("_", " ")


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))

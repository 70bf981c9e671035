"""The teacher's probabilities of A, B and C, read from a reply's log-probabilities. Never guesses.

A reply's text says only which verdict was drawn; the log-probabilities at the token that holds its
letter say how near the other two were. As in the scoring function of G-Eval (Liu et al. 2023,
section 2), they are the probabilities of the tokens that were possible there, here normalised over
the verdicts that the prompt allows. Where they cannot be read the reason is told, the verdict
stands, and that order's share of the soft target is made from the vote.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from nbutils.callpath.exchange import Reply, Token
from nbutils.records import Judgement, Label, Order, Probabilities
from nbutils.verdicts import Letter, Verdict, in_pair_labels

LEFT_OUT = 0.01  # share of the three that letters missing among the alternatives may hold
ROUNDING = 1e-4  # by which probabilities from rounded logarithms may miss a sum of 1
UNLIKELY = -9999.0  # OpenAI and vLLM write it for a token that is too unlikely to say how much

NOT_GIVEN = "the reply came without log-probabilities"
REPEATED = "the verdict's line holds its marker more than once"
NOT_SPELT = "the tokens do not spell the end of the reply"
TOO_FAR = "the tokens do not spell the way back to the verdict"
NOT_LOGARITHMS = "a log-probability is above 0 or no number"
TOO_FEW = "the alternatives do not tell how likely the other verdicts were"

_SPECIAL = re.compile(r"<[^<>\s]+>")  # an end token such as <|im_end|> or </s>
_PIECE = re.compile(  # of a marker, with its letter and no word beside it
    r"(?:[\s*_`]*(?P<opening>\[{1,2}))?[ *_`]*(?P<letter>[ABCabc])[ *_`]*(?:\]|\]\][\s*_`.!]*)?"
)


def verdict_probabilities(
    reply: Reply, read: Verdict, order: Order
) -> tuple[Probabilities | None, str | None]:
    """The probabilities of (a, b, tie) in the pair's own labels, or None and why not.

    `read` is what verdicts.read_verdict read in this reply; where that is unreadable, both are
    None. An alternative of the token that holds the verdict's letter counts for the letter that it
    would have put there: the same token with another letter, or another piece of a marker that
    opens as many brackets, such as "a", " A" and "A]]" beside "A". They say how likely the letters
    were, not which one was drawn: the verdict stays as it was written.

    A letter that is not among the alternatives gets 0. It is at most as likely as the least likely
    of them, and as all that they leave out of 1. Where the missing letters could hold more than
    LEFT_OUT of the three, nothing is told.
    """
    if read.letter is None:
        return None, None
    if not reply.tokens:
        return None, NOT_GIVEN
    if read.place is None:
        return None, REPEATED
    found = _token_at(reply.text, reply.tokens, read.place)
    if isinstance(found, str):
        return None, found
    token, at = found
    shares = _letter_shares(token, at)
    if isinstance(shares, str):
        return None, shares
    labelled = {in_pair_labels(letter, order): share for letter, share in shares.items()}
    a, b, tie = (labelled[label] for label in get_args(Label))
    return (a, b, tie), None


def _token_at(text: str, tokens: Sequence[Token], place: int) -> tuple[Token, int] | str:
    """The token that holds text[place] and where in it, or why that cannot be told.

    Tokens are laid along the text from its end. What may follow the text is passed over: end
    tokens, and spaces, which some endpoints take off. A token that does not spell the text, such
    as half a character (given as nothing or as U+FFFD), ends the way back.
    """
    end = len(text.rstrip())
    laid = False
    for token in reversed(tokens):
        piece = token.text if laid else token.text.rstrip()
        if piece and text.endswith(piece, 0, end):
            laid = True
            end -= len(piece)
            if end <= place:
                return token, place - end
        elif laid or (piece and not _SPECIAL.fullmatch(piece)):
            break
    return TOO_FAR if laid else NOT_SPELT


def _letter_shares(token: Token, at: int) -> dict[Letter, float] | str:
    """The shares of A, B and C among the three, where the token's letter is token.text[at]."""
    listed = list(token.top)
    if token.text not in dict(listed):  # drawn, though not among the likeliest
        listed.append((token.text, token.logprob))
    if not all(logprob <= 1e-3 for _, logprob in listed):  # rounding; nan is not either
        return NOT_LOGARITHMS
    weights: dict[Letter, float] = {}
    for text, logprob in listed:
        letter = _letter(text, token.text, at)
        if letter and logprob > UNLIKELY:
            weights[letter] = weights.get(letter, 0.0) + math.exp(logprob)
    whole = sum(weights.values())
    absent = len(get_args(Letter)) - len(weights)
    left = max(0.0, 1 - sum(math.exp(logprob) for _, logprob in listed)) + ROUNDING
    least = min((logprob for _, logprob in token.top if logprob > UNLIKELY), default=0.0)
    missing = min(left, absent * math.exp(least))
    if whole == 0 or missing > LEFT_OUT * (whole + missing):
        return TOO_FEW
    return {letter: weights.get(letter, 0.0) / whole for letter in get_args(Letter)}


def _letter(text: str, drawn: str, at: int) -> Letter | None:
    """The letter that an alternative puts where the drawn token has drawn[at], if it does."""
    found = text[at : at + 1].upper()
    if text != drawn[:at] + text[at : at + 1] + drawn[at + 1 :]:
        piece = _PIECE.fullmatch(text)
        same = piece and len(piece["opening"] or "") == drawn[:at].count("[")
        found = piece["letter"].upper() if piece and same else ""
    return next((letter for letter in get_args(Letter) if letter == found), None)


@dataclass(frozen=True)
class SoftTargets:
    """What the soft targets of a teacher's judgements are made from: numbers of judgements."""

    log_probabilities: int
    votes: int
    none: int  # unreadable: no target
    reasons: dict[str, int]  # why votes, the most frequent first; they add up to votes

    def __str__(self) -> str:
        why = "; ".join(f"{count} as {reason}" for reason, count in self.reasons.items())
        votes = f"{self.votes} from votes" + (f" ({why})" if why else "")
        given = f"{self.log_probabilities} judgements from log-probabilities"
        return f"soft targets: {given}, {votes}, {self.none} unreadable and without one"


def soft_label_counts(judgements: Iterable[Judgement]) -> SoftTargets:
    """How many judgements give their share of a soft target by log-probabilities, how many not.

    >>> row = Judgement("p1", "original", "t", "x:0", "[[A]]", "a", source="votes", fallback="told")
    >>> print(soft_label_counts([row]))
    soft targets: 0 judgements from log-probabilities, 1 from votes (1 as told), 0 unreadable and \
without one
    """
    rows = list(judgements)
    sources = Counter(row.source for row in rows)
    reasons = Counter(row.fallback for row in rows if row.fallback)
    return SoftTargets(
        sources["log-probabilities"], sources["votes"], sources[None], dict(reasons.most_common())
    )

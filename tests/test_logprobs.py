import doctest
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbutils.logprobs
from nbutils.callpath.exchange import Reply, Token
from nbutils.logprobs import (
    NOT_GIVEN,
    NOT_LOGARITHMS,
    NOT_SPELT,
    REPEATED,
    TOO_FAR,
    TOO_FEW,
    SoftTargets,
    soft_label_counts,
    verdict_probabilities,
)
from nbutils.records import Judgement, Order, Probabilities
from nbutils.resolution import resolve
from nbutils.verdicts import read_verdict

TEXT = "Only A has the year.\n[[A]]"
LIKELY = {"A": 0.6, "B": 0.3, "C": 0.05}  # what is left, 0.05, goes to other tokens


def plain(text: str) -> Token:
    return Token(text, math.log(0.9), ((text, math.log(0.9)), ("x", math.log(0.05))))


def drawn(text: str, likely: dict[str, float]) -> Token:
    """A token among its alternatives; where it is none of them it was drawn at 0.001."""
    top = tuple((spelling, math.log(share)) for spelling, share in likely.items())
    return Token(text, dict(top).get(text, math.log(0.001)), top)


def exchanged(piece: str, likely: dict[str, float]) -> Token:
    """The piece that holds the marker's A, with the other letters in its place."""
    return drawn(piece, {piece.replace("A", letter): share for letter, share in likely.items()})


def replied(text: str, tokens: Sequence[Token | str]) -> Reply:
    return Reply(text, tokens=tuple(plain(t) if isinstance(t, str) else t for t in tokens))


def at_letter(token: Token, letter: str = "A") -> Reply:
    """A reply whose bare verdict letter is that token."""
    return replied(f"Why.\n[[{letter}]]", ["Why", ".\n", "[[", token, "]]"])


def read(reply: Reply, order: Order = "original") -> tuple[Probabilities | None, str | None]:
    return verdict_probabilities(reply, read_verdict(reply.text, reply.finish_reason), order)


def shares(reply: Reply, order: Order = "original") -> Any:
    probabilities, why = read(reply, order)
    assert probabilities is not None and why is None, why
    return pytest.approx(probabilities)


def test_the_three_are_normalised_and_named_in_the_pairs_labels() -> None:
    reply = at_letter(exchanged("A", LIKELY))
    # .6, .3 and .05 of .95
    assert shares(reply) == (0.6 / 0.95, 0.3 / 0.95, 0.05 / 0.95)
    # flipped shows the pair's b as A
    assert shares(reply, "flipped") == (0.3 / 0.95, 0.6 / 0.95, 0.05 / 0.95)


@pytest.mark.parametrize(
    "pieces",
    [
        ["year", ".", "\n", "[", "[", "A", "]", "]"],
        ["year", ".\n", "[[", "A", "]]"],
        ["year", ".\n", "[[A", "]]"],
        ["year", ".", "\n[[A]]"],
        ["year", ".\n[[", "A]]"],
        ["year", ".\n[", "[A", "]]"],
        ["year.\n[[A]]"],
    ],
)
def test_a_marker_split_in_any_way(pieces: list[str]) -> None:
    tokens = [exchanged(p, LIKELY) if "A" in p else plain(p) for p in pieces]
    assert shares(replied(TEXT, tokens)) == (0.6 / 0.95, 0.3 / 0.95, 0.05 / 0.95)


weights = st.tuples(*[st.floats(0.01, 0.3)] * 3)
dresses = st.sampled_from(
    ["[[A]]", "**[[A]]**", "[[ A ]]", "[[*A*]].", "Verdict: [[A]]", "`[[A]]`"]
)


@given(st.data(), dresses, weights, st.sampled_from(["", "\n", " \n\n"]))
def test_the_splitting_does_not_matter(data: Any, dress: str, w: Any, tail: str) -> None:
    text = f"Both are near, the first is closer.\n{dress}{tail}"
    cuts = data.draw(st.sets(st.integers(1, len(text) - 1)))
    edges = [0, *sorted(cuts), len(text)]
    place = text.rindex("A")
    tokens = []
    for start, stop in zip(edges, edges[1:], strict=False):
        piece = text[start:stop]
        if start <= place < stop:
            likely = {
                piece[: place - start] + letter + piece[place - start + 1 :]: share
                for letter, share in zip("ABC", w, strict=True)
            }
            tokens.append(drawn(piece, likely))
        else:
            tokens.append(plain(piece))
    listed = data.draw(st.lists(st.sampled_from(["<|im_end|>", "</s>", "", "\n"]), max_size=2))
    sent = data.draw(st.sampled_from([text, text.rstrip()]))  # some endpoints strip the reply
    assert tuple(share / sum(w) for share in w) == shares(replied(sent, [*tokens, *listed]))


@pytest.mark.parametrize(
    ("letter", "likely", "expected"),
    [
        # .5 + .1 for A, .2 for B, .1 + .1 for C
        ("A", {"A": 0.5, "a": 0.1, "B": 0.2, "C": 0.1, "c": 0.1}, (0.6, 0.2, 0.2)),
        # what precedes and follows: .3 + .1 for A, .2 + .2 for B, .2 for C
        ("A", {"A": 0.3, " A": 0.1, "B]]": 0.2, "B]": 0.2, "C]].\n": 0.2}, (0.4, 0.4, 0.2)),
        # words, other brackets and other letters are no verdicts: .4 for A, .1 for B and for C
        (
            "A",
            {"A": 0.4, "Answer": 0.05, "[B": 0.1, "D": 0.1, "B": 0.1, "C": 0.1, "As": 0.05},
            (4 / 6, 1 / 6, 1 / 6),
        ),
        # a lower-case verdict: .2 for B, .6 for A, .2 for C
        ("b", {"b": 0.2, "A": 0.6, "c": 0.2}, (0.6, 0.2, 0.2)),
    ],
)
def test_spellings_count_for_their_letter(
    letter: str, likely: dict[str, float], expected: Probabilities
) -> None:
    assert expected == shares(at_letter(drawn(letter, likely), letter))


def test_a_piece_of_a_marker_must_open_as_many_brackets() -> None:
    # after the newline: [[A .5, [[ B .2, [[c]] .1; "B" alone and "[[" say nothing of a letter here
    likely = {"[[A": 0.5, "[[ B": 0.2, "[[c]]": 0.1, "B": 0.1, "[[": 0.1}
    reply = replied(TEXT, ["year", ".\n", drawn("[[A", likely), "]]"])
    assert shares(reply) == (5 / 8, 2 / 8, 1 / 8)


def test_a_verdict_drawn_against_the_odds_stays_and_the_probabilities_say_so() -> None:
    reply = at_letter(drawn("C", {"A": 0.7, "B": 0.2, "C": 0.1}), "C")
    assert read_verdict(reply.text).letter == "C"
    assert shares(reply) == (0.7, 0.2, 0.1)
    # drawn though it is not listed at all, as llama.cpp may: 0.001 beside .7 and .2
    reply = at_letter(drawn("C", {"A": 0.7, "B": 0.2, "x": 0.09}), "C")
    assert shares(reply) == (0.7 / 0.901, 0.2 / 0.901, 0.001 / 0.901)


def test_a_letter_that_is_not_listed_gets_nothing_where_that_is_sure() -> None:
    # C is at most as likely as the least likely one listed: .004 of .994
    assert shares(at_letter(drawn("A", {"A": 0.7, "B": 0.29, "x": 0.004}))) == (
        0.7 / 0.99,
        0.29 / 0.99,
        0,
    )
    # nothing but A: all else comes to .005
    assert shares(at_letter(drawn("A", {"A": 0.995}))) == (1, 0, 0)
    assert shares(at_letter(Token("A", math.log(0.995), ()))) == (1, 0, 0)
    # C could be as likely as .1
    assert read(at_letter(drawn("A", {"A": 0.5, "B": 0.3, "x": 0.1}))) == (None, TOO_FEW)
    # B and C could come to .006 each: .012 of .912, though each alone would pass
    assert read(at_letter(drawn("A", {"A": 0.9, "x": 0.006}))) == (None, TOO_FEW)
    assert read(at_letter(drawn("A", {"A": 0.5}))) == (None, TOO_FEW)
    assert read(at_letter(Token("A", math.log(0.5), ()))) == (None, TOO_FEW)


def test_a_figure_that_says_too_unlikely_to_tell_is_no_figure() -> None:
    # OpenAI lists 20 at most and writes -9999 for a drawn token that is not among them
    likely = (("A", math.log(0.9)), ("B", math.log(0.096)), ("x", math.log(0.003)))
    assert shares(at_letter(Token("C", -9999.0, likely), "C")) == (0.9 / 0.996, 0.096 / 0.996, 0)
    alone = (("x", math.log(0.99)), ("y", math.log(0.01)))
    assert read(at_letter(Token("A", -9999.0, alone))) == (None, TOO_FEW)
    # C was not listed, so it could be as likely as all that is left: .05 of .85
    left = (("A", math.log(0.6)), ("B", math.log(0.2)), ("x", math.log(0.15)))
    assert read(at_letter(Token("C", -9999.0, left), "C")) == (None, TOO_FEW)
    # B and C could have the .1 that is left
    masked = (("A", math.log(0.7)), ("x", math.log(0.2)), ("y", -9999.0))
    assert read(at_letter(Token("A", math.log(0.7), masked))) == (None, TOO_FEW)
    # a server that masks what may not be drawn: nothing is left for the others
    masked = (("A", 0.0), ("B", -math.inf), ("C", -9999.0))
    assert shares(at_letter(Token("A", 0.0, masked))) == (1, 0, 0)


def test_what_was_drawn_at_random_says_nothing_of_what_is_not_listed() -> None:
    # C was drawn at .001; B was not, and could have the .049 that is left
    assert read(at_letter(drawn("C", {"A": 0.7, "x": 0.15, "y": 0.1}), "C")) == (None, TOO_FEW)


def test_three_shares_that_come_to_nothing_are_not_told() -> None:
    never = tuple((letter, -800.0) for letter in "ABC")  # e^-800 is 0 in a float
    token = Token("A", -800.0, (*never, ("x", 0.0)))
    assert read(at_letter(token)) == (None, TOO_FEW)


@pytest.mark.parametrize("figure", [0.5, math.nan, math.inf])
def test_figures_that_are_no_logarithms_of_probabilities(figure: float) -> None:
    token = Token("A", -0.1, (("A", -0.1), ("B", figure)))
    assert read(at_letter(token)) == (None, NOT_LOGARITHMS)


LETTER = exchanged("A", LIKELY)


@pytest.mark.parametrize(
    "tokens",
    [
        [LETTER, "]]", "<|im_end|>"],
        [LETTER, "]]", "\n", "</s>"],
        [LETTER, "]]\n"],
        [LETTER, "]]", ""],  # llama.cpp writes its end token so
        ["\ufffd", "\ufffd", "\n[[", LETTER, "]]"],  # half a character each
        ["", "", "\n[[", LETTER, "]]"],
        ["\\xe2\\x80", "\n[[", LETTER, "]]"],
    ],
)
def test_what_stands_after_the_verdict_or_long_before_is_passed_over(tokens: list[Any]) -> None:
    reply = replied("In \u201cYear Three\u201d\n[[A]]", tokens)
    assert shares(reply) == (0.6 / 0.95, 0.3 / 0.95, 0.05 / 0.95)


@pytest.mark.parametrize(
    ("text", "tokens", "why"),
    [
        (TEXT, [], NOT_GIVEN),
        (TEXT, ["[[", LETTER, "]]", "Thanks"], NOT_SPELT),
        (TEXT, ["<|im_end|>", "", "\n"], NOT_SPELT),
        (TEXT, ["[[", LETTER], NOT_SPELT),
        (TEXT, ["]]"], TOO_FAR),
        (TEXT, [LETTER, "\ufffd", "]]"], TOO_FAR),
        (TEXT, [LETTER, "", "]]"], TOO_FAR),
        ("[[A]]\u00e9\u00e9", ["[[", LETTER, "]]", "\u00e9", "", ""], TOO_FAR),
        ("[[A]] [[A]]", ["[[", LETTER, "]]", " [[", LETTER, "]]"], REPEATED),
        # .001 for A, and rounding alone could hide a tenth of that for B
        (TEXT, [drawn("A", {"x": 0.9, "y": 0.1}), "]]"], TOO_FEW),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str, tokens: list[Any], why: str) -> None:
    assert read(replied(text, tokens)) == (None, why)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # recovered from the line before the last
        ("[[A]]\nI hope this helps!", ["[[", LETTER, "]]\n", "I hope", " this helps", "!"]),
        # opens the line; the letters in words after it are none
        ("[[A]] because A is right", ["[[", LETTER, "]]", " because", " A", " is right"]),
        ("[[<b>A</b>]]", ["[[", "<b>", LETTER, "</b>", "]]"]),
        ("<i>So</i>, [[A]]", ["<i>So", "</i>, [[", LETTER, "]]"]),
        ("  A has it. [[A]]", ["  A", " has it.", " [[", LETTER, "]]"]),
    ],
)
def test_the_letter_is_that_of_the_verdict(text: str, tokens: list[Any]) -> None:
    other = replied(text, [plain(t) if isinstance(t, str) else t for t in tokens])
    assert shares(other) == (0.6 / 0.95, 0.3 / 0.95, 0.05 / 0.95)


def test_an_unreadable_reply_has_no_probabilities_to_fall_back_from() -> None:
    cut = replace(at_letter(LETTER), finish_reason="length")
    assert read(cut) == (None, None)
    assert read(Reply("")) == (None, None)


@given(weights, st.sampled_from("ABC"), st.lists(st.floats(1e-6, 0.009), max_size=5))
def test_a_flipped_order_swaps_a_and_b_and_a_tie_stays(w: Any, letter: str, rest: Any) -> None:
    likely = dict(zip("ABC", w, strict=True)) | {f"x{n}": share for n, share in enumerate(rest)}
    reply = at_letter(drawn(letter, likely), letter)
    (a, b, tie), _ = read(reply)  # type: ignore[misc]
    assert read(reply, "flipped") == ((b, a, tie), None)
    assert min(a, b, tie) > 0 and a + b + tie == pytest.approx(1)


def judged(order: Order, reply: Reply) -> Judgement:
    """As judging does it."""
    found = read_verdict(reply.text, reply.finish_reason)
    probabilities, why = verdict_probabilities(reply, found, order)
    label: Any = {"A": "a", "B": "b", "C": "tie", None: None}[found.letter]
    if order == "flipped":
        label = {"a": "b", "b": "a"}.get(label, label)
    source: Any = "log-probabilities" if probabilities else "votes" if why else None
    return Judgement(
        "p1", order, "teacher", "x:0", reply.text, label, found.reason,
        probabilities=probabilities, source=source, fallback=why,
    )  # fmt: skip


def test_both_sources_are_counted_with_their_reasons() -> None:
    with_them = at_letter(exchanged("A", LIKELY))
    replies = [with_them, Reply("[[A]]"), Reply("[[B]]"), Reply("so"), replied("[[A]]", ["]]"])]
    counts = soft_label_counts(judged("original", reply) for reply in replies)
    assert counts == SoftTargets(1, 3, 1, {NOT_GIVEN: 2, TOO_FAR: 1})
    assert str(counts) == (
        f"soft targets: 1 judgements from log-probabilities, 3 from votes (2 as {NOT_GIVEN}; "
        f"1 as {TOO_FAR}), 1 unreadable and without one"
    )


def test_one_order_from_log_probabilities_and_one_from_its_vote_make_one_target() -> None:
    first = judged("original", at_letter(exchanged("A", LIKELY)))
    second = judged("flipped", Reply("[[A]]"))  # b in the pair's labels
    assert (first.source, second.source) == ("log-probabilities", "votes")
    # means of (.6, .3, .05) / .95 and, at epsilon .3, (.1, .8, .1)
    expected = [(p / 0.95 + q) / 2 for p, q in zip((0.6, 0.3, 0.05), (0.1, 0.8, 0.1), strict=True)]
    assert resolve(first, second, epsilon=0.3).target == pytest.approx(tuple(expected))


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(nbutils.logprobs) == doctest.TestResults(failed=0, attempted=2)

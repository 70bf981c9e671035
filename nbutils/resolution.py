"""Two orders of a pair become one resolution. Never calls an unreadable order a tie."""

from collections.abc import Iterable
from typing import get_args

from nbutils.records import Judgement, Label, Order, Probabilities, RecordError, Resolution

EPSILON = 0.1  # share of a verdict's weight that is spread evenly over a, b and tie


def resolve(original: Judgement, flipped: Judgement, epsilon: float = EPSILON) -> Resolution:
    """What one judge's verdicts on one pair, in both orders, come to.

    The same verdict twice stands; a win and a tie lean to the win; two wins conflict; an order
    that could not be read leaves the pair unreadable and without a target. The target is the mean
    of the two orders' shares. An order's share is the judge's own probabilities or, where that
    order has none, its vote: the verdict smoothed by epsilon. One order may have them, the other
    not.

    Raises RecordError unless the two judgements are the two orders of one pair, judge and prompt.
    """
    for judgement, order in ((original, "original"), (flipped, "flipped")):
        if judgement.order != order:
            raise RecordError(f"{_name(judgement)}: order is {judgement.order}, not {order}")
    if (original.pair_id, original.judge, original.prompt) != (
        flipped.pair_id,
        flipped.judge,
        flipped.prompt,
    ):
        raise RecordError(
            f"{_name(original)} under {original.prompt} does not go with {_name(flipped)} under "
            f"{flipped.prompt}; both orders must be of one pair, one judge and one prompt"
        )
    pair_id, judge = original.pair_id, original.judge
    if original.verdict is None or flipped.verdict is None:
        return Resolution(pair_id, judge, "unreadable")
    target = _mean(
        original.probabilities or _smoothed(original.verdict, epsilon),
        flipped.probabilities or _smoothed(flipped.verdict, epsilon),
    )
    if original.verdict == flipped.verdict:
        return Resolution(pair_id, judge, original.verdict, target=target)
    if "tie" in (original.verdict, flipped.verdict):
        winner = flipped.verdict if original.verdict == "tie" else original.verdict
        return Resolution(pair_id, judge, winner, leaning=True, target=target)
    return Resolution(pair_id, judge, "conflict", target=target)


def resolve_all(judgements: Iterable[Judgement], epsilon: float = EPSILON) -> list[Resolution]:
    """One resolution for each pair and judge, in the order of their first judgements.

    Judgements are matched by pair and judge, never by position.
    Raises RecordError where an order is missing or there a second time.
    """
    orders: dict[tuple[str, str], dict[str, Judgement]] = {}
    for judgement in judgements:
        found = orders.setdefault((judgement.pair_id, judgement.judge), {})
        if judgement.order in found:
            raise RecordError(f"{_name(judgement)}: a second {judgement.order} order; keep one")
        found[judgement.order] = judgement
    for found in orders.values():
        for order in get_args(Order):
            if order not in found:
                (other,) = found.values()
                raise RecordError(f"{_name(other)}: no {order} order; judge the pair in both")
    return [resolve(found["original"], found["flipped"], epsilon) for found in orders.values()]


def soft_target(
    verdict_original: Label, verdict_flipped: Label, epsilon: float = EPSILON
) -> Probabilities:
    """Probabilities of (a, b, tie) from two verdicts, each smoothed, then averaged.

    >>> soft_target("a", "tie", epsilon=0.75)  # mean of (.5, .25, .25) and (.25, .25, .5)
    (0.375, 0.25, 0.375)
    """
    return _mean(_smoothed(verdict_original, epsilon), _smoothed(verdict_flipped, epsilon))


def sharpen(target: Probabilities, temperature: float) -> Probabilities:
    """softmax(log(target) / temperature): below 1 sharper, 1 the same, above 1 flatter.

    Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, equation 1,
    with log(target) for the logits. Raises ValueError unless the temperature is above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    top = max(target)
    a, b, tie = ((share / top) ** (1 / temperature) for share in target)
    whole = a + b + tie
    return a / whole, b / whole, tie / whole


def _smoothed(verdict: Label, epsilon: float) -> Probabilities:
    """(1 - epsilon) on the verdict and epsilon spread evenly over a, b and tie."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon {epsilon} is not from 0 to 1")
    a, b, tie = ((1 - epsilon) * (verdict == label) + epsilon / 3 for label in get_args(Label))
    return a, b, tie


def _mean(first: Probabilities, second: Probabilities) -> Probabilities:
    a, b, tie = ((p + q) / 2 for p, q in zip(first, second, strict=True))
    return a, b, tie


def _name(judgement: Judgement) -> str:
    return f"pair '{judgement.pair_id}' by judge '{judgement.judge}'"

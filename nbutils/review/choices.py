"""Menus for which items a review is of, and in which order. Never chooses by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from nbutils.review.queue import AGAIN, by_lot
from nbutils.review.session import REVIEWS, Filter, ReviewSession

KINDS = {  # how the teacher's verdicts read in the menu
    "a": "teacher: A",
    "b": "teacher: B",
    "tie": "teacher: tie",
    "conflict": "teacher: conflict",
    "leaning": "teacher: leaning",
    "unreadable": "teacher: unreadable",
}


class Choices(widgets.VBox):
    """The menus; each change builds the queue anew."""

    def __init__(
        self,
        session: ReviewSession,
        choose: Callable[[Filter, Any, int], None],
        name: Callable[[str], None],
    ) -> None:
        """`choose(keep, order, seed)` and `name(reviewer)` are called at a change."""
        items, keep = session.items, session.keep
        self._choose, self._name = choose, name
        splits = sorted({item.split for item in items})
        who = sorted({item.answerers for item in items})
        self._split = _menu("Split", splits, keep.split)
        self._answerers = _menu("Models", who, keep.answerers)
        self._kind = _menu("Which", items[0].kinds, keep.kind)
        self._review = _menu("By you", REVIEWS, keep.review)
        self._order = _menu("Order", ("shuffled", "disagreement"), session.order, every=False)
        self._seed = widgets.IntText(session.seed, description="Seed")
        self._seed.layout.width = "150px"
        self._reviewer = widgets.Text(
            session.reviewer, description="Your name", continuous_update=False
        )
        self._reviewer.layout.width = "240px"
        menus = [self._split, self._answerers, self._kind, self._review, self._order, self._seed]
        for menu in menus:
            menu.observe(self._changed, "value")
        self._reviewer.observe(lambda change: self._name(change["new"].strip()), "value")
        row = widgets.Box([*menus, self._reviewer], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row])

    def _changed(self, _: Any) -> None:
        keep = Filter(
            self._split.value, self._answerers.value, self._kind.value, self._review.value
        )
        self._choose(keep, self._order.value, self._seed.value)


def hint(session: ReviewSession) -> str:
    """What a choice of queue gives away, and what it does to the labels; "": nothing."""
    keep, parts = session.keep, []
    chosen = keep.kind or keep.review in AGAIN or session.order == "disagreement"
    if session.blind and chosen:
        parts.append("Blind, but this choice of queue tells you something of the verdicts.")
    elif session.blind and keep.answerers:
        parts.append("Blind, but you chose whose answers you see.")
    if not by_lot(keep, session.order):
        parts.append("Not by lot: decisions made here count in no share.")
    return " ".join(parts)


def _menu(name: str, values: Sequence[str], value: str, every: bool = True) -> widgets.Dropdown:
    """A menu of the values, with `all` before them for none in particular."""
    options = [("all", "")] * every + [(KINDS.get(one, one), one) for one in values]
    menu = widgets.Dropdown(options=options, value=value, description=name)
    menu.layout.width = "auto"
    menu.style.description_width = "initial"
    return menu

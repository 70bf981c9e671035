"""The parts of a review as they lie on the page. Never knows a session."""

from typing import Any

import ipywidgets as widgets

from nbutils.display import safe
from nbutils.review.acts import Acts
from nbutils.review.page import STYLE
from nbutils.review.shortcuts import ROOT_CLASS, Shortcuts

NOTE = "Note on this item: kept when you press Enter or leave the field"


class Face(widgets.VBox):
    """Progress and switches, the menus, the item, its buttons, what was hidden, and the note."""

    def __init__(self, pairs: bool, blind: bool, acts: Acts, choices: widgets.Widget) -> None:
        self.acts = acts
        self.shortcuts = Shortcuts(acting=list(acts.by_key), layout=_wide("205px"))
        self.blind = _switch("Blind", blind)
        self.differing = _switch("Mark differences", pairs)
        self.sourced = _switch("Mark words of the source", False)
        self.at_once = _switch("Go on at once", False)
        self.queue = widgets.ToggleButton(description="Queue", layout=_wide("72px"))
        self.progress = widgets.HTML(layout=widgets.Layout(flex="1 1 310px"))
        self.page, self.message, self.reveal = (widgets.HTML() for _ in range(3))
        self.note = widgets.Text(placeholder=NOTE, continuous_update=False, layout=_wide("auto"))
        self.choices = choices
        style = widgets.HTML(f"<style>{STYLE}</style>", layout=widgets.Layout(display="none"))
        marks = [self.differing, self.sourced] if pairs else [self.sourced]
        switches = widgets.Box([self.blind, *marks, self.at_once, self.queue], layout=_row())
        head = widgets.Box([self.progress, self.shortcuts, switches], layout=_row())
        lower = [self.note, self.message, self.reveal]
        super().__init__([style, head, choices, self.page, acts, *lower])
        self.add_class(ROOT_CLASS)
        self.queue.observe(lambda change: self._unfold(change["new"]), "value")
        self._unfold(False)

    def say(self, text: str, wrong: bool = False) -> None:
        """Shows a text below the buttons; "" clears it."""
        kind = "nbr nbr-told nbr-wrong" if wrong else "nbr nbr-told"
        self.message.value = f'<div class="{kind}" role="status">{safe(text)}</div>' if text else ""
        self.message.layout.display = "" if text else "none"

    def __repr__(self) -> str:
        """What a saved notebook says where the widget stood: nothing of the texts."""
        return "The review: run this cell to go on with it."

    def _unfold(self, choices: bool) -> None:
        self.choices.layout.display = "" if choices else "none"


def _switch(text: str, on: bool) -> widgets.Checkbox:
    return widgets.Checkbox(value=on, description=text, indent=False, layout=_wide("auto"))


def _row() -> Any:
    return widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0 10px")


def _wide(width: str) -> Any:
    return widgets.Layout(width=width)

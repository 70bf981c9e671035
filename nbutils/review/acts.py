"""The buttons of a review, each with its keys. Never says what a press does.

A score is one of eleven buttons and no slider: a slider stands somewhere before anybody has looked,
and people stay near where it stands.
"""

from collections.abc import Callable, Container
from functools import partial

import ipywidgets as widgets

from nbutils.review.labels import HumanGrade, HumanLabel

Act = str  # a button's name, as below
Table = tuple[tuple[Act, str, tuple[str, ...]], ...]  # the act, what its button says, its keys

FURTHER: Table = (
    ("can't tell", "Can't tell (c)", ("c",)),
    ("skip", "Skip (s)", ("s",)),
    ("undo", "Undo (u)", ("u",)),
)
PAIR: Table = (("a", "A (a)", ("a",)), ("b", "B (b)", ("b",)), ("tie", "Tie (t)", ("t",)))
SCORE: Table = (
    *((str(n), str(n), (str(n),)) for n in range(10)),
    ("10", "10 (x)", ("x", "-")),
)
FIT: Table = (
    ("yes", "Acceptable (y)", ("y",)),
    ("no", "Not acceptable (n)", ("n",)),
)
PAIR_ROWS = ((*PAIR, *FURTHER, ("next", "Next (n, Enter)", ("n", "Enter"))),)
ANSWER_ROWS = (SCORE, (*FIT, *FURTHER, ("next", "Next (Enter)", ("Enter",))))
SCORES = tuple(act for act, _, _ in SCORE)
FITS = tuple(act for act, _, _ in FIT)
DECISIONS = (*(act for act, _, _ in PAIR), *SCORES, *FITS, "can't tell", "skip")


class Acts(widgets.VBox):
    """The buttons for pairs, or for answers."""

    def __init__(self, pairs: bool, do: Callable[[Act], None]) -> None:
        """`do` is called with the act of each press of a button."""
        rows = PAIR_ROWS if pairs else ANSWER_ROWS
        self.by_key = {key: act for row in rows for act, _, keys in row for key in keys}
        self.buttons: dict[Act, widgets.Button] = {}
        boxes = []
        for row in rows:
            for act, text, _ in row:
                wide = "auto" if len(text) > 2 else "40px"
                button = widgets.Button(description=text, layout=widgets.Layout(width=wide))
                button.layout.min_width = "84px" if wide == "auto" else "40px"
                button.on_click(partial(_press, do, act))
                self.buttons[act] = button
            named = [self.buttons[act] for act, _, _ in row]
            if row is SCORE:
                named.insert(0, widgets.Label("Score", layout=widgets.Layout(width="48px")))
            boxes.append(widgets.Box(named, layout=widgets.Layout(flex_flow="row wrap")))
        super().__init__(boxes)

    def show(self, active: Container[Act], chosen: Container[Act], due: Act) -> None:
        """Which buttons can be pressed, which were, and which one is due; "": none."""
        for act, button in self.buttons.items():
            button.disabled = act not in active
            button.button_style = "primary" if act == due else ""
            (button.add_class if act in chosen else button.remove_class)("nbr-chosen")


def acts_of(said: HumanLabel | HumanGrade) -> set[Act]:
    """The buttons that were pressed for a decision."""
    if isinstance(said, HumanGrade) and said.score is not None:
        return {f"{10 * said.score:.0f}", "yes" if said.acceptable else "no"}
    return {said.act}


def _press(do: Callable[[Act], None], act: Act, _: widgets.Button) -> None:
    do(act)

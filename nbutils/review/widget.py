"""The review as a widget: a skin over ReviewSession. Never keeps a decision for itself."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

from IPython import get_ipython
from IPython.display import HTML

from nbutils.review.acts import DECISIONS, FITS, SCORES, Act, Acts, acts_of
from nbutils.review.choices import Choices, hint
from nbutils.review.face import Face
from nbutils.review.page import END, Marks, item_html, progress_html, static_html
from nbutils.review.reveal import reveal_html, said_text
from nbutils.review.session import Filter, PairItem, ReviewSession

View = Literal["auto", "widget", "table"]


def review(session: ReviewSession, view: View = "auto") -> Any:
    """What a cell shows: the widget, or the queue and its first item as a table.

    "auto" is the widget wherever somebody can press its buttons. Raises ValueError on another view.
    """
    if view not in ("auto", "widget", "table"):
        raise ValueError(f"view {view!r} is not known; choose auto, widget or table")
    if view == "widget" or (view == "auto" and attended()):
        return ReviewWidget(session)
    labels = {item.item_id: session.label_of(item.item_id) for item in session.queue}
    return HTML(static_html(session.queue, {key: row for key, row in labels.items() if row}))


def attended() -> bool:
    """Whether somebody sits at the notebook: a front end that could be asked for input, or Voila.

    Papermill and nbconvert tell the kernel that nobody can be asked.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    voila = os.environ.get("SERVER_SOFTWARE", "").startswith("voila/")
    return voila or bool(getattr(kernel, "_allow_stdin", False))


def _answered(act: Callable[..., None]) -> Callable[..., None]:
    """A callback whose error is shown where the person looks; ipywidgets would only log it."""

    @wraps(act)
    def told(self: "ReviewWidget", *args: Any) -> None:
        if self._drawing:
            return  # a value that the widget set itself
        try:
            act(self, *args)
        except Exception as error:
            self.say(f"{type(error).__name__}: {error}", wrong=True)
        finally:
            self.shortcuts.answer()

    return told


class ReviewWidget(Face):
    """One item at a time, and after its decision what was hidden of it.

    A press acts on the item on show: the session's current one, or the one decided just now.
    """

    def __init__(self, session: ReviewSession) -> None:
        """Goes on where the session stands."""
        self._session = session
        self._item = session.current
        self._decided = False  # just now, and still on show
        self._given: dict[str, Act] = {}  # of an answer's score and fit, what was pressed
        self._drawing = False
        pairs = isinstance(session.items[0], PairItem)
        choices = Choices(session, self._choose, self._name)
        super().__init__(pairs, session.blind, Acts(pairs, self._do), choices)
        self.shortcuts.on_msg(self._key)
        self.blind.observe(self._switch_blind, "value")
        self.note.observe(self._keep_note, "value")
        self.at_once.observe(self._redraw, "value")
        self.differing.observe(self._redraw, "value")
        self.sourced.observe(self._redraw, "value")
        self._draw(_changed(session))

    @_answered
    def _do(self, act: Act) -> None:
        """What a press of a button or its key does."""
        if act == "next":
            self._next()
        elif act == "undo":
            self._undo()
        elif self._decided:
            self.say("This one is decided: go on with Next, or take it back with Undo.")
        elif self._item is None:
            self.say("Nothing is left in this queue: choose another under Queue.")
        elif act in SCORES or act in FITS:
            self._give("score" if act in SCORES else "fit", act)
        else:
            self._record(act)

    def _give(self, part: str, act: Act) -> None:
        """Takes one part of a grade, which is recorded once both are there."""
        self._given[part] = act
        if len(self._given) == 2:
            self._record("grade")
        else:
            self._draw_acts()

    def _record(self, act: Act) -> None:
        item, session = self._item, self._session
        assert item is not None
        if act == "grade":
            session.grade(int(self._given["score"]) / 10, self._given["fit"] == "yes")
        elif act == "skip":
            session.skip()
        elif act == "can't tell":
            session.cannot_tell()
        else:
            session.decide(act)  # type: ignore[arg-type]
        said = session.label_of(item.item_id)
        if act == "skip":
            self._go_on(f"Skipped: it comes back at the end. {session.told}")
        elif self.at_once.value and said is not None:
            self._go_on(f"Kept: {said_text(said)}. {session.told}")
        else:
            self._decided = True
            self._draw(session.told)

    def _next(self) -> None:
        item = self._item
        if self._decided:
            self._go_on("")
        elif item is not None and self._session.label_of(item.item_id):
            self._session.skip()  # its decision stays in force
            self._go_on(self._session.told)
        else:
            self.say("Decide first, or skip it.")

    def _undo(self) -> None:
        item = self._session.undo()
        if item is None:
            self.say("There is nothing to take back.")
            return
        again = "If it was decided, deciding it again does not count as blind."
        self._go_on(f"Taken back. {again if self.blind.value else ''} {self._session.told}")

    def _go_on(self, text: str) -> None:
        """Shows the session's current item, whose time begins now."""
        current = self._session.current
        if current is not None:
            self._session.show(current.item_id)
        self._item, self._decided, self._given = current, False, {}
        self._draw(text)

    @_answered
    def _choose(self, keep: Filter, order: Any, seed: int) -> None:
        self._session.choose(keep, order, seed)
        self._go_on("")

    @_answered
    def _name(self, reviewer: str) -> None:
        self._session.reviewer = reviewer
        self._go_on(_changed(self._session))

    @_answered
    def _switch_blind(self, change: Any) -> None:
        self._session.blind = change["new"]
        self._draw("")

    @_answered
    def _keep_note(self, change: Any) -> None:
        if self._item is not None:
            self._session.note(change["new"].strip(), self._item.item_id)
            self.say(f"Note kept. {self._session.told}")

    @_answered
    def _redraw(self, _: Any) -> None:
        self._draw("")

    def _key(self, _: Any, message: Any, __: Any) -> None:
        act = self.acts.by_key.get(self.shortcuts.pressed(message))
        if act is None:  # pressed on an earlier page: it was not meant for this one
            self.shortcuts.answer()
        else:
            self._do(act)

    def _draw(self, text: str) -> None:
        """Everything, from the session and the item on show; then `text` below the buttons."""
        self._drawing = True
        try:
            item, session = self._item, self._session
            label = session.label_of(item.item_id) if item else None
            bare = item is not None and (not session.blind or label is not None)
            marks = Marks(self.differing.value, self.sourced.value)
            self.progress.value = progress_html(session.summary(), hint(session))
            self.page.value = self.shortcuts.paged(item_html(item, marks, bare) if item else END)
            self.reveal.value = reveal_html(item, label) if item and bare else ""
            self.note.value = session.note_of(item.item_id) if item else ""
            self.note.disabled = item is None
            self._draw_acts()
            self.say(text)
        finally:
            self._drawing = False

    def _draw_acts(self) -> None:
        """Which buttons can be pressed, and which stand out: what was said, and what is next."""
        item, session = self._item, self._session
        label = session.label_of(item.item_id) if item else None
        active = {"undo"} | (set() if self._decided or item is None else set(DECISIONS))
        chosen = set(self._given.values()) | (acts_of(label) if label else set())
        self.acts.show(
            active | ({"next"} if label else set()), chosen, "next" if self._decided else ""
        )


def _changed(session: ReviewSession) -> str:
    """What there is to say of labels that are not used."""
    changed = session.summary().changed
    if not changed:
        return ""
    first = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
    return f"Not used, because the texts have changed since: your word on {first}."

import errno
import json
import os
from dataclasses import replace
from html import unescape

import ipywidgets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.display import HTML

from nbutils.review.acts import ANSWER_ROWS, PAIR_ROWS
from nbutils.review.labels import HumanGrade, HumanLabel, LabelFile
from nbutils.review.session import Filter, ReviewSession
from nbutils.review.widget import ReviewWidget, attended, review
from tests.reviewed import NOW, Clock, answer_item, pair_item
from tests.shown import judged, text

ANSWERERS = ("aardvark", "zebra")
REASON = "the teacher's reason"


def pairs(count=3):
    """Pairs whose names and reasons stand nowhere else."""
    return [
        judged(pair_item(n, student="b", answerers=ANSWERERS), reply=REASON) for n in range(count)
    ]


class Sitting:
    """A person at the widget, whose presses arrive as a browser would send them."""

    def __init__(self, folder, items, **choices):
        self.file = folder / "labels.jsonl"
        self.clock = Clock()
        self.session = ReviewSession(items, self.file, clock=self.clock, now=lambda: NOW, **choices)
        self.widget = ReviewWidget(self.session)
        self.cls = HumanGrade if items[0].kinds != pair_item().kinds else HumanLabel
        self.answers = 0
        self.widget.shortcuts.answer = self.answered

    def answered(self):
        self.answers += 1

    def key(self, key, turn=None):
        turn = self.widget.shortcuts.turn if turn is None else turn
        self.widget.shortcuts._handle_custom_msg({"key": key, "turn": turn}, [])

    def click(self, act):
        assert not self.widget.acts.buttons[act].disabled
        self.widget.acts.buttons[act].click()

    def page(self):
        return text(self.widget.page.value)

    def said(self):
        return text(self.widget.message.value)

    def reveal(self):
        return text(self.widget.reveal.value)

    def menus(self):
        """The menus and fields of the queue by their names."""
        (row,) = self.widget.choices.children
        return {menu.description: menu for menu in row.children}

    def rows(self):
        found = LabelFile(self.file, self.cls).read()
        return [(row.item_id, row.act) for row in found]

    def browser_knows(self):
        """All that the page was sent, but for the menus."""
        held = []
        for widget in held_by(self.widget):
            if not isinstance(widget, ipywidgets.Dropdown):
                held.append(str(widget.get_state()))
        return unescape(" ".join(held))


def held_by(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from held_by(child)


@pytest.fixture
def sit(tmp_path):
    return lambda items=None, **choices: Sitting(tmp_path, items or pairs(), **choices)


def test_a_press_decides_and_shows_what_was_hidden_and_next_goes_on(sit):
    person = sit()
    first, second = person.session.queue[:2]
    assert first.question.question in person.page()
    assert not any(secret in person.browser_knows() for secret in (*ANSWERERS, REASON))
    person.clock.seconds += 4
    person.click("a")
    assert person.rows() == [(first.item_id, "a")]
    assert person.reveal().startswith("You: A. Teacher: A. Student: B.")
    assert REASON in person.reveal() and "by aardvark" in person.page()
    assert first.question.question in person.page()
    person.clock.seconds += 60  # reading what was revealed is no part of the next decision
    person.key("n")
    assert second.question.question in person.page()
    assert not any(secret in person.browser_knows() for secret in (*ANSWERERS, REASON))
    person.clock.seconds += 5
    person.key("t")
    assert [row.seconds for row in LabelFile(person.file, HumanLabel).read()] == [4, 5]
    assert "2 of 3" in text(person.widget.progress.value)


def test_each_button_says_its_keys_and_each_key_does_what_its_button_does(sit, tmp_path):
    for act, says, keys in (button for row in (*PAIR_ROWS, *ANSWER_ROWS) for button in row):
        told = says if len(act) == 1 and act.isdigit() else says.partition("(")[2].rstrip(")")
        assert told == (keys[0] if act == "10" else ", ".join(keys))
    for act, _, keys in PAIR_ROWS[0][:5]:
        by_key, by_mouse = (Sitting(tmp_path / f"{act}{way}", pairs()) for way in ("key", "mouse"))
        by_key.key(keys[0])
        by_mouse.click(act)
        assert by_key.rows() == by_mouse.rows() == [(by_key.session.queue[0].item_id, act)]


def test_what_was_pressed_on_an_earlier_page_does_nothing_and_is_answered(sit):
    person = sit()
    seen = person.widget.shortcuts.turn
    person.key("a", seen)
    person.key("b", seen)  # the second of two quick presses: it was meant for the first page
    person.key("Enter", seen)
    assert [act for _, act in person.rows()] == ["a"] and person.answers == 3
    person.key("b")
    assert "go on with Next" in person.said() and len(person.rows()) == 1


def test_an_error_is_shown_and_nothing_moves(sit, monkeypatch):
    person = sit()
    before = person.page()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    person.key("a")
    assert "No space left on device; nothing was recorded" in person.said()
    assert "nbr-wrong" in person.widget.message.value
    assert (person.page(), person.rows(), person.answers) == (before, [], 1)
    person.widget.note.value = "a note"
    assert "No space left on device" in person.said() and person.widget.note.value == "a note"
    monkeypatch.undo()
    person.key("a")
    assert person.said() == "" and len(person.rows()) == 1


def test_a_programming_error_is_shown_too(sit, monkeypatch):
    person = sit()
    monkeypatch.setattr(person.session, "decide", lambda act: 1 / 0)
    person.key("a")
    assert person.said() == "ZeroDivisionError: division by zero"


def test_undo_shows_the_item_again_without_what_was_hidden(sit):
    person = sit()
    person.key("u")
    assert person.said() == "There is nothing to take back."
    first = person.session.current
    person.key("a")
    person.key("u")
    assert first.question.question in person.page() and person.reveal() == ""
    assert person.said().startswith("Taken back.") and REASON not in person.browser_knows()
    person.key("b")
    rows = LabelFile(person.file, HumanLabel).read()
    assert [(r.act, r.blind) for r in rows] == [("a", True), ("undo", False), ("b", False)]


def test_without_blind_everything_is_shown_and_kept_so(sit):
    person = sit()
    person.widget.blind.value = False
    assert REASON in person.reveal() and "by aardvark" in person.page()
    person.key("a")
    assert [row.blind for row in LabelFile(person.file, HumanLabel).read()] == [False]


def test_a_note_is_a_row_of_its_own_on_the_item_that_is_shown(sit):
    person = sit()
    first, second = person.session.queue[:2]
    person.key("a")
    person.widget.note.value = " größer "
    person.key("n")
    assert person.widget.note.value == ""
    person.widget.note.value = "second"
    rows = LabelFile(person.file, HumanLabel).read()
    assert [(row.item_id, row.note) for row in rows if row.act == "note"] == [
        (first.item_id, "größer"),
        (second.item_id, "second"),
    ]
    person.key("u")  # the first again, with its note, which is not written a second time
    assert person.widget.note.value == "größer"
    assert [act for _, act in person.rows()] == ["a", "note", "note", "undo"]


def test_going_on_at_once(sit):
    person = sit()
    person.widget.at_once.value = True
    second = person.session.queue[1]
    person.key("b")
    assert second.question.question in person.page()
    assert person.said() == "Kept: B." and person.reveal() == ""


def test_next_is_for_what_is_decided(sit):
    person = sit()
    assert person.widget.acts.buttons["next"].disabled
    person.key("n")
    assert person.said() == "Decide first, or skip it." and person.rows() == []


def test_the_end_of_a_queue_and_the_way_back(sit):
    person = sit(pairs(1))
    for key in ("a", "n"):
        person.key(key)
    assert "Nothing is left in this queue." in person.page()
    assert person.widget.note.disabled
    person.key("b")
    assert "choose another" in person.said() and len(person.rows()) == 1
    person.key("u")
    assert "Q0?" in person.page() and not person.widget.note.disabled


def test_the_menus_choose_the_queue_and_say_what_that_gives_away(sit):
    items = [pair_item(0, teacher="tie"), pair_item(1), pair_item(2, split="train")]
    person = sit(items)
    menus = person.menus()
    assert "Blind, but" not in text(person.widget.progress.value)
    menus["Which"].value = "tie"
    assert "Q0?" in person.page() and person.session.keep == Filter(kind="tie")
    hint = "Blind, but this choice of queue tells you something of the verdicts."
    assert hint in text(person.widget.progress.value)
    assert "count in no share" in text(person.widget.progress.value)
    menus["Which"].value = ""
    menus["Split"].value = "train"
    assert "Q2?" in person.page() and "Blind, but" not in text(person.widget.progress.value)
    menus["Split"].value = ""
    menus["Models"].value = "large vs small"
    assert "you chose whose answers" in text(person.widget.progress.value)
    menus["Order"].value = "disagreement"
    assert person.session.order == "disagreement" and hint in text(person.widget.progress.value)
    menus["Seed"].value = 7
    assert person.session.seed == 7
    assert person.rows() == []


def test_overruled_pairs_are_read_again_with_everything_shown(sit):
    person = sit()
    for key in ("b", "n", "b", "n"):
        person.key(key)
    menus = person.menus()
    menus["By you"].value = "overruled"
    first, second = person.session.queue
    assert REASON in person.reveal() and "you overrule it" in person.reveal()
    person.key("n")  # it stands
    assert second.question.question in person.page()
    person.key("a")  # it does not
    assert person.session.label_of(first.item_id).act == "b"
    assert person.session.label_of(second.item_id).act == "a"


def test_another_name_is_another_review(sit):
    person = sit()
    person.key("a")
    menus = person.menus()
    menus["Your name"].value = " Ada "
    assert person.session.reviewer == "Ada" and "0 of 3" in text(person.widget.progress.value)
    person.key("t")
    assert [row.reviewer for row in LabelFile(person.file, HumanLabel).read()] == ["", "Ada"]


def test_labels_of_items_that_changed_are_named(sit):
    person = sit()
    item = person.session.current
    person.key("a")
    changed = [
        replace(one, answer_a=replace(one.answer_a, text="new")) if one == item else one
        for one in person.session.items
    ]
    again = sit(changed)
    assert again.said() == (
        f"Not used, because the texts have changed since: your word on {item.item_id}."
    )


def test_an_answer_takes_a_score_and_whether_it_is_acceptable_in_either_order(sit):
    person = sit([answer_item(n, by=n * "x" or "y") for n in range(3)])
    person.key("7")
    person.key("8")
    assert person.rows() == []  # one part alone is no grade; another press replaces it
    person.key("y")
    assert person.reveal().startswith("You: 0.8, acceptable. Teacher: 0.50")
    person.key("Enter")
    person.click("no")
    person.click("10")
    person.key("Enter")
    person.key("x")
    person.key("c")
    rows = LabelFile(person.file, HumanGrade).read()
    assert [(row.act, row.score, row.acceptable) for row in rows] == [
        ("grade", 0.8, True),
        ("grade", 1.0, False),
        ("can't tell", None, None),
    ]


@given(st.lists(st.sampled_from([*"abtcsunx", "Enter", "note", "blind", "once"]), max_size=25))
def test_whatever_is_pressed_a_new_widget_goes_on_where_this_one_stands(tmp_path_factory, presses):
    person = Sitting(tmp_path_factory.mktemp("review"), pairs(4))
    for press in presses:
        if press == "note":
            person.widget.note.value += "n"
        elif press == "blind":
            person.widget.blind.value = not person.widget.blind.value
        elif press == "once":
            person.widget.at_once.value = not person.widget.at_once.value
        elif press in person.widget.acts.by_key:
            person.key(press)
        assert "nbr-wrong" not in person.widget.message.value
        item = person.widget._item
        hidden = REASON not in person.browser_knows()
        label = item and person.session.label_of(item.item_id)
        assert hidden == (item is None or (person.widget.blind.value and label is None))
    again = ReviewWidget(ReviewSession(person.session.items, person.file))
    here = person.session.current
    assert again._item == here and (here is None or again.note.value == note_on(person, here))


def note_on(person, item):
    return person.session.note_of(item.item_id)


def test_nobody_gets_a_table_and_somebody_the_widget(sit, monkeypatch):
    session = sit().session
    assert not attended()  # there is no notebook at all
    table = review(session)
    assert isinstance(table, HTML) and "The first 3 of 3" in table.data
    assert isinstance(review(session, "widget"), ReviewWidget)
    assert isinstance(review(session, "table"), HTML)
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    assert attended() and isinstance(review(session), ReviewWidget)
    with pytest.raises(ValueError, match="'page' is not known; choose auto, widget or table"):
        review(session, "page")


def test_a_saved_notebook_holds_nothing_of_the_texts(sit):
    saved = json.dumps(sit().widget._repr_mimebundle_())
    assert "run this cell" in saved and "Q0?" not in saved and "widget-view" in saved

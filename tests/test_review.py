from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nbutils.jsonl import RecordError, line_of
from nbutils.review.labels import HumanGrade, HumanLabel, LabelFile
from nbutils.review.session import Filter, ReviewError, ReviewSession, Summary
from tests.disks import files_up_to, nobody
from tests.reviewed import NOW, Clock, answer_item, pair_item

TEACHER = ["a", "b", "tie", "conflict", "unreadable", "a"]
ITEMS = [
    pair_item(number, teacher=verdict, split="train" if number < 2 else "test")
    for number, verdict in enumerate(TEACHER)
]
ANSWERS = [answer_item(number) for number in range(3)]


def start(folder: Path, items: list = ITEMS, **choices: object) -> ReviewSession:
    name = "human_labels.jsonl" if items[0].item_id.startswith("p") else "human_grades.jsonl"
    return ReviewSession(items, folder / "labels" / name, now=lambda: NOW, **choices)


def rows(folder: Path) -> list[HumanLabel]:
    return LabelFile(folder / "labels" / "human_labels.jsonl", HumanLabel).read()


def ids(session: ReviewSession) -> list[str]:
    return [item.item_id for item in session.queue]


def said(session: ReviewSession) -> dict[str, str]:
    labels = {item.item_id: session.label_of(item.item_id) for item in session.items}
    return {item: row.act for item, row in labels.items() if row}


def test_one_review_from_the_first_item_to_the_last(tmp_path: Path) -> None:
    session = start(tmp_path, ITEMS[:4], reviewer="anna")
    one, two, three, four = ids(session)
    for act in (lambda: session.decide("b"), session.skip, session.cannot_tell):
        act()
    assert session.current.item_id == four
    assert session.summary().counts == {"a": 0, "b": 1, "tie": 0, "can't tell": 1}
    assert (session.summary().skipped, session.summary().left) == (1, 2)
    session.decide("tie")
    assert session.current.item_id == two  # the skipped one comes last
    session.skip()
    assert session.current.item_id == two  # and stays: nothing else is left
    session.decide("a")
    assert session.current is None
    assert said(session) == {one: "b", two: "a", three: "can't tell", four: "tie"}
    assert [(row.pair_id, row.label) for row in rows(tmp_path)] == [
        (one, "b"), (two, "skip"), (three, "can't tell"), (four, "tie"), (two, "skip"), (two, "a"),
    ]  # fmt: skip
    for act in (session.skip, session.cannot_tell, lambda: session.note("why")):
        with pytest.raises(ReviewError, match="nothing is left in this queue: choose another or"):
            act()
    assert len(rows(tmp_path)) == 6


def test_skipped_items_come_back_in_the_order_they_were_skipped(tmp_path: Path) -> None:
    session = start(tmp_path, ITEMS[:3])
    order = ids(session)
    for expected in (*order, *order, order[0]):
        assert session.current.item_id == expected
        session.skip()
    session.show(order[0])
    session.skip()
    assert session.current.item_id == order[1]


def test_a_row_has_all_that_is_known_of_the_act(tmp_path: Path) -> None:
    clock = Clock()
    vienna = NOW.astimezone(timezone(timedelta(hours=1)))
    file = tmp_path / "labels" / "human_labels.jsonl"
    session = ReviewSession(ITEMS, file, "anna", clock=clock, now=lambda: vienna)
    first = session.current
    clock.seconds += 2.0
    session.note("grün")  # a note does not start the time anew
    clock.seconds += 1.5
    session.decide("a")
    second = session.current
    clock.seconds += 4.0
    session.note("later", first.item_id)
    session.skip()
    session.undo()
    clock.seconds += 0.25
    session.decide("tie")
    time = "2026-01-31T08:15:00Z"
    one, two = (first.item_id, first.fingerprint), (second.item_id, second.fingerprint)
    assert rows(tmp_path) == [
        HumanLabel(*one, "note", 2.0, "anna", True, True, time, "grün"),
        HumanLabel(*one, "a", 3.5, "anna", True, True, time),
        HumanLabel(*one, "note", 0.0, "anna", False, True, time, "later"),  # another is on show
        HumanLabel(*two, "skip", 4.0, "anna", True, True, time),
        HumanLabel(*two, "undo", 0.0, "anna", True, True, time),
        HumanLabel(*two, "tie", 0.25, "anna", True, True, time),
    ]


def test_pace(tmp_path: Path) -> None:
    clock = Clock()
    session = start(tmp_path, clock=clock)
    assert (session.summary().seconds_each, session.summary().seconds_left) == (None, None)
    for seconds in (10, 4000, 20):  # a break of an hour sways no median
        clock.seconds += seconds
        session.decide("a")
    assert session.summary() == Summary(
        total=6,
        decided=3,
        counts={"a": 3, "b": 0, "tie": 0, "can't tell": 0},
        skipped=0,
        left=3,
        seconds_each=20.0,
        seconds_left=60.0,  # 3 * 20
        changed=(),
        unknown=0,
    )


def test_undo_goes_back_through_everything_and_starts_nowhere(tmp_path: Path) -> None:
    session = start(tmp_path)
    assert session.undo() is None and rows(tmp_path) == []
    order = ids(session)
    session.decide("a"), session.skip(), session.decide("b")
    session.show(order[0])
    session.decide("tie")
    for item, left in zip(
        (order[0], order[2], order[1], order[0]),
        ({order[0]: "a", order[2]: "b"}, {order[0]: "a"}, {order[0]: "a"}, {}),
        strict=True,
    ):
        assert session.undo().item_id == session.current.item_id == item
        assert said(session) == left
    assert session.undo() is None
    assert session.summary().skipped == 0
    assert len(rows(tmp_path)) == 8  # four acts, each taken back once


def test_what_was_taken_back_is_on_show_after_a_restart_too(tmp_path: Path) -> None:
    session = start(tmp_path)
    for _ in range(3):
        session.decide("a")
    session.show(ids(session)[5])
    session.decide("b")
    session.undo()
    again = start(tmp_path)
    assert again.current == session.current == session.queue[5]
    again.decide("b")
    assert start(tmp_path).current == again.current == session.queue[3]


def test_undo_leaves_the_acts_of_others_and_of_other_runs(tmp_path: Path) -> None:
    start(tmp_path, ITEMS, reviewer="ben").decide("a")
    session = start(tmp_path, reviewer="anna", seed=3)
    session.decide("b")
    elsewhere = start(tmp_path, [pair_item(77)], reviewer="anna")
    elsewhere.decide("tie")
    assert elsewhere.summary().unknown == 1
    assert session.undo() == session.queue[0]
    assert session.undo() is None
    assert [row.label for row in rows(tmp_path)] == ["a", "b", "tie", "undo"]
    assert len(said(start(tmp_path, reviewer="ben"))) == 1


def test_another_reviewer_takes_up_their_own_review(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a"), session.note("mine", "p0")
    session.reviewer = "ben"
    assert (said(session), session.current, session.note_of("p0")) == ({}, session.queue[0], "")
    session.decide("b"), session.decide("tie")
    session.reviewer = ""
    assert session.current == session.queue[1] and session.note_of("p0") == "mine"
    session.undo()
    assert [(row.reviewer, row.label) for row in rows(tmp_path)] == [
        ("", "a"), ("", "note"), ("ben", "b"), ("ben", "tie"), ("", "undo"),
    ]  # fmt: skip


def test_blind_is_what_was_hidden_all_along(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    session.blind = False
    session.decide("b")  # open
    session.blind = True
    session.decide("tie")  # this one came on show while blind was off
    session.decide("a")  # blind again
    session.undo()
    session.decide("b")  # its verdicts were shown when it was decided first
    session.blind = False  # a look
    session.blind = True
    session.skip()
    session.decide("tie")
    told = [(row.label, row.blind) for row in rows(tmp_path)]
    assert told == [
        ("a", True), ("b", False), ("tie", False), ("a", True), ("undo", False), ("b", False),
        ("skip", False), ("tie", True),
    ]  # fmt: skip
    again = start(tmp_path)  # a restart hides nothing that was seen
    again.decide("a")
    assert [row.pair_id for row in rows(tmp_path)][6::2] == [session.queue[4].item_id] * 2
    assert not rows(tmp_path)[8].blind


def test_drawn_is_what_came_up_by_lot(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    first = rows(tmp_path)[0].pair_id
    session.choose(order="disagreement")
    session.decide("b")  # the first of the doubtful ones
    session.choose(Filter(review="decided"), "shuffled")
    session.show(first)
    session.decide("tie")  # read again: the word that was drawn stays in the file before it
    session.choose(Filter(split="test", review="undecided"))
    session.skip()
    session.decide("a")
    session.choose(Filter(kind="a"))
    session.cannot_tell()
    assert [(row.label, row.drawn) for row in rows(tmp_path)] == [
        ("a", True), ("b", False), ("tie", False), ("skip", True), ("a", True),
        ("can't tell", False),
    ]  # fmt: skip


def test_answers_take_grades(tmp_path: Path) -> None:
    clock = Clock()
    session = start(tmp_path, ANSWERS, clock=clock)
    first, second, third = session.queue
    clock.seconds += 3
    session.grade(0.7, False)
    session.cannot_tell()
    session.skip()
    session.note("日本", first.item_id)
    row = session.label_of(first.item_id)
    grade = ("grade", 0.7, False, 3.0, "", True, True, "2026-01-31T08:15:00Z")
    assert row == HumanGrade(first.question.question_id, "small", first.fingerprint, *grade)
    assert session.label_of(second.item_id).score is None
    assert session.summary().counts == {"grade": 1, "can't tell": 1}
    assert session.current == third
    again = start(tmp_path, ANSWERS)
    assert again.note_of(first.item_id) == "日本"
    assert again.undo() == third and again.undo() == second
    assert said(again) == {first.item_id: "grade"}


def test_what_does_not_fit_is_not_recorded(tmp_path: Path) -> None:
    pairs, answers = start(tmp_path), start(tmp_path, ANSWERS)
    for label in ("A", "can't tell", "skip", ""):
        with pytest.raises(ReviewError, match=f'label {label!r}: a pair|label "can'):
            pairs.decide(label)
    for score in (-0.1, 1.1, 7, float("nan")):
        with pytest.raises(ReviewError, match=f"score {score}: an answer takes 0 to 1"):
            answers.grade(score, True)
    with pytest.raises(ReviewError, match="label 'a': a pair takes a, b or tie, an answer takes"):
        answers.decide("a")
    with pytest.raises(ReviewError, match=r"score 0\.5: an answer takes 0 to 1, a pair takes a"):
        pairs.grade(0.5, True)
    with pytest.raises(ReviewError, match="item 'p99' is not here: mend its id"):
        pairs.note("why", "p99")
    with pytest.raises(ReviewError, match="item 'p99' is not here"):
        pairs.show("p99")
    assert pairs.current == pairs.queue[0] and rows(tmp_path) == []
    assert not list(tmp_path.iterdir())  # to look at a review leaves no trace


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "0 items, 0 ids: pass pairs or answers, at least one"),
        ([*ITEMS, ITEMS[0]], "7 items, 6 ids"),
        ([ITEMS[0], ANSWERS[0]], "2 items, 2 ids"),
    ],
)
def test_items_are_of_one_kind_and_each_there_once(
    tmp_path: Path, items: list, message: str
) -> None:
    with pytest.raises(ReviewError, match=message):
        ReviewSession(items, tmp_path / "human_labels.jsonl")


def test_a_queue_stays_as_it_was_chosen(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    whole, first = ids(session), ids(session)[0]
    session.choose(Filter(review="undecided"))
    assert ids(session) == whole[1:]
    session.decide("b")
    assert ids(session) == whole[1:]
    assert (session.summary().total, session.summary().decided) == (5, 1)
    session.choose(Filter(split="train"), seed=5)
    assert sorted(ids(session)) == ["p0", "p1"]
    session.choose(order="disagreement")
    assert (session.keep, session.order, session.seed) == (Filter("train"), "disagreement", 5)
    session.choose(Filter(), "shuffled", 0)
    assert ids(session) == whole and session.label_of(first).act == "a"
    with pytest.raises(ReviewError, match="split 'exam' is not known"):
        session.choose(Filter(split="exam"), seed=9)
    assert (ids(session), session.seed, session.keep) == (whole, 0, Filter())


def test_decided_pairs_are_read_again_one_after_the_other(tmp_path: Path) -> None:
    session = start(tmp_path)
    for item in ITEMS:
        session.show(item.item_id)
        session.decide("a")
    session.choose(Filter(review="overruled"))
    assert sorted(ids(session)) == ["p1", "p2"]  # b and tie; neither conflict nor unreadable
    one, two = session.queue
    assert session.current == one
    session.skip()  # its decision stands
    assert session.current == two and session.label_of(one.item_id).act == "a"
    session.decide("b")
    assert session.current is None and session.summary().left == 0
    assert session.undo() == two and session.label_of(two.item_id).act == "a"
    session.show(one.item_id)
    session.decide("b")
    assert session.current == two  # what was taken back is to be read
    session.decide("tie")
    assert session.current is None
    session.undo(), session.undo()
    session.choose()
    assert {item.item_id for item in session.queue} <= {"p1", "p2"} and session.queue[0] == one


def test_labels_of_what_reads_otherwise_now_are_reported_and_not_used(tmp_path: Path) -> None:
    session = start(tmp_path)
    for item in ITEMS[:3]:
        session.show(item.item_id)
        session.decide("a")
        session.note("of the old text")
    new = [replace(ITEMS[0], answer_a=replace(ITEMS[0].answer_a, text="new")), *ITEMS[2:]]
    session = start(tmp_path, new)
    assert (session.summary().changed, session.summary().unknown) == (("p0",), 1)
    assert said(session) == {"p2": "a"}
    assert session.summary().decided == 1
    assert session.note_of("p0") == ""
    session.undo()  # takes back p2's: p0's is none of what is here
    assert session.undo() is None
    session.show("p0")
    session.decide("b")
    assert (session.summary().changed, said(session)) == ((), {"p0": "b"})
    assert said(start(tmp_path)) == {"p0": "a", "p1": "a"}  # the old texts have theirs


def test_two_sessions_see_each_other(tmp_path: Path) -> None:
    one, two = start(tmp_path), start(tmp_path)
    first, second, third = one.queue[:3]
    one.decide("a")
    assert one.told == ""
    assert two.current == first  # what is on show stays, for a key to mean what is seen
    two.decide("b")
    assert (
        two.told == f"{first.item_id} was decided elsewhere meanwhile, as a; the later one counts."
    )
    assert two.current == second
    one.decide("tie")
    assert one.told == "" and one.current == third
    two.skip()
    assert two.told == f"{second.item_id} was decided elsewhere meanwhile, as tie; that stands."
    assert two.current == third
    assert one.undo() == second  # two's skip: the latest act, whoever made it
    assert one.undo() == second  # one's own
    assert one.undo() == first and one.label_of(first.item_id).act == "a"
    two.refresh()
    assert said(two) == said(one) == {first.item_id: "a"}
    assert two.current == third
    two.note("there")
    one.refresh()
    assert one.note_of(third.item_id) == "there"


def test_a_decision_read_again_is_no_news(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    session.show(session.queue[0].item_id)
    session.decide("b")
    assert session.told == ""


def test_a_crash_in_the_middle_of_a_row_costs_that_act_alone(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    lost = session.current
    session.decide("b")
    file = tmp_path / "labels" / "human_labels.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    again = start(tmp_path)
    assert again.current == lost and len(said(again)) == 1
    again.decide("tie")
    size = (tmp_path / "labels" / "human_labels.jsonl.cut").stat().st_size - 1  # its line end
    told = "The file's last row was cut off while it was written"
    assert again.told == f"{told}; its {size} bytes are kept in human_labels.jsonl.cut."
    again.decide("a")
    assert again.told == ""
    assert [row.label for row in rows(tmp_path)] == ["a", "tie", "a"]
    cut = (tmp_path / "labels" / "human_labels.jsonl.cut").read_text(encoding="utf-8")
    assert cut.startswith('{"pair_id": "' + lost.item_id) and '"label": "b"' in cut


def test_a_broken_row_stops_every_act(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    session.decide("b")
    file = tmp_path / "labels" / "human_labels.jsonl"
    good = file.read_bytes()
    bad = good.replace(b'"label": "a"', b'"label": "A"')
    file.write_bytes(bad)
    before = session.current, said(session)
    for act in (lambda: session.decide("a"), session.undo, lambda: session.note("x"), session.skip):
        with pytest.raises(RecordError, match=r"human_labels\.jsonl line 1: field 'label': value"):
            act()
    assert (session.current, said(session)) == before
    assert file.read_bytes() == bad
    file.write_bytes(good)
    session.decide("tie")
    assert len(rows(tmp_path)) == 3


def fails(session: ReviewSession, file: Path) -> None:
    """No act is recorded, each says so, and the session does not pretend that it was."""
    before = session.current, said(session), session.summary(), session.note_of("p0")
    for act in (
        lambda: session.decide("a"),
        session.cannot_tell,
        session.skip,
        lambda: session.note("why", "p0"),
        session.undo,
    ):
        with pytest.raises(ReviewError) as error:
            act()
        assert str(file) in str(error.value)
        assert "nothing was recorded: make the file and its folder writable" in str(error.value)
    assert before == (session.current, said(session), session.summary(), session.note_of("p0"))


def test_a_full_disk_records_nothing_and_says_so(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.decide("a")
    file = tmp_path / "labels" / "human_labels.jsonl"
    with files_up_to(file.stat().st_size + 20):
        fails(session, file)
    session.decide("b")
    assert [row.label for row in rows(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_what_may_not_be_written_is_named(locked: str) -> None:
    with TemporaryDirectory() as name:  # pytest's own are closed to nobody
        folder = Path(name)
        folder.chmod(0o755)
        session = start(folder)
        session.decide("a")
        file = folder / "labels" / "human_labels.jsonl"
        lock = Path(f"{file}.lock")
        if locked == "file":
            lock.chmod(0o666)
            file.chmod(0o444)
        else:
            lock.unlink()
            file.parent.chmod(0o555)
        with nobody():
            fails(session, file)
            assert len(said(start(folder))) == 1  # to read it is enough to look
        file.parent.chmod(0o755)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    session = start(tmp_path)
    (tmp_path / "labels").write_text("a file where the folder should be")
    with pytest.raises(ReviewError, match=r"labels/human_labels\.jsonl: .*; nothing was recorded"):
        session.decide("a")
    assert session.current == session.queue[0]


def test_a_row_that_says_nothing_readable_is_not_written(tmp_path: Path) -> None:
    session = start(tmp_path, reviewer=None)
    with pytest.raises(RecordError, match="field 'reviewer': value None is not text"):
        session.decide("a")
    assert rows(tmp_path) == [] and session.current == session.queue[0]


@settings(max_examples=30)
@given(st.lists(st.text() | st.sampled_from(["\ud800", "a\u2028b\u2029\x85\r\n", "", "日 🦅 ﷺ"])))
def test_the_last_note_comes_back(notes: list[str]) -> None:
    with TemporaryDirectory() as name:
        session = start(Path(name))
        for text in notes:
            session.note(text)
        assert start(Path(name)).note_of(session.current.item_id) == (notes or [""])[-1]
        changes = [t for t, before in zip(notes, ["", *notes], strict=False) if t != before]
        assert [row.note for row in rows(Path(name))] == changes  # the same again is no row


def test_a_file_of_thousands_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start(tmp_path, reviewer="anna")
    session.decide("a")
    other = b"".join(line_of(replace(row, reviewer="ben")) for row in rows(tmp_path) * 2000)
    with (tmp_path / "labels" / "human_labels.jsonl").open("ab") as file:
        file.write(other)
    session.refresh()
    parsed = []
    parse = LabelFile._row
    monkeypatch.setattr(LabelFile, "_row", lambda *a: parsed.append(a[1]) or parse(*a))
    session.decide("b"), session.undo(), session.skip()
    assert len(parsed) == 3
    assert len(rows(tmp_path)) == 2004


LABELS = ("a", "b", "tie")
FILTERS = [Filter(), Filter(split="test"), Filter(kind="a"), Filter(review="undecided")]
FILTERS += [Filter(review="decided"), Filter(review="overruled")]


class Review(RuleBasedStateMachine):
    """Any sequence of acts, in two sessions of anna's and one of ben's, against lists of acts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.clock = Clock()
        self.sessions = [self.fresh(name) for name in ("anna", "anna", "ben")]
        self.acts: dict[str, list[tuple[str, str]]] = {"anna": [], "ben": []}  # in force
        self.notes: dict[tuple[str, str], str] = {}
        self.written = 0
        self.moved = [False] * 3  # shown what the file does not tell, or passed by another session

    def fresh(self, reviewer: str, keep: Filter = FILTERS[0], seed: int = 0) -> ReviewSession:
        folder = Path(self.folder.name)
        return start(folder, reviewer=reviewer, keep=keep, seed=seed, clock=self.clock)

    def did(self, which: int, act: str, item: str) -> None:
        self.acts[self.sessions[which].reviewer].append((item, act))
        self.moved[which] = False
        self.wrote(which)

    def wrote(self, which: int) -> None:
        self.written += 1
        self.clock.seconds += 1
        if which < 2:
            self.moved[1 - which] = True

    which = st.integers(0, 2)

    @rule(which=which, label=st.sampled_from([*LABELS, "can't tell", "skip"]))
    def act(self, which: int, label: str) -> None:
        session = self.sessions[which]
        if session.current is None:
            return
        item = session.current.item_id
        by_name = {"can't tell": session.cannot_tell, "skip": session.skip}
        by_name.get(label, lambda: session.decide(label))()
        self.did(which, label, item)

    @rule(which=which)
    def undo(self, which: int) -> None:
        session = self.sessions[which]
        acts = self.acts[session.reviewer]
        item = session.undo()
        assert (item and item.item_id) == (acts[-1][0] if acts else None)
        if acts:
            acts.pop()
            self.moved[which] = False
            self.wrote(which)

    @rule(which=which, item=st.sampled_from(ITEMS), text=st.sampled_from(["", "ä", "\u2028"]))
    def note(self, which: int, item: object, text: str) -> None:
        session, key = self.sessions[which], item.item_id
        session.note(text, key)
        if self.notes.get((session.reviewer, key), "") != text:
            self.notes[session.reviewer, key] = text
            self.written += 1

    @rule(which=which, item=st.sampled_from(ITEMS))
    def show(self, which: int, item: object) -> None:
        self.sessions[which].show(item.item_id)
        self.moved[which] = True

    @rule(which=which, keep=st.sampled_from(FILTERS), seed=st.integers(0, 3))
    def choose(self, which: int, keep: Filter, seed: int) -> None:
        self.sessions[which].choose(keep, seed=seed)
        self.moved[which] = False

    @rule(which=which)
    def restart(self, which: int) -> None:
        old = self.sessions[which]
        self.sessions[which] = self.fresh(old.reviewer, old.keep, old.seed)
        self.moved[which] = False

    @rule(length=st.integers(1, 60))
    def crash(self, length: int) -> None:
        """Another writer of the file dies in the middle of a row."""
        file = Path(self.folder.name) / "labels" / "human_labels.jsonl"
        if file.exists():
            with file.open("ab") as raw:
                raw.write(
                    b'{"pair_id": "p0", "fingerprint": "0123456789abcdef", "label": '[:length]
                )

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert len(rows(Path(self.folder.name))) == self.written
        for which, session in enumerate(self.sessions):
            session.refresh()
            acts = self.acts[session.reviewer]
            assert said(session) == dict(act for act in acts if act[1] != "skip")
            for item in ITEMS:
                note = self.notes.get((session.reviewer, item.item_id), "")
                assert session.note_of(item.item_id) == note
            self.replays(session, self.moved[which])

    def replays(self, session: ReviewSession, moved: bool) -> None:
        """A session that starts now stands where this one stands."""
        new = self.fresh(session.reviewer, session.keep, session.seed)
        assert said(new) == said(session)
        if session.keep.review:
            return  # such a queue is of what was decided when it was chosen
        assert new.queue == session.queue and new.summary() == session.summary()
        if not moved and (session.current is None or session.current in session.queue):
            assert new.current == session.current

    def teardown(self) -> None:
        for session in self.sessions[1:]:
            while session.undo():
                pass
            assert said(session) == {} and session.summary().skipped == 0
        self.folder.cleanup()


Review.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_any_sequence_of_acts_is_what_the_file_replays = Review.TestCase

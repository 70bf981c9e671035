from dataclasses import replace

import pytest

from nbutils.review.page import Marks, item_html, progress_html, queue_table, static_html
from nbutils.review.reveal import reveal_html
from nbutils.review.session import Summary
from tests.reviewed import answer_item, pair_item
from tests.shown import ACT, Shown, hostile, judged, label, text

BOTH, NONE = Marks(True, True), Marks(False, False)


@pytest.mark.parametrize("number", [0, 1])
def test_whoever_wrote_a_text_it_does_not_act(number):
    item = hostile()[number]
    for html in (
        item_html(item, BOTH, named=True),
        reveal_html(item, None),
        queue_table([item], {}, 1),
        static_html([item], {}),
    ):
        assert ACT in text(html)
        assert "img" not in Shown(html).tags


def test_question_source_and_answers_are_there_and_names_only_when_asked():
    hidden, named = (item_html(pair_item(), NONE, named) for named in (False, True))
    assert text(hidden) == "Q0?Source 0.Answer AoneAnswer Btwo"
    assert text(named) == "Q0?Source 0.Answer A by smalloneAnswer B by largetwo"
    assert "small" not in hidden and "large" not in hidden


def test_the_source_can_be_scrolled_without_a_mouse():
    assert '<div class="nbr-box nbr-source nbr-text" tabindex="0"' in item_html(
        pair_item(), NONE, False
    )


def test_each_kind_of_mark_has_its_words_in_the_legend():
    only, sourced = "words that only this answer has", "words that stand in the source"
    for marks in (Marks(a, b) for a in (True, False) for b in (True, False)):
        html = item_html(pair_item(), marks, False)
        assert (only in html, sourced in html) == (marks.differing, marks.sourced)
        assert ("<mark" in html, "<u " in html) == (marks.differing, marks.sourced)
    assert only not in item_html(answer_item(), BOTH, False)  # there is no other answer


def test_an_empty_answer_is_said_to_be_empty():
    item = pair_item()
    item = replace(item, answer_a=replace(item.answer_a, text=""))
    assert "(empty)" in item_html(item, BOTH, False)


def test_the_queue_tells_nothing_that_a_blind_review_hides():
    items = [judged(pair_item(n, teacher="a"), reply="reason") for n in range(3)]
    table = text(queue_table(items, {"p1": label(items[1], "b")}, most=2))
    assert table.startswith("The first 2 of 3 in the queue.splityour wordquestionAnswer A")
    assert "1testQ0?onetwo" in table and "2testBQ1?onetwo" in table and "Q2?" not in table
    for secret in ("small", "large", "teacher", "reason"):
        assert secret not in table


def test_long_texts_are_cut_in_the_queue_alone():
    item = pair_item(text="word " * 100)
    cut = f"{'word ' * 17}word…"  # 17 * 5 + 4 + 1 = 90 letters
    assert cut in text(queue_table([item], {}, 1))
    assert "word " * 99 in text(static_html([item], {}))


def test_the_page_for_nobody_is_the_queue_and_its_last_item_whole():
    items = [pair_item(n) for n in range(12)]
    found = static_html(items, {})
    assert "The first 10 of 12" in found and "<style>" in found and "<script" not in found
    assert text(found).count("Source 11.") == 1 and "by small" in text(found)
    assert "The first 0 of 0" in static_html([], {})


@pytest.mark.parametrize(
    ("decided", "left", "seconds", "skipped", "line"),
    [
        (0, 216, None, 0, "0 of 216"),
        (37, 179, 720.0, 0, "37 of 216, 12 min left at your pace"),
        (37, 179, 20.0, 2, "37 of 216, 1 min left at your pace, 2 skipped"),
        (37, 179, 9000.0, 0, "37 of 216, 2.5 h left at your pace"),
        (216, 0, 0.0, 0, "216 of 216"),
    ],
)
def test_progress(decided, left, seconds, skipped, line):
    summary = Summary(216, decided, {}, skipped, left, 4.0, seconds, (), 0)
    assert text(progress_html(summary, "")) == line
    assert text(progress_html(summary, "<b>")) == f"{line}<b>"

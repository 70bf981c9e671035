"""What a browser shows of some HTML, and items whose texts would rather act."""

from dataclasses import replace
from html.parser import HTMLParser

from nbutils.records import Judgement
from nbutils.review.labels import HumanGrade, HumanLabel
from tests.reviewed import answer_item, pair_item

ACT = "<img src=x onerror=act()>"
WHEN = "2026-01-31T08:15:00Z"


class Shown(HTMLParser):
    """The pieces of text and the tags of some HTML."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.texts, self.tags = [], set()
        self.feed(html)
        self.close()

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def label(item, act):
    return HumanLabel(item.item_id, item.fingerprint, act, 1.0, "", True, True, WHEN)


def grade(item, score, acceptable):
    names = item.answer.question_id, item.answer.answerer, item.fingerprint
    return HumanGrade(*names, "grade", score, acceptable, 1.0, "", True, True, WHEN)


def judged(item, flipped="b", reply=""):
    """The item with both orders of a teacher, whose original verdict is a."""
    row = Judgement(item.item_id, "original", "teacher", "p", f"{reply} [[A]]", "a")
    why = "no marker" if flipped is None else None
    other = replace(row, order="flipped", reply=f"{reply} [[B]]", verdict=flipped, reason=why)
    return replace(item, judgements=(row, other))


def text(html):
    return " ".join("".join(Shown(html).texts).split())


def hostile():
    """A pair of which every text wants to act, and an answer of which every text does."""
    pair, single = judged(pair_item(), reply=ACT), answer_item()
    asked = replace(pair.question, question=ACT, source=ACT)
    a = replace(pair.answer_a, text=ACT, answerer=ACT, error=ACT)
    pair = replace(pair, question=asked, answer_a=a)
    single = replace(
        single,
        question=asked,
        answer=a,
        teacher=replace(single.teacher, reply=ACT, score=None, reason=ACT),
    )
    return pair, single

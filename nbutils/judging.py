"""Asks a judge of every pair in both orders, and of every answer. Never settles an unread reply.

Nothing is lost when a loop stops midway: each reply stands in the store of calls, so that asking
again takes it from there.
"""

import hashlib
import html
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, get_args

import pandas as pd
from pandas.io.formats.style import Styler
from tqdm import tqdm

from nbutils.models import ChatModel
from nbutils.prompts import GRADE, PAIRWISE, render_grade, render_pairwise
from nbutils.records import Answer, Grade, Judgement, Order, Pair, Question
from nbutils.verdicts import in_pair_labels, read_score, read_verdict

ORDERS: tuple[Order, ...] = get_args(Order)
WIDTHS = {  # of the table's columns, in % of its width
    "Question": 10,
    "Source": 16,
    "Model A": 10,
    "Answer A": 11,
    "Model B": 10,
    "Answer B": 11,
    "Score": 9,
    "Judgement": 14,
}
LABEL_WIDTH = 9  # of the row labels: the rest
ItemT = TypeVar("ItemT")


class JudgingError(ValueError):
    """Rows that do not fit together; the message names the row and the remedy."""


def judge_pairs(
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    model: ChatModel,
    progress: bool = True,
) -> list[Judgement]:
    """The model's judgement of each pair in both orders: two rows a pair, original first.

    A reply that cannot be read has verdict None and the reason. Raises JudgingError where a pair
    names a question or an answer that is not given.
    """
    asked = {row.question_id: row for row in questions}
    given = {(row.question_id, row.answerer): row for row in answers}
    for pair in pairs:
        for missing in _missing(pair, asked, given):
            remedy = "run notebook 02_answers again"
            raise JudgingError(f"pair {pair.pair_id}: {missing} is not given; {remedy}")
    judgements = []
    for pair in _shown(pairs, "pairs judged in both orders", progress):
        question = asked[pair.question_id]
        first, second = (given[pair.question_id, w] for w in (pair.answerer_a, pair.answerer_b))
        for order in ORDERS:
            messages = render_pairwise(
                question.question, question.source, first.text, second.text, order
            )
            reply = model.reply(f"{pair.pair_id}/{order}", PAIRWISE.fingerprint, messages)
            read = read_verdict(reply)
            judgements.append(
                Judgement(
                    pair_id=pair.pair_id,
                    order=order,
                    judge=model.name,
                    prompt=PAIRWISE.fingerprint,
                    reply=reply,
                    verdict=in_pair_labels(read.letter, order) if read.letter else None,
                    reason=read.reason,
                    recovered=read.recovered,
                )
            )
    return judgements


def grade_answers(
    answers: Sequence[Answer],
    questions: Sequence[Question],
    model: ChatModel,
    progress: bool = True,
) -> list[Grade]:
    """The model's grade, 0 to 1, of each answer, in the answers' order.

    A reply that cannot be read has score None and the reason. Raises JudgingError where an answer's
    question is not given.
    """
    asked = {row.question_id: row for row in questions}
    for answer in answers:
        if answer.question_id not in asked:
            who = f"answer of {answer.answerer}: question {answer.question_id}"
            raise JudgingError(f"{who} is not given; run notebook 01_questions again")
    grades = []
    for answer in _shown(answers, "answers graded", progress):
        question = asked[answer.question_id]
        messages = render_grade(question.question, question.source, answer.text)
        data_id = f"{answer.question_id}/{answer.answerer}"
        reply = model.reply(data_id, GRADE.fingerprint, messages)
        read = read_score(reply)
        grades.append(
            Grade(
                question_id=answer.question_id,
                answerer=answer.answerer,
                judge=model.name,
                prompt=GRADE.fingerprint,
                reply=reply,
                score=read.value,
                reason=read.reason,
            )
        )
    return grades


def show_judgement(
    question: Question, answer_a: Answer, answer_b: Answer, judgements: Sequence[Judgement]
) -> Styler:
    """The table of a pair's judgements, one row each, with A and B as the judge saw them.

    A row is labelled with order and judge. Score is 1 where the answer in column A won, 0 where B
    did, 0.5 for a tie. All text is escaped and wrapped; a long source scrolls in its cell; colours
    are left to the reader's theme. Raises JudgingError where an answer is not to the question or
    the judgements are not of one pair.
    """
    pairs = {row.pair_id for row in judgements}
    answered = {answer_a.question_id, answer_b.question_id}
    if len(pairs) != 1 or answered != {question.question_id}:
        have = f"answers to {sorted(answered)} and judgements of {sorted(pairs)}"
        remedy = "give that question's answers and one pair's judgements"
        raise JudgingError(f"question {question.question_id}: {have}; {remedy}")
    rows = {}
    for row in judgements:
        a, b = (answer_a, answer_b) if row.order == "original" else (answer_b, answer_a)
        cells = (question.question, question.source, a.answerer, a.text, b.answerer, b.text)
        rows[f"{row.order}\n{row.judge}"] = (*cells, _score(row), row.reply)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(WIDTHS))
    widths = [{"selector": "th.blank", "props": f"width: {LABEL_WIDTH}%"}] + [
        {"selector": f"th.col_heading.col{n}", "props": f"width: {width}%"}
        for n, width in enumerate(WIDTHS.values())
    ]
    name = hashlib.sha256(pairs.pop().encode()).hexdigest()[:8]  # ids are not escaped
    wrap = (
        "text-align: left; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; "
        "box-sizing: border-box; padding: 0.3em"
    )
    plain = {"selector": "th.row_heading", "props": "font-weight: normal"}
    return (
        Styler(table, uuid=name, cell_ids=False)
        .format(escape="html")
        .format(_scrolling, subset=["Source"])
        .format_index(escape="html")
        .set_table_attributes('style="width: 100%; table-layout: fixed"')
        .set_table_styles([{"selector": "th, td", "props": wrap}, plain, *widths])
    )


def _score(row: Judgement) -> str:
    """The verdict as a score of the answer that was shown as A."""
    if row.verdict is None:
        return f"unreadable\n({row.reason})"
    if row.verdict == "tie":
        return "0.5 (tie)"
    return "1 (A)" if (row.verdict == "a") == (row.order == "original") else "0 (B)"


def _scrolling(text: str) -> str:
    style = "max-height: 24em; overflow-y: auto"
    return f'<div tabindex="0" style="{style}">{html.escape(text)}</div>'


def _missing(
    pair: Pair, asked: Mapping[str, Question], given: Mapping[tuple[str, str], Answer]
) -> list[str]:
    """What a pair names and the rows do not hold."""
    missing = [f"question {pair.question_id}"] if pair.question_id not in asked else []
    for who in (pair.answerer_a, pair.answerer_b):
        if (pair.question_id, who) not in given:
            missing.append(f"the answer of {who} to question {pair.question_id}")
    return missing


def _shown(items: Sequence[ItemT], what: str, progress: bool) -> Iterable[ItemT]:
    """The items, with a bar on standard output: notebooks colour the other as an error."""
    return tqdm(items, desc=what, disable=not progress, file=sys.stdout, mininterval=0.5)

"""Asks a judge of every pair in both orders, and of every answer. Never settles an unread reply.

Nothing is lost when a stage stops midway: each reply stands in the store of calls, so that asking
again takes it from there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import get_args

import pandas as pd
from pandas.io.formats.style import Styler

from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.display import safe
from nbutils.logprobs import verdict_probabilities
from nbutils.models import ChatModel
from nbutils.prompts import GRADE, PAIRWISE, render_grade, render_pairwise
from nbutils.records import Answer, Grade, Judgement, Order, Pair, Question, Source
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


class JudgingError(ValueError):
    """Rows that do not fit together; the message names the row and the remedy."""


def judge_pairs(
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    model: ChatModel,
    role: str = "teacher",
) -> list[Judgement]:
    """The model's judgement of each pair in both orders: two rows a pair, original first.

    `role` is what the calls are booked under: teacher, or student for one that writes. A reply that
    cannot be read, and a call that got none, has verdict None and the reason. Raises JudgingError
    where a pair names a question or an answer that is not given.
    """
    asked = {row.question_id: row for row in questions}
    given = {(row.question_id, row.answerer): row for row in answers}
    for pair in pairs:
        for missing in _missing(pair, asked, given):
            remedy = "run notebook 02_answers again"
            raise JudgingError(f"pair {pair.pair_id}: {missing} is not given; {remedy}")
    shown = [(pair, order) for pair in pairs for order in ORDERS]
    calls = []
    for pair, order in shown:
        question = asked[pair.question_id]
        first, second = (given[pair.question_id, w] for w in (pair.answerer_a, pair.answerer_b))
        messages = render_pairwise(
            question.question, question.source, first.text, second.text, order
        )
        data_id = f"{pair.pair_id}/{order}"
        calls.append(Call(role, data_id, PAIRWISE.fingerprint, messages))
    replies = model.ask(calls, "judgements", _has_verdict)
    return [
        _judgement(pair, order, model.name, reply)
        for (pair, order), reply in zip(shown, replies, strict=True)
    ]


def grade_answers(
    answers: Sequence[Answer], questions: Sequence[Question], model: ChatModel
) -> list[Grade]:
    """The model's grade, 0 to 1, of each answer, in the answers' order.

    A reply that cannot be read, and a call that got none, has score None and the reason. Raises
    JudgingError where an answer's question is not given.
    """
    asked = {row.question_id: row for row in questions}
    for answer in answers:
        if answer.question_id not in asked:
            who = f"answer of {answer.answerer}: question {answer.question_id}"
            raise JudgingError(f"{who} is not given; run notebook 01_questions again")
    calls = []
    for answer in answers:
        question = asked[answer.question_id]
        messages = render_grade(question.question, question.source, answer.text)
        data_id = f"{answer.question_id}/{answer.answerer}"
        calls.append(Call("grader", data_id, GRADE.fingerprint, messages))
    replies = model.ask(calls, "grades", _has_score)
    return [
        _grade(answer, model.name, reply) for answer, reply in zip(answers, replies, strict=True)
    ]


def _judgement(pair: Pair, order: Order, judge: str, reply: Reply | Failure) -> Judgement:
    if isinstance(reply, Failure):
        return Judgement(
            pair.pair_id, order, judge, PAIRWISE.fingerprint, "", None, f"no reply: {reply.why}"
        )
    read = read_verdict(reply.text, reply.finish_reason)
    probabilities, fallback = verdict_probabilities(reply, read, order)
    source: Source = "votes" if probabilities is None else "log-probabilities"
    return Judgement(
        pair_id=pair.pair_id,
        order=order,
        judge=judge,
        prompt=PAIRWISE.fingerprint,
        reply=reply.text,
        verdict=in_pair_labels(read.letter, order) if read.letter else None,
        reason=read.reason,
        recovered=read.recovered,
        probabilities=probabilities,
        source=source if read.letter else None,
        fallback=fallback,
    )


def _grade(answer: Answer, judge: str, reply: Reply | Failure) -> Grade:
    row = (answer.question_id, answer.answerer, judge, GRADE.fingerprint)
    if isinstance(reply, Failure):
        return Grade(*row, "", None, f"no reply: {reply.why}")
    read = read_score(reply.text, reply.finish_reason)
    return Grade(*row, reply.text, read.value, read.reason)


def _has_verdict(reply: Reply) -> bool:
    return read_verdict(reply.text, reply.finish_reason).letter is not None


def _has_score(reply: Reply) -> bool:
    return read_score(reply.text, reply.finish_reason).value is not None


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
        .format(safe)
        .format(_scrolling, subset=["Source"])
        .format_index(safe)
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
    return f'<div tabindex="0" style="{style}">{safe(text)}</div>'


def _missing(
    pair: Pair, asked: Mapping[str, Question], given: Mapping[tuple[str, str], Answer]
) -> list[str]:
    """What a pair names and the rows do not hold."""
    missing = [f"question {pair.question_id}"] if pair.question_id not in asked else []
    for who in (pair.answerer_a, pair.answerer_b):
        if (pair.question_id, who) not in given:
            missing.append(f"the answer of {who} to question {pair.question_id}")
    return missing

"""What a blind review hides until the decision, as HTML. Never settles who is right.

Verdicts are in the reader's labels: A is the answer shown as A, whichever order the judge saw.
"""

from nbutils.display import safe
from nbutils.records import Judgement, Resolution
from nbutils.review.items import AnswerItem, Item, PairItem
from nbutils.review.labels import HumanGrade, HumanLabel

Said = HumanLabel | HumanGrade
SHOWN = {"a": "A", "b": "B"}  # the pair's own labels as a person reads them


def reveal_html(item: Item, said: Said | None) -> str:
    """What was hidden: the person's word beside the judges', and the teacher's reasons."""
    rows = _pair_rows(item) if isinstance(item, PairItem) else _answer_rows(item)
    if isinstance(item, PairItem):
        planted = {"A": item.answer_a.error, "B": item.answer_b.error}
    else:
        planted = {"The answer": item.answer.error}
    notes = "".join(
        f'<div class="nbr-small">{which} was given an error: {safe(error)}</div>'
        for which, error in planted.items()
        if error
    )
    head = f"<b>{_verdict_line(item, said)}</b>"
    table = f'<table class="nbr-table"><tbody>{"".join(rows)}</tbody></table>' if rows else ""
    return f'<div class="nbr nbr-reveal">{head}{table}{notes}</div>'


def said_text(said: Said) -> str:
    """A person's word: `A`, `tie`, `can't tell`, or `0.8, acceptable`."""
    if isinstance(said, HumanGrade) and said.score is not None:
        return f"{said.score:.1f}, {'' if said.acceptable else 'not '}acceptable"
    return SHOWN.get(said.act, said.act)


def _verdict_line(item: Item, said: Said | None) -> str:
    """`You: A. Teacher: B: you overrule it. Student: B.`"""
    parts = [f"You: {safe(said_text(said))}."] if said else []
    if isinstance(item, PairItem):
        judges = [("Teacher", _resolved(item.teacher)), ("Student", _resolved(item.student))]
    else:
        score = item.teacher.score if item.teacher else None
        teacher = "" if item.teacher is None else "unreadable" if score is None else f"{score:.2f}"
        student = "" if item.student is None else f"{item.student:.2f}"
        judges = [("Teacher", teacher), ("Student", student)]
    for judge, verdict in judges:
        over = judge == "Teacher" and said is not None and item.overruled_by(said)
        if verdict:
            parts.append(f"{judge}: {verdict}{': you overrule it' if over else ''}.")
    return " ".join(parts) if parts else "No judge has seen this yet."


def _resolved(row: Resolution | None) -> str:
    if row is None:
        return ""
    return SHOWN.get(row.verdict, row.verdict) + (" (leaning)" if row.leaning else "")


def _pair_rows(item: PairItem) -> list[str]:
    rows = [_judgement_row(row) for row in item.judgements]
    if item.student and item.student.target:
        shares = zip(("A", "B", "tie"), item.student.target, strict=True)
        rows.append(
            _row(
                "student",
                _resolved(item.student),
                " &nbsp; ".join(f"{k} {p:.0%}" for k, p in shares),
            )
        )
    return rows


def _judgement_row(row: Judgement) -> str:
    """One order. Its reply speaks of A and B as the judge saw them, the verdict as the reader."""
    verdict = "unreadable" if row.verdict is None else SHOWN.get(row.verdict, row.verdict)
    where = "" if row.order == "original" else "(B was shown first:\nits “A” is your B)"
    reason = f'<div class="nbr-small">{safe(row.reason)}</div>' if row.reason else ""
    return _row(f"teacher,\n{row.order} order", verdict, safe(row.reply) + reason, where)


def _answer_rows(item: AnswerItem) -> list[str]:
    grade = item.teacher
    if grade is None:
        return []
    score = "unreadable" if grade.score is None else f"{grade.score:.2f}"
    reason = f'<div class="nbr-small">{safe(grade.reason)}</div>' if grade.reason else ""
    return [_row("teacher", score, safe(grade.reply) + reason)]


def _row(head: str, verdict: str, html: str, small: str = "") -> str:
    note = f'<div class="nbr-small">{small}</div>' if small else ""
    narrow = f'<th class="nbr-narrow">{head}{note}</th><td class="nbr-narrow">{verdict}</td>'
    return f"<tr>{narrow}<td>{html}</td></tr>"

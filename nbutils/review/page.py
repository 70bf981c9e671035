"""Items of a review as HTML. Never lets a text act, and shows no name or verdict unasked.

Colours come from JupyterLab's themes, with a light page's where there is no theme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbutils.display import safe
from nbutils.review.items import AnswerItem, Item, PairItem
from nbutils.review.progress import Summary
from nbutils.review.reveal import Said, reveal_html, said_text
from nbutils.review.words import DIFFERS, SOURCED, marked

SHORT = 90  # characters of a text in the queue's table
STYLE = """
.nbr { color: var(--jp-content-font-color1, #212121); font-size: 14px; line-height: 1.4;
  font-family: var(--jp-content-font-family, system-ui, sans-serif); }
.nbr * { box-sizing: border-box; }
.nbr-text { white-space: pre-wrap; overflow-wrap: anywhere; }
.nbr-small { font-size: 12px; color: var(--jp-content-font-color2, #555); }
.nbr-question { font-size: 16px; font-weight: 600; margin: 2px 0 6px; }
.nbr-box { border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px;
  padding: 6px 10px; overflow-y: auto; background: var(--jp-layout-color1, #fff); }
.nbr-source { max-height: 13em; background: var(--jp-layout-color2, #f3f3f3); }
.nbr-answers { display: flex; flex-wrap: wrap; gap: 8px; margin: 6px 0 2px; }
.nbr-answers > div { flex: 1 1 300px; min-width: 0; }
.nbr-answer { max-height: 14em; min-height: 5.2em; }
.nbr-legend { text-align: right; color: inherit; }
[data-jp-theme-light="false"] .nbr { color-scheme: dark; }
.nbr-head { font-weight: 600; }
.nbr mark.nbr-differs { color: inherit; background: rgba(230, 159, 0, .25);
  box-shadow: inset 0 -2px 0 #d55e00; padding-bottom: 2px; }
.nbr u.nbr-sourced { text-decoration: underline dotted 2px #2387c5; text-underline-offset: 2px; }
.nbutils-keys .nbr-chosen.jupyter-button { opacity: 1; font-weight: 600;
  box-shadow: inset 0 0 0 2px var(--jp-brand-color1, #1976d2); }
.nbr-progress { white-space: nowrap; }
.nbr-told { padding: 2px 10px; border-left: 4px solid var(--jp-border-color1, #bdbdbd); }
.nbr-wrong { border-color: var(--jp-error-color1, #b71c1c); font-weight: 600; }
.nbr-reveal { border-left: 4px solid var(--jp-brand-color1, #1976d2); padding: 2px 0 2px 10px; }
.nbr table.nbr-table { border-collapse: collapse; width: 100%; margin: 4px 0; table-layout: auto;
  font-size: 13px; }
.nbr .nbr-table td, .nbr .nbr-table th { border: 1px solid var(--jp-border-color2, #ddd);
  padding: 3px 8px; text-align: left; vertical-align: top; white-space: pre-wrap;
  overflow-wrap: anywhere; background: transparent; }
.nbr .nbr-table th { font-weight: 600; }
.nbr .nbr-table .nbr-narrow { white-space: pre; overflow-wrap: normal; width: 1%; }
"""
END = (
    '<div class="nbr nbr-question">Nothing is left in this queue.</div>'
    '<div class="nbr">Another one is a choice away, under Queue.</div>'
)


@dataclass(frozen=True)
class Marks:
    """Which words of the answers to mark."""

    differing: bool  # those that the other answer does not have
    sourced: bool  # those that stand in the source


def item_html(item: Item, marks: Marks, named: bool) -> str:
    """Question, source and the answer or answers; `named` says who wrote them."""
    question = f'<div class="nbr-question nbr-text">{safe(item.question.question)}</div>'
    text = safe(item.question.source)
    box = "nbr-box nbr-source nbr-text"
    source = f'<div class="{box}" tabindex="0" role="region" aria-label="source">{text}</div>'
    columns = "".join(_answers(item, marks, named))
    answers = f'<div class="nbr-answers">{columns}</div>'
    return f'<div class="nbr">{question}{source}{answers}{_legend(marks, item)}</div>'


def progress_html(summary: Summary, hint: str) -> str:
    """A bar and `37 of 216, 12 min left at your pace`; then the hint, if there is one."""
    done = f"{summary.decided:,} of {summary.total:,}"
    if summary.seconds_left:
        done += f", {_duration(summary.seconds_left)} left at your pace"
    if summary.skipped:
        done += f", {summary.skipped:,} skipped"
    bar = f'<progress value="{summary.decided}" max="{max(summary.total, 1)}"></progress>'
    line = f'<div class="nbr-small">{safe(hint)}</div>' if hint else ""
    return f'<div class="nbr nbr-progress">{bar} <span>{done}</span>{line}</div>'


def queue_table(items: Sequence[Item], labels: Mapping[str, Said], most: int) -> str:
    """The first items of a queue, without a name or a verdict; `labels` by item id."""
    texts = [name for name, _, _ in _columns(items[0])] if items else []
    lines = [_line("th", "", "split", "your word", "question", *texts)]
    for number, item in enumerate(items[:most], 1):
        said = labels.get(item.item_id)
        word = said_text(said) if said else ""
        shown = [item.question.question, *(text for _, _, text in _columns(item))]
        lines.append(_line("td", str(number), item.split, word, *(_short(text) for text in shown)))
    caption = f"The first {min(most, len(items))} of {len(items):,} in the queue."
    table = f'<table class="nbr-table"><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="nbr">{caption}{table}</div>'


def static_html(items: Sequence[Item], labels: Mapping[str, Said], most: int = 10) -> str:
    """A page's part for where nobody can press a button: the queue, and its last item whole.

    The last, since the first are what a person will be asked next, blind.
    """
    parts = [f"<style>{STYLE}</style>", queue_table(items, labels, most)]
    if items:
        last, marks = items[-1], Marks(differing=True, sourced=True)
        parts += ['<div class="nbr">The last of them, with what a reviewer sees at the end:</div>']
        parts += [item_html(last, marks, True), reveal_html(last, labels.get(last.item_id))]
    return "\n".join(parts)


def _answers(item: Item, marks: Marks, named: bool) -> list[str]:
    columns = _columns(item)
    source = item.question.source if marks.sourced else None
    html = []
    for n, (letter, who, text) in enumerate(columns):
        other = columns[1 - n][2] if marks.differing and len(columns) == 2 else None
        name = f' <span class="nbr-small">by {safe(who)}</span>' if named else ""
        body = marked(text, other, source) or '<span class="nbr-small">(empty)</span>'
        box = f'<div class="nbr-box nbr-answer nbr-text" tabindex="0">{body}</div>'
        html.append(f'<div><div><span class="nbr-head">{letter}</span>{name}</div>{box}</div>')
    return html


def _legend(marks: Marks, item: Item) -> str:
    parts = []
    if marks.differing and isinstance(item, PairItem):
        parts.append(f'<mark class="{DIFFERS}">words that only this answer has</mark>')
    if marks.sourced:
        parts.append(f'<u class="{SOURCED}">words that stand in the source</u>')
    return f'<div class="nbr-small nbr-legend">{" &nbsp; ".join(parts)}</div>' if parts else ""


def _columns(item: Item) -> list[tuple[str, str, str]]:
    """Heading, author and text of each answer."""
    if isinstance(item, AnswerItem):
        return [("Answer", item.answer.answerer, item.answer.text)]
    both = (("Answer A", item.answer_a), ("Answer B", item.answer_b))
    return [(letter, answer.answerer, answer.text) for letter, answer in both]


def _line(tag: str, *cells: str) -> str:
    """A row of the queue's table: three narrow cells, then wide ones."""
    kinds = ['<{} class="nbr-narrow">'] * 3 + ["<{}>"] * (len(cells) - 3)
    html = (kind.format(tag) + safe(cell) for kind, cell in zip(kinds, cells, strict=True))
    return f"<tr>{''.join(f'{cell}</{tag}>' for cell in html)}</tr>"


def _short(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def _duration(seconds: float) -> str:
    """`12 min`; from an hour and a half on `2.5 h`."""
    return f"{max(1, round(seconds / 60))} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""What people's labels say of the judges. Never decides where a person could not."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import get_args

import numpy as np
import pandas as pd

from nbutils.evaluation import measures
from nbutils.evaluation.agreement import RESAMPLES, Card, Judge, compare, resolved, rounded
from nbutils.evaluation.people import Reviewer
from nbutils.records import Pair, Resolved

SAID = (*measures.DECIDED, "can't tell")
COLUMNS = {  # the table for people: figure of the card -> heading
    "agreement": "agreement",
    "agreement_span": "95 %",
    "by_question_span": "95 %, by question",
    "agreement_where_both_decide": "where both decide",
    "kappa": "kappa",
    "preference": "preference",
    "preference_span": "preference, 95 %",
    "undecided": "judge undecided",
    "cannot_tell": "person can't tell",
    "with_teacher": "with the teacher",
}


def people_card(
    people: Sequence[Reviewer],
    teacher: Judge,
    judges: Sequence[Judge],
    pairs: Sequence[Pair],
    seed: int,
) -> Card:
    """Teacher and judges against the first of `people`, ready for JSON; the same for a seed.

    Every figure is over the pairs that this person labelled and that came up by lot, can't tell
    included: what a verdict had chosen for reading is no sample of anything. Keys: `reviewer`,
    `subset` (the pairs, in words), `labels` (counts), `judges` {name: {"person": figures,
    "teacher": figures against the teacher on the same pairs}}, `comparisons` (a row for every two
    judges), `confusion` {label: {teacher's verdict: pairs}}, `overruled` (see there), `reviewers`
    (the first with each other one). Without a label drawn by lot, figures and tables are empty.
    """
    person = people[0] if people else Reviewer("nobody", {}, {})
    labelled = [pair for pair in pairs if pair.pair_id in person.labels]
    some = [pair for pair in pairs if pair.pair_id in person.sample]
    truth, everyone = person.as_judge(), [teacher, *judges] if some else []
    subset = f"agreement with {person.name}, labelled pairs"
    card: Card = {"reviewer": person.name, "seed": seed, "resamples": RESAMPLES, "subset": subset}
    card["labels"] = _counts(person, labelled, len(pairs))
    card["judges"] = {
        judge.name: {
            "person": _figures(truth, judge, some, seed),
            "teacher": None if judge is teacher else _figures(teacher, judge, some, seed),
        }
        for judge in everyone
    }
    card["comparisons"] = [
        {"subset": subset} | compare(truth, first, second, some, seed)
        for first, second in combinations(everyone, 2)
    ]
    card["confusion"] = _confusion(person, teacher, some) if some else {}
    card["overruled"] = overruled(person, teacher, labelled)
    card["reviewers"] = [between(person, other, pairs, seed) for other in people[1:]]
    return {key: rounded(value) for key, value in card.items()}


def overruled(person: Reviewer, teacher: Judge, pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """The labelled pairs where person and teacher both decide, and not alike: to be read again."""
    rows = []
    for resolution in resolved(teacher, pairs):
        key, verdict = resolution.pair_id, resolution.verdict
        said = person.labels[key].label
        if said != verdict and {said, verdict} <= {*measures.DECIDED}:
            note = person.notes.get(key, "")
            rows.append({"pair_id": key, "person": said, "teacher": verdict, "note": note})
    return rows


def between(first: Reviewer, second: Reviewer, pairs: Sequence[Pair], seed: int) -> Card:
    """Two people on the pairs that both labelled by lot: how many alike, and Cohen's kappa.

    Can't tell agrees with nothing and is, on either side, a label of its own, as in
    measures.agreement. Kappa's interval draws whole questions; a draw in which both gave one and
    the same label throughout has no kappa and is left out of the interval.
    """
    shared = [p for p in pairs if p.pair_id in first.sample and p.pair_id in second.sample]
    card: Card = {"first": first.name, "second": second.name, "pairs": len(shared)}
    if not shared:
        return card
    one, other = (resolved(person.as_judge(), shared) for person in (first, second))
    both = list(zip(one, other, strict=True))
    figures = measures.agreement(both)
    card |= {key: value for key, value in figures.items() if key.startswith("agree")}
    low, high = _kappa_span(both, [pair.question_id for pair in shared], seed)
    return card | {"kappa": figures["kappa"], "kappa_low": low, "kappa_high": high}


def summary(card: Card) -> str:
    """What was labelled, in words, also where nothing was."""
    labels = card["labels"]
    said = f"No person has labelled one of these {labels['pairs']} pairs yet."
    if labels["labelled"]:
        counts = ", ".join(f"{labels[label]} {label}" for label in SAID)
        of = f"{labels['labelled']} of {labels['pairs']} pairs, on {labels['questions']} questions"
        how = f"{labels['blind']} of them blind, {labels['drawn']} drawn by lot"
        said = f"{card['reviewer']} labelled {of}: {counts}; {how}."
    if labels["changed"]:
        said += f"\n{len(labels['changed'])} labels are not used: the pair reads otherwise now."
    return said


def table(card: Card) -> pd.DataFrame:
    """One row a judge, the teacher first: its agreement with the person, and with the teacher."""
    rows = {}
    for name, found in card["judges"].items():
        row = dict(found["person"])
        for key in ("agreement", "by_question", "preference"):
            low, high = row[f"{key}_low"], row[f"{key}_high"]
            row[f"{key}_span"] = None if low is None else f"{low:.2f} to {high:.2f}"
        row["with_teacher"] = found["teacher"] and found["teacher"]["agreement"]
        rows[name] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("judge")
    return frame.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)


def _counts(person: Reviewer, labelled: Sequence[Pair], pairs: int) -> Card:
    rows = [person.labels[pair.pair_id] for pair in labelled]
    said: Counter[str] = Counter(row.label for row in rows)
    return {
        "pairs": pairs,
        "labelled": len(rows),
        "questions": len({pair.question_id for pair in labelled}),
        **{label: said[label] for label in SAID},
        "blind": sum(row.blind for row in rows),
        "drawn": sum(pair.pair_id in person.sample for pair in labelled),
        "changed": list(person.changed),
        "elsewhere": person.elsewhere,
    }


def _figures(truth: Judge, judge: Judge, pairs: Sequence[Pair], seed: int) -> Card:
    questions = [pair.question_id for pair in pairs]
    both = list(zip(resolved(truth, pairs), resolved(judge, pairs), strict=True))
    hits = [measures.hit(t, j) for t, j in both]
    mean, low, high = measures.mean_by_question(hits, questions, seed, RESAMPLES)
    if mean in (0, 1):  # such a bootstrap has no width; Wilson's interval has
        low, high = None, None
    return {
        "pairs": len(pairs),
        **measures.agreement(both),
        "by_question_low": low,
        "by_question_high": high,
        **measures.preference(both, questions, seed, RESAMPLES),
        "undecided": sum(j.verdict not in measures.DECIDED for _, j in both),
        "cannot_tell": sum(t.verdict not in measures.DECIDED for t, _ in both),
    }


def _confusion(
    person: Reviewer, teacher: Judge, pairs: Sequence[Pair]
) -> dict[str, dict[str, int]]:
    both = ((person.labels[row.pair_id].label, row.verdict) for row in resolved(teacher, pairs))
    said: Counter[tuple[str, str]] = Counter(both)
    return {x: {y: said[x, y] for y in get_args(Resolved)} for x in SAID}


def _kappa_span(
    both: measures.Both, questions: list[str], seed: int
) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval of Cohen's kappa; None where no draw has one."""
    counts = [
        [1.0, measures.hit(t, j), *(r.verdict == s for r in (t, j) for s in measures.DECIDED)]
        for t, j in both
    ]
    groups = pd.DataFrame(counts, dtype=float).groupby(questions).sum().to_numpy()
    even = np.full(len(groups), 1 / len(groups))
    draws = np.random.default_rng(seed).multinomial(len(groups), even, RESAMPLES)
    sums = draws @ groups  # a row a draw: pairs, alike, then a, b and tie of either person
    shares = sums[:, 1:] / sums[:, :1]
    chance = (shares[:, 1:4] * shares[:, 4:]).sum(axis=1)
    has_one = chance < 1
    found = (shares[has_one, 0] - chance[has_one]) / (1 - chance[has_one])
    if len(groups) == 1 or not len(found):
        return None, None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)

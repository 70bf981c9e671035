"""Who said what of a run's pairs, and what a student learns of it. Never decides for a person."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbutils.evaluation.agreement import Judge
from nbutils.records import HUMAN, Answer, Label, Pair, Question, Resolution
from nbutils.resolution import soft_target
from nbutils.review.labels import (
    LABELS,
    HumanLabel,
    LabelFile,
    in_force,
    pair_fingerprint,
    reviewers,
    usable,
)

FILE = "human_labels.jsonl"
SECOND = "second_reviewer.jsonl"  # another person's file, where one was put beside the first
VERDICTS: dict[str, Label] = {"a": "a", "b": "b", "tie": "tie"}  # of a label that is one
MODES = ("teacher", "human", "human where given")


@dataclass(frozen=True)
class Reviewer:
    """One person, and what that person said of some pairs."""

    name: str  # "unnamed" where the person gave none
    labels: dict[str, HumanLabel]  # by pair id: in force, of pairs that read as they did then
    notes: dict[str, str]  # by pair id
    changed: tuple[str, ...] = ()  # pairs that read otherwise now: their labels count nowhere
    elsewhere: int = 0  # labels of pairs that are not among these
    replaced: Mapping[str, HumanLabel] = field(default_factory=dict)  # by lot, then decided anew

    @property
    def sample(self) -> dict[str, HumanLabel]:
        """What was said of pairs as they came up by lot: all that a share is made of.

        A pair that was read again, because a judge disagrees, counts by what was said before: else
        the agreement would grow with each reading, for only disagreements are read again.
        """
        return {key: row for key, row in self.labels.items() if row.drawn} | dict(self.replaced)

    def as_judge(self) -> Judge:
        """The sample as resolutions; can't tell agrees with nothing, as an unreadable reply."""
        found = {
            key: Resolution(key, HUMAN, VERDICTS.get(row.label, "unreadable"))
            for key, row in self.sample.items()
        }
        return Judge(self.name, found)


def read_people(
    pairs: Sequence[Pair],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    reviewer: str = "",
    folder: Path = LABELS,
) -> list[Reviewer]:
    """Everyone with a row in the label files, [] where there is none; `reviewer` comes first.

    "" stands for who labelled most of these pairs. Raises ValueError on a name without a row,
    RecordError on a broken file.
    """
    asked = {row.question_id: row for row in questions}
    texts = {(row.question_id, row.answerer): row for row in answers}
    now = {}
    for pair in pairs:
        shown = (texts[pair.question_id, who] for who in (pair.answerer_a, pair.answerer_b))
        now[pair.pair_id] = pair_fingerprint(asked[pair.question_id], *shown)
    found = []
    for file, mark in ((FILE, ""), (SECOND, " (second file)")):
        rows = LabelFile(folder / file, HumanLabel).read()
        found += [_reviewer(rows, name, mark, now) for name in reviewers(rows)]
    names = [person.name for person in found]
    if reviewer and reviewer not in names:
        known = ", ".join(names) or "nobody"
        raise ValueError(f"reviewer {reviewer!r} has no row in {folder.name}/; who has: {known}")
    return sorted(found, key=lambda person: (person.name != reviewer, -len(person.labels)))


def _reviewer(rows: Sequence[HumanLabel], name: str, mark: str, now: Mapping[str, str]) -> Reviewer:
    """`now` has the pairs' fingerprints."""
    said = usable(rows, name, now)
    notes = {
        row.pair_id: row.note
        for row in rows
        if row.note is not None and row.reviewer == name and row.fingerprint == now.get(row.pair_id)
    }
    replaced = {
        row.pair_id: row
        for row in in_force(rows, name)
        if row.drawn and row.act != "skip" and row.fingerprint == now.get(row.pair_id)
        if not said.labels[row.pair_id].drawn
    }
    who = (name or "unnamed") + mark
    return Reviewer(who, said.labels, notes, said.changed, said.unknown, replaced)


def training_labels(
    resolutions: Sequence[Resolution], labels: Mapping[str, HumanLabel], mode: str
) -> tuple[list[Resolution], str]:
    """What a student learns from, and a sentence that counts it. `labels` are by pair id.

    "teacher": the resolutions as they are. "human": the pairs that a person called a, b or tie,
    and no others. "human where given": those, and the teacher's resolution of the rest. A person's
    soft target is that of the verdict twice: see resolution.soft_target.

    Raises ValueError on another mode.
    """
    if mode not in MODES:
        raise ValueError(f"labels is {mode!r}: give {', '.join(map(repr, MODES))}")
    total = f"{len(resolutions)} train pairs"
    if mode == "teacher":
        return list(resolutions), f"{total}, all as the teacher resolved them"
    people = {
        row.pair_id: Resolution(row.pair_id, HUMAN, verdict, target=soft_target(verdict, verdict))
        for row in resolutions
        if row.pair_id in labels and (verdict := VERDICTS.get(labels[row.pair_id].label))
    }
    unsure = sum(row.pair_id in labels for row in resolutions) - len(people)
    said = f"{len(people)} of {total} have a person's verdict"
    if mode == "human":
        rest = len(resolutions) - len(people) - unsure
        lost = f"{unsure} could not be told, {rest} have no label: these train nothing"
        return list(people.values()), f"{said}; {lost}"
    other = sum(r.pair_id in people and r.verdict != people[r.pair_id].verdict for r in resolutions)
    kept = len(resolutions) - len(people)
    said += f", in {other} not the teacher's; {kept} keep the teacher's"
    mixed = [people.get(row.pair_id, row) for row in resolutions]
    return mixed, f"{said}, {unsure} of them since the person could not tell"

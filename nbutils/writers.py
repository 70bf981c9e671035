"""The students that write their reasons: taught, then asked like a teacher. Never scored here.

One is fine-tuned by a service, the other trained on this machine; a profile names either, both or
none. Each is judged beside its own base, untuned, by the code and the prompt that the teacher is.
"""

from collections.abc import Sequence
from contextlib import closing

from nbutils.agreement import Judge
from nbutils.events import finetuning_events, hold_out
from nbutils.generative import train_generative
from nbutils.hosted import HostedStudent
from nbutils.judging import judge_pairs
from nbutils.lessons import lessons
from nbutils.models import Models
from nbutils.profiles import HostedRole, Profile, Role, read_key
from nbutils.records import Answer, Judgement, Pair, Question, Resolution
from nbutils.resolution import resolve_all
from nbutils.runs import RunFolder
from nbutils.store import STORE, Store

GENERATIVE = "generative"  # its folder in the run's
LONGEST = 200  # tokens of a reply of the generative student


def teach_written(
    profile: Profile,
    run: RunFolder,
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    judgements: Sequence[Judgement],
    resolutions: Sequence[Resolution],
    seed: int,
) -> dict[str, str]:
    """Teaches each student that writes, on train rows: student -> what it answers by.

    Run again, it attaches to a hosted job and goes on with a training here. Raises what hosted.py
    and generative.py raise.
    """
    found = {}
    if profile.hosted_student is not None:
        role = profile.hosted_student
        parts = [
            finetuning_events(part, questions, answers, judgements, resolutions)
            for part in hold_out(pairs, questions, role.validation_share, seed)
        ]
        key = read_key(role, "hosted_student")
        with closing(Store(run.path(STORE))) as store:
            student = HostedStudent(
                role, key, run.path("."), store, profile.budget, profile.currency
            )
            student.finetune(*parts)
            found["hosted student"] = student.wait()
    if profile.generative_student is not None:
        taught = lessons(pairs, questions, answers, judgements, resolutions)
        card = train_generative(profile.generative_student, taught, seed, run.path(GENERATIVE))
        found["generative student"] = f"{card['base']} with an adapter in {GENERATIVE}/"
    return found


def judge_written(
    profile: Profile,
    run: RunFolder,
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    answers: Sequence[Answer],
) -> list[Judge]:
    """Each student that writes, and its untuned base, as judges of the pairs; often none."""
    if profile.hosted_student is None and profile.generative_student is None:
        return []
    judges = []
    with Models(profile, run) as models:
        for name, role in _roles(profile, run).items():
            model = models.chat("hosted_student", role)
            rows = judge_pairs(pairs, questions, answers, model, role="student")
            judges.append(Judge(name, {row.pair_id: row for row in resolve_all(rows)}, rows))
    return judges


def _roles(profile: Profile, run: RunFolder) -> dict[str, Role | HostedRole]:
    """How each is asked, by its name as a judge."""
    found: dict[str, Role | HostedRole] = {}
    if profile.hosted_student is not None:
        role = profile.hosted_student
        with closing(Store(run.path(STORE))) as store:
            student = HostedStudent(
                role, read_key(role, "hosted_student"), run.path("."), store, profile.budget,
                profile.currency,
            )  # fmt: skip
            tuned = student.get_finetuned_model()
        found["hosted student"] = role.model_copy(update={"model": tuned})
        found["its base, untuned"] = role
    if profile.generative_student is not None:
        base = Role(
            service="local",
            model=profile.generative_student.model,
            sampling={"max_tokens": LONGEST, "temperature": 0},
        )
        adapter = str(run.need(GENERATIVE))
        found["generative student"] = base.model_copy(update={"adapter": adapter})
        found["generative base, untuned"] = base
    return found

"""The students that write their reasons: taught, then asked like a teacher. Never scored here.

One is fine-tuned by a service, the other trained on this machine; a profile names either, both or
none. Each is judged beside its own base, untuned, by the code and the prompt that the teacher is.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from nbutils.callpath.store import STORE, Store
from nbutils.evaluation.agreement import Judge
from nbutils.judging import judge_pairs
from nbutils.models import Models
from nbutils.profiles import Profile
from nbutils.records import Answer, Judgement, Pair, Question, Resolution
from nbutils.resolution import resolve_all
from nbutils.roles import HostedRole, Role, read_key
from nbutils.runs import RunFolder
from nbutils.writing.events import finetuning_events, hold_out
from nbutils.writing.generative import train_generative
from nbutils.writing.hosted import HostedStudent
from nbutils.writing.lessons import lessons

HOSTED = "hosted_student"  # its table in a profile
GENERATIVE = "generative"  # its folder in the run's
LONGEST = 200  # tokens of a reply of the generative student


class TrainRows(NamedTuple):
    """The rows of train that a student learns from."""

    pairs: Sequence[Pair]
    questions: Sequence[Question]
    answers: Sequence[Answer]
    judgements: Sequence[Judgement]
    resolutions: Sequence[Resolution]


def start_hosted(profile: Profile, run: RunFolder, rows: TrainRows, seed: int) -> str:
    """Starts the job of a hosted student, or attaches to the one that was started; says which.

    It takes a while at the service, and a refusal is better known early. Raises what hosted.py
    raises.
    """
    role = profile.hosted_student
    if role is None:
        return "this profile names no hosted student"
    teach, validation = (
        finetuning_events(part, *rows[1:])
        for part in hold_out(rows.pairs, rows.questions, role.validation_share, seed)
    )
    with _hosted(profile, run) as student:
        student.finetune(teach, validation)
        return f"job {student.get_current_job().id} of the hosted student is under way"


def teach_written(profile: Profile, run: RunFolder, rows: TrainRows, seed: int) -> dict[str, str]:
    """Trains the generative student and waits for the hosted one: what each answers by, or {}.

    Run again, a training goes on from its last whole epoch. Raises what hosted.py and
    generative.py raise.
    """
    found = {}
    if profile.generative_student is not None:
        taught = lessons(*rows)
        card = train_generative(profile.generative_student, taught, seed, run.path(GENERATIVE))
        found["generative student"] = f"{card['base']} with an adapter in {GENERATIVE}/"
    if profile.hosted_student is not None:
        with _hosted(profile, run) as student:
            found["hosted student"] = student.wait()
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
            model = models.chat(HOSTED, role)
            rows = judge_pairs(pairs, questions, answers, model, role="student")
            judges.append(Judge(name, {row.pair_id: row for row in resolve_all(rows)}, rows))
    return judges


@contextmanager
def _hosted(profile: Profile, run: RunFolder) -> Iterator[HostedStudent]:
    """The profile's hosted student, on the run's store."""
    role = profile.hosted_student
    assert role is not None  # whoever calls this has looked
    key = read_key(role, HOSTED)
    with closing(Store(run.path(STORE))) as store:
        yield HostedStudent(role, key, run.path("."), store, profile.budget, profile.currency)


def _roles(profile: Profile, run: RunFolder) -> dict[str, Role | HostedRole]:
    """How each is asked, by its name as a judge."""
    found: dict[str, Role | HostedRole] = {}
    if profile.hosted_student is not None:
        with _hosted(profile, run) as student:
            tuned = student.get_finetuned_model()
        found["hosted student"] = profile.hosted_student.model_copy(update={"model": tuned})
        found["hosted base, untuned"] = profile.hosted_student
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

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbutils.callpath.store import Store
from nbutils.profiles import DATA, Budget
from nbutils.records import load_dataset
from nbutils.roles import HostedRole
from nbutils.writing import hosted, tuning
from nbutils.writing.events import EventError, hold_out
from nbutils.writing.hosted import HostedStudent
from nbutils.writing.jobfile import STATE, HostedError
from tests.server import Fault

pytestmark = pytest.mark.slow

FILES, JOBS = "/v1/files", "/v1/fine_tuning/jobs"
CANARY = "sk-canary-5f2e81c09d7744aa"
ROOT = Path(__file__).parents[1]


def event(text):
    texts = {"system": "Judge.", "user": f"Which? {text}", "assistant": "[[A]]"}
    return {"messages": [{"role": role, "content": said} for role, said in texts.items()]}


TRAIN = [event(n) for n in range(10)]  # about 21 tokens each, 210 in all: see test_events.py
HELD = [event("held")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(hosted, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(tuning, "LOOK_PAUSE", 0.01)
    monkeypatch.setattr(tuning, "PATIENCE", 0.5)


@pytest.fixture
def student(server, tmp_path):
    """Makes the student anew, as the same command does in a new process."""
    store = Store(tmp_path / "calls.sqlite")

    def make(key=CANARY, money=None, **changes):
        fields = {"model": "base", "base_url": server.url, "price_training": 5.0, **changes}
        role = HostedRole(**fields)
        return HostedStudent(role, key, tmp_path, store, Budget(money=money), "USD")

    yield make
    store.close()


def state(folder):
    return json.loads((folder / STATE).read_text())


def created(server):
    """How many jobs were asked for."""
    return sum(seen.method == "POST" and seen.path == JOBS for seen in server.requests())


def test_a_job_from_events_to_a_model_that_answers(student, server, tmp_path, capsys):
    own = student()
    own.finetune(TRAIN, HELD)
    assert own.wait() == own.get_finetuned_model() == "ft:base:loopback::0001"
    said = capsys.readouterr().out
    # 210 tokens, 3 epochs, 5 USD a million: 0.003 USD.
    assert "10 events to teach, 1 to validate; about 210 tokens x 3 epochs, an estimated" in said
    assert "job ftjob-0001: queued" in said and "job ftjob-0001: succeeded" in said
    sent = json.loads(next(r.body for r in server.requests() if r.path == JOBS))
    assert sent["training_file"] == "file-0001" and sent["validation_file"] == "file-0002"
    assert sent["hyperparameters"] == {"n_epochs": 3}
    news = own.events()
    assert list(news.columns) == ["time", "level", "message"]
    assert news.message.iloc[0] == "Created fine-tuning job: ftjob-0001"
    assert news.message.iloc[-1].startswith("New fine-tuned model created")


def test_both_files_arrive_as_written(student, server, tmp_path):
    student().finetune(TRAIN, HELD)
    bodies = [seen.body for seen in server.requests() if seen.path == FILES]
    for body, events, name in zip(bodies, (TRAIN, HELD), ("train", "validation"), strict=True):
        file = tmp_path / f"finetuning_{name}.jsonl"
        assert file.read_text() in body and f'filename="{file.name}"' in body
        assert [json.loads(line) for line in file.read_text().splitlines()] == events
        assert 'name="purpose"\r\n\r\nfine-tune\r\n' in body


def test_the_validation_file_is_of_other_sections(student, server):
    data = load_dataset(DATA)
    pairs = [pair for pair in data.pairs if pair.split == "train"]
    questions = {q.question_id: q for q in data.questions}
    parts = hold_out(pairs, data.questions, share=0.1, seed=0)
    texts = [[event(questions[pair.question_id].source) for pair in part] for part in parts]
    unique = [list({json.dumps(e): e for e in part}.values()) for part in texts]
    student().finetune(*unique)  # which refuses a prompt, so here a source, in both
    sections = [{questions[pair.question_id].section for pair in part} for part in parts]
    assert sections[1] and not sections[0] & sections[1]
    test = {q.section for q in data.questions if q.split == "test"}
    assert not test & (sections[0] | sections[1])
    # 177 questions, a tenth of them 17.7: one section of 12, or with a second one 24.
    assert 8 <= len({pair.question_id for pair in parts[1]}) <= 24
    assert created(server) == 1


def test_run_again_it_attaches_and_sends_nothing(student, server, tmp_path, capsys):
    student().finetune(TRAIN, HELD)
    before = server.calls
    student().finetune(TRAIN, HELD)
    assert server.calls == before and state(tmp_path)["job"] == "ftjob-0001"
    assert "attached to job ftjob-0001; nothing was sent" in capsys.readouterr().out
    model = student().wait()
    before = server.calls
    assert student().get_finetuned_model() == student().wait() == model
    assert server.calls == before  # the name is known


def test_the_job_is_on_disk_before_anything_else_can_fail(student, server, tmp_path):
    one = f"{JOBS}/ftjob-0001"
    server.faults(Fault("500", path=one), Fault("500", path=f"{one}/events"))
    own = student()
    own.finetune(TRAIN, HELD)
    assert state(tmp_path)["job"] == "ftjob-0001"
    with pytest.raises(HostedError, match="does not show the job: 500 .*; run again to go on"):
        own.wait()
    server.faults()
    assert student().wait() and created(server) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from nbutils.writing.hosted import HostedStudent
from nbutils.profiles import Budget
from nbutils.roles import HostedRole
from nbutils.callpath.store import Store
from tests.test_hosted import HELD, TRAIN

real = os.replace
def replace(part, whole):
    if sys.argv[3] in Path(part).read_text():
        os.kill(os.getpid(), signal.SIGKILL)
    real(part, whole)
os.replace = replace

folder = Path(sys.argv[1])
role = HostedRole(model="base", base_url=sys.argv[2], price_training=5.0)
store = Store(folder / "calls.sqlite")
HostedStudent(role, "key", folder, store, Budget(), "USD").finetune(TRAIN, HELD)
"""


@pytest.mark.parametrize(
    ("moment", "jobs", "files"),
    [
        ("file-0001", 0, 1),  # sent and not written down: it is sent once more
        ('"asked": true', 0, 2),
        ("ftjob-0001", 1, 2),  # the job was made and not written down
    ],
)
def test_killed_at_any_step_it_never_asks_for_a_second_job(
    student, server, tmp_path, moment, jobs, files
):
    command = [sys.executable, "-c", KILLED, str(tmp_path), server.url, moment]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert (created(server), server.calls[FILES]) == (jobs, files)
    student().finetune(TRAIN, HELD)
    assert state(tmp_path)["job"] == "ftjob-0001"
    assert created(server) == 1
    student().finetune(TRAIN, HELD)
    assert created(server) == 1


@pytest.mark.parametrize("fault", ["reset", "truncated", "no_json", "html", "wrong_schema"])
def test_a_job_that_was_made_without_an_answer_is_found(student, server, tmp_path, fault):
    server.faults(Fault(fault, path=JOBS, marker="training_file"))
    student().finetune(TRAIN, HELD)
    assert state(tmp_path)["job"] == "ftjob-0001" and created(server) == 1
    assert student().wait().startswith("ft:base")


@pytest.mark.parametrize("fault", ["early_reset", "429", "503"])
def test_a_job_that_was_not_made_is_asked_for_again_only_by_a_new_run(
    student, server, tmp_path, fault
):
    server.faults(Fault(fault, path=JOBS, marker="training_file"))
    with pytest.raises(HostedError, match="no answer to the request for a job .*; run again"):
        student().finetune(TRAIN, HELD)
    assert created(server) == 1 and not state(tmp_path)["job"]
    server.faults()
    student().finetune(TRAIN, HELD)
    # The second run looked at the list first; the files are not sent again.
    assert (created(server), server.calls[FILES]) == (2, 2)
    assert state(tmp_path)["job"] == "ftjob-0001"


@pytest.mark.parametrize("status", [403, 400])
def test_a_refused_job_ends_at_once_with_the_service_s_words(student, server, tmp_path, status):
    server.set(refuse_jobs=status)
    start = time.monotonic()
    with pytest.raises(HostedError) as error:
        student().finetune(TRAIN, HELD)
    assert time.monotonic() - start < 5
    said = str(error.value)
    assert f"{status} training_not_available: Your organization can no longer create" in said
    assert "Nothing was started or paid for" in said and "profile 'open'" in said
    assert created(server) == 1
    assert not (tmp_path / STATE).exists()  # there is no job to attach to
    server.set(refuse_jobs=0)
    student().finetune(TRAIN, HELD)
    assert student().wait()


def test_a_refused_key_sends_no_file(student, server, tmp_path):
    server.set(key="the right one, not ours")
    with pytest.raises(HostedError, match="refuses the file finetuning_train.jsonl: 401") as error:
        student().finetune(TRAIN, HELD)
    assert CANARY not in str(error.value) and CANARY[-8:] not in str(error.value)
    assert (created(server), server.calls[FILES]) == (0, 1)


def test_an_upload_is_tried_again(student, server, monkeypatch):
    monkeypatch.setattr(tuning, "PATIENCE", 20.0)
    # Each second request to the path is refused: the second file's first, and its next arrives.
    server.faults(Fault("503", path=FILES, every=2, retry_after=0.01))
    student().finetune(TRAIN, HELD)
    assert (created(server), server.calls[FILES]) == (1, 3)


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        (TRAIN[:9], HELD, "finetuning_train.jsonl: 9 events, and 10 are needed"),
        (TRAIN, [], "finetuning_validation.jsonl: 0 events, and 1 are needed"),
        ([*TRAIN, {"messages": []}], HELD, "finetuning_train.jsonl line 11: the roles are"),
        (TRAIN, [event("long " * 66_000)], "finetuning_validation.jsonl line 1: about 66,"),
        (TRAIN, TRAIN[3:4], "finetuning_validation.jsonl line 1: the prompt is that of .* line 4"),
    ],
)
def test_what_no_service_takes_is_refused_before_anything_is_sent(
    student, server, tmp_path, train, held, message
):
    with pytest.raises(EventError, match=message):
        student().finetune(train, held)
    assert not server.requests() and not (tmp_path / STATE).exists()


def test_a_file_that_is_too_large_is_not_sent(student, server, monkeypatch):
    monkeypatch.setattr(hosted, "LARGEST", 1000)
    with pytest.raises(HostedError, match="finetuning_train.jsonl: 1,.* bytes, and 1,000 are the"):
        student().finetune(TRAIN, HELD)
    assert not server.requests()


def test_the_budget_covers_the_job_and_what_was_spent_before(student, server, tmp_path):
    # 210 tokens x 3 epochs x 5,000 USD a million: 3.15 USD.
    dear = {"price_training": 5000.0}
    store = Store(tmp_path / "calls.sqlite")
    store.settle(store.reserve("teacher", 1, 2.0), 2.0)
    why = r"would cost about 3.15 USD on top of 2.00 spent, and budget.money is 5.0; raise \[budget"
    with pytest.raises(HostedError, match=why):
        student(money=5.0, **dear).finetune(TRAIN, HELD)
    assert not server.requests()
    own = student(money=5.2, **dear)
    own.finetune(TRAIN, HELD)
    assert store.spent().cost == pytest.approx(5.15)
    own.wait()
    # The service counts a token for four bytes of the file, over three epochs.
    trained = len((tmp_path / "finetuning_train.jsonl").read_bytes()) // 4 * 3
    assert store.spent().cost == pytest.approx(2.0 + trained * 0.005)
    store.close()


def test_a_refused_job_costs_nothing(student, server, tmp_path):
    server.set(refuse_jobs=403)
    with pytest.raises(HostedError):
        student(price_training=5000.0).finetune(TRAIN, HELD)
    store = Store(tmp_path / "calls.sqlite")
    assert store.spent().cost == 0
    store.close()


def test_other_events_or_settings_do_not_pay_in_silence(student, server, tmp_path):
    student().finetune(TRAIN, HELD)
    before = server.calls
    why = "job ftjob-0001 was started with other finetuning_train.jsonl, and nothing was sent now"
    with pytest.raises(HostedError, match=f"{why}; .*move {STATE} away to pay for a new job"):
        student().finetune([*TRAIN, event("more")], HELD)
    with pytest.raises(HostedError, match="was started with other model, epochs"):
        student(model="another", epochs=5).finetune(TRAIN, HELD)
    assert server.calls == before
    (tmp_path / STATE).rename(tmp_path / "old.json")
    student().finetune([*TRAIN, event("more")], HELD)
    assert state(tmp_path)["job"] == "ftjob-0002"


def test_changed_events_of_which_nothing_was_asked_start_over(student, server, tmp_path):
    server.faults(Fault("400", path=FILES, after=1))
    with pytest.raises(HostedError, match="refuses the file finetuning_validation.jsonl"):
        student().finetune(TRAIN, HELD)
    server.faults()
    student().finetune([*TRAIN, event("more")], HELD)
    assert (created(server), state(tmp_path)["files"]["finetuning_train.jsonl"]) == (1, "file-0002")


def test_a_failed_job_says_why_and_how_to_start_anew(student, server):
    server.set(job_error="The file holds 3 duplicates")
    own = student()
    own.finetune(TRAIN, HELD)
    why = f"job ftjob-0001 failed: The file holds 3 duplicates; .*move {STATE} away"
    with pytest.raises(HostedError, match=why):
        own.wait()
    with pytest.raises(HostedError, match=why):
        own.get_finetuned_model()


def test_a_running_job_has_no_model_yet(student, server):
    own = student()
    with pytest.raises(HostedError, match="names no job; run finetune"):
        own.get_finetuned_model()
    own.finetune(TRAIN, HELD)
    with pytest.raises(HostedError, match=r"job ftjob-0001 is queued; wait\(\) for it, or run"):
        own.get_finetuned_model()
    assert own.get_current_job().status == "running"


def test_waiting_can_be_stopped(student, server, monkeypatch, capsys):
    own = student()
    own.finetune(TRAIN, HELD)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        own.wait()
    assert "The job goes on at the service. Run this again to attach to it." in (
        capsys.readouterr().out
    )
    monkeypatch.undo()
    assert student().get_current_job().status in ("running", "succeeded")


def test_two_processes_do_not_start_two_jobs(student, server, tmp_path):
    server.set(latency=0.3)
    body = KILLED.replace("os.replace = replace", "")
    command = [sys.executable, "-c", body, str(tmp_path), server.url, "-"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as other:
        while not server.requests():  # until it is at the files
            assert other.poll() is None, other.stderr.read()
            time.sleep(0.02)
        with pytest.raises(HostedError, match="another process is at hosted_job.json"):
            student().finetune(TRAIN, HELD)
        assert other.wait(30) == 0
    student().finetune(TRAIN, HELD)
    assert created(server) == 1


def test_the_key_is_in_no_file_and_no_message(student, server, tmp_path, capsys):
    messages = []
    for path in (FILES, JOBS, f"{JOBS}/ftjob-0001"):
        server.faults(Fault("leak", path=path))
        with pytest.raises(HostedError) as error:
            student().finetune(TRAIN, HELD)
            student().wait()
        messages.append(str(error.value))
    server.faults()
    server.set(job_error=f"Authorization: Bearer {CANARY} is not allowed")
    with pytest.raises(HostedError) as error:
        student().wait()
    messages += [str(error.value), str(student().events().to_dict()), capsys.readouterr().out]
    assert all("[key]" in message for message in messages[:4])
    for file in tmp_path.iterdir():
        messages.append(file.read_bytes().decode("utf-8", "replace"))
    assert not any(CANARY in message for message in messages)
    assert all(r.headers["authorization"] == f"Bearer {CANARY}" for r in server.requests())


def test_no_other_key_of_the_environment_goes_along(student, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-another-service")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-service")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another-service")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", "X-Secret: of-another-service\nAuthorization: Bearer other"
    )
    student().finetune(TRAIN, HELD)
    student().wait()
    whole = json.dumps([seen.headers for seen in server.requests()])
    assert "another-service" not in whole and "other" not in whole
    assert os.environ["OPENAI_ORG_ID"] not in whole

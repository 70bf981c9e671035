import json

import pytest

from nbutils.callpath.exchange import Call, Failure, Reply
from nbutils.callpath.recorded import recorded_answer
from nbutils.callpath.stage import StageStopped
from nbutils.callpath.store import ReplayMiss, Store, StoreError
from nbutils.models import LiveModel, Models, ReplayModel, paid, replay
from nbutils.profiles import DATA, load_profile
from nbutils.prompts import GRADE, PAIRWISE, render_grade, render_pairwise
from nbutils.records import load_dataset
from nbutils.roles import KeyMissing, ProfileError
from nbutils.runs import RunFolder
from nbutils.services import endpoints
from tests.server import CHAT, Fault

MINE = """\
name = "mine"
currency = "EUR"
document.path = "book.md"
student.model = "smollm2-135m-instruct"
calls.concurrency = 4

[question_writer]
service = "openai"
model = "m"
base_url = "{url}"
key = "{writer_key}"
price_in = 1.0
price_out = 2.0
sampling.max_tokens = 50

[teacher]
service = "openai"
model = "m"
base_url = "{url}"
key = "{teacher_key}"
price_in = 1.0
price_out = 2.0
sampling.max_tokens = 50

[answerers.one]
service = "extractive"
model = "extractive"

[answerers.two]
service = "extractive"
model = "extractive"
"""


@pytest.fixture(scope="module")
def data():
    return load_dataset(DATA)


@pytest.fixture
def mine(tmp_path, server):
    """A profile whose question writer and teacher are on the server."""

    def load(writer_key="none", teacher_key="none", more=""):
        text = MINE.format(url=server.url, writer_key=writer_key, teacher_key=teacher_key)
        (tmp_path / "mine.toml").write_text(text + more, encoding="utf-8")
        return load_profile(str(tmp_path / "mine.toml"))

    return load


@pytest.fixture
def run(tmp_path):
    return RunFolder("mine", tmp_path / "runs")


def call(text="Which?", **fields):
    return Call("teacher", "p1/original", "x", [{"role": "user", "content": text}], **fields)


# Before any work


def test_a_missing_key_is_an_error_before_any_work(mine, run, server, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "sk-writer")
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(KeyMissing, match=r"\[teacher\] wants a key in TEACHER_KEY, which is not"):
        Models(mine("WRITER_KEY", "TEACHER_KEY"), run)
    assert not run.folder.exists() and not server.requests()


@pytest.mark.parametrize(
    ("table", "variable"),
    [
        ("hosted_student", "OPENAI_API_KEY"),  # though notebook 05 is the first to want it
        ("embedder", "OPENAI_API_KEY"),
        ("answerers.third", "HF_TOKEN or HUGGING_FACE_TOKEN"),
    ],
)
def test_no_role_s_key_may_be_missing(mine, run, monkeypatch, table, variable):
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    service = "huggingface" if table == "answerers.third" else "openai"
    more = f'[{table}]\nservice = "{service}"\nmodel = "m"\nsampling.max_tokens = 9\n'
    with pytest.raises(KeyMissing, match=rf"\[{table}\] wants a key in {variable}, which is not"):
        Models(mine(more=more), run)
    assert not run.folder.exists()


def test_an_address_that_cannot_be_used_is_an_error_before_any_work(mine, run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:secret@h/v1")
    with pytest.raises(ProfileError, match="OPENAI_BASE_URL holds more than an address"):
        Models(mine(more='[hosted_student]\nmodel = "m"\n'), run)
    assert not run.folder.exists()


# Live models


def test_a_live_model_is_asked_once_and_then_read_from_the_store(mine, run, server, capsys):
    with Models(mine(), run) as models:
        assert isinstance(models.teacher, LiveModel) and models.teacher.name == "m"
        first, second = models.teacher.ask([call("One?"), call("Two?")], "judgements")
        assert (first.text, second.text) == ("One?", "Two?")  # the server says it back
        again, third = models.teacher.ask([call("One?"), call("Three?")], "judgements")
        assert (again, third.text) == (first, "Three?")
    assert server.calls[CHAT] == 3
    with Models(mine(), run) as models:  # as in the next notebook
        assert models.teacher.ask([call("Three?"), call("One?")], "judgements") == [third, first]
    assert server.calls[CHAT] == 3
    assert f"judgements: m at {server.url}: 2 in the store, none to ask" in capsys.readouterr().out


def test_a_failed_call_is_a_failure_in_its_place(mine, run, server):
    server.faults(Fault("400", marker="Two"))
    with Models(mine(), run) as models:
        replies = models.teacher.ask([call("One?"), call("Two?"), call("Three?")], "judgements")
    assert [type(reply) for reply in replies] == [Reply, Failure, Reply]
    assert "400" in replies[1].why


@pytest.mark.parametrize("fault", ["404", "context_length"])
def test_rows_that_fail_for_good_stop_no_later_run(mine, run, server, fault):
    server.faults(Fault(fault, marker="too long"))
    asked = [call("One?"), *(call(f"{n} too long") for n in range(25))]
    for _ in range(2):  # the second time, none but those that failed are asked
        with Models(mine(), run) as models:
            models.teacher.ask(asked[:1], "judgements")
            reply, *failed = models.teacher.ask(asked, "judgements")
        assert reply.text == "One?" and all(isinstance(each, Failure) for each in failed)
    assert server.calls[CHAT] == 1 + 25 + 25


@pytest.mark.parametrize(("teacher_key", "clients"), [("none", 1), ("TEACHER_KEY", 2)])
def test_roles_that_are_alike_share_a_client_and_others_do_not(
    mine, run, server, monkeypatch, teacher_key, clients
):
    monkeypatch.setenv("TEACHER_KEY", "sk-teacher")
    made = []
    real = endpoints.async_client
    monkeypatch.setattr(endpoints, "async_client", lambda *args: made.append(args) or real(*args))
    with Models(mine(teacher_key=teacher_key), run) as models:
        models.question_writer.ask([call("One?")], "questions")
        models.teacher.ask([call("Two?")], "judgements")
    assert len(made) == clients
    bearers = {seen.headers["authorization"] for seen in server.requests()}
    assert bearers == {"Bearer none"} | ({"Bearer sk-teacher"} if clients == 2 else set())


def test_what_was_paid_is_told_a_row_a_role(mine, run, server):
    server.script("text:one two three")  # three tokens
    with Models(mine(), run) as models:
        assert list(models.paid().index) == []
        models.teacher.ask([call("x" * 40), call("y" * 40)], "judgements")
        [teacher] = models.paid().reset_index().to_dict("records")
    # The server counts 4 + 40 / 4 = 14 tokens in: 2 * (14 * 1 + 3 * 2) / 1e6
    assert teacher == {
        "role": "teacher",
        "replies": 2,
        "failed": 0,
        "sent": 2,
        "tokens in": 28,
        "tokens out": 6,
        "cost": pytest.approx(40e-6),
    }
    assert paid(run).loc["teacher", "sent"] == 2  # and by whoever comes later


def test_the_budget_counts_what_earlier_models_of_the_run_spent(mine, run, server):
    profile = mine(more="[budget]\ncalls = 3\n")
    with Models(profile, run) as models:
        models.teacher.ask([call("One?"), call("Two?")], "judgements")
    with Models(profile, run) as models, pytest.raises(StageStopped, match="budget.calls is 3"):
        models.teacher.ask([call("Three?"), call("Four?")], "judgements")
    assert server.calls[CHAT] == 3


def test_closing_closes_the_store(mine, run):
    with Models(mine(), run) as models:
        store = models.store
    with pytest.raises(StoreError, match="closed"):
        store.spent()


def test_an_embedding_is_made_where_the_index_wants_one(mine, run):
    embedder = (
        '[embedder]\nservice = "openai"\nmodel = "e"\nbase_url = "http://h/v1"\nkey = "none"\n'
    )
    with Models(mine(more=embedder), run) as models:
        assert models.embedding() is None  # BM25 has no use for it
    with Models(mine(more=f'{embedder}[retrieval]\nindex = "vector"\n'), run) as models:
        assert models.embedding() is not None


# Recorded models


def test_recorded_models_replay_the_data_set(data, run, capsys):
    with Models(load_profile("recorded"), run) as models:
        assert isinstance(models.teacher, ReplayModel) and models.teacher.name == "recorded"
        pair, order = data.pairs[0], "flipped"
        [question] = [q for q in data.questions if q.question_id == pair.question_id]
        texts = {a.answerer: a.text for a in data.answers if a.question_id == pair.question_id}
        shown = (texts[pair.answerer_a], texts[pair.answerer_b], order)
        messages = render_pairwise(question.question, question.source, *shown)
        asked = Call("teacher", f"{pair.pair_id}/{order}", PAIRWISE.fingerprint, messages)
        [reply] = models.teacher.ask([asked], "judgements")
        planted = {(a.question_id, a.answerer): a.error for a in data.answers if a.error}
        assert {key: error for key, error in models.errors.items() if error} == planted
        assert list(models.paid().index) == []  # which is free
    [row] = [j for j in data.judgements if (j.pair_id, j.order) == (pair.pair_id, order)]
    assert reply == Reply(row.reply)
    said = "judgements: 1 recorded replies are replayed; nothing is asked or paid"
    assert said in capsys.readouterr().out


def test_a_replay_stops_at_the_first_miss():
    store = Store(":memory:")
    store.fill([(call(), "reply")])
    model = ReplayModel(store)
    assert model.ask([call()], "judgements") == [Reply("reply")]
    with pytest.raises(ReplayMiss, match="teacher p1/original: the text asked about is not"):
        model.ask([call(), call("Who?")], "judgements")
    store.close()


def test_a_replay_of_the_data_writes_no_file(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grade = data.grades[0]
    texts = {(a.question_id, a.answerer): a.text for a in data.answers}
    [question] = [q for q in data.questions if q.question_id == grade.question_id]
    name = (grade.question_id, grade.answerer)
    messages = render_grade(question.question, question.source, texts[name])
    asked = Call("grader", "/".join(name), GRADE.fingerprint, messages)
    assert replay(data).ask([asked], "grades") == [Reply(grade.reply)]
    assert not list(tmp_path.iterdir())


def test_recorded_and_live_roles_mix(mine, run, data, server):
    profile = mine(more='[answerers.recorded]\nservice = "recorded"\nmodel = "recorded"\n')
    with Models(profile, run) as models:
        model = models.chat("answerers.recorded", profile.answerers["recorded"])
        asked = recorded_answer("q000/gemma-3-270m", data.questions[0])
        [answer] = model.ask([asked], "answers")
        models.teacher.ask([call(answer.text)], "judgements")
    [seen] = server.requests()
    assert json.loads(seen.body)["messages"][0]["content"] == answer.text

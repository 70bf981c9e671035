import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.profiles import DATA, PROFILE_FILES, ROOT, load_profile
from nbutils.records import load_dataset
from nbutils.roles import OPENAI_URL, Endpoint, KeyMissing, ProfileError, Role, base_url, read_key

SHIPPED = sorted(file.stem for file in PROFILE_FILES.glob("*.toml"))
KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "HUGGING_FACE_TOKEN")
LIVE = """\
name = "mine"

[document]
path = "book.md"

[question_writer]
service = "openai"
model = "writer"
sampling = { max_tokens = 800 }

[answerers.one]
service = "huggingface"
model = "some/one"
sampling = { max_tokens = 300 }

[answerers.two]
service = "extractive"
model = "extractive"

[teacher]
service = "openai"
model = "judge"
base_url = "http://127.0.0.1:8080/v1/"
key = "none"
sampling = { max_completion_tokens = 400 }

[student]
model = "smollm2-135m-instruct"
"""


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """Whoever runs the tests may have keys of their own."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mine(tmp_path):
    """Loads LIVE with a piece of it changed."""

    def load(old="", new=""):
        assert old in LIVE
        file = tmp_path / "x.toml"
        file.write_text(LIVE.replace(old, new, 1) if old else LIVE + new, encoding="utf-8")
        return load_profile(str(file))

    return load


# Shipped profiles


def test_recorded_replays_all_but_the_extractive_answerer():
    profile = load_profile("recorded")
    assert profile.name == "recorded" and profile.document.path == ROOT / "data/kestrel/document.md"
    roles = profile.chat_roles()
    assert not any(role.live for role in roles.values())
    copied = [who for who, role in roles.items() if role.service != "recorded"]
    assert len(profile.answerers) == 5 and copied == ["answerers.extractive-bm25"]


def test_recorded_has_the_sections_of_the_recorded_examination():
    data, profile = load_dataset(DATA), load_profile("recorded")
    assert set(profile.split.test) == {q.section for q in data.questions if q.split == "test"}
    assert not set(profile.document.leave_out) & {q.section for q in data.questions}
    assert set(profile.document.leave_out) < {chunk.section for chunk in data.chunks}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_loads_under_its_own_name(name):
    profile = load_profile(name)
    assert profile.name == name and profile.file == PROFILE_FILES / f"{name}.toml"
    assert profile.document.path.is_file()
    for role in profile.chat_roles().values():
        assert not role.live or role.longest > 0
    # A price wants a guard, and whoever asks others for money should not have to think of it.
    priced = [role for role in profile.chat_roles().values() if role.price_in or role.price_out]
    assert not priced or profile.budget.money is not None


def test_an_unknown_profile_names_the_known_ones():
    known = f"profile 'mine' is not known: choose one of {', '.join(SHIPPED)}, or give the path of"
    with pytest.raises(ProfileError, match=known):
        load_profile("mine")
    with pytest.raises(ProfileError, match="not known"):
        load_profile("../profile_files/recorded")


# A profile of one's own


def test_a_profile_of_one_s_own_is_given_by_path_and_starts_its_paths_there(mine, tmp_path):
    profile = mine()
    assert (profile.name, profile.file) == ("mine", tmp_path / "x.toml")
    assert profile.document.path == tmp_path / "book.md"
    assert profile.student.model == "smollm2-135m-instruct"  # a name, no path
    assert profile.teacher.base_url == "http://127.0.0.1:8080/v1"  # one spelling, one key of a call
    assert (profile.teacher.longest, profile.question_writer.longest) == (400, 800)
    assert (profile.calls.concurrency, profile.retrieval.top_k, profile.currency) == (32, 1, "USD")


def test_a_profile_may_lie_in_the_home_folder(mine, tmp_path, monkeypatch):
    mine()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_profile("~/x.toml").name == "mine"


LOCAL = 'service = "local"\nmodel = "{model}"\nadapter = "lora"\nsampling = {{ max_tokens = 9 }}'


@pytest.mark.parametrize(
    ("model", "read"),
    [
        ("./base", "{folder}/base"),
        ("../base", "{folder}/../base"),
        ("/models/base", "/models/base"),
        ("~/base", "/home/me/base"),
        ("org/base", "org/base"),  # of the hub
    ],
)
def test_folders_of_local_models_start_at_the_file(mine, tmp_path, monkeypatch, model, read):
    monkeypatch.setenv("HOME", "/home/me")
    read = read.format(folder=tmp_path)
    for name in ("answerers.three", "embedder"):
        profile = mine("[teacher]", f"[{name}]\n{LOCAL.format(model=model)}\n\n[teacher]")
        role = profile.embedder or profile.answerers["three"]
        assert (role.model, role.adapter) == (read, str(tmp_path / "lora"))
    for name in ("student", "generative_student"):
        part = f'[{name}]\nmodel = "{model}"'
        old = '[student]\nmodel = "smollm2-135m-instruct"' if name == "student" else ""
        assert getattr(mine(old, part), name).model == read


def test_a_model_of_a_service_is_never_a_path(mine):
    assert mine('model = "judge"', 'model = "~judge"').teacher.model == "~judge"


TEACHER = """\
service = "openai"
model = "judge"
base_url = "http://127.0.0.1:8080/v1/"
key = "none"
sampling = { max_completion_tokens = 400 }
"""
ONE = """\
[answerers.one]
service = "huggingface"
model = "some/one"
sampling = { max_tokens = 300 }
"""
EXTRACTIVE = '[answerers.two]\nservice = "extractive"\nmodel = "extractive"\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[teacher]\n" + TEACHER, "", "x.toml: field 'teacher' is missing; add it"),
        ("[teacher]\n", "[judge]\n", "x.toml: field 'judge' is unknown; take it out or mend its"),
        ('model = "judge"', 'modle = "judge"', "'teacher.modle' is unknown; .*\n?.*"),
        ('model = "judge"', 'modle = "judge"', "'teacher.model' is missing; add it"),
        ('model = "judge"', "model = 4", "field 'teacher.model': value 4 should be a valid string"),
        ('model = "judge"', 'model = ""', "'teacher.model': value '' should have at least 1 char"),
        ('model = "judge"', "model = 2026-01-06", "'teacher.model': value datetime.date"),
        ('service = "huggingface"', 'service = "hf"', "'answerers.one.service': value 'hf' should"),
        ('name = "mine"', 'name = "a/b"', "field 'name': value 'a/b' should match pattern"),
        ('name = "mine"', 'name = "mine"\nfile = "y.toml"', "field 'file' is unknown"),
        ("[teacher]", "[teacher", "x.toml: .*line 20.*; mend that line"),
        ("", "[calls]\nconcurrency = 0", "'calls.concurrency': value 0 should be greater than"),
        ("", '[calls]\nconcurrency = "9"', "'calls.concurrency': value '9' should be a valid int"),
        ("", "[calls]\nconcurrency = true", "'calls.concurrency': value True should be a valid"),
        ("", "[calls]\ntimeout_s = inf", "'calls.timeout_s': value inf should be a finite number"),
        ("", "[budget]\nmoney = -1", "'budget.money': value -1 should be greater than or equal"),
        ("", "[split]\ntest = [4]", "'split.test.0': value 4 should be a valid string"),
        ("", '[retrieval]\nindex = "faiss"', "'retrieval.index': value 'faiss' should be"),
        ("", '[retrieval]\nindex = "vector"', "x.toml: retrieval.index is vector, but there is no"),
        (EXTRACTIVE, "", "field 'answerers': names fewer than two answerers, and a pair needs two"),
        (
            EXTRACTIVE,
            ONE.replace("one]", "two]"),
            "names one model twice, .*: one and two; take one",
        ),
        ('key = "none"\n', "", r"\[teacher\] names a base_url and no key: name the variable"),
        (TEACHER, 'service = "extractive"\nmodel = "x"', r"\[teacher\] is extractive, which can"),
        (
            "sampling = { max_completion_tokens = 400 }",
            "",
            r"\[teacher.sampling\] names no max_tokens or max_completion_tokens: without it nobody",
        ),
        (
            "",
            '[hosted_student]\nmodel = "m"\nsampling = { temperature = 0 }',
            r"\[hosted_student.sampling\] names no max_tokens",
        ),
    ],
)
def test_a_broken_profile_names_file_field_value_and_remedy(mine, old, new, message):
    with pytest.raises(ProfileError, match=message) as broken:
        mine(old, new)
    assert all(line.startswith("x.toml: ") for line in str(broken.value).splitlines())


@pytest.mark.parametrize(
    "more", ["", "price_in = 1.0", "only_where_found = true", 'key = "MY_KEY"']
)
def test_two_answerers_that_would_get_one_reply_are_refused(mine, more):
    # Their requests are the same, so the second would be read from the store.
    twin = f"""[answerers.twin]
service = "huggingface"
model = "some/one"
sampling = {{ max_tokens = 300 }}
{more}
"""
    why = "field 'answerers': names one model twice, asked in the same way: one and twin; take one"
    with pytest.raises(ProfileError, match=why):
        mine("[teacher]", f"{twin}\n[teacher]")
    other = twin.replace("300", "299")
    assert len(mine("[teacher]", f"{other}\n[teacher]").answerers) == 3


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ("max_tokens = 'lots'", "has 'max_tokens', which is no whole number above 0"),
        ("max_tokens = 0", "has 'max_tokens', which is no whole number above 0"),
        ("max_tokens = true", "has 'max_tokens', which is no whole number above 0"),
        ("max_tokens = 9, max_completion_tokens = 1.5", "has 'max_completion_tokens', which is no"),
        ("max_tokens = 9, model = 'm'", "has 'model', which is set elsewhere: take it out"),
        ("max_tokens = 9, n = 2", "has 'n', which is set elsewhere"),
        ("max_tokens = 9, stream = true", "has 'stream', which is set elsewhere"),
        ("max_tokens = 9, extra_headers = { a = 'b' }", "has 'extra_headers', which is set"),
        ("max_tokens = 9, extra_body = { messages = [] }", "has 'messages', which is set"),
        ("max_tokens = 9, extra_body = 'x'", "has an extra_body that is no table"),
        ("max_tokens = 9, temperature = nan", "has a date, inf or nan, which no request can hold"),
        ("max_tokens = 9, since = 2026-01-06", "has a date, inf or nan, which no request can hold"),
    ],
)
def test_sampling_that_cannot_be_sent_or_bounded_is_refused(mine, sampling, message):
    with pytest.raises(ProfileError, match=f"x.toml: field 'teacher.sampling': {message}"):
        mine("sampling = { max_completion_tokens = 400 }", f"sampling = {{ {sampling} }}")


def test_other_sampling_passes_as_it_is(mine):
    more = "max_tokens = 9, seed = 1, top_k = 4, extra_body = { grammar = 'root' }"
    teacher = mine("_completion_tokens = 400", f"_completion_tokens = 7, {more}").teacher
    assert teacher.sampling == {
        "max_tokens": 9,
        "seed": 1,
        "top_k": 4,
        "extra_body": {"grammar": "root"},
        "max_completion_tokens": 7,
    }
    assert teacher.longest == 9  # whichever of the two the server goes by


SECRET = "sk-canary-0123456789"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"none"', f'"{SECRET}"', "teacher.key"),
        ('"none"', f'["{SECRET}"]', "teacher.key"),
        ('"none"', f'{{ secret = "{SECRET}" }}', "teacher.key"),
        ("key =", f'api_key = "{SECRET}"\nkey =', "teacher.api_key"),
        ("http://", f"http://{SECRET}@", "teacher.base_url"),
        ("http://", f"http://me:{SECRET}@", "teacher.base_url"),
        ("8080", SECRET, "teacher.base_url"),  # a port
        ("/v1/", f"/v1?key={SECRET}", "teacher.base_url"),
        ("/v1/", f"/v1#{SECRET}", "teacher.base_url"),
        ("http://127.0.0.1:8080/v1/", SECRET, "teacher.base_url"),
        ("http://127.0.0.1", f"http://[{SECRET}", "teacher.base_url"),
        ("127.0.0.1:8080", f"{SECRET}\u2100", "teacher.base_url"),  # which would turn into a/c
    ],
)
def test_a_secret_that_was_pasted_is_refused_and_never_shown(mine, old, new, field):
    with pytest.raises(ProfileError, match=f"x.toml: field '{field}'") as refused:
        mine(old, new)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_all_faults_are_told_at_once(mine):
    with pytest.raises(ProfileError) as broken:
        mine(TEACHER, 'service = "openai"\nkey = "x y"\ntop = 1')
    assert sorted(re.findall(r"field '([\w.]+)'", str(broken.value))) == [
        "teacher.key",
        "teacher.model",
        "teacher.top",
    ]


# Keys and addresses


def role(**fields):
    return Role(**{"service": "openai", "model": "m"} | fields)


HUGGING_FACE = {"service": "huggingface"}


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"key": "MY_KEY"}, "MY_KEY"),
        (HUGGING_FACE, "HF_TOKEN"),
        (HUGGING_FACE, "HUGGING_FACE_TOKEN"),
        (HUGGING_FACE | {"key": "MY_KEY"}, "MY_KEY"),
    ],
)
def test_a_key_is_read_from_its_own_variable(monkeypatch, fields, variable):
    for name in (*KEYS, "MY_KEY"):
        monkeypatch.setenv(name, "of-another" if name in ("OPENAI_API_KEY", "MY_KEY") else " ")
    monkeypatch.setenv(variable, f" {SECRET}\n")  # as a file with a line's end gives it
    assert read_key(role(**fields), "teacher") == SECRET


def test_hf_token_goes_before_its_other_name(monkeypatch):
    monkeypatch.setenv("HUGGING_FACE_TOKEN", "second")
    monkeypatch.setenv("HF_TOKEN", "first")
    assert read_key(role(**HUGGING_FACE), "teacher") == "first"


@pytest.mark.parametrize("value", [None, "", " ", "\n"])
def test_a_missing_key_names_role_variable_and_remedy(monkeypatch, value):
    for name in ("OPENAI_API_KEY", "MY_KEY", "HF_TOKEN"):
        if value is not None:
            monkeypatch.setenv(name, value)
    message = r"\[teacher\] wants a key in OPENAI_API_KEY, which is not set: set it, or write key ="
    with pytest.raises(KeyMissing, match=message):
        read_key(role(), "teacher")
    with pytest.raises(KeyMissing, match=r"\[answerers.x\] wants a key in MY_KEY, which"):
        read_key(role(key="MY_KEY"), "answerers.x")
    with pytest.raises(KeyMissing, match="wants a key in HF_TOKEN or HUGGING_FACE_TOKEN, which"):
        read_key(role(**HUGGING_FACE), "teacher")


def test_a_role_that_names_its_key_takes_no_other(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(KeyMissing):
        read_key(role(key="MY_KEY"), "teacher")


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "none"},
        {"service": "local"},
        {"service": "recorded"},
        {"key": "none"} | HUGGING_FACE,
    ],
)
def test_some_roles_want_no_key(monkeypatch, fields):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert read_key(role(**fields), "teacher") == ""


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
        lambda text: not re.fullmatch("[!-~]*", text.strip())
    )
)
def test_a_key_that_no_header_can_hold_is_refused_and_never_shown(text):
    key = f"sk-{text}-canary"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", key)
        message = "wants a key, and OPENAI_API_KEY has a blank, a line break or a character that"
        with pytest.raises(KeyMissing, match=message) as refused:
            read_key(role(), "teacher")
    assert "sk-" not in str(refused.value) and "canary" not in str(refused.value)


def test_the_service_s_own_address_is_the_last_resort(monkeypatch):
    assert base_url(role()) == base_url(role(key="MY_KEY")) == OPENAI_URL
    assert base_url(role(**HUGGING_FACE)) == ""
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert base_url(role()) == OPENAI_URL


def test_openai_base_url_goes_with_the_default_key_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/\n")
    assert base_url(role()) == base_url(role(key="OPENAI_API_KEY")) == "http://127.0.0.1:1/v1"
    # Another key is for another service, and would be told to this one.
    assert base_url(role(key="MY_KEY")) == OPENAI_URL
    assert base_url(role(key="none")) == OPENAI_URL
    assert base_url(role(base_url="http://h/v1")) == "http://h/v1"
    assert base_url(role(**HUGGING_FACE)) == ""


@pytest.mark.parametrize("address", [f"http://me:{SECRET}@h/v1", SECRET, f"http://h/v1?{SECRET}"])
def test_a_secret_in_openai_base_url_is_refused_and_never_shown(monkeypatch, address):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ProfileError, match="OPENAI_BASE_URL (is not|holds more than)") as refused:
        base_url(role())
    assert "canary" not in str(refused.value)


@given(st.text(max_size=30))
def test_an_address_is_taken_or_refused_with_a_reason(text):
    try:
        taken = Endpoint(service="openai", model="m", base_url=text).base_url
    except ValueError as error:
        assert "is not a web address" in str(error) or "holds more than an address" in str(error)
    else:
        assert taken == text.rstrip("/") and not taken or re.match("https?://.", taken, re.I)


def test_a_profile_cannot_be_changed(mine):
    profile = mine()
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"
    with pytest.raises(ValueError, match="frozen"):
        profile.teacher.key = "OTHER"
    assert Path(profile.file).is_file()

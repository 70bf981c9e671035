import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.callpath.exchange import Call, Reply, Token, request_key
from nbutils.callpath.store import APPLICATION_ID, ReplayMiss, Spent, Store, StoreError
from nbutils.profiles import ROOT

CALL = Call("teacher", "p1/original", "p-v1:0", [{"role": "user", "content": "Which?"}])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "calls.sqlite"


@pytest.fixture
def store(path):
    with closing(Store(path)) as opened:
        yield opened


def key_of(call=CALL, endpoint="http://here/v1", model="m", sampling=None):
    return request_key(endpoint, model, sampling or {}, call)


def arrive(store, call=CALL, reply=None, cost=0.0, most=1.0):
    """A reply on the way that every reply takes: its most is reserved, then settled."""
    entry = store.reserve(call.role, 1, most)
    row = (key_of(call), "http://here/v1", "m", call, reply or Reply("[[A]]"))
    store.settle(entry, cost, [row])


def rows(path, sql):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def run(script, path):
    """Runs the script in a process of its own, which ends at once with status 9."""
    killed = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False)
    assert killed.returncode == 9


# The key


def test_the_key_is_that_of_the_canonical_json():
    # printf '{"endpoint":"e","messages":null,"model":"m","replicate":0,"sampling":{"t":0}}' |
    # sha256sum
    key = "1eed46440268ace381150ffc34a91af00ec7f2f464591596fc4870c61a20ee10"
    assert request_key("e", "m", {"t": 0}, Call("teacher", "p1", "x")) == key
    # printf '{"data_id":"p1","endpoint":"e","messages":null,"model":"m","prompt":"x",'\
    # '"replicate":0,"role":"teacher","sampling":{"t":0}}' | sha256sum
    recorded = "6cdd1c0f3ee0decfee48d18657c20cbfd869fd0bb8aa949f9ebea39c7a64735e"
    assert request_key("e", "m", {"t": 0}, Call("teacher", "p1", "x"), recorded=True) == recorded


texts = st.text(st.characters(codec=None))  # lone surrogates too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
requests = st.builds(
    dict,
    endpoint=texts,
    model=texts,
    sampling=st.dictionaries(texts, values, max_size=3),
    messages=st.none() | st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2),
    replicate=st.integers(0, 3),
)


def asked(request, role="teacher", data_id="p1", prompt="x"):
    call = Call(role, data_id, prompt, request["messages"], request["replicate"])
    return request_key(request["endpoint"], request["model"], request["sampling"], call)


@given(requests, st.sampled_from(["endpoint", "model", "sampling", "messages", "replicate"]))
def test_each_part_of_a_request_is_in_its_key(request, part):
    other = {
        "endpoint": request["endpoint"] + "x",
        "model": request["model"] + "x",
        "sampling": request["sampling"] | {"one more": 1},
        "messages": [*(request["messages"] or []), {"role": "user"}],
        "replicate": request["replicate"] + 1,
    }[part]
    assert asked(request | {part: other}) != asked(request)


@given(requests, texts.filter(bool))
def test_no_part_runs_into_the_next(request, more):
    one = request | {"endpoint": request["endpoint"] + more}
    other = request | {"model": more + request["model"]}
    assert asked(one) != asked(other)


@given(requests, texts, texts, texts)
def test_nothing_else_is_in_the_key_of_a_live_call(request, role, data_id, prompt):
    # So that a question asked under another id, as another run may number it, is not paid again.
    assert asked(request, role, data_id, prompt) == asked(request)


@given(requests, st.randoms())
def test_the_order_of_names_does_not_matter(request, draw):
    names = list(request["sampling"])
    draw.shuffle(names)
    turned = request | {"sampling": {name: request["sampling"][name] for name in names}}
    assert asked(turned) == asked(request)


# Replies


def test_a_reply_is_found_by_its_key_and_by_no_other(store):
    arrive(store, reply=Reply("[[A]]", "stop", 7, 3))
    assert store.find([key_of(), key_of(model="n")]) == {key_of(): Reply("[[A]]", "stop", 7, 3)}
    assert store.find([]) == {}


plain = st.text(st.characters(codec="utf-8"), max_size=8)
counts = st.none() | st.integers(0, 2**63 - 1)
logprobs = st.floats(allow_nan=False)
tokens = st.builds(
    Token, plain, logprobs, st.lists(st.tuples(plain, logprobs), max_size=3).map(tuple)
)


@given(
    st.builds(
        Reply, plain, st.none() | plain, counts, counts, st.lists(tokens, max_size=3).map(tuple)
    )
)
def test_a_reply_comes_back_as_it_came(reply):
    with closing(Store(":memory:")) as store:
        arrive(store, reply=reply)
        assert store.find([key_of()]) == {key_of(): reply}


def test_the_first_reply_to_a_request_stays(store):
    arrive(store, reply=Reply("first"))
    arrive(store, reply=Reply("second"))
    assert store.find([key_of()]) == {key_of(): Reply("first")}


def test_a_row_tells_who_was_asked_what_and_when(store, path):
    arrive(store)
    [row] = rows(path, "SELECT endpoint, model, role, data_id, prompt, time FROM calls")
    assert row[:5] == ("http://here/v1", "m", "teacher", "p1/original", "p-v1:0")
    assert row[5][:2] == "20" and row[5].endswith("Z")  # 2026-11-22T01:02:03.456Z


def test_an_error_is_kept_once_and_goes_when_the_call_is_answered(store, path):
    store.keep_error(key_of(), "m", CALL, "429: too many")
    store.keep_error(key_of(), "m", CALL, "500: server error")
    assert rows(path, "SELECT data_id, why FROM errors") == [("p1/original", "500: server error")]
    assert store.find([key_of()]) == {}  # it is asked again
    arrive(store)
    assert rows(path, "SELECT * FROM errors") == []


# The ledger


def test_what_is_reserved_counts_in_full_until_it_is_settled(store):
    entry = store.reserve("teacher", 1, 0.5)
    assert store.spent() == Spent(1, 0.5)
    store.settle(entry, 0.125)
    store.reserve("grader", 2, 0.25)
    assert store.spent() == Spent(3, 0.375)  # 1 + 2; 0.125 + 0.25


def test_a_reply_that_cannot_be_kept_leaves_its_entry_open(store):
    # Half a character, which SQLite refuses, stands for whatever may stop a transaction.
    with pytest.raises(UnicodeEncodeError):
        arrive(store, reply=Reply("\ud800"), cost=0.125, most=0.5)
    assert store.find([key_of()]) == {}
    assert store.spent() == Spent(1, 0.5)


def test_the_calls_of_a_process_that_died_count_in_full(path):
    script = """
import os, sys
from nbutils.callpath.store import Store
store = Store(sys.argv[1])
store.settle(store.reserve("teacher", 1, 0.5), 0.25)
store.reserve("teacher", 1, 0.5)
os._exit(9)"""
    run(script, path)
    with closing(Store(path)) as store:
        assert store.spent() == Spent(2, 0.75)  # one settled at 0.25, one in flight at 0.5


def test_each_role_s_replies_failures_requests_and_cost(store):
    other = replace(CALL, data_id="p2", messages=None)
    arrive(store, CALL, Reply("x", "stop", 10, 2), cost=0.5)
    arrive(store, other, Reply("x", "stop", 20, None), cost=0.25)
    store.settle(store.reserve("teacher", 1, 0.5), 0.0)  # a refused request
    store.keep_error("k", "m", replace(CALL, role="grader"), "why")
    store.fill([(replace(CALL, role="answerer"), "recorded")])  # which nobody paid for
    grader, teacher = store.roles()
    assert teacher == {
        "role": "teacher",
        "replies": 2,
        "failed": 0,
        "sent": 3,
        "tokens in": 30,
        "tokens out": 2,
        "cost": 0.75,
    }
    assert (grader["role"], grader["failed"], grader["sent"]) == ("grader", 1, 0)


# Replay


def test_filling_again_puts_the_new_rows_in_place_of_the_old(store):
    one, two = Call("teacher", "p1"), Call("teacher", "p2")
    arrive(store)
    store.fill([(one, "old"), (two, "gone")])
    store.fill([(one, "new")])
    assert store.replay([one]) == [Reply("new")]
    with pytest.raises(ReplayMiss):
        store.replay([two])
    assert store.find([key_of()])  # what was paid for stays


def test_a_fill_that_fails_changes_nothing(store):
    one = Call("teacher", "p1")
    store.fill([(one, "kept")])
    with pytest.raises(StoreError, match="UNIQUE"):
        store.fill([(one, "first"), (one, "second")])
    assert store.replay([one]) == [Reply("kept")]


def test_replies_come_in_the_order_of_the_calls(store):
    calls = [Call("teacher", name) for name in ("p2", "p1", "p3")]
    store.fill([(call, call.data_id) for call in sorted(calls, key=lambda call: call.data_id)])
    assert [reply.text for reply in store.replay(calls)] == ["p2", "p1", "p3"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data_id": "p9"}, "teacher p9: no reply is recorded; .*ask for one of those"),
        ({"role": "grader"}, "grader p1/original: no reply is recorded"),
        ({"prompt": "p-v1:1"}, "recorded under p-v1:0, asked under p-v1:1; restore that prompt"),
        ({"messages": [{"role": "user", "content": "Who?"}]}, "the text asked about is not the"),
        ({"messages": None}, "the text asked about is not the recorded one; restore the question"),
    ],
)
def test_a_miss_names_the_row_what_differs_and_the_remedy(store, change, why):
    store.fill([(CALL, "reply")])
    with pytest.raises(ReplayMiss, match=why):
        store.replay([CALL, replace(CALL, **change)])


def test_a_live_reply_is_never_replayed_as_a_recorded_one(store):
    arrive(store)
    with pytest.raises(ReplayMiss, match="no reply is recorded"):
        store.replay([CALL])


# The file


def test_replies_outlive_a_process_that_is_killed(path):
    # In 2023 nothing was saved until a loop ended: whatever stopped it, all replies were lost.
    script = """
import os, sys
from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.store import Store
store = Store(sys.argv[1])
row = ("key", "e", "m", Call("teacher", "p1"), Reply("reply"))
store.settle(store.reserve("teacher", 1, 0.0), 0.0, [row])
os._exit(9)"""
    run(script, path)
    with closing(Store(path)) as store:
        assert store.find(["key"]) == {"key": Reply("reply")}


def test_two_stores_on_one_file(store, path):
    with closing(Store(path)) as reader:
        arrive(store)
        assert reader.find([key_of()]) == {key_of(): Reply("[[A]]")}
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_many_may_make_the_file_at_once(path):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: Store(path), range(8)))
    arrive(stores[0])
    assert all(store.find([key_of()]) for store in stores)
    for store in stores:
        store.close()


def test_a_closed_store_says_so(store, path):
    store.close()
    with pytest.raises(StoreError, match="calls.sqlite: .*closed.* Open the models again"):
        store.spent()


def filled(path):
    """A whole store's bytes."""
    with closing(Store(path)) as store:
        store.fill([(Call("teacher", f"p{n}"), "reply " * 50) for n in range(200)])
    return path.read_bytes()


def torn(path):
    whole = filled(path)
    path.write_bytes(whole[: len(whole) // 2])


def overwritten(path):
    whole = filled(path)
    path.write_bytes(whole[:8192] + b"\xff" * 8192 + whole[16384:])


def text(path):
    path.write_text("these are notes, no store\n" * 100, encoding="utf-8")


def short_text(path):
    path.write_text("x", encoding="utf-8")


@pytest.mark.parametrize("spoil", [torn, overwritten, text, short_text])
def test_a_torn_or_foreign_file_is_a_clear_error(path, spoil):
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="calls.sqlite: no whole store of calls .*; move it away"):
        Store(path)
    assert path.read_bytes() == before


def test_another_program_s_sqlite_file_is_left_as_it_is(path):
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE calls (mine)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's SQLite file .*; move it away"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("layout", [1, 99])
def test_another_layout_is_refused_with_a_remedy(path, layout):
    with closing(sqlite3.connect(path)) as older, older:  # layout 1 was that of replay alone
        older.execute(
            "CREATE TABLE calls (key TEXT PRIMARY KEY, model, role, data_id, prompt, reply)"
        )
        older.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        older.execute(f"PRAGMA user_version = {layout}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="calls.sqlite: .*older store; move it away or choose"):
        Store(path)
    assert path.read_bytes() == before


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(StoreError, match="unable to open .*see that its folder exists"):
        Store(tmp_path / "none" / "calls.sqlite")

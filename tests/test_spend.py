import asyncio
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.callpath.calls import CallPath
from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.spend import (
    FRAME,
    MILLION,
    BudgetReached,
    Price,
    Purse,
    bound,
    cost,
    estimate,
)
from nbutils.callpath.stage import StageStopped
from nbutils.callpath.store import Store
from nbutils.profiles import Budget, Limits
from nbutils.prompts import render_pairwise

DEAR = Price(2.0, 10.0)  # of a million tokens in and out


def call(*texts):
    return Call("teacher", "p1", "x", [{"role": "user", "content": text} for text in texts])


def test_a_price_is_of_a_million_tokens():
    assert DEAR.of(500_000, 100_000) == 2.0  # 0.5 * 2 + 0.1 * 10


# The bound


texts = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
sums = st.integers(0, 1000)


def test_the_bound_is_a_token_a_byte_and_a_reply_of_full_length():
    # "Straße" is 7 bytes: 7 + 16 tokens in, 100 out, twice: (2 * 23 * 2 + 2 * 100 * 10) / 1e6
    assert bound(DEAR, [call("Straße")] * 2, 100) == pytest.approx(2092 / MILLION)
    assert bound(DEAR, [], 100) == 0


@given(st.lists(texts, max_size=3), sums, st.floats(0, 100), st.floats(0, 100), st.data())
def test_no_call_within_its_limits_costs_more_than_its_bound(
    told, longest, dear_in, dear_out, data
):
    price, asked = Price(dear_in, dear_out), call(*told)
    # A tokenizer makes at most one token of a byte, and a template frames each message.
    most = sum(len(text.encode("utf-8", "replace")) + FRAME for text in told)
    reply = Reply(
        "",
        prompt_tokens=data.draw(st.integers(0, most)),
        completion_tokens=data.draw(st.integers(0, longest)),
    )
    assert cost(price, asked, reply, longest) <= bound(price, [asked], longest) * (1 + 1e-12)


@given(st.text(max_size=40))
def test_a_real_tokenizer_makes_no_more_tokens_than_bytes(text):
    from llama_index.core.utils import get_tokenizer

    messages = render_pairwise(text, "\U0001f6f6 Kajak\u200b", text * 2, "<|im_end|>", "original")
    made = sum(len(get_tokenizer()(message["content"])) for message in messages)
    asked = Call("teacher", "p1", "x", messages)
    assert made <= bound(Price(MILLION, 0), [asked], 0)  # at one unit of money a token


def test_a_reply_without_usage_costs_the_bound():
    asked = call("Which?")
    assert cost(DEAR, asked, Reply("x", prompt_tokens=5, completion_tokens=1), 9) == 20 / MILLION
    most = bound(DEAR, [asked], 9)
    assert cost(DEAR, asked, Reply("x"), 9) == most
    assert cost(DEAR, asked, Reply("x", prompt_tokens=5), 9) == most
    assert cost(DEAR, asked, Reply("x", completion_tokens=1), 9) == most


def test_an_estimate_counts_four_bytes_a_token():
    calls = [call("x" * 4000)] * 1000
    # 1000 tokens in and 100 out a call: (1e6 * 2 + 1e5 * 10) / 1e6 = 3.00
    said = "about 1,000,000 tokens in, at most 100,000 out, "
    assert estimate(DEAR, calls, 100, "EUR") == said + "about 3.00 EUR at most"
    assert estimate(Price(), calls, 100, "EUR") == said + "no price set"


# The budget


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / "calls.sqlite")) as opened:
        yield opened


def purse(store, **budget):
    return Purse(store, Budget(**budget), "USD")


def spend(purse, *requests):
    """Requests one after the other, as (most, cost); how many were let through."""

    async def one_by_one():
        for done, (most, came_to) in enumerate(requests):
            try:
                purse.settle(await purse.reserve("teacher", most), came_to)
            except BudgetReached:
                return done
        return len(requests)

    return asyncio.run(one_by_one())


def test_without_a_budget_all_is_counted_and_nothing_refused(store):
    free = purse(store)
    assert spend(free, *[(5.0, 4.0)] * 10) == 10
    assert (free.calls, free.cost, free.left()) == (10, 40.0, "")


def test_money_is_refused_by_what_a_request_may_cost(store):
    ours = purse(store, money=2.0)
    # set aside 1, costs 0.5, three times; then 1.5 is spent, and 1 more may make it 2.5
    assert spend(ours, *[(1.0, 0.5)] * 9) == 3
    assert ours.left() == "1.50 of 2.00 USD"
    assert spend(ours, (0.5, 0.5)) == 1  # a smaller one fits


def test_calls_are_refused_by_their_number_whatever_they_cost(store):
    ours = purse(store, calls=3)
    assert spend(ours, *[(1.0, 0.0)] * 9) == 3
    with pytest.raises(BudgetReached, match="3 requests sent, and budget.calls is 3"):
        asyncio.run(ours.reserve("teacher", 0.0))


def test_the_message_says_what_was_spent_and_what_is_wanted(store):
    ours = purse(store, money=1.0)
    spend(ours, (0.75, 0.75))
    why = "0.7500 USD spent or set aside, the next call may cost 0.5000, and budget.money is 1.0"
    with pytest.raises(BudgetReached, match=why):
        asyncio.run(ours.reserve("teacher", 0.5))


def test_a_request_of_unknown_cost_counts_in_full_and_a_refused_one_not(store):
    ours = purse(store, money=9.0)
    assert spend(ours, (1.0, None), (1.0, 0.0)) == 2
    assert ours.cost == store.spent().cost == 1.0


def test_a_restart_goes_on_from_the_ledger(store):
    before = purse(store, money=9.0, calls=9)
    spend(before, (1.0, 0.25))
    asyncio.run(before.reserve("teacher", 1.0))  # in flight when the process ends
    after = purse(store, money=9.0, calls=9)
    assert (after.calls, after.cost) == (2, 1.25)
    assert after.left() == "1.25 of 9.00 USD, 2 of 9 calls"


def test_a_budget_that_was_raised_lets_the_next_run_go_on(store):
    assert spend(purse(store, calls=2), *[(1.0, 0.0)] * 3) == 2
    assert spend(purse(store, calls=3), *[(1.0, 0.0)] * 3) == 1


def test_the_purse_waits_for_what_is_in_flight_and_then_goes_on(store):
    async def both():
        ours = purse(store, money=1.0)
        first = await ours.reserve("teacher", 0.75)
        second = asyncio.create_task(ours.reserve("teacher", 0.75))
        await asyncio.sleep(0.01)
        assert not second.done()
        ours.settle(first, 0.25)  # 0.25 + 0.75 = 1.00: just enough
        await asyncio.wait_for(second, 1)
        return ours

    ours = asyncio.run(both())
    assert (ours.calls, ours.cost) == (2, 1.0)


def test_the_purse_waits_for_what_is_in_flight_and_then_refuses(store):
    async def three():
        ours = purse(store, money=1.0)
        first, second = [await ours.reserve("teacher", 0.5) for _ in range(2)]
        waiting = [asyncio.create_task(ours.reserve("teacher", 0.75)) for _ in range(2)]
        ours.settle(first, 0.25)
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        ours.settle(second, None)  # 0.25 + 0.5 spent, and nothing in flight any more
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)

    assert [type(outcome) for outcome in asyncio.run(three())] == [BudgetReached] * 2


quarters = st.integers(0, 8).map(lambda n: n / 4)  # so that sums are exact
requests = st.lists(
    st.tuples(quarters, st.floats(0, 1).map(lambda x: round(x * 8) / 8)), max_size=12
)


@given(requests, quarters, st.integers(0, 12))
def test_no_order_of_arrival_breaks_a_budget(requests, money, most_calls):
    async def all_at_once():
        with closing(Store(":memory:")) as store:
            ours = purse(store, money=money, calls=most_calls)
            spent = []

            async def one(most, share):
                try:
                    entry = await ours.reserve("teacher", most)
                except BudgetReached:
                    return
                assert ours.cost <= money and ours.calls <= most_calls
                await asyncio.sleep(0)
                ours.settle(entry, most * share)
                spent.append(most * share)

            await asyncio.wait_for(asyncio.gather(*(one(*each) for each in requests)), 5)
            assert ours.cost == store.spent().cost == sum(spent) <= money
            assert ours.calls == store.spent().calls == len(spent) <= most_calls
            fits = [most for most, _ in requests if most <= money]
            assert spent or not fits or not most_calls  # and it is not refused for nothing

    asyncio.run(all_at_once())


class Broken:
    """A service with a bug."""

    endpoint, model, sampling, longest = "here", "m", {}, 10
    price, batch, concurrency = DEAR, 1, None

    async def send(self, calls):
        raise RuntimeError("a bug")

    async def close(self):
        pass


def test_a_stage_that_breaks_off_leaves_nothing_set_aside(store):
    # Else the next stage of the same notebook would wait for ever for what nobody sends any more.
    ours = purse(store, calls=1)
    path = CallPath(store, Limits(), ours)
    with closing(path):
        with pytest.raises(RuntimeError, match="a bug"):
            path.run(Broken(), [call("Which?")], "stage")
        with pytest.raises(StageStopped, match="1 requests sent, and budget.calls is 1"):
            path.run(Broken(), [call("Who?")], "stage")

"""Ids, plans and turns: which requests may be in flight together, whatever order answers come in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reference.errors import PoisonedError
from harness.reference.order import BOTH_PASSES, PER_PASS, Turns, rest_then_first, serial

CALLS = st.lists(st.integers(1, 4), min_size=1, max_size=5)
"""Chunks per call."""


@given(st.integers(0, 20), st.integers(0, 100))
def test_a_plan_sends_every_chunk_once(count, first):
    """Whatever the order, each chunk leaves in exactly one wave, and waves are not empty."""
    for order in (serial, rest_then_first):
        plan = order(range(first, first + count))
        assert sorted(index for wave in plan.waves for index in wave) == list(range(count))
        assert all(plan.waves)
        assert len(plan.turns) == count


def test_plans_of_three_chunks():
    """Serial: one after the other in turns of their own. Otherwise 2 and 3 together, then 1, sharing a span."""
    assert serial(range(4, 7)).waves == ((0,), (1,), (2,))
    assert serial(range(4, 7)).turns == ((4, 4), (5, 5), (6, 6))
    assert rest_then_first(range(4, 7)).waves == ((1, 2), (0,))
    assert rest_then_first(range(4, 7)).turns == ((4, 6), (4, 6), (4, 6))
    assert rest_then_first(range(4, 5)).waves == ((0,),)


@given(CALLS)
def test_ids_are_dealt_once_and_in_order(chunks):
    """Calls get ranges that follow each other without a hole; a custom call's two passes are told apart."""
    for reservation in (PER_PASS, BOTH_PASSES):
        turns = Turns()
        dealt = []
        for count in chunks:
            taken = turns.reserve(reservation.at_call(count))
            forward = reservation.forward(taken, count)
            backward = reservation.backward(taken, count)
            assert len(forward) == count
            if backward is None:
                backward = turns.reserve(count)
            assert len(backward) == count
            assert backward.start == forward.stop
            dealt += [*forward, *backward]
        assert dealt == list(range(len(dealt)))


@given(CALLS, st.sampled_from([serial, rest_then_first]), st.randoms(use_true_random=False))
def test_any_order_of_answers_keeps_the_turns(chunks, order, random):
    """Calls start in any order and answers come in any order: no request leaves before all calls before it are done.

    Within a call, serial chunks leave one by one, and with rest_then_first the first leaves when it is alone.
    """

    async def scenario():
        turns = Turns()
        ids = [turns.reserve(count) for count in chunks]
        open_requests, answered = {}, []

        async def call(number):
            plan = order(ids[number])
            for wave in plan.waves:
                await asyncio.gather(*(request(number, plan, index) for index in wave))

        async def request(number, plan, index):
            async with turns.take(*plan.turns[index]):
                for before in range(number):
                    assert set(ids[before]) <= set(answered)
                in_flight = [other for other in open_requests if other in ids[number]]
                if order is serial or index == 0:
                    assert in_flight == []
                    rest = ids[number][:index] if order is serial else ids[number][1:]
                    assert set(rest) <= set(answered)
                assert all(other in ids[number] for other in open_requests)
                answer = open_requests[ids[number][index]] = asyncio.get_running_loop().create_future()
                await answer
                del open_requests[ids[number][index]]
                answered.append(ids[number][index])

        numbers = list(range(len(chunks)))
        random.shuffle(numbers)
        tasks = [asyncio.ensure_future(call(number)) for number in numbers]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            waiting = [number for number, future in open_requests.items() if not future.done()]
            if waiting:
                open_requests[random.choice(waiting)].set_result(None)
        await asyncio.gather(*tasks)
        assert sorted(answered) == list(range(sum(chunks)))

    asyncio.run(scenario())


def test_a_failed_request_does_not_keep_the_next_from_its_turn():
    """A turn ends with its request, however that ends."""

    async def scenario():
        turns = Turns()
        ids = turns.reserve(2)
        with pytest.raises(ValueError, match="refused"):
            async with turns.take(ids[0], ids[0]):
                raise ValueError("refused")
        async with turns.take(ids[1], ids[1]):
            return True

    assert asyncio.run(scenario())


def test_skipped_turns_wake_those_behind():
    """Requests that will never be sent do not hang the later ones."""

    async def scenario():
        turns = Turns()
        turns.reserve(4)

        async def last():
            async with turns.take(3, 3):
                return True

        task = asyncio.ensure_future(last())
        await asyncio.sleep(0)
        turns.skip(3)
        return await task

    assert asyncio.run(scenario())


def test_poison_refuses_who_waits_and_who_comes():
    """The first error is the cause, for requests that wait for their turn and for later ones."""

    async def scenario():
        turns = Turns()
        turns.reserve(3)

        async def take(turn):
            async with turns.take(turn, turn):
                raise AssertionError("let through")

        waiting = asyncio.ensure_future(take(2))
        await asyncio.sleep(0)
        cause = KeyError("boom")
        turns.poison(cause)
        turns.poison(KeyError("later"))
        for attempt in (waiting, take(0)):
            with pytest.raises(PoisonedError) as caught:
                await attempt
            assert caught.value.__cause__ is cause

    asyncio.run(scenario())

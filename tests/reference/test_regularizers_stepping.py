"""Each part has torch's grad mode for itself, and its own time, whatever shares its thread with it."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

from harness.reference.errors import PartFailedError, PartNotScalarError, RegularizerTimeoutError
from harness.reference.regularizers.calling import call_regularizers
from harness.reference.regularizers.gradients import by_central_differences, check_gradient
from harness.reference.regularizers.pipeline import compute
from harness.reference.regularizers.spec import Regularizer
from harness.reference.regularizers.stepping import stepping

X = [np.array([-1.0, -2.0], np.float32), np.array([-4.0], np.float32)]


def _square(_data, logprobs):
    return sum((each**2).sum() for each in logprobs), {}


async def _async_square(data, logprobs):
    await asyncio.sleep(0)
    return _square(data, logprobs)


def _spec(name, fn, **rest):
    return {"fn": fn, "weight": 1.0, "name": name, **rest}


MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("track", [False, True])
def test_an_unrelated_task_without_gradients(mode, track):
    """A task that awaits inside `torch.no_grad()` takes no gradient away, tracked or not."""

    async def whole():
        inside, over = asyncio.Event(), asyncio.Event()

        async def elsewhere():
            with MODES[mode]():
                inside.set()
                await over.wait()

        task = asyncio.ensure_future(elsewhere())
        await inside.wait()
        found = await compute(
            [], X, _async_square, [_spec("a", _square), _spec("b", _async_square)], track_grad_norms=track
        )
        over.set()
        await task
        return found

    found = asyncio.run(whole())
    assert [each.tolist() for each in found.gradients] == [[-6.0, -12.0], [-24.0]]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("form", ["async", "sync", "thread"])
def test_another_regularizer_without_gradients(form):
    """One that switches gradients off, while it awaits or for good, switches them off for itself."""

    async def awaits(data, logprobs):
        with torch.no_grad():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return _square(data, logprobs)

    def leaves_off(data, logprobs):
        torch.set_grad_enabled(False)
        return _square(data, logprobs)

    first = _spec(
        "off",
        awaits if form == "async" else leaves_off,
        **({"run_in_executor": form == "thread"} if form != "async" else {}),
    )
    found = asyncio.run(
        compute([], X, _square, [first, _spec("sync", _square), _spec("async", _async_square)], track_grad_norms=True)
    )
    assert [each.tolist() for each in found.gradients] == [[-6.0, -12.0], [-24.0]]
    assert found.report.regularizers["off"].grad_norm is None
    assert found.report.regularizers["async"].grad_norm is not None
    assert torch.is_grad_enabled()


def test_the_caller_may_have_switched_gradients_off():
    """The gradient is asked for by the call; the caller's own mode is there again afterwards."""

    async def whole():
        with torch.no_grad():
            found = await compute([], X, _square, [_spec("a", _async_square)])
            return found.gradients, torch.is_grad_enabled()

    gradients, enabled = asyncio.run(whole())
    assert [each.tolist() for each in gradients] == [[-4.0, -8.0], [-16.0]]
    assert not enabled


def test_steps_keep_a_mode_of_their_own():
    """What a coroutine switches off stays off for it over its pauses, and on for the others."""

    async def off():
        with torch.no_grad():
            await asyncio.sleep(0)
            inside = torch.is_grad_enabled()
        return inside, torch.is_grad_enabled()

    async def on():
        seen = []
        for _ in range(4):
            seen.append(torch.is_grad_enabled())
            await asyncio.sleep(0)
        return all(seen)

    async def whole():
        return await asyncio.gather(stepping(off()), stepping(on()), stepping(off()))

    assert asyncio.run(whole()) == [(False, True), True, (False, True)]


def test_errors_and_cancellation_pass_through():
    """A coroutine that is stepped through is cancelled, times out and raises as any other."""

    async def raises():
        await asyncio.sleep(0)
        raise KeyError("boom")

    async def times_out():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def whole():
        with pytest.raises(KeyError, match="boom"):
            await stepping(raises())
        with pytest.raises(TimeoutError):
            await stepping(times_out())
        task = asyncio.ensure_future(stepping(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(whole())


# --- whose time it is -------------------------------------------------------------------------------------------------


class _Clock:
    """An event loop's clock that a regularizer can move."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


def test_one_that_blocks_the_event_loop_is_late_itself(monkeypatch):
    """Its time runs while it holds the loop, that of the others that need the loop does not."""

    async def whole(limit):
        clock = _Clock(monkeypatch)

        async def blocks(_data, logprobs):
            await asyncio.sleep(0)
            clock.now += 5.0
            return logprobs[0].sum(), {}

        async def innocent(_data, logprobs):
            for _ in range(5):
                await asyncio.sleep(0)
            clock.now += 1.0
            return logprobs[0].sum(), {}

        made = [
            Regularizer(innocent, 1.0, "before"),
            Regularizer(blocks, 1.0, "blocks"),
            Regularizer(innocent, 1.0, "c"),
        ]
        leaves = [[torch.ones(2, requires_grad=True)] for _ in made]
        return await call_regularizers(made, [], leaves, limit=limit)

    with pytest.raises(RegularizerTimeoutError, match="'blocks'"):
        asyncio.run(whole(4.0))
    assert len(asyncio.run(whole(5.5))) == 3


def test_who_waits_for_another_call_is_not_late(monkeypatch):
    """What another call's regularizer holds the loop for, or a task that a regularizer started, is nobody's time."""

    async def whole():
        clock = _Clock(monkeypatch)

        async def innocent(_data, logprobs):
            for _ in range(6):
                await asyncio.sleep(0)
            return logprobs[0].sum(), {}

        def hog(_data, logprobs):
            clock.now += 5.0
            return logprobs[0].sum(), {}

        async def child():
            clock.now += 5.0

        async def starts_one(_data, logprobs):
            await asyncio.gather(child())
            return logprobs[0].sum(), {}

        async def later():
            await asyncio.sleep(0)
            return await call_regularizers([Regularizer(hog, 1.0, "hog")], [], [_one()])

        waiting = call_regularizers([Regularizer(innocent, 1.0, "a")], [], [_one()], limit=1.0)
        first = await asyncio.gather(waiting, later())
        made = [Regularizer(innocent, 1.0, "a"), Regularizer(starts_one, 1.0, "b")]
        second = await call_regularizers(made, [], [_one(), _one()], limit=1.0)
        return [len(each) for each in (*first, second)]

    assert asyncio.run(whole()) == [1, 1, 2]


def _one():
    return [torch.ones(2, requires_grad=True)]


def test_a_thread_that_ended_in_time_is_not_late(monkeypatch):
    """Nobody looked meanwhile, because a synchronous one held the event loop: that is not the thread's fault."""

    async def whole():
        clock = _Clock(monkeypatch)
        ended = threading.Event()

        def thread(_data, logprobs):
            try:
                return logprobs[0].sum(), {}
            finally:
                ended.set()

        async def blocks(_data, logprobs):
            assert await asyncio.to_thread(ended.wait, 20)
            return logprobs[0].sum(), {}

        def slow(_data, logprobs):
            assert ended.wait(20)
            clock.now += 3.0
            return logprobs[0].sum(), {}

        made = [
            Regularizer(thread, 1.0, "thread", run_in_executor=True),
            Regularizer(slow, 1.0, "one"),
            Regularizer(slow, 1.0, "two"),
            Regularizer(blocks, 1.0, "blocks"),
        ]
        return await call_regularizers(made, [], [[torch.ones(1, requires_grad=True)] for _ in made], limit=4.0)

    assert len(asyncio.run(whole())) == 4


def _replaces(_data, logprobs):
    for place, each in enumerate(logprobs):
        logprobs[place] = each**2
    return sum(each.sum() for each in logprobs), {}


def _turns(_data, logprobs):
    logprobs.reverse()
    return (logprobs[0] ** 2).sum() + (logprobs[1] ** 2).sum(), {}


def _takes_out(_data, logprobs):
    last = logprobs.pop()
    return (last**2).sum() + (logprobs[0] ** 2).sum(), {}


@pytest.mark.parametrize("fn", [_replaces, _turns, _takes_out])
@pytest.mark.parametrize("form", ["sync", "async", "thread", "base"])
def test_the_list_of_logprobs_is_the_parts_own(fn, form):
    """What it puts in, takes out or turns around changes neither its gradient nor whose it is."""

    async def later(data, logprobs):
        return fn(data, logprobs)

    if form == "base":
        found = asyncio.run(compute([], X, fn, [], track_grad_norms=True))
    else:
        spec = _spec("it", later if form == "async" else fn, **({"run_in_executor": True} if form == "thread" else {}))
        found = asyncio.run(compute([], X, None, [spec], track_grad_norms=True))
    assert [each.tolist() for each in found.gradients] == [[-2.0, -4.0], [-8.0]]
    assert found.report.total_grad_norm == pytest.approx(np.sqrt(4 + 16 + 64))
    assert check_gradient(fn, [], X).agrees


def test_a_norm_that_cannot_be_found_takes_nothing_away():
    """What can only be differentiated as a whole is sent as without tracking; its own norm is null."""

    def recomputed(_data, logprobs):
        again = torch.utils.checkpoint.checkpoint(lambda x: x**2, logprobs[0], use_reentrant=True)
        return again.sum() + (logprobs[1] ** 2).sum(), {}

    plain, tracked = (
        asyncio.run(compute([], X, _square, [_spec("it", recomputed)], track_grad_norms=track))
        for track in (False, True)
    )
    assert [each.tolist() for each in tracked.gradients] == [each.tolist() for each in plain.gradients]
    assert tracked.report.regularizers["it"].grad_norm is None
    assert tracked.report.base_loss.grad_norm is not None
    assert tracked.report.total_grad_norm is not None


# --- what a part returns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returned", [(10**400, {}), (1.0, {"m": 10**400})], ids=["loss", "metric"])
@pytest.mark.parametrize("base", [False, True])
def test_a_number_that_no_float_holds(returned, base):
    """It is the part's failure, with its name."""
    parts = (lambda *_: returned, None) if base else (_square, [_spec("huge", lambda *_: returned)])
    with pytest.raises(PartFailedError, match="the base loss: .*too large" if base else "'huge': .*too large"):
        asyncio.run(compute([], X, *parts, track_grad_norms=True))


def test_a_cancelled_one_is_named():
    """A synchronous regularizer that raises CancelledError has failed; nobody has cancelled the call."""

    def cancels(_data, _logprobs):
        raise asyncio.CancelledError

    with pytest.raises(PartFailedError, match="'it': it was cancelled"):
        asyncio.run(compute([], X, _square, [_spec("it", cancels)]))


def test_what_differences_find_wrong_is_the_regularizers():
    """A vector inside `by_central_differences` is no scalar, blamed on the regularizer by its own name."""
    spec = _spec("mine", by_central_differences(lambda _data, logprobs: (logprobs[0] ** 2, {})))
    with pytest.raises(PartNotScalarError, match="the regularizer 'mine': its loss has shape") as caught:
        asyncio.run(compute([], X, _square, [spec]))
    assert str(caught.value.part) == "the regularizer 'mine'"

    def vector(_data, logprobs):
        return logprobs[0] ** 2, {}

    with pytest.raises(PartNotScalarError, match="'vector'"):
        check_gradient(vector, [], X)

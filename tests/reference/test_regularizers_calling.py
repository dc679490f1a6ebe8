"""Regularizers are called however they are written: where, in which order, for how long, and what a failure leaves."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading

import numpy as np
import pytest
import torch

from harness.reference.errors import (
    LossFailedError,
    NotScalarError,
    PartFailedError,
    PartNotScalarError,
    RegularizerTimeoutError,
)
from harness.reference.regularizers.calling import call_base, call_regularizers
from harness.reference.regularizers.pipeline import compute
from harness.reference.regularizers.spec import Regularizer

WHO = contextvars.ContextVar("WHO", default="nobody")


def _sum(_data, logprobs):
    return sum(each.sum() for each in logprobs), {"n": len(logprobs)}


async def _async_sum(data, logprobs):
    await asyncio.sleep(0)
    return _sum(data, logprobs)


class _Object:
    async def __call__(self, data, logprobs):
        return await _async_sum(data, logprobs)


def _partial(_extra, data, logprobs):
    return _async_sum(data, logprobs)


FORMS = {
    "sync": _sum,
    "async": _async_sum,
    "callable": _Object(),
    "partial": functools.partial(_async_sum),
    "partial of sync": functools.partial(_partial, None),
    "awaitable": lambda data, logprobs: _async_sum(data, logprobs),
    "future": lambda data, logprobs: asyncio.ensure_future(_async_sum(data, logprobs)),
    "gathered": lambda data, logprobs: _first(asyncio.gather(_async_sum(data, logprobs))),
}


async def _first(awaitable):
    (found,) = await awaitable
    return found


def _leaves():
    return [torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([-4.0], requires_grad=True)]


def _call(*regularizers, **options):
    """Call regularizers on their own, each (name, fn) or with a third element, its executor flag."""
    made = [Regularizer(fn, 1.0, name, *rest) for name, fn, *rest in regularizers]
    return asyncio.run(call_regularizers(made, [{}, {}], [_leaves() for _ in made], **options))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_out(form):
    """What a regularizer is written as makes no difference to what it gives."""
    (called,) = _call(("r", FORMS[form]))
    assert (called.value, called.metrics) == (-7.0, {"n": 2.0})
    base = (
        asyncio.run(call_base(FORMS[form], [{}], _leaves(), workers=None))
        if form not in ("future", "gathered")
        else called
    )
    assert (base.value, base.metrics) == (-7.0, {"n": 2.0})


@pytest.mark.parametrize("form", ["sync", "partial of sync", "awaitable"])
def test_what_a_thread_returns_is_awaited_too(form):
    """A synchronous function in an executor may return something to await; that is awaited on the event loop."""
    (called,) = _call(("r", FORMS[form], True))
    assert called.value == -7.0


@pytest.mark.parametrize("for_all", [False, True])
@pytest.mark.parametrize("own", [None, False, True])
def test_the_own_flag_wins_over_that_of_the_call(own, for_all):
    """None takes what the call says; an asynchronous one stays on the event loop whatever the call says."""
    threads = {}

    def look(_data, logprobs):
        threads["sync"] = threading.current_thread()
        return logprobs[0].sum(), {}

    async def look_async(_data, logprobs):
        threads["async"] = threading.current_thread()
        return logprobs[0].sum(), {}

    _call(("a", look, own), ("b", look_async), in_executor=for_all)
    in_thread = for_all if own is None else own
    assert (threads["sync"] is not threading.main_thread()) == in_thread
    assert threads["async"] is threading.main_thread()


def test_threads_have_the_callers_context_and_do_not_keep_the_program():
    """A context variable is there in the thread, and the thread is a daemon."""
    seen = []

    def look(_data, logprobs):
        seen.append((threading.current_thread().daemon, WHO.get()))
        return logprobs[0].sum(), {}

    token = WHO.set("the caller")
    _call(("a", look, True))
    WHO.reset(token)
    assert seen == [(True, "the caller")]


def test_results_keep_the_order_of_declaration():
    """Whichever ends first: here each waits for the one declared after it."""

    async def whole():
        ended = [asyncio.Event() for _ in range(9)]
        ended[-1].set()
        order = []

        def regularizer(place):
            async def fn(_data, logprobs):
                await ended[place + 1].wait()
                order.append(place)
                ended[place].set()
                return logprobs[0].sum() * place, {}

            return Regularizer(fn, 1.0, f"r{place}")

        found = await call_regularizers([regularizer(k) for k in range(8)], [], [_leaves() for _ in range(8)])
        return order, [called.value for called in found]

    order, values = asyncio.run(whole())
    assert order == list(reversed(range(8)))
    assert values == [-3.0 * place for place in range(8)]


def test_threads_and_the_event_loop_run_side_by_side():
    """Two in threads, one on the loop, each waiting for the next: one after the other they would never end."""

    async def whole():
        loop = asyncio.get_running_loop()
        first, second = threading.Event(), threading.Event()
        third = asyncio.Event()

        def one(_data, logprobs):
            loop.call_soon_threadsafe(third.set)
            assert first.wait(20)
            return logprobs[0].sum(), {}

        def two(_data, logprobs):
            assert second.wait(20)
            first.set()
            return logprobs[0].sum(), {}

        async def three(_data, logprobs):
            await third.wait()
            second.set()
            return logprobs[0].sum(), {}

        made = [Regularizer(one, 1.0, "one"), Regularizer(two, 1.0, "two"), Regularizer(three, 1.0, "three")]
        return await call_regularizers(made, [], [_leaves() for _ in made], in_executor=True)

    assert len(asyncio.run(whole())) == 3


def test_threads_work_while_a_synchronous_one_blocks_the_loop():
    """A thread starts before the synchronous ones are called: here one of them waits for it."""
    started = threading.Event()

    def threaded(_data, logprobs):
        started.set()
        return logprobs[0].sum(), {}

    def blocking(_data, logprobs):
        assert started.wait(20)
        return logprobs[0].sum(), {}

    assert len(_call(("inline", blocking), ("threaded", threaded, True))) == 2


def test_synchronous_ones_are_called_in_order_and_before_asynchronous_ones():
    """One after the other, as they are declared; the asynchronous ones start when they are through."""
    order = []

    def sync(name):
        return lambda _data, logprobs: (order.append(name), (logprobs[0].sum(), {}))[1]

    async def asynchronous(_data, logprobs):
        order.append("async")
        return logprobs[0].sum(), {}

    _call(("x", asynchronous), ("a", sync("a")), ("b", sync("b")))
    assert order == ["a", "b", "async"]


# --- failures ---------------------------------------------------------------------------------------------------------


def _raises(_data, _logprobs):
    raise ZeroDivisionError("no divisor")


async def _raises_async(_data, _logprobs):
    raise ZeroDivisionError("no divisor")


def _stops(_data, _logprobs):
    raise StopIteration


async def _gives_up(_data, _logprobs):
    raise TimeoutError("my own client gave up")


async def _cancels_itself(_data, _logprobs):
    raise asyncio.CancelledError


FAILING = {
    "raises": (_raises, "ZeroDivisionError: no divisor"),
    "raises later": (_raises_async, "ZeroDivisionError: no divisor"),
    "awaitable raises": (lambda data, lps: _raises_async(data, lps), "ZeroDivisionError: no divisor"),
    "stops": (_stops, "StopIteration"),
    "own timeout": (_gives_up, "TimeoutError: my own client gave up"),
    "cancels itself": (_cancels_itself, "cancelled"),
    "nothing": (lambda _data, _lps: None, "returned a NoneType"),
    "loss alone": (lambda _data, lps: lps[0].sum(), "returned a Tensor"),
    "one thing": (lambda _data, lps: (lps[0].sum(),), "returned 1 things"),
    "three things": (lambda _data, lps: (lps[0].sum(), {}, {}), "returned 3 things"),
    "loss is text": (lambda _data, _lps: ("1.0", {}), "loss is a str"),
    "loss is a bool": (lambda _data, _lps: (True, {}), "loss is a bool"),
    "loss is complex": (lambda _data, lps: (lps[0].sum() * 1j, {}), "complex64"),
    "loss is truth": (lambda _data, lps: (lps[0].sum() > 0, {}), "loss is bool"),
    "no metrics": (lambda _data, lps: (lps[0].sum(), None), "metrics are a NoneType"),
    "metrics are a list": (lambda _data, lps: (lps[0].sum(), [("a", 1.0)]), "metrics are a list"),
    "metric is text": (lambda _data, lps: (lps[0].sum(), {"mode": "minimize"}), "metric 'mode' is 'minimize'"),
    "metric is a bool": (lambda _data, lps: (lps[0].sum(), {"ok": True}), "metric 'ok' is True"),
    "metric is none": (lambda _data, lps: (lps[0].sum(), {"ok": None}), "metric 'ok' is None"),
    "metric is a vector": (lambda _data, lps: (lps[0].sum(), {"v": lps[0]}), "metric 'v'"),
    "metric has no name": (lambda _data, lps: (lps[0].sum(), {1: 1.0}), "metric is called 1"),
}


@pytest.mark.parametrize("executor", [None, True])
@pytest.mark.parametrize("case", FAILING)
def test_a_failure_names_the_regularizer(case, executor):
    """Raised, or returned what is no loss: the error is about that one, with its cause, and of the loss's kind."""
    fn, said = FAILING[case]
    if executor and asyncio.iscoroutinefunction(fn):
        executor = None
    with pytest.raises(PartFailedError, match=said) as caught:
        _call(("fine", _sum), ("topology", fn, executor))
    error = caught.value
    assert isinstance(error, LossFailedError)
    assert (error.kind, error.reason) == ("loss_failed", "regularizer_failed")
    assert (error.part.part, error.part.name) == ("regularizer", "topology")
    assert "'topology'" in str(error)
    if "ZeroDivision" in said:
        assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_base_is_named_too(case):
    """The same failures of the base loss are its own, and no regularizer is called."""
    fn, said = FAILING[case]
    called = []
    with pytest.raises(PartFailedError, match=said) as caught:
        asyncio.run(compute([], [np.ones(2, np.float32)], fn, [Regularizer(lambda *_: called.append(1), 1.0, "r")]))
    assert (caught.value.kind, caught.value.reason) == ("loss_failed", "base_failed")
    assert (caught.value.part.part, caught.value.part.name) == ("base", None)
    assert not called


def test_a_loss_that_is_no_scalar():
    """More elements than one, or none, is the kind that such a custom loss has; one element of any shape is fine."""
    for vector in (lambda _data, lps: (lps[0], {}), lambda _data, lps: (lps[0][:0], {})):
        with pytest.raises(PartNotScalarError, match=r"'topology'.*shape") as caught:
            _call(("topology", vector))
        assert isinstance(caught.value, NotScalarError)
        assert (caught.value.kind, caught.value.reason) == ("not_scalar", "regularizer_failed")
    (called,) = _call(("topology", lambda _data, lps: (lps[1].reshape(1, 1), {})))
    assert called.loss.shape == ()


def test_numbers_are_constants_and_metrics_may_be_tensors():
    """A plain number is a loss without a gradient; tensors of one element and numpy numbers are metrics."""
    (called,) = _call(
        ("r", lambda _data, lps: (1.5, {"t": lps[1], "n": np.float32(0.5), "i": np.int64(2), "z": torch.tensor([[3]])}))
    )
    assert called.value == 1.5
    assert not called.loss.requires_grad
    assert called.metrics == {"t": -4.0, "n": 0.5, "i": 2.0, "z": 3.0}


def test_a_failure_cancels_the_others():
    """Those that have not ended are cancelled, and nothing of them is left on the event loop."""

    async def whole():
        cancelled = []

        async def waits(_data, _logprobs):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(asyncio.current_task())
                raise

        async def fails(_data, _logprobs):
            await asyncio.sleep(0)
            raise ZeroDivisionError

        made = [Regularizer(waits, 1.0, "a"), Regularizer(fails, 1.0, "b"), Regularizer(waits, 1.0, "c")]
        with pytest.raises(PartFailedError, match="'b'"):
            await call_regularizers(made, [], [_leaves() for _ in made])
        return len(cancelled), len(asyncio.all_tasks())

    assert asyncio.run(whole()) == (2, 1)


def test_of_two_failures_the_first_declared_is_raised():
    """Both fail in the same turn of the event loop, the later declared one first."""

    async def whole():
        go = asyncio.Event()

        async def fails(_data, _logprobs):
            await go.wait()
            raise ZeroDivisionError

        async def lets_go(_data, _logprobs):
            go.set()
            raise ValueError

        for made in (
            [Regularizer(fails, 1.0, "a"), Regularizer(fails, 1.0, "b"), Regularizer(_async_sum, 1.0, "c")],
            [Regularizer(_async_sum, 1.0, "c"), Regularizer(fails, 1.0, "a"), Regularizer(fails, 1.0, "b")],
        ):
            go.clear()
            asyncio.get_running_loop().call_soon(go.set)
            with pytest.raises(PartFailedError, match="'a'"):
                await call_regularizers(made, [], [_leaves() for _ in made])

    asyncio.run(whole())


def test_after_a_synchronous_failure_nothing_else_is_called():
    """Those declared later are not called, and a coroutine that nobody awaits is closed without a warning."""
    called = []

    def later(_data, _logprobs):
        called.append(1)

    with pytest.raises(PartFailedError, match="'b'"):
        _call(("a", FORMS["awaitable"]), ("b", _raises), ("c", later), ("d", _async_sum))
    assert not called


# --- time -------------------------------------------------------------------------------------------------------------


async def _never(_data, _logprobs):
    await asyncio.Event().wait()


def test_a_regularizer_that_never_ends():
    """Its time over, it is named and cancelled; the others are cancelled with it."""
    with pytest.raises(RegularizerTimeoutError, match=r"'topology'.*0\.01 seconds") as caught:
        _call(("fine", _async_sum), ("topology", _never), ("other", _never), limit=0.01)
    assert (caught.value.kind, caught.value.reason) == ("timeout", "regularizer_timeout")
    assert caught.value.part.name == "topology"


def test_a_thread_that_never_ends_is_left():
    """The call ends in time; what the thread computes afterwards is dropped."""
    go, gone = threading.Event(), threading.Event()

    def waits(_data, logprobs):
        go.wait(20)
        gone.set()
        return logprobs[0].sum(), {}

    async def whole():
        with pytest.raises(RegularizerTimeoutError, match="'topology'"):
            await call_regularizers([Regularizer(waits, 1.0, "topology", True)], [], [_leaves()], limit=0.01)
        go.set()
        # The thread reports to a loop on which nobody waits any more.
        await asyncio.get_running_loop().run_in_executor(None, gone.wait, 20)

    asyncio.run(whole())
    assert gone.is_set()


def test_a_thread_may_outlive_the_event_loop():
    """Nobody hears of it, and nothing is raised in it."""
    go = threading.Event()
    threads = []

    def waits(_data, logprobs):
        threads.append(threading.current_thread())
        go.wait(20)
        return logprobs[0].sum(), {}

    with pytest.raises(RegularizerTimeoutError):
        _call(("topology", waits, True), limit=0.01)
    go.set()
    threads[0].join(20)
    assert not threads[0].is_alive()


class _Clock:
    """An event loop's clock that a regularizer can move."""

    def __init__(self, loop, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(loop, "time", lambda: self.now)


def test_a_synchronous_one_is_late_when_it_returns(monkeypatch):
    """It cannot be interrupted, but what it gives too late does not count, and the next is not called."""

    async def whole():
        clock = _Clock(asyncio.get_running_loop(), monkeypatch)
        called = []

        def slow(_data, logprobs):
            clock.now += 5.0
            return logprobs[0].sum(), {}

        def after(_data, logprobs):
            called.append(1)
            return logprobs[0].sum(), {}

        def slow_to_await(data, logprobs):
            clock.now += 5.0
            return _async_sum(data, logprobs)

        for late in (slow, slow_to_await):
            made = [Regularizer(late, 1.0, "slow"), Regularizer(after, 1.0, "after")]
            with pytest.raises(RegularizerTimeoutError, match="'slow'"):
                await call_regularizers(made, [], [_leaves() for _ in made], limit=4.0)
            assert not called
        assert len(await call_regularizers(made, [], [_leaves() for _ in made], limit=6.0)) == 2

    asyncio.run(whole())


def test_each_has_its_own_time(monkeypatch):
    """What synchronous ones take does not count for the others, and those that have ended in time are not late."""

    async def whole():
        clock = _Clock(asyncio.get_running_loop(), monkeypatch)

        def slow(_data, logprobs):
            clock.now += 3.0
            return logprobs[0].sum(), {}

        made = [Regularizer(_async_sum, 1.0, "a"), *(Regularizer(slow, 1.0, f"s{k}") for k in range(5))]
        return await call_regularizers(made, [], [_leaves() for _ in made], limit=4.0)

    assert len(asyncio.run(whole())) == 6


def test_one_that_does_not_let_itself_be_cancelled():
    """It gets a while, then the call ends without it."""
    held = []

    async def whole():
        release = asyncio.Event()

        async def stubborn(_data, _logprobs):
            held.append(asyncio.current_task())
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    held.append("asked")

        made = [Regularizer(stubborn, 1.0, "stubborn")]
        with pytest.raises(RegularizerTimeoutError, match="'stubborn'"):
            await call_regularizers(made, [], [_leaves()], limit=0.01, grace=0.01)
        release.set()
        await held[0]

    asyncio.run(asyncio.wait_for(whole(), 20))
    assert held[1:] == ["asked"]


def test_cancelling_the_call_cancels_every_part():
    """Regularizers and an asynchronous base are cancelled with the call, and the cancellation is what is raised."""

    async def whole(base):
        started, ended = asyncio.Event(), []

        async def waits(_data, _logprobs):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)

        made = [Regularizer(waits, 1.0, "a"), Regularizer(waits, 1.0, "b")]
        work = compute([], [np.ones(2, np.float32)], waits if base else None, made)
        task = asyncio.ensure_future(work)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(ended), len(asyncio.all_tasks())

    assert asyncio.run(whole(base=False)) == (2, 1)
    assert asyncio.run(whole(base=True)) == (1, 1)

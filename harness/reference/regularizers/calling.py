"""Calls the parts of a structured loss, however they are written, and reads what they return.

The base loss comes first. Where it is synchronous it runs in another thread, as a custom loss does without
regularizers. Then the regularizers: those that run in an executor start, each in a thread of its own; the other
synchronous ones run one after the other on the event loop's thread; then the asynchronous ones run side by side on
the event loop. Results keep the order of declaration, whichever ends first.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from harness.reference.errors import BASE, CallError, Part, PartError, PartFailedError, RegularizerTimeoutError
from harness.reference.regularizers.results import Called, read_result
from harness.reference.regularizers.spec import PartFn, Regularizer, is_async
from harness.reference.regularizers.stepping import grad_mode, stepping

if TYPE_CHECKING:
    import torch

TICK = 0.02
"""So often, in seconds, it is looked whether the event loop was held, while there is a time limit."""

GRACE = 1.0
"""Seconds that a regularizer has to end once it was cancelled; then it is left to itself."""


async def call_base(
    fn: PartFn, data: Sequence[Any], logprobs: list[torch.Tensor], *, workers: Executor | None
) -> Called:
    """Call the base loss. Raises PartFailedError and PartNotScalarError."""
    try:
        if is_async(fn):
            result = fn(data, list(logprobs))
        else:
            called = functools.partial(call_part, fn, data, logprobs)
            result = await asyncio.get_running_loop().run_in_executor(workers, called)
        if inspect.isawaitable(result):
            result = await stepping(result)
    except Exception as error:
        raise failure_of(BASE, error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PartFailedError(BASE, "it was cancelled") from None
    return read_result(result, BASE)


async def call_regularizers(
    regularizers: Sequence[Regularizer],
    data: Sequence[Any],
    logprobs: Sequence[list[torch.Tensor]],
    *,
    in_executor: bool = False,
    limit: float | None = None,
    grace: float = GRACE,
) -> list[Called]:
    """Call every regularizer, each with its own logprobs; one result each, in the order of declaration.

    `in_executor` counts for synchronous regularizers that say nothing themselves. Each has `limit` seconds of its own,
    which stand still while another one holds the event loop that it needs. When one fails the others are cancelled, and
    what a thread still computes is dropped.

    Raises PartFailedError, PartNotScalarError or RegularizerTimeoutError of the first regularizer, in the order of
    declaration, of those that had failed when the first failure was noticed.
    """
    calls = [
        _Call(regularizer, data, leaves, limit, in_executor=in_executor)
        for regularizer, leaves in zip(regularizers, logprobs, strict=True)
    ]
    try:
        for call in calls:
            call.start_thread()
        for call in calls:
            held = call.run_inline()
            for other in calls:
                if other is not call:
                    other.stood_still(held)
            if call.failure is not None:
                break
        else:
            for call in calls:
                call.start_task()
            await _wait(calls)
        for call in calls:
            call.collect()
        for call in calls:
            if call.failure is not None:
                raise call.failure
        return [call.result for call in calls if call.result is not None]
    finally:
        for call in calls:
            call.discard()
        await _stop([call.future for call in calls if call.future is not None], grace)


class _Call:
    """One regularizer under way."""

    def __init__(
        self,
        regularizer: Regularizer,
        data: Sequence[Any],
        logprobs: list[torch.Tensor],
        limit: float | None,
        *,
        in_executor: bool,
    ) -> None:
        wanted = in_executor if regularizer.run_in_executor is None else regularizer.run_in_executor
        self.part = Part("regularizer", regularizer.name)
        self.future: asyncio.Future[Any] | None = None
        self.result: Called | None = None
        self.failure: CallError | None = None
        self._async = is_async(regularizer.fn)
        self._in_thread = wanted and not self._async
        self._fn = functools.partial(call_part, regularizer.fn, data, logprobs)
        self._limit = limit
        self.stepped = 0.0
        self._now = asyncio.get_running_loop().time
        self._deadline = math.inf
        self._ended: float | None = None
        self._awaitable: Awaitable[Any] | None = None

    def start_thread(self) -> None:
        """Start the thread, for a regularizer that has one."""
        if self._in_thread:
            self._begin()
            ended = _start_thread(self._timed, name=str(self.part))
            self.future = asyncio.get_running_loop().create_task(self._unwrapped(ended))

    def run_inline(self) -> float:
        """Call a synchronous regularizer here and now; say how many seconds it held the event loop.

        What it takes too long for is known when it returns.
        """
        if self._in_thread or self._async:
            return 0.0
        self._begin()
        started = self._now()
        try:
            result = self._timed()
        except Exception as error:  # noqa: BLE001 - it is the regularizer's failure, raised with its name
            self._failed(error)
        except asyncio.CancelledError:
            self.failure = PartFailedError(self.part, "it was cancelled")
        else:
            if not inspect.isawaitable(result):
                self._read(result)
            else:
                self._awaitable = result
                if self._now() > self._deadline:
                    self._late()
        return self._now() - started

    def start_task(self) -> None:
        """Start what is asynchronous, or what a synchronous function returned to be awaited."""
        if self._async or self._awaitable is not None:
            if self._async:
                self._begin()
            self.future = asyncio.get_running_loop().create_task(self._awaited())

    def stood_still(self, seconds: float) -> None:
        """Grant the time during which another one held the event loop, unless it had a thread of its own."""
        if not self._in_thread and self.result is None:
            self._deadline += seconds

    def expire(self, now: float) -> None:
        """Fail when the time is over. What has ended in time is not late because nobody has looked yet."""
        if self.pending and self._ended is None and now >= self._deadline:
            self._late()

    @property
    def pending(self) -> bool:
        """Whether it is still to be waited for."""
        return self.future is not None and not self.future.done() and self.failure is None

    @property
    def deadline(self) -> float:
        """When the time is over, on the event loop's clock; infinite once it has ended."""
        return self._deadline if self._ended is None else math.inf

    def collect(self) -> None:
        """Take the result, or the failure, of what has ended."""
        if self.future is None or not self.future.done() or self.failure is not None or self.result is not None:
            return
        if self.future.cancelled():
            self.failure = PartFailedError(self.part, "it was cancelled")
        elif (error := self.future.exception()) is not None:
            self._failed(error)
        else:
            self._read(self.future.result())

    def discard(self) -> None:
        """Close a coroutine that a synchronous function returned and nobody is going to await."""
        if (
            inspect.iscoroutine(self._awaitable)
            and inspect.getcoroutinestate(self._awaitable) == inspect.CORO_CREATED
            and (self.future is None or self.future.done())
        ):
            self._awaitable.close()

    async def _awaited(self) -> Any:
        awaitable = self._fn() if self._awaitable is None else self._awaitable
        try:
            return await stepping(awaitable, held=self._step)
        finally:
            self._ended = self._now()

    def _timed(self) -> Any:
        """Call it, and note when it ended, unless what it returned is still to be awaited."""
        try:
            result = self._fn()
        except BaseException:
            self._ended = self._now()
            raise
        if not inspect.isawaitable(result):
            self._ended = self._now()
        return result

    async def _unwrapped(self, ended: asyncio.Future[Any]) -> Any:
        """Wait for what a thread returns, and for what that is if it is something to await."""
        result = await ended
        if not inspect.isawaitable(result):
            return result
        self._in_thread = False  # from here on it shares the event loop
        self._awaitable = result
        return await self._awaited()

    def _step(self, seconds: float) -> None:
        self.stepped += seconds

    def _begin(self) -> None:
        if self._limit is not None:
            self._deadline = self._now() + self._limit

    def _read(self, result: Any) -> None:
        if self._ended is not None and self._ended > self._deadline:
            self._late()
            return
        try:
            self.result = read_result(result, self.part)
        except PartError as error:
            self.failure = error

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.failure = failure_of(self.part, error)
        self.failure.__cause__ = error

    def _late(self) -> None:
        self.failure = RegularizerTimeoutError(self.part, f"it took longer than {self._limit:g} seconds")


async def _wait(calls: Sequence[_Call]) -> None:
    """Wait until everything has ended, or something has failed."""
    now = asyncio.get_running_loop().time
    while waiting := {call.future for call in calls if call.future is not None and call.pending}:
        deadline = min(call.deadline for call in calls if call.pending)
        started, stepped = now(), [call.stepped for call in calls]
        left = None if deadline == math.inf else max(0.0, min(deadline - started, TICK))
        await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if left is not None and (held := now() - started - left) > 0:
            # Somebody held the loop, or this would have gone on when the time was up.
            for call, before in zip(calls, stepped, strict=True):
                call.stood_still(max(0.0, held - (call.stepped - before)))
        for call in calls:
            call.collect()
            call.expire(now())
        if any(call.failure is not None for call in calls):
            return


async def _stop(futures: Sequence[asyncio.Future[Any]], grace: float) -> None:
    """Cancel what has not ended, and give it a while to end."""
    unfinished = [future for future in futures if not future.done()]
    for future in unfinished:
        future.cancel()
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    if unfinished:
        await asyncio.wait(unfinished, timeout=grace)


def failure_of(part: Part, error: Exception) -> PartError:
    """Return what a part is to blame for that raised: what was blamed on a function inside it is its own."""
    if isinstance(error, PartError):
        return type(error)(part, error.what)
    return PartFailedError(part, f"{type(error).__name__}: {error}")


def call_part(fn: PartFn, data: Sequence[Any], logprobs: list[torch.Tensor]) -> Any:
    """Call a part with gradients enabled, whatever another one has left to this thread, and a list of its own.

    A StopIteration, which no future can hold, becomes a RuntimeError, as it does in a coroutine.
    """
    try:
        with grad_mode():
            return fn(data, list(logprobs))
    except StopIteration as error:
        raise RuntimeError("it raised StopIteration") from error


def _start_thread(fn: Callable[[], Any], *, name: str) -> asyncio.Future[Any]:
    """Run a function in a thread of its own, which does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def tell(result: Any, error: BaseException | None) -> None:
        if ended.done():
            return  # nobody waits any more
        if error is None:
            ended.set_result(result)
        else:
            ended.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = context.run(fn)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return ended

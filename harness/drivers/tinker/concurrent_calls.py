"""Calls in the style of a user's asyncio program: several are started as tasks before any is waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from .threaded_calls import cancel_future

T = TypeVar("T")


class ConcurrentCall:
    """A call that runs as a task of the user's event loop, which is the driver's and not the SDK's.

    `ended_at_once`: it ended before it waited for anything, so that an error is about the call and not its result.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.ended_at_once = task.done()

    def result(self) -> Any:
        """Wait for the call, and then for the future it returned."""
        return _in_loop(self._await())

    def cancel(self) -> None:
        """Cancel the task, or the future it returned where it has ended."""

        async def cancel() -> None:
            if not self._task.done():
                self._task.cancel()
            elif not self._task.cancelled() and self._task.exception() is None:
                cancel_future(self._task.result())

        _in_loop(cancel())

    async def _await(self) -> Any:
        return await (await self._task)


def start_concurrently(method: Callable[..., Coroutine[Any, Any, Awaitable[Any]]], *arguments: Any) -> ConcurrentCall:
    """Start `method` as a task and let it run until it first waits. What it raises is raised by `result`."""

    async def start() -> ConcurrentCall:
        task = asyncio.ensure_future(method(*arguments))
        # The task was scheduled before this coroutine goes on: after one turn its first synchronous part has run.
        await asyncio.sleep(0)
        return ConcurrentCall(task)

    return _in_loop(start())


def _in_loop(waiting: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(waiting, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="parity-user-loop", daemon=True).start()
    return loop

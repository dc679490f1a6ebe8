"""Runs a coroutine step by step, with a grad mode of its own and a watch on how long it holds the event loop.

torch keeps its grad mode per thread, not per task: whoever awaits inside `torch.no_grad()` switches gradients off for
everything that the event loop runs meanwhile. Here each step starts in the mode in which the last one ended, and the
thread's own mode is there again when the step is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def grad_mode(*, enabled: bool = True) -> Iterator[None]:
    """Set torch's grad mode for a while, also in a thread that is in inference mode; what was before is restored."""
    import torch

    with torch.inference_mode(mode=False), torch.set_grad_enabled(enabled):
        yield


def unnoticed(_seconds: float) -> None:
    """Take no notice of a step."""


async def stepping(awaitable: Awaitable[T], *, held: Callable[[float], None] = unnoticed) -> T:
    """Await something, with gradients enabled at first.

    `held` hears after each step how many seconds it took, on the event loop's clock.
    """
    return await _stepped(awaitable, held)


@types.coroutine
def _stepped(awaitable: Awaitable[T], held: Callable[[float], None]) -> Generator[Any, Any, T]:
    import torch

    now = asyncio.get_running_loop().time
    mode = True
    steps = _awaiting(awaitable)
    resume: Callable[[Any], Any] = steps.send
    given: Any = None
    try:
        while True:
            started = now()
            with grad_mode(enabled=mode):
                try:
                    waiting = resume(given)
                except StopIteration as ended:
                    value: T = ended.value
                    return value
                finally:
                    mode = torch.is_grad_enabled()
                    held(now() - started)
            try:
                resume, given = steps.send, (yield waiting)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where the coroutine waits
                resume, given = steps.throw, error
    finally:
        steps.close()


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable

"""Calls in the style of a program with a thread per training client: each makes its calls one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class ThreadedCall:
    """A plain call that a thread of the user's makes. `raised_in_call`: it ended in an error of the call itself."""

    def __init__(self, made: Future[Any]) -> None:
        self._made = made

    @property
    def raised_in_call(self) -> bool:
        """Whether the call itself raised, rather than what it returned."""
        return self._made.done() and not self._made.cancelled() and self._made.exception() is not None

    def result(self) -> Any:
        """Wait until the call was made, and then for the future it returned."""
        return self._made.result().result()

    def cancel(self) -> bool:
        """Cancel the call if it was not made yet, and else what it returned. Return whether there was a way to."""
        if self._made.cancel():
            return True
        if not self._made.done() or self.raised_in_call:
            return False  # a thread inside a call cannot be stopped
        return cancel_future(self._made.result())


class CallingThread:
    """One thread of the user's. It must not keep the process when the program ends, so it is a daemon."""

    def __init__(self, name: str) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"parity-user-{name}", daemon=True).start()

    def call(self, method: Callable[..., Any], *arguments: Any) -> ThreadedCall:
        """Let the thread make a call after those it was given before. What it raises is raised by `result`."""
        made: Future[Any] = Future()
        self._waiting.put((made, lambda: method(*arguments)))
        return ThreadedCall(made)

    def _work(self) -> None:
        while True:
            made, call = self._waiting.get()
            if not made.set_running_or_notify_cancel():
                continue
            try:
                made.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the call
                made.set_exception(error)


def cancel_future(returned: Any) -> bool:
    """Cancel a future of the SDK by the standard future behind it; return whether it shows one."""
    standard = getattr(returned, "future", None)
    if standard is None:
        return False
    standard().cancel()
    return True

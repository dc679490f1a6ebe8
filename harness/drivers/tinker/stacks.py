"""Where everything stands: the stacks of all threads and of the asyncio tasks that wait."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import threading
import traceback

_TASKS = 20


def of_all() -> str:
    """Return the stacks of all threads but the calling one, and of up to 20 unfinished tasks of any loop."""
    parts = []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the only way to another thread's stack
        if ident != threading.get_ident():
            stack = "".join(traceback.format_stack(frame))
            parts.append(f"Thread {names.get(ident, ident)}:\n{stack}")
    # Tasks belong to loops that the SDK does not show; the garbage collector knows them all.
    tasks = [found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()]
    for task in tasks[:_TASKS]:
        written = io.StringIO()
        task.print_stack(file=written)
        parts.append(written.getvalue())
    return "\n".join(parts)

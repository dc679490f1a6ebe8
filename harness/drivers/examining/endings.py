"""How a driver ends, and what it does when the server does not answer."""

from __future__ import annotations

import socket

from harness.drivers.examining.conversation import Conversation
from harness.drivers.examining.desk import CREATE, MODEL, Desk
from harness.drivers.examining.exams import statuses

SHORT = 1.0
"""The timeout of a run that cannot succeed, in seconds."""

LONG = 600.0
"""The timeout of a run in whose middle the driver is ended, in seconds."""


async def server_gone(desk: Desk) -> None:
    """Let it run where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening: connections are refused for as long as this lasts
        await _overdue(desk, "server-gone", f"http://127.0.0.1:{held.getsockname()[1]}")


async def timeout(desk: Desk) -> None:
    """Let it run on a server that never answers."""
    await _overdue(desk, "timeout-ignored", desk.stalled)


async def _overdue(desk: Desk, code: str, base_url: str) -> None:
    conversation = await desk.fresh()
    try:
        number = await _begin_run(conversation, base_url, timeout=SHORT)
        answer = await conversation.heard(number, seconds=SHORT + desk.limits.answer)
        if answer is None:
            desk.found(code, f"timeout {SHORT:g} s: {conversation.instead(SHORT + desk.limits.answer)}")
        elif statuses(answer).get(MODEL) not in ("error", "hang"):
            desk.found(code, f"a model that cannot have been created: {answer.ok or answer.driver_error}")
    finally:
        await conversation.end()


async def shutdown(desk: Desk) -> None:
    """Ask it to end while a call hangs."""
    conversation = await desk.talk()
    if desk.can("create_model"):
        await _begin_run(conversation, desk.stalled, timeout=LONG)
    answer = await conversation.asked("shutdown", seconds=desk.limits.end)
    if answer is None or answer.ok is None:
        desk.found("shutdown-unheeded", f"no answer: {conversation.instead(desk.limits.end)}")
    elif not await conversation.gone(seconds=desk.limits.end):
        desk.found("shutdown-unheeded", f"answered, and still running {desk.limits.end:g} s later")
    elif conversation.status != 0:
        desk.found("shutdown-unheeded", f"answered, and exited with status {conversation.status}")
    await _end(desk, conversation)
    desk.main = None


async def end_of_input(desk: Desk) -> None:
    """End its stdin in the middle of a run."""
    conversation = await desk.fresh()
    if desk.can("create_model"):
        await _begin_run(conversation, desk.stalled, timeout=LONG)
    conversation.close_input()
    if not await conversation.gone(seconds=desk.limits.end):
        desk.found("end-of-input", f"still running {desk.limits.end:g} s after the end of stdin")
    await _end(desk, conversation)


async def termination(desk: Desk) -> None:
    """Send SIGTERM in the middle of a run."""
    conversation = await desk.fresh()
    if desk.can("create_model"):
        await _begin_run(conversation, desk.stalled, timeout=LONG)
    conversation.terminate()
    if not await conversation.gone(seconds=desk.limits.end):
        desk.found("termination", f"still running {desk.limits.end:g} s after SIGTERM")
    await _end(desk, conversation)


async def _begin_run(conversation: Conversation, base_url: str, *, timeout: float) -> int:  # noqa: ASYNC109 - the run's
    number, line = conversation.ask(
        "run", base_url=base_url, api_key="tml-examined", steps=[CREATE], data={}, losses={}, timeout=timeout
    )
    await conversation.write(line)
    return number


async def _end(desk: Desk, conversation: Conversation) -> None:
    """End a conversation; what a driver that ended on its own has left is found."""
    if not conversation.alive and (left := conversation.left_behind()):
        desk.found("left-behind", f"{len(left)} of its processes live on")
    await conversation.end()

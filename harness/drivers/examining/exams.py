"""What a driver is asked and told while it lives: lines, commands, runs, losses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from harness.drivers.command import NAME
from harness.drivers.examining.conversation import Conversation, short
from harness.drivers.examining.desk import CREATE, MODEL, Desk
from harness.drivers.protocol import PROTOCOL, Answer, EvaluateAnswer, RunAnswer
from harness.suite.losses.vectors import judge_vectors
from mock_server import Tenant

LONG_LINE = 10 << 20
"""The length of the longest line a driver is sent here, in bytes."""

MOST_AT_ONCE = 16

_BAD_LINES = b'{"cmd": "hello", "id":\nno json\n[]\n7\n\n\xff\xfe\n{"protocol": "1.1"}\n'
_CONTRACT = re.compile(r"(tinker-\d+(\.\d+)*)?")
_UNHEARD = "become-a-better-driver"
_PIECES = 0.05


async def hello(desk: Desk) -> None:
    """Ask what it is."""
    await desk.talk()
    if desk.hello is None:
        return
    told = desk.hello
    if told.protocol.partition(".")[0] != PROTOCOL.partition(".")[0]:
        desk.found("protocol-foreign", f"{told.protocol!r}; this harness speaks {PROTOCOL}")
    if not NAME.fullmatch(told.sdk.name) or not _is_version(told.sdk.version):
        desk.found("sdk-unnamed", f"name {told.sdk.name!r}, version {told.sdk.version!r}")
    if not _CONTRACT.fullmatch(told.contract):
        desk.found("contract-malformed", repr(told.contract))
    if unknown := sorted(set(told.capabilities) - desk.capabilities):
        desk.found("capability-unknown", f"{', '.join(unknown)}; there are {', '.join(sorted(desk.capabilities))}")


async def bad_lines(desk: Desk) -> None:
    """Tell it what is no command."""
    conversation = await desk.talk()
    conversation.blame = "bad-line"
    await conversation.write(_BAD_LINES)
    answer = await conversation.asked(_UNHEARD, seconds=desk.limits.answer)
    conversation.blame = ""
    if answer is None:
        desk.found("bad-line", f"after lines that are no commands: {conversation.instead(desk.limits.answer)}")


async def unknown_command(desk: Desk) -> None:
    """Ask for what no protocol has."""
    conversation = await desk.talk()
    answer = await conversation.asked(_UNHEARD, seconds=desk.limits.answer)
    if answer is None or answer.driver_error is None:
        desk.found("unknown-command", _seen(conversation, answer, desk))


async def split_lines(desk: Desk) -> None:
    """Send a line in pieces, cut within a character, and two lines in one piece."""
    conversation = await desk.talk()
    first, line = conversation.ask(_UNHEARD, note="naïve Ελληνικά 漢字")
    cut = line.index("漢".encode()) + 1
    for piece in (line[:9], line[9:cut], line[cut:]):
        await conversation.write(piece)
        await asyncio.sleep(_PIECES)
    second, one = conversation.ask(_UNHEARD)
    third, other = conversation.ask(_UNHEARD)
    await conversation.write(one + other)
    for number, what in ((first, "a line in three pieces"), (second, "the first of two lines"), (third, "the second")):
        if await conversation.heard(number, seconds=desk.limits.answer) is None:
            desk.found("split-line", f"{what}: {conversation.instead(desk.limits.answer)}")
            return


async def one_run(desk: Desk) -> None:
    """Let it create a model."""
    await _create(desk, await desk.talk())


async def unknown_keys(desk: Desk) -> None:
    """Add keys of a newer protocol to a run and to its step."""
    step = {**CREATE, "sharpness": {"newer": [1]}}
    conversation = await desk.talk()
    tenant = desk.server.open_tenant()
    try:
        number, line = desk.run(conversation, tenant, steps=[step], newer={"key": None})
        await conversation.write(line)
        answer = await conversation.heard(number, seconds=2 * desk.limits.answer)
    finally:
        tenant.close()
    if statuses(answer).get(MODEL) != "ok":
        desk.found("unknown-key", _seen(conversation, answer, desk))


async def unknown_step(desk: Desk) -> None:
    """Ask for a step that no protocol has."""
    conversation = await desk.talk()
    tenant = desk.server.open_tenant()
    try:
        number, line = desk.run(conversation, tenant, steps=[CREATE, {"do": "sharpen", "id": "sharp", "model": MODEL}])
        await conversation.write(line)
        answer = await conversation.heard(number, seconds=2 * desk.limits.answer)
    finally:
        tenant.close()
    if answer is None or answer.driver_error is None:
        desk.found("unknown-step", _seen(conversation, answer, desk))


async def long_line(desk: Desk) -> None:
    """Send a line of 10 MiB."""
    conversation = await desk.talk()
    padding = "0123456789abcdef" * (LONG_LINE // 16)
    answer = await conversation.asked(_UNHEARD, seconds=2 * desk.limits.answer, padding=padding)
    if answer is None:
        desk.found("long-line", f"{LONG_LINE >> 20} MiB: {conversation.instead(2 * desk.limits.answer)}")


async def in_flight(desk: Desk) -> None:
    """Have as many runs at a time as it offers, each with a server of its own."""
    assert desk.hello is not None
    conversation = await desk.talk()
    tenants = [desk.server.open_tenant() for _ in range(min(desk.hello.max_in_flight, MOST_AT_ONCE))]
    try:
        sent = [desk.run(conversation, tenant) for tenant in tenants]
        await conversation.write(b"".join(line for _, line in sent))
        for (number, _), tenant in zip(sent, tenants, strict=True):
            answer = await conversation.heard(number, seconds=2 * desk.limits.answer)
            if answer is None or statuses(answer).get(MODEL) != "ok":
                desk.found("runs-mixed", f"of {len(sent)} runs, command {number}: {_seen(conversation, answer, desk)}")
                return
            if complaint := _elsewhere(answer, tenant):
                desk.found("runs-mixed", f"of {len(sent)} runs, command {number}: {complaint}")
                return
    finally:
        for tenant in tenants:
            tenant.close()


async def vectors(desk: Desk) -> None:
    """Let it prove its losses."""
    conversation = await desk.talk()
    results = await _evaluate(desk, conversation, [vector.case for vector in desk.vectors])
    wrong = [] if results is None else judge_vectors(results, desk.vectors)
    if wrong:
        names = ", ".join(dict.fromkeys(mismatch.vector.split("/")[0] for mismatch in wrong))
        desk.found("vectors-differ", f"{len(wrong)} of {len(desk.vectors)}, of {names}; the first: {wrong[0]}")


async def unknown_operation(desk: Desk) -> None:
    """Ask for an operation that no version has, beside a case that is all right."""
    conversation = await desk.talk()
    good = {"loss": {"nodes": [["lps"], ["sum", 0]], "loss": 1, "metrics": {}}, "logprobs": [[-0.5]], "fields": [{}]}
    bad = {**good, "loss": {"nodes": [["lps"], ["sharpen", 0]], "loss": 1, "metrics": {}}}
    results = await _evaluate(desk, conversation, [bad, good], finding="unknown-operation")
    if results is not None and not ("error" in results[0] and results[1].get("loss") == -0.5):
        desk.found("unknown-operation", excerpted(results))


async def number_spelling(desk: Desk) -> None:
    """Give it numbers that JSON has not."""
    conversation = await desk.talk()
    loss = {"nodes": [["lps"], ["sum", 0]], "loss": 1, "metrics": {}}
    spelled = ("NaN", "-Infinity", "Infinity")
    cases = [{"loss": loss, "logprobs": [[number]], "fields": [{}]} for number in spelled]
    conversation.blame = "number-spelling"
    results = await _evaluate(desk, conversation, cases, finding="number-spelling")
    conversation.blame = ""
    for number, result in zip(spelled, results or (), strict=False):
        if "error" not in result and result.get("loss") != number:
            desk.found("number-spelling", f"the sum of {number} is told as {excerpted(result)}")


# --- what exams share -------------------------------------------------------------------------------------------------


async def _create(desk: Desk, conversation: Conversation) -> None:
    tenant = desk.server.open_tenant()
    try:
        number, line = desk.run(conversation, tenant)
        await conversation.write(line)
        answer = await conversation.heard(number, seconds=2 * desk.limits.answer)
        if answer is None or answer.ok is None:
            desk.found("run-unanswered", _seen(conversation, answer, desk))
            return
        told = statuses(answer)
        if list(told) != [MODEL, "close"]:
            desk.found("run-results", f"expected results of {MODEL} and close: {short(answer)}")
        elif told[MODEL] != "ok":
            desk.found("run-failed", short(answer))
        elif complaint := _elsewhere(answer, tenant):
            desk.found("run-elsewhere", complaint)
    finally:
        tenant.close()


async def _evaluate(
    desk: Desk, conversation: Conversation, cases: list[Any], *, finding: str = "evaluate-unanswered"
) -> list[dict[str, Any]] | None:
    answer = await conversation.asked("evaluate", seconds=desk.limits.evaluate, cases=cases)
    try:
        results = msgspec.convert(answer.ok, EvaluateAnswer).results if answer is not None else []
    except msgspec.ValidationError:
        results = []
    if len(results) != len(cases):
        desk.found(finding, _seen(conversation, answer, desk))
        return None
    return results


def statuses(answer: Answer | None) -> dict[str, str]:
    """Return the status of each step of a run's answer, empty where it is none."""
    try:
        steps = msgspec.convert(answer.ok if answer is not None else None, RunAnswer).steps
    except msgspec.ValidationError:
        return {}
    return {step.step: step.status for step in steps}


def _elsewhere(answer: Answer, tenant: Tenant) -> str:
    """Return why a run cannot have been at its own server, or ""."""
    record = tenant.record()
    if all(exchange.route != "create_model" for exchange in record.exchanges):
        return "its server saw no create_model with its key"
    told = msgspec.convert(answer.ok, RunAnswer).steps[0].fields.get("model_id")
    if told is not None and told not in record.aliases:
        return f"model_id {told!r} is none of its server's"
    return ""


def _seen(conversation: Conversation, answer: Answer | None, desk: Desk) -> str:
    return conversation.instead(desk.limits.answer) if answer is None else short(answer)


def excerpted(results: Mapping[str, Any] | list[dict[str, Any]]) -> str:
    """Return the beginning of results, for a finding."""
    return msgspec.json.encode(results).decode()[:200]


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True

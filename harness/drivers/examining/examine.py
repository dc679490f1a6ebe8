"""The exams in their order, and what they found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from harness.drivers.examining import endings, exams
from harness.drivers.examining.desk import Desk, Limits, stalling
from harness.drivers.examining.findings import Examination, Sitting
from harness.drivers.spec import DriverSpec
from harness.suite.losses.vectors import Vector
from mock_server import MockServer

_LOSSES = "forward_backward_custom"
_MODELS = "create_model"


@dataclass(frozen=True, slots=True)
class Exam:
    """One exam; it needs the capability `needs`, if that is not empty.

    `after` names an exam that has to have gone well: what it found would be found again, and blamed on something else.
    `several`: it needs a driver that offers more than one run at a time.
    """

    name: str
    says: str
    ask: Callable[[Desk], Awaitable[None]]
    needs: str = ""
    after: str = ""
    several: bool = False


EXAMS: tuple[Exam, ...] = (
    Exam("hello", "says what it is", exams.hello),
    Exam("bad-lines", "goes on after lines that are no commands", exams.bad_lines),
    Exam("unknown-command", "refuses a command it does not know", exams.unknown_command),
    Exam("split-lines", "reads lines in pieces", exams.split_lines),
    Exam("long-line", "reads a line of 10 MiB", exams.long_line),
    Exam("run", "creates a model", exams.one_run, _MODELS),
    Exam("unknown-keys", "ignores keys it does not know", exams.unknown_keys, _MODELS, after="run"),
    Exam("unknown-step", "refuses a step it does not know", exams.unknown_step, _MODELS, after="run"),
    Exam("in-flight", "keeps runs apart", exams.in_flight, _MODELS, after="run", several=True),
    Exam("operation-vectors", "computes losses and gradients right", exams.vectors, _LOSSES),
    Exam("unknown-operation", "refuses an operation it does not know", exams.unknown_operation, _LOSSES),
    Exam("number-spelling", "spells what JSON has no number for", exams.number_spelling, _LOSSES),
    Exam("shutdown", "ends when asked to", endings.shutdown),
    Exam("server-gone", "answers where nothing listens", endings.server_gone, _MODELS),
    Exam("timeout", "answers when its time is up", endings.timeout, _MODELS),
    Exam("end-of-input", "ends when the runner is gone", endings.end_of_input),
    Exam("termination", "ends on SIGTERM", endings.termination),
)


async def examine(
    spec: DriverSpec,
    *,
    capabilities: frozenset[str],
    vectors: Sequence[Vector],
    limits: Limits | None = None,
    told: Callable[[Sitting], None] = lambda _: None,
) -> Examination:
    """Ask every exam of the driver that `spec` starts; `told` hears of each when it is over.

    `capabilities` are those there are, `vectors` what losses are held against. After a hello that cannot be read, the
    other exams are left out. No process outlives the call.

    Raises ParityError `driver-not-started`.
    """
    sittings: list[Sitting] = []
    with MockServer() as server:
        async with stalling() as stalled:
            desk = Desk(spec, server, stalled, capabilities, vectors, limits or Limits())
            try:
                for exam in EXAMS:
                    sittings.append(await _sit(desk, exam))
                    told(sittings[-1])
            finally:
                await desk.close()
    driver = {} if desk.hello is None else msgspec.to_builtins(desk.hello)
    return Examination(driver, tuple(sittings), tuple(desk.findings))


async def _sit(desk: Desk, exam: Exam) -> Sitting:
    desk.exam = exam.name
    if exam.name != EXAMS[0].name and desk.hello is None:
        return Sitting(exam.name, exam.says, "left-out", "nothing is known about a driver that has not said hello")
    if exam.needs and not desk.can(exam.needs):
        return Sitting(exam.name, exam.says, "left-out", f"{exam.needs} is not declared")
    if exam.after and any(finding.exam == exam.after for finding in desk.findings):
        return Sitting(exam.name, exam.says, "left-out", f"the exam {exam.after} has to go well first")
    if exam.several and desk.hello is not None and desk.hello.max_in_flight == 1:
        return Sitting(exam.name, exam.says, "left-out", "max_in_flight is 1")
    before = len(desk.findings)
    await exam.ask(desk)
    return Sitting(exam.name, exam.says, "found" if len(desk.findings) > before else "ok")

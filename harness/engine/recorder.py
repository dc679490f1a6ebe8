"""Keeping what a run observes, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from harness.drivers.answers import GarbageError, read_answer
from harness.drivers.protocol import HelloAnswer, RunAnswer, StepResult
from harness.engine.observe import Observation
from harness.engine.plan import Plan, PlannedScenario
from harness.errors import ParityError
from harness.locations import Locations
from harness.recording.runs import Driven, FailureEntry, RunHeader, RunWriter, Seen


class RunRecorder:
    """Writes what is observed to a folder: old or new, never half. `path` is the file, once it is in place."""

    def __init__(self, folder: Path, *, locations: Locations, today: date) -> None:
        """Check that the folder can be used. Raises ParityError `recording-exists`."""
        self.path: Path | None = None
        self._writer = RunWriter(folder, golden=locations.golden)
        self._today = today

    def begin(self, plan: Plan, hello: HelloAnswer) -> None:
        """Write down what is driven and what is planned."""
        self._writer.begin(
            RunHeader(
                kind="parity-run",
                schema=1,
                parity=metadata.version("parity"),
                taken=self._today.isoformat(),
                contract=plan.contract.id,
                driven=Driven(
                    name=hello.sdk.name,
                    version=hello.sdk.version,
                    digest=hello.sdk.digest,
                    language=hello.language,
                    runtime=hello.runtime,
                    contract=hello.contract,
                    capabilities=tuple(hello.capabilities),
                    libraries=dict(sorted(hello.libraries.items())),
                ),
                stimuli={planned.scenario.id: planned.stimulus for planned in plan.scenarios},
            )
        )

    async def pack(self, planned: PlannedScenario, seen: Sequence[Observation], *, seconds: float) -> bytes:
        """Return what was observed in the runs of a scenario, ready to be kept."""
        return await asyncio.to_thread(
            self._writer.pack,
            scenario=planned.scenario.id,
            stimulus=planned.stimulus,
            seconds=seconds,
            seen=[_seen(observation) for observation in seen],
        )

    def keep(self, planned: PlannedScenario, packed: bytes, *, reruns: int, note: str) -> None:
        """Keep the attempt that is reported."""
        if packed:
            self._writer.add(planned.scenario.id, packed, reruns=reruns, note=note)

    def end(self, *, whole: bool) -> None:
        """Put the recording in place where the run was whole; else leave what was there before."""
        if whole:
            self.path = self._writer.finish()
        else:
            self._writer.discard()


def _seen(observation: Observation) -> Seen:
    failure = observation.failure
    if failure is not None:
        told = FailureEntry(failure.kind, failure.message, failure.stacks, failure.stderr_tail)
        return Seen(observation.line, None, told, observation.record)
    final: list[dict[str, Any]] = msgspec.to_builtins(list(observation.steps))
    said = steps_of(observation.line)
    return Seen(observation.line, None if said == list(observation.steps) else final, None, observation.record)


def steps_of(line: bytes) -> list[StepResult]:
    """Return the results of the steps that a driver's line has; none where it has none."""
    try:
        return msgspec.convert(read_answer(line).ok, RunAnswer).steps
    except (GarbageError, msgspec.ValidationError):
        return []


def recorded(plan: Plan, folder: Path, *, locations: Locations) -> tuple[Plan, RunRecorder]:
    """Return the plan of the same run, recorded in `folder`, and the recorder. Raises ParityError as it does."""
    recorder = RunRecorder(folder, locations=locations, today=datetime.now(UTC).date())
    return replace(plan, recorder=recorder), recorder


def refuse_replay(*, replay: bool) -> None:
    """Raise ParityError `record-not-live` where nothing would be observed that is the subject's own."""
    if replay:
        raise ParityError(
            "record-not-live",
            "a replay is not recorded: a recording is what a subject did against a server that computes",
            hint="leave --replay out",
        )

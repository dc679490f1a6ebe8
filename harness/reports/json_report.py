"""The JSON report: everything a run said, in one file, for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, to_builtins
from msgspec.json import schema

from harness.checks.verdict import Outcome
from harness.engine.events import Event, RunFinished
from harness.reports.tally import OUTCOMES, Tally
from harness.reports.text import encodable

SCHEMA = 1
SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


class Sdk(Struct, frozen=True):
    """What was driven: the SDK's name and version, and what the driver told about it ("" where it never answered)."""

    name: str
    version: str
    language: str = ""
    runtime: str = ""
    file: str = ""
    digest: str = ""
    libraries: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()


class Result(Struct, frozen=True):
    """The outcome of one planned check. `expected` is the golden side, `observed` the subject's.

    `cause` is a code of docs/causes.md or "".
    """

    scenario: str
    check: str
    outcome: Outcome
    message: str
    expected: str
    observed: str
    where: str
    cause: str


class Remark(Struct, frozen=True):
    """What else is known of one result: of those with a cause, and of those that lack a required capability.

    `certainty` says how sure the cause is (`certain`, `likely`), `detail` gives its particulars. `required`: the
    contract requires the capability that an `unsupported` check lacks, so that it fails the run.
    """

    scenario: str
    check: str
    certainty: str
    detail: str
    required: bool


class ScenarioRun(Struct, frozen=True):
    """One scenario: how long it took in seconds, how often it was run again alone and what that showed."""

    scenario: str
    title: str
    seconds: float
    reruns: int
    note: str
    exchange: str


class Document(Struct, frozen=True):
    """The JSON report of `parity run --json`.

    `results` has every planned check exactly once, in the order of the plan; `remarks` add to some of them. `suite` is
    the digest of the stimuli that were run. `exit_status` is what the command ended with.
    """

    schema: Annotated[int, Meta(ge=1, le=1)]
    sdk: Sdk
    contract: str
    totals: dict[Outcome, int]
    results: list[Result]
    remarks: list[Remark]
    scenarios: list[ScenarioRun]
    suite: str
    seconds: float
    interrupted: bool
    exit_status: int


def published_schema() -> dict[str, Any]:
    """Return the JSON Schema of the report, as published in `docs/schema/report.schema.json`."""
    generated = schema(Document)
    totals = generated["$defs"]["Document"]["properties"]["totals"]
    totals["required"] = list(OUTCOMES)
    # Once through JSON, so that defaults are lists, not tuples.
    return dict(json.loads(json.dumps({"$schema": SCHEMA_ID, "title": "parity report", **generated})))


def document(tally: Tally) -> Document:
    """Return the report of what `tally` has heard."""
    started, subject, finished = tally.started, tally.subject, tally.finished
    told: Mapping[str, Any] = subject.sdk if subject else {}
    return Document(
        schema=SCHEMA,
        sdk=Sdk(
            name=started.sdk if started else "",
            version=started.version if started else "",
            language=subject.language if subject else "",
            runtime=subject.runtime if subject else "",
            file=str(told.get("file", "")),
            digest=str(told.get("digest", "")),
            libraries=dict(subject.libraries) if subject else {},
            capabilities=subject.capabilities if subject else (),
        ),
        contract=started.contract if started else "",
        totals=tally.totals,
        results=[
            Result(
                scenario=result.scenario,
                check=result.check,
                outcome=result.outcome,
                message=result.message,
                expected=result.expected,
                observed=result.observed,
                where=result.where,
                cause=result.cause,
            )
            for result in tally.in_plan_order()
        ],
        remarks=[
            Remark(
                scenario=result.scenario,
                check=result.check,
                certainty=result.certainty,
                detail=result.detail,
                required=result.required,
            )
            for result in tally.in_plan_order()
            if result.certainty or result.required
        ],
        scenarios=[
            ScenarioRun(
                scenario=scenario.scenario,
                title=scenario.title,
                seconds=round(scenario.seconds, 3),
                reruns=scenario.reruns,
                note=scenario.note,
                exchange=scenario.exchange,
            )
            for scenario in sorted(tally.scenarios.values(), key=lambda scenario: scenario.scenario)
        ],
        suite=started.suite if started else "",
        seconds=round(finished.seconds, 3) if finished else 0.0,
        interrupted=finished.interrupted if finished else True,
        exit_status=tally.exit_status,
    )


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        scratch.write_text(encodable(text), encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


class JsonReport:
    """Writes the JSON report when the run ends, interrupted or not."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._path = path
        self._tally = tally

    def handle(self, event: Event) -> None:
        """Write the file on the last event."""
        if isinstance(event, RunFinished):
            written = json.dumps(to_builtins(document(self._tally)), indent=1, ensure_ascii=False, allow_nan=False)
            write_atomically(self._path, written + "\n")

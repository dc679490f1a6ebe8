"""The JSON report as a document: what it holds, what it promises, and how it is made of what a run said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, convert, to_builtins
from msgspec.json import schema

from harness.checks.verdict import Outcome
from harness.engine.events import CheckJudged, Edition, Label, PlannedCheck, Shard
from harness.reports.tally import OUTCOMES, Tally
from harness.schemas import cleaned

SCHEMA = 2
"""Raised when a report of before cannot be read as one of now; docs/gate.md says what each schema added."""

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


class Sdk(Struct, frozen=True):
    """What was driven: the SDK's name and version, and what the driver told about it ("" where it never answered).

    `dependencies` is what the environment that parity built was resolved to, package by package; empty where parity
    built none.
    """

    name: str
    version: str
    language: str = ""
    runtime: str = ""
    file: str = ""
    digest: str = ""
    libraries: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()
    dependencies: dict[str, str] = {}


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
    """What else is known of one result, where there is more: a cause, a label, a required capability that is lacking.

    `certainty` says how sure the cause is (`certain`, `likely`), `detail` gives its particulars. `required`: the
    contract requires the capability that an `unsupported` check lacks, so that it fails the run. `unscored`: the check
    is later than the revision of the suite that is scored, so that it decides nothing. `label` is how it stands against
    the baseline, "" where there is none or nothing to say; `said` gives the label's reason.
    """

    scenario: str
    check: str
    certainty: str
    detail: str
    required: bool
    unscored: bool = False
    label: Label | Literal[""] = ""
    said: str = ""


class ScenarioRun(Struct, frozen=True):
    """One scenario: how long it took in seconds, how often it was run again alone and what that showed.

    `runs` is how often it was run where a race is judged, and `failed_runs` how many of these did not hold. `stimulus`
    is the digest of what the client was asked to do and how the server answered. `around` are the requests next to the
    first failure.
    """

    scenario: str
    title: str
    seconds: float
    reruns: int
    note: str
    exchange: str
    runs: int = 1
    failed_runs: int = 0
    stimulus: str = ""
    around: str = ""


class Run(Struct, frozen=True):
    """How the run was asked for.

    `parity` is the version that judged, `revision` the newest revision of its suite (0: none is released yet), `scored`
    the revision that `--suite` fixed, 0 where everything is scored. `selection` is the expression of `-k`, or "".
    `replay`: golden answered. `shard` is the part of the selection that was run. `arguments` drive the same subject
    under the same contract again.
    """

    parity: str
    revision: int
    scored: int
    selection: str
    replay: bool
    shard: Shard | None
    jobs: int
    arguments: tuple[str, ...]


class Baseline(Struct, frozen=True):
    """The earlier report that labels are against: the SDK's version, parity's, and the SHA-256 of the file.

    `apart` are sentences about what else is different between the two runs.
    """

    version: str
    parity: str
    digest: str
    apart: tuple[str, ...] = ()


class LeftOut(Struct, frozen=True):
    """A slow scenario that the selection holds and that was not run, with the number of its checks, and their ids."""

    scenario: str
    checks: int
    ids: tuple[str, ...] = ()


class Entry(Struct, frozen=True):
    """What one ledger entry was good for: how many of its planned checks failed as listed, and how many passed.

    `rate` is `always` or `sometimes`. `unused`: it excuses nothing any more, which fails a run that is no
    shard. `entry` tells it from other entries with the same title.
    """

    title: str
    kind: str
    reason: str
    ticket: str
    rate: str
    known: int
    passed: int
    unused: bool
    entry: str = ""


class Recording(Struct, frozen=True):
    """That a recorded run was judged: when it was taken, by which version of parity, and what could not be judged.

    `stale` scenarios have changed since, or are gone; the suite has `unplanned` ones that were not recorded.
    """

    taken: str
    parity: str
    stale: tuple[str, ...]
    unplanned: tuple[str, ...]


class Document(Struct, frozen=True):
    """The JSON report of `parity run --json`.

    `results` has every planned check exactly once, in the order of the plan; `remarks` add to some of them. `suite` is
    the digest of the stimuli that were run. `exit_status` is what the command ended with. `left_out` names slow
    scenarios that were selected and not run (`--slow` includes them). `recording` is null in a run.
    """

    schema: Annotated[int, Meta(ge=2, le=2)]
    sdk: Sdk
    contract: str
    run: Run
    totals: dict[Outcome, int]
    results: list[Result]
    remarks: list[Remark]
    scenarios: list[ScenarioRun]
    suite: str
    seconds: float
    interrupted: bool
    exit_status: int
    left_out: list[LeftOut] = []
    ledger: list[Entry] = []
    recording: Recording | None = None
    baseline: Baseline | None = None


def published_schema() -> dict[str, Any]:
    """Return the JSON Schema of the report, as published in `docs/schema/report.schema.json`."""
    generated = cleaned(schema(Document))
    totals = generated["$defs"]["Document"]["properties"]["totals"]
    totals["required"] = list(OUTCOMES)
    # Once through JSON, so that defaults are lists, not tuples.
    return dict(json.loads(json.dumps({"$schema": SCHEMA_ID, "title": "parity report", **generated})))


def document(tally: Tally) -> Document:
    """Return the report of what `tally` has heard."""
    started, subject, finished = tally.started, tally.subject, tally.finished
    told: Mapping[str, Any] = subject.sdk if subject else {}
    edition = started.edition if started else Edition()
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
            dependencies=dict(subject.dependencies) if subject else {},
        ),
        contract=started.contract if started else "",
        run=Run(
            parity=edition.parity,
            revision=edition.revision,
            scored=edition.scored,
            selection=edition.selection,
            replay=edition.replay,
            shard=edition.shard,
            jobs=started.jobs if started else 0,
            arguments=started.arguments if started else (),
        ),
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
        remarks=[remark for result in tally.in_plan_order() if (remark := _remark(tally, result)) is not None],
        scenarios=[
            ScenarioRun(
                scenario=scenario.scenario,
                title=scenario.title,
                seconds=round(scenario.seconds, 3),
                reruns=scenario.reruns,
                note=scenario.note,
                exchange=scenario.exchange,
                runs=scenario.runs,
                failed_runs=scenario.failed_runs,
                stimulus=edition.stimuli.get(scenario.scenario, ""),
                around=scenario.around,
            )
            for scenario in sorted(tally.scenarios.values(), key=lambda scenario: scenario.scenario)
        ],
        suite=started.suite if started else "",
        seconds=round(finished.seconds, 3) if finished else 0.0,
        interrupted=finished.interrupted if finished else True,
        exit_status=tally.exit_status,
        left_out=_left_out(started.slow if started else ()),
        ledger=[convert(to_builtins(entry), Entry) for entry in tally.ledger],
        recording=None if tally.recording is None else convert(to_builtins(tally.recording), Recording),
        baseline=None
        if tally.baseline is None
        else Baseline(tally.baseline.version, tally.baseline.parity, tally.baseline.digest, tally.baseline.apart),
    )


def _remark(tally: Tally, result: CheckJudged) -> Remark | None:
    labelled = tally.labels.get((result.scenario, result.check))
    if not (result.certainty or result.required or result.unscored or labelled):
        return None
    return Remark(
        scenario=result.scenario,
        check=result.check,
        certainty=result.certainty,
        detail=result.detail,
        required=result.required,
        unscored=result.unscored,
        label=labelled.label if labelled else "",
        said=labelled.said if labelled else "",
    )


def _left_out(slow: Sequence[PlannedCheck]) -> list[LeftOut]:
    checks: dict[str, list[str]] = {}
    for planned in slow:
        checks.setdefault(planned.scenario, []).append(planned.check)
    return [LeftOut(scenario, len(ids), tuple(ids)) for scenario, ids in checks.items()]

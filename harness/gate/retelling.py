"""The events of a run, told again from its JSON report, so that every other report can be made of it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import convert, to_builtins

from harness.engine.events import (
    Account,
    BaselineHeld,
    CheckJudged,
    Edition,
    Event,
    Labelled,
    LedgerHeld,
    PlannedCheck,
    RecordingOpened,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    SubjectReady,
)
from harness.reports.document import Document, Remark


def retold(document: Document) -> Iterator[Event]:
    """Yield what a run with this report has said, scenario by scenario."""
    yield _started(document)
    if document.recording is not None:
        yield convert(to_builtins(document.recording) | {"type": "RecordingOpened"}, RecordingOpened)
    sdk = document.sdk
    if sdk.language:  # "" where no driver ever answered
        yield SubjectReady(
            sdk={"name": sdk.name, "version": sdk.version, "file": sdk.file, "digest": sdk.digest},
            language=sdk.language,
            runtime=sdk.runtime,
            libraries=sdk.libraries,
            capabilities=sdk.capabilities,
            dependencies=sdk.dependencies,
        )
    yield from _scenarios(document)
    if document.ledger:
        yield LedgerHeld(tuple(convert(to_builtins(entry), Account) for entry in document.ledger))
    if document.baseline is not None:
        labels = tuple(
            Labelled(remark.scenario, remark.check, remark.label, remark.said)
            for remark in document.remarks
            if remark.label
        )
        held = document.baseline
        yield BaselineHeld(held.version, held.parity, held.digest, labels, held.apart)
    yield RunFinished(document.seconds, interrupted=document.interrupted)


def _started(document: Document) -> RunStarted:
    run = document.run
    return RunStarted(
        sdk=document.sdk.name,
        version=document.sdk.version,
        contract=document.contract,
        suite=document.suite,
        planned=tuple(PlannedCheck(result.scenario, result.check) for result in document.results),
        jobs=run.jobs,
        arguments=run.arguments,
        slow=tuple(PlannedCheck(left.scenario, check) for left in document.left_out for check in left.ids),
        edition=Edition(
            parity=run.parity,
            revision=run.revision,
            scored=run.scored,
            stimuli={scenario.scenario: scenario.stimulus for scenario in document.scenarios},
            selection=run.selection,
            replay=run.replay,
            shard=run.shard,
        ),
    )


def _scenarios(document: Document) -> Iterator[Event]:
    remarks = {(remark.scenario, remark.check): remark for remark in document.remarks}
    runs = {run.scenario: run for run in document.scenarios}
    judged: dict[str, list[CheckJudged]] = {}
    for result in document.results:
        remark = remarks.get((result.scenario, result.check), Remark(result.scenario, result.check, "", "", False))
        told = CheckJudged(
            **to_builtins(result),
            required=remark.required,
            certainty=remark.certainty,
            detail=remark.detail,
            unscored=remark.unscored,
        )
        judged.setdefault(result.scenario, []).append(told)
    for scenario, results in judged.items():
        yield from results
        if run := runs.get(scenario):
            yield ScenarioFinished(
                scenario=scenario,
                title=run.title,
                seconds=run.seconds,
                reruns=run.reruns,
                note=run.note,
                exchange=run.exchange,
                around=run.around,
                runs=run.runs,
                failed_runs=run.failed_runs,
            )

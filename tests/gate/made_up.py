"""Small reports of made-up runs, written as a run writes them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from harness.engine.digests import suite_digest, whole_digest
from harness.engine.events import (
    Account,
    CheckJudged,
    Edition,
    LedgerHeld,
    PlannedCheck,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    Shard,
    SubjectReady,
)
from harness.reports.document import document
from harness.reports.tally import Tally


def told(
    results,
    *,
    sdk="tinkex",
    version="1.0",
    contract="tinker-0.15.0",
    stimuli=None,
    accounts=(),
    slow=(),
    interrupted=False,
    shard=None,
    dependencies=None,
    runtime="OTP 27",
    options=(),
    **edition,
):
    """Return the events of a run with these results, as `(scenario, check, outcome, cause, message)`."""
    judged = [
        each if isinstance(each, CheckJudged) else CheckJudged(each[0], each[1], each[2], each[4], cause=each[3])
        for each in results
    ]
    scenarios = list(dict.fromkeys(result.scenario for result in judged))
    digests = {name: (stimuli or {}).get(name, f"digest of {name}") for name in scenarios}
    return (
        RunStarted(
            sdk=sdk,
            version=version,
            contract=contract,
            suite=suite_digest(digests),
            planned=tuple(PlannedCheck(result.scenario, result.check) for result in judged),
            jobs=2,
            arguments=("--sdk", f"{sdk}=={version}", *options),
            slow=tuple(PlannedCheck(*pair) for pair in slow),
            edition=Edition(parity="0.1.0", revision=1, stimuli=digests, shard=shard, **edition),
        ),
        SubjectReady(
            sdk={"name": sdk, "version": version, "file": "/x", "digest": "d1"},
            language="elixir",
            runtime=runtime,
            libraries={"nx": "0.11.0"},
            capabilities=("forward",),
            dependencies=dependencies or {},
        ),
        *judged,
        *(ScenarioFinished(name, f"Title of {name}", 0.5, around="+1 ms POST") for name in scenarios),
        *([LedgerHeld(tuple(accounts))] if accounts else ()),
        RunFinished(1.5, interrupted=interrupted),
    )


def reported(events):
    """Return the document of a run with these events."""
    tally = Tally()
    for event in events:
        tally.handle(event)
    return document(tally)


def shards_of(results, of, *, accounts=None, **options):
    """Return the documents of a run in parts: its scenarios are dealt out one after the other."""
    scenarios = sorted({result[0] for result in results})
    digests = {name: f"digest of {name}" for name in scenarios}
    checks = {name: [result[1] for result in results if result[0] == name] for name in scenarios}
    whole = whole_digest(digests, checks)
    parts = []
    for index in range(1, of + 1):
        mine = scenarios[index - 1 :: of]
        held = accounts(mine) if accounts else ()
        chosen = [result for result in results if result[0] in mine]
        parts.append(reported(told(chosen, shard=Shard(index, of, whole), accounts=held, **options)))
    return parts


@pytest.fixture
def write(tmp_path: Path):
    """Write a document where a report would be; return the path."""

    def write(document, name="report.json", **changes):
        content = msgspec.to_builtins(document) | changes
        path = tmp_path / name
        path.write_text(json.dumps(content), "utf-8")
        return path

    return write


def account(entry, *, known=0, passed=0, unused=False):
    """Return the account of one made-up ledger entry."""
    return Account(f"a/{entry}:order.seq", "bug", "r", "", "always", known, passed, unused, entry=entry)

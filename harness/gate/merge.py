"""The reports of all shards of a run, put together to the report that one run of everything would have made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from harness.engine.digests import suite_digest, whole_digest
from harness.errors import ParityError
from harness.reports.document import Document, Entry


def merged(parts: Sequence[tuple[str, Document]]) -> Document:
    """Return the report of the whole run; `parts` are the shards' reports with the names of their files.

    `totals` and `exit_status` are left to whoever tells it again (`harness.gate.retelling`). `seconds` is the time of
    all parts together; where a part was interrupted, so was the whole.

    Raises ParityError `merge-whole` for a report that is no shard, `merge-mismatch` where parts do not belong
    together, `merge-twice` and `merge-incomplete` where a shard is there twice or missing.
    """
    for name, document in parts:
        if document.run.shard is None:
            raise ParityError(
                "merge-whole",
                f"{name} is the report of a whole run, not of a shard",
                hint="merge what `parity run --shard I/N --json` has written",
            )
    (first_name, first), *others = parts
    for name, document in others:
        _refuse_stranger(first_name, _identity(first), name, _identity(document))
    _refuse_gaps(parts)
    results = sorted((result for _, part in parts for result in part.results), key=lambda result: result.scenario)
    scenarios = sorted((run for _, part in parts for run in part.scenarios), key=lambda run: run.scenario)
    remarks = sorted((remark for _, part in parts for remark in part.remarks), key=lambda remark: remark.scenario)
    stimuli = {run.scenario: run.stimulus for run in scenarios}
    checks: dict[str, list[str]] = {}
    for result in results:
        checks.setdefault(result.scenario, []).append(result.check)
    assert first.run.shard is not None
    if len(stimuli) < len(scenarios) or whole_digest(stimuli, checks) != first.run.shard.whole:
        raise ParityError(
            "merge-mismatch",
            "the parts together are not what was planned: scenarios or checks are missing, or there twice",
            hint="run all shards again, with the same parity and the same options",
        )
    return replace(
        first,
        run=replace(first.run, shard=None),
        results=results,
        remarks=remarks,
        scenarios=scenarios,
        suite=suite_digest(stimuli),
        seconds=round(sum(part.seconds for _, part in parts), 3),
        interrupted=any(part.interrupted for _, part in parts),
        ledger=_accounts([part for _, part in parts]),
    )


def _identity(document: Document) -> dict[str, Any]:
    """Return what all parts of a run have in common, under the names that an error calls it by."""
    sdk, run, shard = document.sdk, document.run, document.run.shard
    assert shard is not None
    return {
        "SDK": sdk.name,
        "version": sdk.version,
        "contract": document.contract,
        "parity": run.parity,
        "suite revision": run.revision,
        "scored revision": run.scored,
        "selection": run.selection,
        "options": _options(run.arguments),
        "server": "a replay" if run.replay else "live",
        "number of shards": shard.of,
        "plan": shard.whole,
        "slow scenarios left out": len(document.left_out),
        "baseline": document.baseline.digest if document.baseline else "none",
        # A shard whose driver never answered knows none of these, and its results say so.
        **(
            {
                "code": sdk.digest,
                "runtime": sdk.runtime,
                "libraries": sdk.libraries,
                "dependencies": sdk.dependencies,
                "capabilities": sdk.capabilities,
            }
            if sdk.language
            else {}
        ),
    }


_PLACES = frozenset({"--sdk-path", "--fixtures", "--ledger", "--subject-constraints"})
"""Options that name a place: the machines of a matrix may have it elsewhere, under the same name."""


def _options(arguments: Sequence[str]) -> str:
    """Return the options of a run as they have to be alike in all parts."""
    before = ("", *arguments)
    return shlex.join(
        Path(told).name if option in _PLACES else told for option, told in zip(before, arguments, strict=False)
    )


def _refuse_stranger(first_name: str, first: dict[str, Any], name: str, other: dict[str, Any]) -> None:
    for what in first.keys() & other.keys():
        if first[what] != other[what]:
            theirs, ours = _told(other[what], first[what])
            raise ParityError(
                "merge-mismatch",
                f"{name} does not belong to {first_name}: {what} is {theirs}, there {ours}",
                hint="merge the shards of one run: same SDK, suite, options and number of shards",
            )


def _told(theirs: Any, ours: Any) -> tuple[str, str]:
    """Return both sides of a difference; of long ones, what differs."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
        return tuple(f"{names[0]} {side.get(names[0], 'none')}" for side in (theirs, ours))  # type: ignore[return-value] # two of them
    return str(theirs)[:60], str(ours)[:60]


def _refuse_gaps(parts: Sequence[tuple[str, Document]]) -> None:
    names: dict[int, str] = {}
    of = 0
    for name, document in parts:
        assert document.run.shard is not None
        index, of = document.run.shard.index, document.run.shard.of
        if index in names:
            raise ParityError(
                "merge-twice",
                f"shard {index} of {of} is there twice: {names[index]} and {name}",
                hint="give each shard once; of one that was run again, the later report",
            )
        names[index] = name
    if missing := [str(index) for index in range(1, of + 1) if index not in names]:
        raise ParityError(
            "merge-incomplete",
            f"of {of} shards {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint=f"run it: parity run ... --shard {missing[0]}/{of} --json FILE",
        )


def _accounts(parts: Sequence[Document]) -> list[Entry]:
    """Add up what each ledger entry was good for: it is unused where no part has used it."""
    summed: dict[tuple[str, ...], Entry] = {}
    for part in parts:
        for entry in part.ledger:
            key = (entry.entry, entry.title, entry.kind, entry.reason)
            before = summed.get(key)
            summed[key] = (
                entry
                if before is None
                else replace(
                    before,
                    known=before.known + entry.known,
                    passed=before.passed + entry.passed,
                    unused=before.unused and entry.unused,
                )
            )
    return sorted(summed.values(), key=lambda entry: (entry.title, entry.entry))

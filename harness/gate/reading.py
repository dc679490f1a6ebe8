"""Reads JSON reports back, and refuses what is none or cannot be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from harness.errors import ParityError
from harness.reports.document import SCHEMA, Document

_WRITES = "`parity run --json FILE` and `parity gate --json FILE` write reports"


class _Schema(msgspec.Struct):
    schema: int
    results: msgspec.Raw


def read_report(path: Path) -> tuple[Document, str]:
    """Return a JSON report and the SHA-256 of its file.

    Raises ParityError `report-not-found`, `report-foreign` (JSON, but no report of a run), `report-older`,
    `report-newer` or `report-malformed`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ParityError(
            "report-not-found", f"there is no report {path}: {error.strerror or error}", hint=_WRITES
        ) from error
    try:
        schema = msgspec.json.decode(content, type=_Schema).schema
    except msgspec.ValidationError:
        raise ParityError("report-foreign", f"{path} is JSON, but no report of a run", hint=_WRITES) from None
    except msgspec.MsgspecError as error:
        raise _malformed(path, str(error)) from None
    if schema < SCHEMA:
        raise ParityError(
            "report-older",
            f"{path} has schema {schema}, which lacks what a comparison needs; this parity reads {SCHEMA}",
            hint="make it again with this parity: `parity run --json`, or `parity check RECORDING --json`",
        )
    if schema > SCHEMA:
        raise ParityError(
            "report-newer",
            f"{path} has schema {schema}; this parity reads {SCHEMA}",
            hint="a later parity wrote it: use that one, or make the report again",
        )
    try:
        document = msgspec.json.decode(content, type=Document)
    except msgspec.MsgspecError as error:
        raise _malformed(path, str(error)) from None
    _examine(path, document)
    return document, hashlib.sha256(content).hexdigest()


def _examine(path: Path, document: Document) -> None:
    """Refuse a report that contradicts itself: one that was edited, or put together by hand."""
    pairs = [(result.scenario, result.check) for result in document.results]
    if len(set(pairs)) < len(pairs):
        raise _malformed(path, "a check of a scenario is in it twice")
    if strangers := {remark.scenario for remark in document.remarks} - {scenario for scenario, _ in pairs}:
        raise _malformed(path, f"it remarks on {min(strangers)}, of which it has no result")
    counted = {outcome: sum(result.outcome == outcome for result in document.results) for outcome in document.totals}
    if counted != document.totals or sum(counted.values()) != len(pairs):
        raise _malformed(path, "its totals are not those of its results")


def _malformed(path: Path, why: str) -> ParityError:
    return ParityError("report-malformed", f"{path} cannot be read: {why}", hint=f"make it again; {_WRITES}")


def refuse_part(document: Document, name: str) -> None:
    """Refuse to compare with what is not a whole run.

    Raises ParityError `report-interrupted`, or `report-part` for a shard.
    """
    if document.interrupted:
        raise ParityError(
            "report-interrupted",
            f"{name} is of a run that was cut short: what it did not judge would look new, or mended",
            hint="take the report of a run that came to its end",
        )
    shard = document.run.shard
    if shard is not None:
        raise ParityError(
            "report-part",
            f"{name} is shard {shard.index} of {shard.of}, not a whole run",
            hint="`parity merge` puts the reports of all shards together",
        )


def refuse_foreign(document: Document, name: str, *, sdk: str, contract: str = "", replay: bool | None = None) -> None:
    """Refuse to compare runs of different SDKs, or by different rules.

    `contract` and `replay` are those of the run it is compared with; "" and None leave them out. Raises ParityError
    `report-of-another`.
    """
    compared = [("SDK", document.sdk.name, sdk)]
    if contract:
        compared.append(("contract", document.contract, contract))
    if replay is not None:
        theirs, ours = ("a replay" if each else "live" for each in (document.run.replay, replay))
        compared.append(("server", theirs, ours))
    for what, theirs, ours in compared:
        if theirs != ours:
            raise ParityError(
                "report-of-another",
                f"{name} is not comparable: its {what} is {theirs or 'not named'}, here it is {ours}",
                hint="--contract judges both by the same"
                if what == "contract"
                else "compare reports of the same SDK, made in the same way",
            )

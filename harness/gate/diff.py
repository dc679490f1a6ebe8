"""The difference of two JSON reports: what is new, mended, known, changed, new in the suite, and not comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from msgspec import Struct
from msgspec.json import schema

from harness.engine.events import Label, Labelled
from harness.engine.selection import select
from harness.errors import ParityError
from harness.gate.labels import Earlier, Pair, apart, stand
from harness.gate.reading import refuse_foreign, refuse_part
from harness.reports.document import Document, Result
from harness.schemas import cleaned

SCHEMA = 1
LABELS: tuple[Label, ...] = get_args(Label)
"""Every label, in the order they are listed."""


class Side(Struct, frozen=True):
    """One of the two reports: SDK and version, contract, parity and suite revision, and the SHA-256 of its file."""

    sdk: str
    version: str
    contract: str
    parity: str
    revision: int
    digest: str


class Told(Struct, frozen=True):
    """One check about which there is something to say; `said` is the reason, `message` and `cause` are the new side's.

    `counts`: it bears on the exit status. What is unscored does not.
    """

    scenario: str
    check: str
    label: Label
    said: str
    message: str
    cause: str
    counts: bool


class Difference(Struct, frozen=True):
    """What two reports say about the same SDK, one after the other.

    `told` has every check with a label; `unchanged` is the number of those without: they hold in both, or are offered
    in neither. `counts` is the number of checks by label. `apart` are sentences about what else is different.
    `exit_status`: 0 nothing is new or changed, 1 something is, 2 that cannot be said.
    """

    schema: int
    old: Side
    new: Side
    apart: tuple[str, ...]
    counts: dict[Label, int]
    unchanged: int
    told: tuple[Told, ...]
    exit_status: int


def difference(old: Document, old_digest: str, new: Document, new_digest: str, *, expression: str | None) -> Difference:
    """Return the difference of two reports; `expression` narrows it as with `parity run -k`.

    Raises ParityError `report-of-another`, `report-interrupted` or `report-part` where they cannot be compared at all,
    and what `select` raises.
    """
    for document, name in ((old, "the old report"), (new, "the new report")):
        refuse_part(document, name)
    refuse_foreign(old, "the old report", sdk=new.sdk.name, contract=new.contract, replay=new.run.replay)
    earlier = Earlier(old, old_digest)
    results = {(result.scenario, result.check): result for result in new.results}
    chosen = _chosen([*earlier.stands, *results], expression)
    if not chosen & earlier.stands.keys() & results.keys():
        raise ParityError(
            "report-of-another",
            "the two reports have no check in common",
            hint="compare reports of the same selection, or leave -k out",
        )
    told = (*_present(earlier, new, results, chosen), *_absent(earlier, new, results, chosen))
    place = {label: number for number, label in enumerate(LABELS)}
    counts = {label: sum(each.label == label for each in told) for label in LABELS}
    return Difference(
        schema=SCHEMA,
        old=_side(old, old_digest),
        new=_side(new, new_digest),
        apart=apart(
            old,
            version=new.sdk.version,
            parity=new.run.parity,
            revision=new.run.revision,
            runtime=new.sdk.runtime,
            dependencies=new.sdk.dependencies,
        ),
        counts=counts,
        unchanged=len(chosen) - len(told),
        told=tuple(sorted(told, key=lambda each: (place[each.label], each.scenario))),
        exit_status=status(told),
    )


def status(told: Sequence[Told]) -> int:
    """Return 1 where something is new or changed, else 2 where something is not comparable, else 0."""
    found = {each.label for each in told if each.counts}
    if found & {"new", "changed"}:
        return 1
    return 2 if "not-comparable" in found else 0


def _chosen(pairs: Sequence[Pair], expression: str | None) -> set[Pair]:
    checks: dict[str, list[str]] = {}
    for scenario, check in dict.fromkeys(pairs):
        checks.setdefault(scenario, []).append(check)
    return {(planned.scenario, planned.check) for planned in select(checks, expression)}


def _present(earlier: Earlier, new: Document, results: Mapping[Pair, Result], chosen: set[Pair]) -> list[Told]:
    required = {(remark.scenario, remark.check) for remark in new.remarks if remark.required}
    unscored = {(remark.scenario, remark.check) for remark in new.remarks if remark.unscored}
    stimuli = {run.scenario: run.stimulus for run in new.scenarios}
    found = []
    for pair, result in results.items():
        if pair not in chosen:
            continue
        now = stand(result, required=pair in required)
        labelled = earlier.labelled(pair, now, stimulus=stimuli.get(pair[0], ""), selection=new.run.selection)
        if labelled is not None:
            found.append(_told(labelled, result, counts=pair not in unscored))
    return found


def _absent(earlier: Earlier, new: Document, results: Mapping[Pair, Result], chosen: set[Pair]) -> list[Told]:
    """Return what the old report judged and the new one did not: nothing can be said about it."""
    slow = {(left.scenario, check) for left in new.left_out for check in left.ids}
    unscored = {(remark.scenario, remark.check) for remark in earlier.document.remarks if remark.unscored}
    found = []
    for pair in earlier.stands:
        if pair in results or pair not in chosen:
            continue
        why = "not in the suite any more"
        if pair in slow:
            why = "slow, and left out now"
        elif new.run.selection:
            why = f"not selected now (-k {new.run.selection!r})"
        elif new.recording is not None:
            why = "not in the recording that was judged"
        found.append(_told(Labelled(*pair, "not-comparable", why), None, counts=pair not in unscored))
    return found


def _told(labelled: Labelled, result: Result | None, *, counts: bool) -> Told:
    return Told(
        scenario=labelled.scenario,
        check=labelled.check,
        label=labelled.label,
        said=labelled.said,
        message=result.message if result else "",
        cause=result.cause if result else "",
        counts=counts,
    )


def _side(document: Document, digest: str) -> Side:
    return Side(
        sdk=document.sdk.name,
        version=document.sdk.version,
        contract=document.contract,
        parity=document.run.parity,
        revision=document.run.revision,
        digest=digest,
    )


def published_schema() -> dict[str, Any]:
    """Return the JSON Schema of what `parity diff --json` writes, as published in `docs/schema/diff.schema.json`."""
    generated = cleaned(schema(Difference))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "parity diff", **generated}

"""The report of a structured loss: a document, lines of a file, and a flat form for a dict of floats.

Numbers are float64: `value` is the number that the part returned, `contribution` is weight times value, and the totals
are sums in the order of declaration. Nothing is rounded. In JSON, NaN and the infinities are the strings "NaN",
"Infinity" and "-Infinity"; null means that there is no such number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from harness.drivers.python.spelling import spell_float
from harness.errors import ParityError
from harness.reference.regularizers.spec import NAME, RESERVED

Report = TypeVar("Report", "LossReport", "StepReport")

VERSION: Literal[1] = 1
"""Version of the schema: another key, or another meaning of one, is another version."""

_Name = Annotated[str, Meta(pattern=rf"^(?!({'|'.join(sorted(RESERVED))})$){NAME.pattern}$(?!\n)")]
_Weight = Annotated[float, Meta(ge=0)]
_Count = Annotated[int, Meta(ge=0)]


class BaseLoss(Struct, frozen=True, forbid_unknown_fields=True):
    """The base loss: its value, the L2 norm of its gradient, the metrics that it returned."""

    value: float
    grad_norm: float | None
    custom: dict[str, float]


class RegularizerReport(Struct, frozen=True, forbid_unknown_fields=True):
    """One regularizer.

    `value` is before weighting, `contribution` is weight * value. `grad_norm` is the L2 norm of the gradient of the
    value, `grad_norm_weighted` weight * grad_norm. Both are null where norms were not tracked, and where the value
    depends on no logprob: a missing gradient is not a gradient of zeros. `custom` has its metrics.
    """

    value: float
    weight: _Weight
    contribution: float
    grad_norm: float | None
    grad_norm_weighted: float | None
    custom: dict[str, float]


class LossReport(Struct, frozen=True, forbid_unknown_fields=True):
    """What a structured loss was made of.

    `base_loss` is null without a base loss. `regularizers` are in the order of declaration. `total_grad_norm` is the L2
    norm of the gradient of `loss_total`, the one that is sent, not a sum of norms; null where norms were not tracked.
    """

    version: Literal[1]
    loss_total: float
    base_loss: BaseLoss | None
    regularizers: dict[_Name, RegularizerReport]
    regularizer_total: float
    total_grad_norm: float | None


class StepReport(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of reports.

    `step` counts the optimizer steps that the model had been asked for before the call, from 0. Calls whose gradients
    go into the same step have lines of the same number.
    """

    step: _Count
    model_id: str
    report: LossReport


def term_report(value: float, weight: float, grad_norm: float | None, custom: Mapping[str, float]) -> RegularizerReport:
    """Report one regularizer."""
    weighted = None if grad_norm is None else weight * grad_norm
    return RegularizerReport(value, weight, weight * value, grad_norm, weighted, dict(custom))


def loss_report(
    base: BaseLoss | None, terms: Sequence[tuple[str, RegularizerReport]], total_grad_norm: float | None
) -> LossReport:
    """Add the parts up."""
    regularizer_total = sum((term.contribution for _, term in terms), 0.0)
    return LossReport(
        version=VERSION,
        loss_total=regularizer_total if base is None else base.value + regularizer_total,
        base_loss=base,
        regularizers=dict(terms),
        regularizer_total=regularizer_total,
        total_grad_norm=total_grad_norm,
    )


def to_json(report: LossReport | StepReport) -> bytes:
    """Write a report, or a line without its end."""
    return msgspec.json.encode(to_builtins(report))


def to_builtins(report: LossReport | StepReport) -> dict[str, Any]:
    """Return what `to_json` writes, as dicts."""
    written: dict[str, Any] = _spelled(msgspec.to_builtins(report))
    return written


def from_json(content: bytes, kind: type[Report], *, place: str = "the report") -> Report:
    """Read what `to_json` has written. `place` names it in errors.

    Raises ParityError `telemetry-malformed` for anything else.
    """
    try:
        written = msgspec.json.decode(content)
        if isinstance(written, dict) and "report" in written:
            return msgspec.convert({**written, "report": _unspelled(written["report"])}, kind)
        return msgspec.convert(_unspelled(written), kind)
    except msgspec.MsgspecError as error:
        raise ParityError(
            "telemetry-malformed",
            f"{place}: {error}",
            hint="docs/schema/regularizer-telemetry.schema.json says what a report looks like",
        ) from error


class ReportLog:
    """A file of reports in JSON Lines, one for each structured call that came to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, report: StepReport) -> None:
        """Append one line, in one write, so that processes that share the file do not mix theirs.

        The folder is made if it is not there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(to_json(report) + b"\n")

    def read(self) -> tuple[StepReport, ...]:
        """Read every line. Raises ParityError `telemetry-malformed`, naming the line that is none."""
        lines = self.path.read_bytes().splitlines()
        return tuple(
            from_json(line, StepReport, place=f"{self.path}, line {number}") for number, line in enumerate(lines, 1)
        )


_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spelled(each) for key, each in value.items()}
    return spell_float(value) if isinstance(value, float) and not math.isfinite(value) else value


def _unspelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unspelled(each) for key, each in value.items()}
    return _SPELLED.get(value, value) if isinstance(value, str) else value

"""The flat form of a report: metrics that a dict of floats can carry, named as tinker names those of a custom loss.

`custom/<path>:sum` for what adds up over batches, `custom/<path>:mean` for what does not. docs/regularizers.md has the
table. A null is a metric that is not there. What the flat form cannot carry is listed by `flatten`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ParityError
from harness.reference.regularizers.telemetry import VERSION, BaseLoss, LossReport, RegularizerReport

KEY = re.compile(r"custom/([a-z0-9_./-]{1,64}):(sum|mean)")
"""The names that tinker 0.36.0 to 0.38.0 accepts of the metrics of a `create_custom_loss` (read)."""

BASE = "base_loss"
TOTALS = {"loss_total": "sum", "regularizer_total": "sum", "total_grad_norm": "mean"}
FIELDS = {
    "value": "sum",
    "weight": "mean",
    "contribution": "sum",
    "grad_norm": "mean",
    "grad_norm_weighted": "mean",
}
OWN = "reduced"
"""Where metrics stand that name their reduction themselves, apart from those under `custom` that do not."""


@dataclass(frozen=True, slots=True)
class Flat:
    """The flat form. `left_out` lists the metrics of parts whose names it cannot carry, as paths in the report."""

    metrics: dict[str, float]
    left_out: tuple[str, ...]


def flatten(report: LossReport) -> Flat:
    """Flatten a report. What is lost: `version`, the metrics in `left_out`, the order if the carrier keeps none."""
    metrics: dict[str, float] = {}
    left_out: list[str] = []
    for total, reduction in TOTALS.items():
        _put(metrics, total, reduction, getattr(report, total))
    parts: dict[str, BaseLoss | RegularizerReport] = {} if report.base_loss is None else {BASE: report.base_loss}
    for name, part in (parts | report.regularizers).items():
        for field, reduction in FIELDS.items():
            _put(metrics, f"{name}/{field}", reduction, getattr(part, field, None))
        for metric, number in part.custom.items():
            key = _custom_key(name, metric)
            if metric and KEY.fullmatch(key):
                metrics[key] = number
            else:
                left_out.append(f"{BASE if name == BASE else f'regularizers.{name}'}.custom.{metric}")
    return Flat(metrics, tuple(left_out))


def unflatten(metrics: Mapping[str, float]) -> LossReport:
    """Read a report out of metrics, among which there may be others.

    Raises ParityError `telemetry-malformed` when numbers of a report are missing.
    """
    found: dict[str, dict[str, Any]] = {}
    totals: dict[str, float] = {}
    for key, number in metrics.items():
        match place_of(key):
            case ("", total, ""):
                totals[total] = number
            case (name, "", metric):
                found.setdefault(name, {"custom": {}})["custom"][metric] = number
            case (name, field, ""):
                found.setdefault(name, {"custom": {}})[field] = number
    base = found.pop(BASE, None)
    return LossReport(
        version=VERSION,
        loss_total=_needed(totals, "loss_total", "the metrics"),
        base_loss=None
        if base is None
        else BaseLoss(_needed(base, "value", BASE), base.get("grad_norm"), base["custom"]),
        regularizers={
            name: RegularizerReport(
                value=_needed(fields, "value", name),
                weight=_needed(fields, "weight", name),
                contribution=_needed(fields, "contribution", name),
                grad_norm=fields.get("grad_norm"),
                grad_norm_weighted=fields.get("grad_norm_weighted"),
                custom=fields["custom"],
            )
            for name, fields in found.items()
        },
        regularizer_total=_needed(totals, "regularizer_total", "the metrics"),
        total_grad_norm=totals.get("total_grad_norm"),
    )


def place_of(key: str) -> tuple[str, str, str] | None:
    """Return where in a report a metric of this name belongs: part, field and the part's own metric; None: nowhere.

    A total has no part, and of field and metric one is empty.
    """
    matched = KEY.fullmatch(key)
    if matched is None:
        return None
    path, reduction = matched.groups()
    name, _, rest = path.partition("/")
    field, _, metric = rest.partition("/")
    if TOTALS.get(path) == reduction:
        return "", path, ""
    if FIELDS.get(rest) == reduction:
        return name, rest, ""
    if field == "custom" and metric and reduction == "mean":
        return name, "", metric
    return (name, "", f"{metric}:{reduction}") if field == OWN and metric else None


def _put(metrics: dict[str, float], path: str, reduction: str, number: float | None) -> None:
    if number is not None:
        metrics[f"custom/{path}:{reduction}"] = number


def _custom_key(name: str, metric: str) -> str:
    bare, _, reduction = metric.rpartition(":")
    own = bool(bare) and reduction in ("sum", "mean")
    return f"custom/{name}/{OWN}/{metric}" if own else f"custom/{name}/custom/{metric}:mean"


def _needed(numbers: Mapping[str, Any], key: str, where: str) -> float:
    if key not in numbers:
        raise ParityError(
            "telemetry-malformed",
            f"{where} lack the number {key!r} of a report in its flat form",
            hint="pass all metrics of the call, as docs/regularizers.md names them",
        )
    number: float = numbers[key]
    return number

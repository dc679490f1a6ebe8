"""The flat form of a report, written down a second time, apart from the reference: names of metrics to numbers.

`custom/<path>:sum` for what adds up over batches, `custom/<path>:mean` for what does not. A null is a metric that is
not there; a metric of a part whose name does not fit is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.checks.reports import number

_FITS = re.compile(r"custom/[a-z0-9_./-]{1,64}:(sum|mean)")
_TOTALS = (("loss_total", "sum"), ("regularizer_total", "sum"), ("total_grad_norm", "mean"))
_PART = (
    ("value", "sum"),
    ("weight", "mean"),
    ("contribution", "sum"),
    ("grad_norm", "mean"),
    ("grad_norm_weighted", "mean"),
)


def flat_form(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the flat form of a report, as far as it has the documented keys."""
    flat: dict[str, float] = {}

    def put(path: str, reduction: str, value: Any) -> None:
        found = number(value)
        if isinstance(found, float):
            flat[f"custom/{path}:{reduction}"] = found

    for key, reduction in _TOTALS:
        put(key, reduction, report.get(key))
    regularizers = report.get("regularizers")
    parts = {"base_loss": report.get("base_loss"), **(regularizers if isinstance(regularizers, Mapping) else {})}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            continue
        for key, reduction in _PART:
            put(f"{name}/{key}", reduction, part.get(key))
        own = part.get("custom")
        for metric, value in own.items() if isinstance(own, Mapping) else ():
            bare, _, reduction = str(metric).rpartition(":")
            reduced = bool(bare) and reduction in ("sum", "mean")
            path = f"{name}/reduced/{bare}" if reduced else f"{name}/custom/{metric}"
            if _FITS.fullmatch(f"custom/{path}:{reduction if reduced else 'mean'}"):
                put(path, reduction if reduced else "mean", value)
    return flat

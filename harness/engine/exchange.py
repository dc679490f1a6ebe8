"""What happened on the wire, as text: one line per request, times in milliseconds since the scenario began."""

from __future__ import annotations

import json
from typing import Any

from mock_server.record import Exchange, Record

_BODY = 240


def render(record: Record) -> str:
    """Return the exchanges of `record` in order of arrival, then what the server found wrong on its own."""
    lines = [line for exchange in record.exchanges for line in _lines(exchange, record)]
    lines += [
        f"violation {violation.code} (request {violation.request}): {violation.message}"
        for violation in record.violations
    ]
    for gap in record.gaps:
        model = record.aliases.get(gap.model_id, gap.model_id)
        lines.append(f"gap       {model} waited for seq {_ids(gap.missing)} while holding {_ids(gap.held)}")
    return "\n".join(lines)


def _lines(exchange: Exchange, record: Record) -> list[str]:
    answered = "never answered" if exchange.answered_ms is None else f"{exchange.answered_ms - exchange.at_ms:.1f} ms"
    resend = f" resend of {exchange.resend_of}" if exchange.resend_of is not None else ""
    datums = f" {len(exchange.batch.datums)} datums" if exchange.batch is not None else ""
    packed = " compressed" if exchange.compressed else ""
    head = (
        f"{exchange.at_ms:+9.1f} ms  #{exchange.ordinal} {exchange.method} {exchange.route}"
        f"  {exchange.encoding}{packed} {exchange.size} B{datums}{resend}"
        f"  -> {exchange.status or '?'} after {answered}"
    )
    lines = [head]
    if exchange.body not in (None, {}, ""):
        lines.append(f"{'':>14}  > {_short(exchange.body, record)}")
    if exchange.response not in (None, {}, ""):
        lines.append(f"{'':>14}  < {_short(exchange.response, record)}")
    return lines


def _short(value: Any, record: Record) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    shown = text[: 4 * _BODY]
    for name, alias in record.aliases.items():
        shown = shown.replace(name, alias)
    return shown if len(shown) <= _BODY else f"{shown[:_BODY]}... ({len(text)} characters)"


def _ids(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

"""What happened on the wire, as text: one line per request, times in milliseconds since the scenario began.

`render` tells all of it, `around` only what lies next to the place that a verdict names.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mock_server.record import Exchange, Record

_BODY = 240
_MOST = 1000
"""So many requests are told; no scenario of the suite has a tenth of them."""

_BESIDE = 2
"""How many requests before and after the one in question are shown."""

_ASKING = frozenset({"retrieve_future", "session_heartbeat", "telemetry"})
"""Requests that are left out of an excerpt, unless they are what it is about."""


def render(record: Record) -> str:
    """Return the first exchanges of `record` in order of arrival, then what the server found wrong on its own."""
    shown = record.exchanges
    lines = [line for exchange in shown[:_MOST] for line in _lines(exchange, record)]
    if len(shown) > _MOST:
        lines.append(f"{len(shown) - _MOST} more requests")
    lines += [
        f"violation {violation.code} (request {violation.request}): {violation.message}"
        for violation in record.violations
    ]
    for gap in record.gaps:
        model = record.aliases.get(gap.model_id, gap.model_id)
        lines.append(f"gap       {model} waited for seq {_ids(gap.missing)} while holding {_ids(gap.held)}")
    return "\n".join(lines)


def around(record: Record, where: str) -> str:
    """Return the requests next to the place that a verdict names, that one marked; "" where none can be told.

    A place names a seq_id (`fb backward seq 3`), a request (`request 7`) or a route.
    """
    place = _in_question(record, where)
    if place is None:
        return ""
    near = [e for e in record.exchanges if e is place or e.route not in _ASKING]
    at = near.index(place)
    lines = []
    for exchange in near[max(0, at - _BESIDE) : at + _BESIDE + 1]:
        head, *rest = _lines(exchange, record)
        lines.append(f"{'>' if exchange is place else ' '} {head.strip()}")
        if exchange is place:
            lines += [f"    {line.strip()}" for line in rest]
    return "\n".join(lines)


def _in_question(record: Record, where: str) -> Exchange | None:
    numbered = re.search(r"\brequest (\d+)", where)
    if numbered:
        return next((e for e in record.exchanges if e.ordinal == int(numbered[1])), None)
    seq = re.search(r"\bseq (\d+)", where)
    if seq:
        wanted = int(seq[1])
        sent = [e for e in record.exchanges if isinstance(e.body, dict) and e.body.get("seq_id") == wanted]
        model = re.search(r"\bmodel-\d+", where)
        of_model = [e for e in sent if model and record.aliases.get(e.body.get("model_id", "")) == model[0]]
        return next(iter(of_model or sent), None)
    words = set(re.findall(r"[\w/]+", where))
    return next((e for e in record.exchanges if e.route in words), None)


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

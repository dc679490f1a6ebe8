"""HAR files of exchanges, whatever is in them, are read as those exchanges."""

from __future__ import annotations

import base64
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.recording.har import read_har
from harness.recording.raw import RawExchange

START = datetime(2026, 1, 1, tzinfo=UTC)
words = st.text("abcdefghijklmnop", min_size=1, max_size=8)
exchanges = st.builds(
    RawExchange,
    at_ms=st.integers(0, 10**6).map(float),
    answered_ms=st.none(),
    connection=words,
    method=st.sampled_from(["GET", "POST"]),
    path=words.map("/api/v1/{}".format),
    headers=st.dictionaries(words, st.text(max_size=12), max_size=3),
    body=st.binary(max_size=40),
    status=st.integers(200, 599),
    media_type=st.sampled_from(["", "application/json", "application/x-protobuf"]),
    response=st.binary(max_size=40),
)


def _written(exchange: RawExchange, took: float) -> dict[str, Any]:
    """Return the entry of an exchange, its bodies as base64, as exporters write what is no text."""
    return {
        "startedDateTime": (START + timedelta(milliseconds=exchange.at_ms)).isoformat(),
        "time": took,
        "connection": exchange.connection,
        "request": {
            "method": exchange.method,
            "url": f"http://127.0.0.1:1{exchange.path}",
            "headers": [{"name": name.upper(), "value": value} for name, value in exchange.headers.items()],
            "postData": {"text": base64.b64encode(exchange.body).decode(), "encoding": "base64"},
        },
        "response": {
            "status": exchange.status,
            "content": {
                "mimeType": exchange.media_type,
                "text": base64.b64encode(exchange.response).decode(),
                "encoding": "base64",
            },
        },
    }


@given(st.lists(st.tuples(exchanges, st.integers(0, 10**5).map(float)), min_size=1, max_size=4))
def test_exchanges_come_back_from_a_har_file(written: list[tuple[RawExchange, float]]) -> None:
    """Paths, headers, bodies and times are those that were exported; times count from the first request."""
    document = {"log": {"version": "1.2", "entries": [_written(exchange, took) for exchange, took in written]}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traffic.har"
        file.write_text(json.dumps(document), "utf-8")
        read = read_har(file)
    first = min(exchange.at_ms for exchange, _ in written)
    assert len(read) == len(written)
    for found, (exchange, took) in zip(read, written, strict=True):
        assert found.at_ms == pytest.approx(exchange.at_ms - first, abs=1e-3)  # a microsecond, as HAR has them
        assert found.answered_ms == pytest.approx(exchange.at_ms - first + took, abs=1e-3)
        for name in ("connection", "method", "path", "headers", "body", "status", "media_type", "response"):
            assert getattr(found, name) == getattr(exchange, name), name

"""The journal of a recording: what was written stays, wherever its writer was stopped."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParityError
from harness.recording.journal import JOURNAL, Journal, read_journal
from harness.recording.raw import RawExchange
from harness.recording.scrub import scrub_body
from harness.recording.store import read_recording

BODIES = st.binary(max_size=12) | st.sampled_from([b"{}", b'{"a": 1}', b'{"x": [1, 2.5, null]}'])
EXCHANGES = st.builds(
    RawExchange,
    at_ms=st.floats(0, 1e6),
    answered_ms=st.none() | st.floats(0, 1e6),
    connection=st.sampled_from(["c1", "c2"]),
    method=st.just("POST"),
    path=st.sampled_from(["/api/v1/optim_step", "/api/v1/nowhere", "/prefix/api/v1/forward"]),
    headers=st.dictionaries(st.sampled_from(["accept", "x-idempotency-key"]), st.text("abc", max_size=3)),
    body=BODIES,
    status=st.none() | st.sampled_from([200, 422]),
    media_type=st.sampled_from(["", "application/json"]),
    response=BODIES,
)


def _plain(exchange):
    kept = {name: getattr(exchange, name) for name in RawExchange.__slots__}
    return {**kept, "path": "/api/v1" + exchange.path.partition("/api/v1")[2]}


def _written(folder, exchanges):
    journal = Journal(folder)
    for exchange in exchanges:
        journal.append(exchange)
    journal.close()
    assert journal.trouble is None
    return (folder / JOURNAL).read_bytes()


@given(st.lists(EXCHANGES, max_size=4), st.floats(0, 1))
def test_a_cut_costs_only_the_entry_it_cuts(tmp_path_factory, exchanges, where):
    """Whole, everything comes back; cut anywhere behind its first line, every entry that is whole does."""
    content = _written(tmp_path_factory.mktemp("journal"), exchanges)
    assert [*map(_plain, read_journal(content).exchanges)] == [*map(_plain, exchanges)]
    head = content.index(b"\n") + 1
    cut = content[: head + round(where * (len(content) - head))]
    kept = read_journal(cut)
    assert kept.cut_off == (not cut.endswith(b"\n"))
    assert [*map(_plain, kept.exchanges)] == [*map(_plain, exchanges[: cut.count(b"\n") - 1])]


DAMAGE = {
    "of the future": (lambda c: c.replace(b'"schema": 1', b'"schema": 2'), "recording-newer"),
    "something else": (lambda _: b'{"kind": "log"}\n', "recording-foreign"),
    "cut in its first line": (lambda c: c[:9], "recording-malformed"),
    "edited": (lambda c: c.replace(b'"body"', b'"bodi"'), "recording-malformed"),
    "a line is no JSON": (lambda c: c.replace(b'"method"', b"method"), "recording-malformed"),
    "not base64": (lambda c: c.replace(b'"e30="', b'"?"'), "recording-malformed"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_journal_that_cannot_be_read_is_an_error_with_a_code(tmp_path, kind):
    """Only the last entry may be incomplete; anything else is said, with the file's name and a hint."""
    damage, code = DAMAGE[kind]
    exchange = RawExchange(0.0, 1.0, "c1", "POST", "/api/v1/optim_step", {}, b"{}", 200, "application/json", b"{}")
    (tmp_path / JOURNAL).write_bytes(damage(_written(tmp_path, [exchange])))
    with pytest.raises(ParityError) as caught:
        read_recording(tmp_path)
    assert (caught.value.code, JOURNAL in caught.value.message, bool(caught.value.hint)) == (code, True, True)


KEY = b"tml-abcDEF0123456789"


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_bodies_that_are_no_text_keep_their_length(before, after):
    """A key inside protobuf is overwritten, and the lengths written around it stay true."""
    body = b"\x0a\x14" + before + b"\x00" + KEY + b"\x00" + after
    clean = scrub_body(body)
    assert KEY not in clean
    assert len(clean) == len(body)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers(), lambda i: st.lists(i, max_size=4)))
def test_a_body_without_secrets_keeps_its_bytes(value):
    """Spaces and the spelling of numbers are what a client is told by."""
    body = json.dumps({"numbers": value}, indent=1).encode()
    assert scrub_body(body) == body

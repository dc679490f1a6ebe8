"""Idempotency keys that several requests carry."""

from __future__ import annotations

import pytest
from test_normalise import exchange, trace_of

from harness.trace.model import SharedKey


def keyed(ordinal, route, body, key, **changes):
    """Return an exchange with an idempotency key."""
    headers = {"x-idempotency-key": key} if key else {}
    return exchange(ordinal, route, body, headers=headers, **changes)


def submit(ordinal, seq, key, **changes):
    """Return an optimizer step."""
    return keyed(ordinal, "optim_step", {"model_id": "m-77", "seq_id": seq}, key, **changes)


def poll(ordinal, key, *, answer=None, status=200):
    """Return a poll for the result of `submit`."""
    return keyed(
        ordinal,
        "retrieve_future",
        {"request_id": "req-1"},
        key,
        status=status,
        response=answer or {"type": "try_again"},
    )


def test_a_key_that_two_requests_carry_is_named_with_both():
    """The first two uses are named, in order of arrival, and all are counted."""
    trace = trace_of(submit(0, 1, "k"), submit(1, 2, "other"), submit(2, 3, "k"), submit(3, 4, "k"))
    assert trace.shared_keys == (SharedKey("optim_step seq 1", "optim_step seq 3", 3),)


def test_attempts_of_one_request_may_share_a_key_or_begin_anew():
    """A request that is sent again is one request, under whichever keys."""
    trace = trace_of(
        submit(0, 1, "k", status=503), submit(1, 1, "k", status=503, resend_of=0), submit(2, 1, "new", resend_of=0)
    )
    assert trace.shared_keys == ()


def test_a_key_of_a_later_round_is_a_key_too():
    """A request may not take over the key with which another one ended."""
    trace = trace_of(
        submit(0, 1, "k", status=503), submit(1, 1, "new", resend_of=0, answered_ms=1.0), submit(2, 2, "new", at_ms=2.0)
    )
    assert trace.shared_keys == (SharedKey("optim_step seq 1", "optim_step seq 2", 2),)


@pytest.mark.parametrize("status", [408, 503, None])
def test_a_poll_may_repeat_one_that_brought_nothing(status):
    """What repeats a poll without a 200 may have its key; what follows a 200 may not."""
    submitted = submit(0, 1, "s", response={"request_id": "req-1"})
    ended = poll(1, "k", status=status)
    assert trace_of(submitted, ended, poll(2, "k")).shared_keys == ()
    assert trace_of(submitted, poll(1, "k"), poll(2, "k")).shared_keys == (
        SharedKey("a poll for optim_step seq 1", "a poll for optim_step seq 1", 2),
    )


def test_polls_and_requests_share_no_key():
    """A poll that carries the key of its submit is another request under the same key."""
    trace = trace_of(submit(0, 1, "k", response={"request_id": "req-1"}), poll(1, "k"))
    assert trace.shared_keys == (SharedKey("optim_step seq 1", "a poll for optim_step seq 1", 2),)


def test_no_key_is_not_a_shared_key():
    """Requests without the header share nothing."""
    assert trace_of(submit(0, 1, ""), submit(1, 2, "")).shared_keys == ()

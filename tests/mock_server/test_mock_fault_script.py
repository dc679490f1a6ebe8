"""Fault scripts: what the schema takes, what it refuses, and that files without faults keep their digest."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from harness.suite import canonical
from mock_server.faults.script import Fault, Route, kind_of, problems
from mock_server.routes import ROUTES
from mock_server.script import Script


def _fault(**fields: Any) -> Fault:
    return msgspec.convert(fields, Fault)


def test_the_routes_of_a_fault_script_are_those_of_the_route_table() -> None:
    """Every route can be faulted, and no other name is taken."""
    assert set(get_args(Route)) == {spec.name for spec in ROUTES}


def test_a_script_without_faults_has_the_same_canonical_form_as_before_there_were_faults() -> None:
    """An empty list is left out, so that digests of released scenarios stay."""
    assert canonical.plain(Script()) == {}


@pytest.mark.parametrize("kind", sorted(kind.__struct_config__.tag for kind in get_args(Fault)))
def test_every_kind_is_told_apart_by_its_kind(kind: str) -> None:
    """A kind reads back as itself, and the canonical form keeps the tag."""
    required: dict[str, dict[str, Any]] = {
        "status": {"status": 503},
        "withhold": {"until": 2, "seq_id": 1},
        **{name: {"seconds": 0.1} for name in ("delay", "refuse", "stall", "slow")},
    }
    fault = _fault(route="retrieve_future", kind=kind, **required.get(kind, {}))
    assert kind_of(fault) == kind
    assert canonical.plain(fault)["kind"] == kind
    assert problems([fault]) == []


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"route": "teleport", "kind": "status", "status": 500}, "route"),
        ({"route": "forward", "kind": "status", "status": 200}, "status"),
        ({"route": "forward", "kind": "status"}, "status"),
        ({"route": "forward", "kind": "explode"}, "explode"),
        ({"route": "forward", "kind": "reset", "at": 0}, "at"),
        ({"route": "forward", "kind": "reset", "times": "never"}, "times"),
        ({"route": "forward", "kind": "reset", "sometimes": True}, "sometimes"),
        ({"route": "forward", "kind": "delay", "seconds": -1}, "seconds"),
    ],
)
def test_what_the_schema_refuses(fields: dict[str, Any], place: str) -> None:
    """Unknown routes, kinds and keys, and numbers out of range, are named."""
    with pytest.raises(msgspec.ValidationError, match=place):
        _fault(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"route": "telemetry", "kind": "reset", "seq_id": 1}, "seq_id"),
        ({"route": "create_session", "kind": "reset", "model": 1}, "model"),
        ({"route": "forward", "kind": "pending"}, "retrieve_future"),
        ({"route": "forward", "kind": "withhold", "seq_id": 1, "until": 2}, "retrieve_future"),
        ({"route": "retrieve_future", "kind": "withhold", "until": 2}, "seq_id"),
        ({"route": "retrieve_future", "kind": "withhold", "seq_id": 2, "until": 2}, "until"),
        ({"route": "telemetry", "kind": "failed"}, "results"),
        ({"route": "forward", "kind": "reset", "when": "headers", "after_effect": True}, "after_effect"),
        ({"route": "forward", "kind": "reset", "when": "headers", "seq_id": 1}, "when"),
        ({"route": "forward", "kind": "delay", "seconds": float("inf")}, "finite"),
        ({"route": "forward", "kind": "status", "status": 429, "retry_after": 1, "retry_after_date": 1}, "twice"),
        ({"route": "forward", "kind": "status", "status": 429, "headers": {"a": "b\r\nc: d"}}, "ASCII"),
        ({"route": "forward", "kind": "media_type", "media_type": "a\nb"}, "ASCII"),
    ],
)
def test_what_makes_no_sense_is_said(fields: dict[str, Any], said: str) -> None:
    """A filter that the route cannot have, or parts that contradict each other, are a sentence about a place."""
    assert [place for place, what in problems([_fault(**fields)]) if said in what] == ["faults[0]"]


def test_two_instructions_that_hit_the_same_request_are_refused() -> None:
    """Only one of them could play; the other would never be consumed."""
    first = _fault(route="forward", kind="status", status=500, times=3)
    assert problems([first, _fault(route="forward", kind="reset", at=3)]) == [
        ("faults[1]", "hits requests that an earlier instruction already hits")
    ]
    assert problems([first, _fault(route="forward", kind="reset", at=4)]) == []
    assert problems([first, _fault(route="forward", kind="reset", at=3, seq_id=2)]) == []

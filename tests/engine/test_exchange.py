"""The exchange as text, and the part of it that lies next to a failure."""

from __future__ import annotations

import pytest

from harness.engine.exchange import around, render
from mock_server.record import Exchange, Record

MODEL = "4f:train:0"
ROUTES = ("client/config", "create_session", "create_model", "forward_backward", "retrieve_future", "optim_step", "?")


def _exchange(ordinal, route):
    seq = {"forward_backward": 1, "optim_step": 2}.get(route)
    body = {"model_id": MODEL, "seq_id": seq} if seq else {}
    return Exchange(
        ordinal, 10.0 * ordinal, 10.0 * ordinal + 1, "c1", "POST", f"/api/v1/{route}", route, {}, "json", False, 2,
        body, None, (), 200, {},
    )  # fmt: skip


RECORD = Record(tuple(_exchange(n, route) for n, route in enumerate(ROUTES)), aliases={MODEL: "model-1"})


@pytest.mark.parametrize(
    ("where", "marked"),
    [
        ("opt seq 2", "#5 POST optim_step"),
        ("fb backward seq 1, datum 2, weights[0]", "#3 POST forward_backward"),
        ("model-1, before optim_step seq 2", "#5 POST optim_step"),
        ("request 6", "#6 POST ?"),
        ("create_session, type", "#1 POST create_session"),
    ],
)
def test_the_request_in_question_is_marked(where, marked):
    """A seq_id, a request or a route leads to one request; it is marked, and what lies next to it is there."""
    lines = around(RECORD, where).splitlines()
    assert [line for line in lines if line.startswith("> ") and marked in line]
    assert sum(line.startswith("> ") for line in lines) == 1
    assert not any("retrieve_future" in line for line in lines)
    assert len(lines) <= 7


def test_a_place_that_is_nowhere_on_the_wire_has_no_excerpt():
    """A verdict about a step says nothing about a request."""
    assert around(RECORD, "fb, loss:sum") == ""
    assert around(RECORD, "opt seq 9") == ""


def test_all_of_it_is_in_order():
    """The whole exchange has a line for each request, ids replaced by their stable names."""
    text = render(RECORD)
    assert [line.split("#")[1][0] for line in text.splitlines() if "#" in line] == list("0123456")
    assert MODEL not in text
    assert "model-1" in text


def test_a_flood_is_told_in_part():
    """Of very many requests the first are told, and how many more there were."""
    told = render(Record(tuple(_exchange(n, "telemetry") for n in range(1500)))).splitlines()
    assert len(told) == 1000 + 1
    assert told[-1] == "500 more requests"

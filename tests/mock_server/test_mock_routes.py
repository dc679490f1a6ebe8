"""The route table: complete, unambiguous, and served as it says."""

from __future__ import annotations

import pytest
from by_hand import Client

from mock_server.routes import PREFIX, ROUTES

NEEDED = {
    "client/config",
    "client/dynamic_config",
    "create_session",
    "session_heartbeat",
    "session/finish",
    "telemetry",
    "get_server_capabilities",
    "create_model",
    "get_info",
    "unload_model",
    "forward",
    "forward_backward",
    "optim_step",
    "save_weights",
    "load_weights",
    "save_weights_for_sampler",
    "retrieve_future",
    "healthz",
}


def test_every_endpoint_of_every_era_is_in_the_table() -> None:
    """What releases 0.7.0 to 0.38.0 need for a clean start, the pipeline and a clean exit."""
    assert {spec.name for spec in ROUTES} == NEEDED
    assert len({(spec.method, spec.path) for spec in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("spec", ROUTES, ids=lambda spec: spec.name)
def test_every_route_is_served_and_recorded_under_its_name(client: Client, spec: object) -> None:
    """An empty request reaches the route's handler, or is refused by it; it is never an unknown path or a 5xx."""
    path = spec.path.removeprefix(PREFIX).format(session_id="x")  # type: ignore[attr-defined]
    body = None if spec.method == "GET" else {}  # type: ignore[attr-defined]
    response = client.send(path, body, method=spec.method)  # type: ignore[attr-defined]
    record = client.tenant.record()
    assert response.status_code in (200, 404, 422)
    assert record.exchanges[-1].route == spec.name  # type: ignore[attr-defined]
    assert record.exchanges[-1].status == response.status_code
    assert "unknown-path" not in [v.code for v in record.violations]
    assert "server-defect" not in [v.code for v in record.violations]

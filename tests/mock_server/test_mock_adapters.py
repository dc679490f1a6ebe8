"""The server in-process: on httpx's ASGI transport, and behind respx."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx
import pytest

import mock_server
from mock_server import Registry, asgi_transport, respx_router

KEY = {"x-api-key": "tml-x"}


async def two_steps(http: httpx.AsyncClient) -> list[dict[str, object]]:
    """Submit step 2, wait for it while step 1 is submitted, return both results."""
    session = (await http.post("/api/v1/create_session", json={})).json()["session_id"]
    model = (await http.post("/api/v1/create_model", json={"session_id": session, "base_model": "b"})).json()[
        "model_id"
    ]

    async def step(seq_id: int) -> dict[str, object]:
        submitted = (await http.post("/api/v1/optim_step", json={"model_id": model, "seq_id": seq_id})).json()
        body = {"request_id": submitted["request_id"]}
        return (await http.post("/api/v1/retrieve_future", json=body)).json()

    return list(await asyncio.gather(step(2), step(1)))


def test_the_asgi_transport_serves_in_process() -> None:
    """Concurrent calls of one event loop: a held poll does not block the request it waits for."""
    registry = Registry()
    tenant = registry.open_tenant(api_key="tml-x")

    async def run() -> list[dict[str, object]]:
        async with httpx.AsyncClient(transport=asgi_transport(registry), base_url="http://x", headers=KEY) as http:
            return await two_steps(http)

    assert asyncio.run(run()) == [{"metrics": {}, "type": "optim_step"}] * 2
    assert [o.seq_id for o in tenant.record().operations] == [1, 2]
    assert tenant.record().gaps == ()


def test_the_respx_router_serves_async_clients() -> None:
    """Within the router's block, requests to its base URL are answered by the registry."""
    registry = Registry()
    registry.open_tenant(api_key="tml-x")

    async def run() -> list[dict[str, object]]:
        with respx_router(registry, base_url="http://tinker.test"):
            async with httpx.AsyncClient(base_url="http://tinker.test", headers=KEY) as http:
                return await two_steps(http)

    assert asyncio.run(run()) == [{"metrics": {}, "type": "optim_step"}] * 2


def test_the_respx_router_serves_sync_clients() -> None:
    """A synchronous client is answered outside of an event loop, status and body."""
    registry = Registry()
    registry.open_tenant(api_key="tml-x")
    with respx_router(registry), httpx.Client(base_url="http://parity.test", headers=KEY) as http:
        assert http.post("/api/v1/client/config", json={}).json() == {}
        assert http.post("/api/v1/nothing", json={}).status_code == 404


def test_tenants_work_across_event_loops() -> None:
    """A poll held on one loop is woken by a request on another."""
    registry = Registry()
    tenant = registry.open_tenant(api_key="tml-x")
    transport = asgi_transport(registry)

    async def post(route: str, body: dict[str, object]) -> dict[str, str]:
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=KEY) as http:
            return (await http.post(f"/api/v1/{route}", json=body)).json()

    model = asyncio.run(post("create_model", {"base_model": "b"}))["model_id"]
    held = asyncio.run(post("optim_step", {"model_id": model, "seq_id": 2}))

    async def wait_here_submit_there() -> dict[str, str]:
        poll = asyncio.ensure_future(post("retrieve_future", {"request_id": held["request_id"]}))
        entered, quiet = asyncio.Event(), tenant.quiet_left
        tenant.quiet_left = lambda: (entered.set(), quiet())[1]  # type: ignore[method-assign]  # to know it is held
        await entered.wait()
        await asyncio.to_thread(lambda: asyncio.run(post("optim_step", {"model_id": model, "seq_id": 1})))
        return await asyncio.wait_for(poll, 5)

    assert asyncio.run(wait_here_submit_there()) == {"metrics": {}, "type": "optim_step"}


def test_public_names_resolve() -> None:
    """Every exported name exists, and an unknown one is an AttributeError."""
    assert mock_server.__all__ == sorted(mock_server.__all__)
    for name in mock_server.__all__:
        assert getattr(mock_server, name) is not None
        assert name in dir(mock_server)
    with pytest.raises(AttributeError, match="nothing"):
        _ = mock_server.nothing


def test_the_types_are_cheap_to_import() -> None:
    """Importing the script and record types loads no web server, no protobuf and no torch."""
    program = (
        "import sys, mock_server.script, mock_server.record;"
        "print([m for m in ('uvicorn', 'starlette', 'httpx', 'google.protobuf', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

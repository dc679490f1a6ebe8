"""A reference client on the real mock server, for every test that wants one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from playing import TABLE, TIMELINE

from harness.reference.behaviour import behaviour_of
from harness.reference.client import ReferenceClient
from mock_server import MockServer, Script


@pytest.fixture(scope="module")
def server():
    """Start one server for the module; every test has a tenant of its own."""
    with MockServer() as running:
        yield running


@pytest.fixture(scope="module")
def workers():
    """Give one thread for loss callbacks, as the driver has."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


@pytest.fixture
def play(server, workers):
    """Run a coroutine function on a client and its model; give its result and what the server saw."""

    def run(release, scenario, *, script=None, change=lambda behaviour: behaviour, made=lambda client: client):
        tenant = server.open_tenant(script=script or Script(logprobs=TABLE))
        behaviour = change(behaviour_of(TIMELINE.contract_for_version(release)))

        async def whole():
            client = made(ReferenceClient(server.base_url, tenant.api_key, behaviour, workers=workers))
            try:
                model = await client.create_model("parity/tiny-bigram", rank=8, call="model")
                result = await asyncio.wait_for(scenario(model), 20)
                await client.close(call="close")
                return result
            finally:
                await client.abandon()

        result = asyncio.run(whole())
        record = tenant.record()
        tenant.close()
        assert record.violations == ()
        return result, record

    return run

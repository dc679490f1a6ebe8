"""One server for all tests of this folder; each test has a tenant of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from by_hand import Client, connected

from mock_server import MockServer


@pytest.fixture(scope="session")
def server() -> Iterator[MockServer]:
    """Run a server."""
    with MockServer() as running:
        yield running


@pytest.fixture
def client(server: MockServer) -> Iterator[Client]:
    """Connect a client of a fresh tenant with an empty script."""
    with connected(server) as made:
        yield made

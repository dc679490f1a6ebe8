"""Environments of real releases, built once for all tests of this folder, in a cache of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_server import MockServer


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make an empty cache the harness's cache. The package index is a prerequisite, not a reason to skip."""
    place = tmp_path_factory.mktemp("cache")
    before = os.environ.get("PARITY_CACHE_DIR")
    os.environ["PARITY_CACHE_DIR"] = str(place)
    yield place
    if before is None:
        del os.environ["PARITY_CACHE_DIR"]
    else:
        os.environ["PARITY_CACHE_DIR"] = before


@pytest.fixture(scope="session")
def server() -> Iterator[MockServer]:
    """Run a mock server for all tests; each opens a tenant of its own."""
    with MockServer() as running:
        yield running

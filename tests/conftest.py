"""What holds for every test: property tests draw the same examples every time, and no deadline depends on load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.chromium import Browser
from hypothesis import settings

settings.register_profile("parity", deadline=None, derandomize=True)
settings.load_profile("parity")

ALONE = frozenset({"browser", "drivers", "engine", "hostile", "mock_server", "reference", "replay"})
"""Folders whose tests look at who comes first, or how long something takes: they do not share the machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these folders, so that `make test` runs the others in several processes and these in one."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser once; without one these tests are errors, which say what to install."""
    started = Browser()
    yield started
    started.close()

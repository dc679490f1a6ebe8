"""What holds for every test: property tests draw the same examples every time, and no deadline depends on load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser.chromium import Browser
from hypothesis import settings

settings.register_profile("parity", deadline=None, derandomize=True)
settings.load_profile("parity")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser once; without one these tests are errors, which say what to install."""
    started = Browser()
    yield started
    started.close()

"""Pages in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser.chromium import Browser, Page


@pytest.fixture
def load(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file in a new tab. Afterwards it must have asked for nothing but itself, and said nothing."""
    pages: list[tuple[Page, Path]] = []

    def load(file: Path, fragment: str = "", *, first: str = "", **how: object) -> Page:
        page = Page(browser, **how)  # type: ignore[arg-type] # width, height, dark
        if first:
            page.first(first)
        page.open(file, fragment)
        pages.append((page, file))
        return page

    yield load
    for page, file in pages:
        assert page.said == []
        assert {asked.partition("#")[0] for asked in page.asked} == {file.resolve().as_uri()}

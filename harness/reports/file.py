"""Reports that are files: written whole when the run ends, interrupted or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.atomic import write_whole
from harness.engine.events import Event, RunFinished
from harness.reports.tally import Tally
from harness.reports.text import encodable


class FileReport:
    """Writes what `render` makes of the tally to `path`, as UTF-8: a reader sees the old file or the whole new one.

    OSError on the last event where it cannot be written.
    """

    def __init__(self, path: Path, tally: Tally, render: Callable[[Tally], str]) -> None:
        self._path = path
        self._tally = tally
        self._render = render

    def handle(self, event: Event) -> None:
        """Write the file on the last event."""
        if isinstance(event, RunFinished):
            write_whole(self._path, encodable(self._render(self._tally)).encode())

"""The `parity` process that a worker of pytest talks to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
"""A scenario and a check of it."""

_PATIENCE = 60


class ParityProcessError(Exception):
    """The process ended, or could not be started; the text is what it said."""


def command() -> list[str]:
    """Return how the installed `parity` is started: the script beside this Python, or the one on PATH.

    Raises ParityProcessError where there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "parity"
    if beside.is_file():
        return [sys.executable, "-P", str(beside)]
    found = shutil.which("parity")
    if found is None:
        raise ParityProcessError("the parity command is not installed beside this Python, nor on PATH")
    return [found]


class ParityProcess:
    """`parity work`, started once: its plan, and the verdicts of the scenarios that were wanted.

    It gets the environment without the variables that lead Python to other code: what lies in the folder pytest runs in
    does not become part of parity.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path) -> None:
        """Start it and wait for its plan. Raises ParityProcessError with what it said where there is none."""
        variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [*command(), "work", *arguments],
            cwd=folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        self._verdicts: dict[Pair, dict[str, Any]] = {}
        self._asked: set[str] = set()
        self._news = threading.Condition()
        self._ended = False
        first = self._process.stdout.readline() if self._process.stdout else b""
        if not first:
            self._process.wait()
            raise ParityProcessError(self._last_words())
        told = json.loads(first)
        self.arguments: tuple[str, ...] = tuple(told["arguments"])
        self.plan: tuple[Pair, ...] = tuple((check["scenario"], check["check"]) for check in told["planned"])
        # Verdicts are taken as they come: a full pipe would hold up the scenarios that still run.
        self._reader = threading.Thread(target=self._read, daemon=True, name="parity verdicts")
        self._reader.start()

    def want(self, scenarios: Iterable[str]) -> None:
        """Ask for scenarios, all that were not asked for yet; they run while this returns."""
        fresh = [scenario for scenario in dict.fromkeys(scenarios) if scenario not in self._asked]
        if fresh and self._process.stdin is not None:
            self._asked.update(fresh)
            with suppress(OSError):  # it has ended; whoever waits for a verdict hears why
                self._process.stdin.write(" ".join(fresh).encode() + b"\n")
                self._process.stdin.flush()

    def verdict(self, scenario: str, check: str) -> dict[str, Any]:
        """Wait for the verdict of a check of a scenario that was wanted. Raises ParityProcessError if none can come."""
        with self._news:
            self._news.wait_for(lambda: self._ended or (scenario, check) in self._verdicts)
            found = self._verdicts.get((scenario, check))
        if found is None:
            raise ParityProcessError(self._last_words())
        return found

    def close(self) -> None:
        """End the process: in good order where nothing runs any more, else by a signal that it ends its drivers on."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        if any(pair[0] in self._asked and pair not in self._verdicts for pair in self.plan):
            self._process.terminate()
        try:
            self._process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["type"] == "CheckJudged":
                with self._news:
                    self._verdicts[event["scenario"], event["check"]] = event
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _last_words(self) -> str:
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()
        return said or f"parity ended with status {self._process.poll()} and said nothing"

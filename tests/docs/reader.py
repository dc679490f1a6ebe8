"""A reader who types what a document prints: one shell after the other, as the last left folder and environment."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

WAITING = re.compile(r"^parity (serve|record|drive .* --attach)")
"""Commands that run until Ctrl-C."""

_READY = re.compile(r"http://127\.0\.0\.1:\d+|start it with", re.IGNORECASE)
"""What they say when they are."""

_KEEP = """
{command}
parity_status=$?
pwd > {folder}
env -0 > {environment}
exit $parity_status
"""


@dataclass(frozen=True, slots=True)
class Typed:
    """What became of a command: its exit status, and what it wrote to stdout and stderr."""

    command: str
    status: int
    output: str


class Reader:
    """Types commands. `substitutes` are placeholders of documents, and what a reader puts in their place."""

    def __init__(self, home: Path, environment: dict[str, str], substitutes: dict[str, str] | None = None) -> None:
        self._home = home
        self.folder = home
        self._environment = environment
        self._substitutes = substitutes or {}

    def type(self, command: str, *, seconds: float = 900.0) -> Typed:
        """Type one command and wait until it ends; one that serves is given Ctrl-C once it listens."""
        for placeholder, value in self._substitutes.items():
            command = command.replace(placeholder, value)
        if WAITING.match(command):
            return self._serve(command)
        told, left = self._home / ".folder", self._home / ".environment"
        script = _KEEP.format(command=command, folder=shlex.quote(str(told)), environment=shlex.quote(str(left)))
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, timeout=seconds,
        )  # fmt: skip
        if left.exists():
            self.folder = Path(told.read_text("utf-8").strip())
            pairs = (pair.partition("=") for pair in left.read_text("utf-8", "surrogateescape").split("\0") if pair)
            self._environment = {name: value for name, _, value in pairs}
            left.unlink()
        return Typed(command, done.returncode, done.stdout)

    def _serve(self, command: str) -> Typed:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if _READY.search(line):
                    break
            process.send_signal(signal.SIGINT)
            lines += process.stdout.readlines()
            return Typed(command, process.wait(timeout=60), "".join(lines))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


def a_readers_environment(home: Path, programs: Path) -> dict[str, str]:
    """Return the environment of a reader who has activated nothing but `programs`, the folder of `parity`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL"))}
    return {**kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PWD": str(home)}

"""What the pytest plugin costs a pytest that does not use it."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_IMPORT = """
import time
from importlib import metadata
began = time.process_time()
found = [str(file) for file in metadata.distribution("pytest-parity").files or []]
import parity_pytest
class Group:
    def addoption(self, *names, **options): pass
class Parser:
    def getgroup(self, *names): return Group()
class Config:
    def getoption(self, name): return None
parity_pytest.pytest_addoption(Parser())
parity_pytest.pytest_configure(Config())
print((time.process_time() - began) * 1000)
"""


def unused_plugin(rounds: int = 9) -> Iterator[str]:
    """Yield the cost alone, and pytest with and without it, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        alone = [float(_run(folder, "-c", _IMPORT)[0]) for _ in range(rounds)]
        yield f"listing, import and hooks: {statistics.median(alone):.2f} ms of CPU time (aim: 20 ms)"
        pairs = [
            (_run(folder, "-m", "pytest", "-q")[1], _run(folder, "-m", "pytest", "-q", "-p", "no:parity")[1])
            for _ in range(rounds)
        ]
        with_it, without = (statistics.median(side) for side in zip(*pairs, strict=True))
        yield f"pytest without tests: {with_it * 1000:.0f} ms with it, {without * 1000:.0f} ms with -p no:parity (CPU)"


def _run(folder: str, *arguments: str) -> tuple[str, float]:
    """Return what a Python program printed, and the CPU time it took in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, spent

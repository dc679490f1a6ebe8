"""Scenarios of a hostile driver's own, their golden traces, and `parity run` over them as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard
from hostile import hostile_driver

from harness.contracts.timeline import load_timeline
from harness.drivers.protocol import StepResult
from harness.drivers.scratch import PREFIX
from harness.golden.store import GoldenStore
from harness.reports.html.block import unfolded
from harness.suite.loader import load_suite
from harness.trace.normalise import make_trace
from mock_server import MockServer
from mock_server.record import Record

ROOT = Path(__file__).parents[2]
RUN = Path(__file__).with_name("hostile_run.py")
CHECKS = ("wire.accepted", "wire.bodies", "result.status", "result.hang")
QUICK = ("a_stop", "nothing_at_all")
"""Attacks that are over when the time is up."""
LONG = ("many_requests",)
"""Attacks that are over when the server has had enough, which takes a busy machine a while."""

SCENARIO = """
id = "hostile/{id}"
title = "{title}"
why = "to be judged beside the others"
timeout = {timeout}

[stimulus]
steps = [{{ do = "create_model" }}, {{ do = "get_info", id = "{name}" }}]

[judge]
checks = {checks}
"""


@dataclass(frozen=True)
class Ran:
    """What a run left: the report, the texts it wrote, its exit status and its memory in MB."""

    status: int
    report: dict[str, Any]
    texts: dict[str, str]
    megabytes: int
    folder: Path

    def outcomes(self, name: str) -> dict[str, str]:
        """Return the outcome of each check of an attack's scenario."""
        return {result["check"]: result["outcome"] for result in self._of(name)}

    def messages(self, name: str) -> str:
        """Return everything the checks of an attack's scenario said."""
        return "\n".join(result[key] for result in self._of(name) for key in ("message", "observed"))

    def _of(self, name: str) -> list[dict[str, Any]]:
        return [result for result in self.report["results"] if result["scenario"] == scenario_id(name)]


def scenario_id(name: str) -> str:
    """Return the id of an attack's scenario."""
    return f"hostile/{name.replace('_', '-')}"


def _honest_record() -> Record:
    with MockServer() as server:
        tenant = server.open_tenant()
        hostile_driver.honest(hostile_driver.Server({"base_url": server.base_url, "api_key": tenant.api_key}))
        return tenant.record()


def write_scenarios(folder: Path, names: Sequence[str]) -> None:
    """Write a scenario per name, with the golden trace of a driver that does nothing else than it should."""
    place = folder / "scenarios" / "hostile"
    place.mkdir(parents=True)
    for name in names:
        timeout = 1.0 if name in QUICK else 200.0 if name in LONG else 60.0
        text = SCENARIO.format(
            id=name.replace("_", "-"), name=name, title=name, timeout=timeout, checks=json.dumps(CHECKS)
        )
        (place / f"{name.replace('_', '-')}.toml").write_text(text, encoding="utf-8")
    suite = load_suite(ROOT, folder)
    described = load_timeline(ROOT / "fixtures/contracts/tinker.toml").described
    record = _honest_record()
    traces = {}
    for name in names:
        steps = [StepResult(**step) for step in hostile_driver.results(name)]
        scenario = suite.scenarios[scenario_id(name)]
        for release in described:
            traces[scenario.id, release] = make_trace(
                scenario.id, suite.digest(scenario), f"tinker-{release}", record, steps
            )
    GoldenStore(folder / "golden").emit(traces, described)


@pytest.fixture(scope="session")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Run `parity run` over the named scenarios with the hostile driver; afterwards nothing of it may be left.

    With `killed` it is killed before its end, and much may be left in `temporary`.
    """

    def attack(
        *names: str,
        mode: str = "",
        jobs: int = 3,
        temporary: Path | None = None,
        killed: bool = False,
        encoding: str = "utf-8",
    ) -> Ran:
        folder = tmp_path_factory.mktemp("hostile")
        temporary = temporary or folder / "temporary"
        temporary.mkdir(exist_ok=True)
        if "a_bomb" in names:
            zeros = bytes(200_000_000)
            (folder / "declared-bomb").write_bytes(zstandard.ZstdCompressor().compress(zeros))
            (folder / "bomb").write_bytes(zstandard.ZstdCompressor(write_content_size=False).compress(zeros))
        write_scenarios(folder / "own", names)
        report, junit = folder / "report.json", folder / "junit.xml"
        files = {name: folder / f"report.{name}" for name in ("markdown", "html", "badge", "support")}
        done = subprocess.run(
            [
                *(sys.executable, str(RUN), str(folder), mode, "run", "--sdk", "hostile==1.0"),
                *("--contract", "tinker-0.38.0", "--fixtures", str(folder / "own"), "-k", "hostile/"),
                *("--jobs", str(jobs), "--trace", "--json", str(report), "--junit", str(junit)),
                *(part for name, path in files.items() for part in (f"--{name}", str(path))),
                "--annotations",
            ],
            capture_output=True,
            check=False,
            timeout=600,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        )
        if killed:
            assert done.returncode == -signal.SIGKILL, done.stderr.decode()
            return Ran(done.returncode, {}, {}, 0, folder)
        assert not done.stderr, done.stderr.decode()
        left_behind(folder, temporary)
        frame, data = unfolded(files["html"].read_text("utf-8"))
        return Ran(
            status=done.returncode,
            report=json.loads(report.read_text("utf-8")),
            texts={
                "console": done.stdout.decode(encoding),
                "JSON": report.read_text("utf-8"),
                "JUnit": junit.read_text("utf-8"),
                "Markdown": files["markdown"].read_text("utf-8"),
                "HTML": files["html"].read_text("utf-8"),
                "HTML data": "\n".join((frame, *data["texts"])),
                "badge": files["badge"].read_text("utf-8"),
                "support": files["support"].read_text("utf-8"),
            },
            megabytes=int((folder / "megabytes").read_text()),
            folder=folder,
        )

    return attack


def left_behind(folder: Path, temporary: Path) -> None:
    """Assert that a run has left no process, no file and no open port."""
    assert [path.name for path in temporary.iterdir()] == []
    name = os.fsencode(temporary / PREFIX)
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert name not in entry.read_bytes(), f"process {entry.parent.name} still runs"
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    for file in folder.glob("pid-*"):
        assert not Path(f"/proc/{file.name.removeprefix('pid-')}/environ").exists() or not _runs(file)
    address = folder / "address"
    if address.exists():
        parts = urlsplit(address.read_text())
        with socket.socket() as probe:
            assert probe.connect_ex((parts.hostname, parts.port)) != 0, "the server still listens"


def _runs(file: Path) -> bool:
    try:
        return b"hostile_driver" in Path(f"/proc/{file.name.removeprefix('pid-')}/cmdline").read_bytes()
    except OSError:
        return False

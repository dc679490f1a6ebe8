"""Certificates say what was proven, and stop being true when the golden traces move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.contracts.timeline import load_timeline
from harness.engine.certify import (
    certified,
    compare_certificates,
    make_certificate,
    moved_certificates,
    read_certificate,
    write_certificate,
)
from harness.engine.events import PlannedCheck, RunStarted, SubjectReady
from harness.errors import ParityError
from harness.golden.store import GoldenStore
from harness.locations import Locations

ROOT = Path(__file__).parents[2]
CONTRACT = "tinker-0.15.0"


@pytest.fixture
def locations(tmp_path):
    """Return a copy of the committed golden traces, without certificates."""
    for name in ("fixtures", "golden"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("certified"))
    return Locations(tmp_path)


@pytest.fixture
def certificate(locations):
    """Return the certificate of a run that held."""
    planned = (PlannedCheck("a/b", "chunks.limits"), PlannedCheck("a/b", "order.seq"))
    started = RunStarted("tinker", "0.15.0", CONTRACT, "suite", planned, 1)
    subject = SubjectReady({}, "python", "CPython 3.11", {"torch": "2.13.0"}, ())
    return make_certificate(locations, started=started, subject=subject, totals={"pass": 2, "fail": 0})


def test_says_what_was_run(certificate):
    """Release, interpreter, dependencies, counts and the digest of the golden traces are in it."""
    assert certificate.scenarios == 1
    assert certificate.totals == {"pass": 2}
    assert certificate.releases[0].version == "0.15.0"
    assert certificate.releases[0].dependencies == {"torch": "2.13.0"}
    assert len(certificate.golden) == 64


def test_survives_being_written(locations, certificate):
    """What is written is read back; nothing else is left in the folder."""
    write_certificate(locations, certificate)
    assert read_certificate(locations, CONTRACT) == certificate
    assert certified(locations) == (CONTRACT,)
    assert [path.name for path in (locations.golden / "certified").iterdir()] == [f"{CONTRACT}.json"]


def test_holds_while_the_golden_traces_stay(locations, certificate):
    """A certificate of the traces that are there is not moved."""
    write_certificate(locations, certificate)
    assert moved_certificates(locations) == []


def test_moves_when_a_golden_trace_changes(locations, certificate):
    """Other golden traces at that release, and the certificate speaks about something else."""
    write_certificate(locations, certificate)
    described = load_timeline(locations.timeline).described
    store = GoldenStore(locations.golden)
    scenario = store.scenarios()[0]
    kept = {(scenario, release): store.load(scenario, release, described) for release in described}
    store.emit(kept, described, complete=True)
    assert moved_certificates(locations) == [
        f"{CONTRACT}: golden traces have changed since they were certified (parity certify)"
    ]


def test_names_files_that_are_no_certificates(locations, certificate):
    """A certificate of an undescribed contract cannot be checked, so it must not lie there."""
    write_certificate(locations, certificate)
    (locations.golden / "certified/tinker-9.9.9.json").write_text("{}", encoding="utf-8")
    assert moved_certificates(locations) == ["certified/tinker-9.9.9.json is no certificate of a described contract"]


def test_another_machine_may_certify_too(certificate):
    """Interpreter and dependencies may differ; counts, suite, versions and golden traces may not."""
    elsewhere = msgspec.structs.replace(certificate.releases[0], interpreter="CPython 3.13", dependencies={})
    assert compare_certificates(certificate, msgspec.structs.replace(certificate, releases=(elsewhere,))) == []
    fewer = msgspec.structs.replace(certificate, totals={"pass": 1}, golden="0")
    assert [line.split()[1] for line in compare_certificates(certificate, fewer)] == ["totals", "golden"]


@pytest.mark.parametrize(
    ("content", "code"), [(None, "certificate-missing"), ({"contract": 1}, "certificate-malformed")]
)
def test_refuses_what_cannot_be_read(locations, content, code):
    """A missing and a malformed certificate are errors with a command that mends them."""
    if content is not None:
        path = locations.certificate(CONTRACT)
        path.parent.mkdir()
        path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ParityError) as caught:
        read_certificate(locations, CONTRACT)
    assert caught.value.code == code
    assert f"parity certify --contract {CONTRACT}" in caught.value.hint

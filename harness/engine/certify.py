"""Certificates: the proof that a real release passes every check of the golden traces made for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.atomic import write_whole
from harness.checks.verdict import Outcome
from harness.contracts.timeline import load_timeline
from harness.engine.events import RunStarted, SubjectReady
from harness.errors import ParityError
from harness.golden.store import GoldenStore
from harness.locations import Locations


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was driven: interpreter and resolved dependencies are what they were on that day, not a promise."""

    sdk: str
    version: str
    interpreter: str
    dependencies: dict[str, str]


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was proven about the golden traces of one contract.

    `golden` is the digest of the traces that hold at the contract, `suite` the digest of the stimuli, `totals` the
    number of checks per outcome.
    """

    contract: str
    releases: tuple[Release, ...]
    scenarios: int
    totals: dict[str, int]
    suite: str
    golden: str


def certified(locations: Locations) -> tuple[str, ...]:
    """Return the contracts that have a certificate, oldest release first."""
    described = load_timeline(locations.timeline).described
    return tuple(contract for release in described if locations.certificate(contract := f"tinker-{release}").is_file())


def make_certificate(
    locations: Locations, *, started: RunStarted, subject: SubjectReady, totals: Mapping[Outcome, int]
) -> Certificate:
    """Return the certificate that a run which held has earned."""
    described = load_timeline(locations.timeline).described
    return Certificate(
        contract=started.contract,
        releases=(
            Release(
                sdk=started.sdk,
                version=started.version,
                interpreter=subject.runtime,
                dependencies=dict(sorted(subject.libraries.items())),
            ),
        ),
        scenarios=len({planned.scenario for planned in started.planned}),
        totals={outcome: count for outcome, count in totals.items() if count},
        suite=started.suite,
        golden=GoldenStore(locations.golden).digest(started.contract.removeprefix("tinker-"), described),
    )


def write_certificate(locations: Locations, certificate: Certificate) -> None:
    """Write `certificate` to its place, whole or not at all."""
    text = json.dumps(msgspec.to_builtins(certificate), indent=1) + "\n"
    write_whole(locations.certificate(certificate.contract), text.encode())


def read_certificate(locations: Locations, contract: str) -> Certificate:
    """Return the certificate of `contract`.

    Raises ParityError `certificate-missing` or `certificate-malformed`.
    """
    path = locations.certificate(contract)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except FileNotFoundError:
        raise ParityError(
            "certificate-missing",
            f"{contract} has no certificate",
            hint=f"parity certify --contract {contract} runs the real release and writes one",
        ) from None
    except msgspec.MsgspecError as error:
        raise ParityError(
            "certificate-malformed",
            f"{path.name}: {error}",
            hint=f"parity certify --contract {contract} writes it again",
        ) from None


def compare_certificates(committed: Certificate, earned: Certificate) -> list[str]:
    """Return what a committed certificate says that is no longer so.

    Interpreter and dependencies may differ: that real releases pass elsewhere too is the point.
    """
    sides: dict[str, tuple[Any, Any]] = {
        "versions": (
            [(release.sdk, release.version) for release in committed.releases],
            [(release.sdk, release.version) for release in earned.releases],
        ),
        "scenarios": (committed.scenarios, earned.scenarios),
        "totals": (committed.totals, earned.totals),
        "suite": (committed.suite, earned.suite),
        "golden": (committed.golden, earned.golden),
    }
    return [
        f"{committed.contract}: {name} is {now}, certified was {then}"
        for name, (then, now) in sides.items()
        if then != now
    ]


def moved_certificates(locations: Locations) -> list[str]:
    """Return one sentence for each certificate whose golden traces have changed since. Runs nothing."""
    described = load_timeline(locations.timeline).described
    store = GoldenStore(locations.golden)
    moved = []
    for contract in certified(locations):
        now = store.digest(contract.removeprefix("tinker-"), described)
        if read_certificate(locations, contract).golden != now:
            moved.append(f"{contract}: golden traces have changed since they were certified (parity certify)")
    known = {locations.certificate(contract).name for contract in certified(locations)}
    folder = locations.golden / "certified"
    # A hidden file is what a killed writer left; the next one clears it away.
    strangers = sorted(path.name for path in folder.glob("[!.]*") if path.name not in known)
    return [*moved, *(f"certified/{name} is no certificate of a described contract" for name in strangers)]

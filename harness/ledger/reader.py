"""Read ledger files, strictly: an entry that can never match is an error, not a comment."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from harness.checks.causes import CAUSES
from harness.errors import ParityError
from harness.ledger.model import ANY, Divergence, Ledger, pairs


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a ledger is read for: the subject's name and version, and the contract it is judged by.

    `own_contract` says that `contract` is the one the subject's version picks.
    """

    sdk: str
    version: str
    contract: str
    own_contract: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What entries are held against, whatever a run selects: scenarios with their checks, described contracts."""

    scenarios: Mapping[str, Collection[str]]
    contracts: Collection[str]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ledger file. With `sdk` it is about that SDK, whatever is driven; without, about what it is read for."""

    sdk: str = ""
    divergence: tuple[Divergence, ...] = ()


def read_ledger(path: Path, subject: Subject, known: Known, *, overlay: Path | None = None, today: date) -> Ledger:
    """Return the entries of `path`, and of the user's own `overlay`, that apply to a subject.

    The shipped `path` need not exist: then nothing is listed. Raises ParityError `ledger-malformed`, and
    `ledger-missing` where there is no `overlay`.
    """
    if overlay is not None and not overlay.is_file():
        raise ParityError(
            "ledger-missing",
            f"there is no ledger {overlay}",
            hint="--ledger, or ledger in parity.toml, names a file that may be empty; see docs/ledger.md",
        )
    shipped, own = (
        _applying(_read(file, known), subject) if file is not None and file.is_file() else ()
        for file in (path, overlay)
    )
    return Ledger(shipped, own, today)


def _read(path: Path, known: Known) -> _File:
    """Return a ledger file, every entry of it examined, whomever it is about."""
    try:
        file = msgspec.convert(tomllib.loads(path.read_bytes().decode()), _File)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise _malformed(path, str(error)) from None
    seen: set[tuple[str, ...]] = set()
    for entry in file.divergence:
        _examine(path, entry, known)
        if entry.key in seen:
            raise _malformed(path, f"{entry.title} is listed twice for the same versions")
        seen.add(entry.key)
    return file


def _applying(file: _File, subject: Subject) -> tuple[Divergence, ...]:
    if file.sdk not in ("", subject.sdk):
        return ()
    try:
        released = Version(subject.version)
    except InvalidVersion:
        return ()
    return tuple(
        entry
        for entry in file.divergence
        if SpecifierSet(entry.versions).contains(released, prereleases=True)
        and (entry.contract == subject.contract if entry.contract else subject.own_contract)
    )


def _malformed(path: Path, what: str) -> ParityError:
    return ParityError(
        "ledger-malformed",
        f"{path.name}: {what}",
        hint="an entry is a [[divergence]] with scenario, check, versions, kind, reason and source; see docs/ledger.md",
    )


def _examine(path: Path, entry: Divergence, known: Known) -> None:
    """Refuse an entry that is too wide, too vague, or about nothing that exists."""

    def refuse(what: str) -> ParityError:
        return _malformed(path, f"{entry.title}: {what}")

    if entry.scenario == ANY and entry.check == ANY:
        raise _malformed(path, "'*' for both scenario and check would excuse everything")
    for name in ("reason", "source"):
        if not getattr(entry, name).strip():
            raise refuse(f"{name} is empty")
    try:
        SpecifierSet(entry.versions)
    except InvalidSpecifier:
        raise refuse(f"{entry.versions!r} is not a version specifier such as '==0.38.0'") from None
    if entry.contract and entry.contract not in known.contracts:
        raise refuse(f"{entry.contract!r} is not a described contract")
    if entry.cause and entry.cause not in CAUSES:
        raise refuse(f"there is no cause {entry.cause!r}")
    _examine_reach(entry, known, refuse)


def _examine_reach(entry: Divergence, known: Known, refuse: Any) -> None:
    """Refuse an entry that covers nothing, or more than it says."""
    covered = len(pairs(entry, known.scenarios))
    if not covered:
        if ANY not in entry.scenario and entry.scenario not in known.scenarios:
            raise refuse(f"there is no scenario {entry.scenario!r}")
        raise refuse(f"no such scenario carries the check {entry.check!r}")
    if not entry.pattern:
        if entry.covers is not None:
            raise refuse("covers is for patterns; this names one check of one scenario")
    elif entry.covers is None:
        raise refuse(f"a pattern says how many pairs it may cover: covers = {covered}")
    elif covered > entry.covers:
        raise refuse(f"it covers {covered} pairs of scenario and check, and may cover {entry.covers}")

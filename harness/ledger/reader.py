"""Read a ledger file, strictly: an entry that can never match is an error, not a comment."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from harness.errors import ParityError
from harness.ledger.model import ANY, Divergence, Ledger


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    divergence: tuple[Divergence, ...] = ()


def _malformed(path: Path, what: str) -> ParityError:
    return ParityError(
        "ledger-malformed",
        f"{path.name}: {what}",
        hint="an entry is a [[divergence]] with scenario, check, versions, reason and source; see docs/ledger.md",
    )


def _examine(
    path: Path, entry: Divergence, *, scenarios: Mapping[str, Collection[str]], contracts: Collection[str]
) -> None:
    """Refuse an entry that is too wide, too vague, or about nothing that exists."""
    if entry.scenario == ANY and entry.check == ANY:
        raise _malformed(path, "'*' for both scenario and check would excuse everything")
    for part in (entry.scenario, entry.check):
        if ANY in part and part != ANY:
            raise _malformed(
                path, f"{entry.title}: '*' stands for a whole scenario or check, not for a part of its name"
            )
    for name in ("reason", "source"):
        if not getattr(entry, name).strip():
            raise _malformed(path, f"{entry.title}: {name} is empty")
    try:
        SpecifierSet(entry.versions)
    except InvalidSpecifier:
        raise _malformed(
            path, f"{entry.title}: {entry.versions!r} is not a version specifier such as '==0.38.0'"
        ) from None
    if entry.contract and entry.contract not in contracts:
        raise _malformed(path, f"{entry.title}: {entry.contract!r} is not a described contract")
    if entry.scenario != ANY and entry.scenario not in scenarios:
        raise _malformed(path, f"{entry.title}: there is no scenario {entry.scenario!r}")
    carriers = [entry.scenario] if entry.scenario != ANY else list(scenarios)
    if entry.check != ANY and not any(entry.check in scenarios[carrier] for carrier in carriers):
        raise _malformed(path, f"{entry.title}: no such scenario carries the check {entry.check!r}")


def read_ledger(
    path: Path,
    *,
    version: str,
    contract: str,
    own_contract: bool,
    scenarios: Mapping[str, Collection[str]],
    contracts: Collection[str],
) -> Ledger:
    """Return the entries of `path` that apply to `version` of the subject judged by `contract`.

    `own_contract` says that `contract` is the one the subject's version picks. `scenarios` maps every scenario of the
    suite to its checks and `contracts` are the described ones: entries are held against all of them, whatever a run
    selects. A file that does not exist is an empty ledger.

    Raises ParityError `ledger-malformed`.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Ledger()
    try:
        file = msgspec.convert(tomllib.loads(text.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise _malformed(path, str(error)) from None
    for entry in file.divergence:
        _examine(path, entry, scenarios=scenarios, contracts=contracts)
    titles = [(entry.title, entry.versions, entry.contract, entry.message, entry.cause) for entry in file.divergence]
    for title in titles:
        if titles.count(title) > 1:
            raise _malformed(path, f"{title[0]} is listed twice for the same versions")
    try:
        released = Version(version)
    except InvalidVersion:
        return Ledger()
    return Ledger(
        tuple(
            entry
            for entry in file.divergence
            if SpecifierSet(entry.versions).contains(released, prereleases=True)
            and (entry.contract == contract if entry.contract else own_contract)
        )
    )

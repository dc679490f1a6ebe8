"""Bring a ledger file in line with what a run found, and leave everything else in it as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tomlkit
from msgspec import Struct
from tomlkit.items import AoT, Table

from harness.checks.verdict import Outcome
from harness.ledger.model import ANY, Divergence, Ledger


class Found(Struct, frozen=True):
    """The final outcome of one planned check, with what its verdict said before the ledger was asked."""

    scenario: str
    check: str
    outcome: Outcome
    message: str
    cause: str


class Updated(Struct, frozen=True):
    """The new text of a ledger file, and what was changed or could not be, one sentence each."""

    text: str
    changes: tuple[str, ...]


def updated(text: str, ledger: Ledger, found: Sequence[Found], *, version: str, contract: str, source: str) -> Updated:
    """Return the text of the user's ledger, `ledger.own`, after a whole run of `version` under a contract.

    A new failure gets an entry, an entry that holds for no pair any more is taken out or excludes this version, one
    that names another cause names the one that was found. `contract` is "" where it is the subject's own. Comments,
    order and entries about other versions stay. Patterns and the shipped ledger are left to their authors.
    """
    document = tomlkit.parse(text)
    tables: AoT | list[Table] = document.get("divergence", [])
    changes: list[str] = []
    added: list[str] = []
    for each in found:
        if each.outcome not in {"fixed", "fail"}:
            continue
        pair = {"scenario": each.scenario, "check": each.check}
        listed = [entry for entry in ledger.about(**pair) if entry.outcome == "fail"]
        mine = [entry for entry in listed if entry in ledger.own and ANY not in entry.scenario + entry.check]
        name = f"{each.scenario}:{each.check}"
        if each.outcome == "fixed":
            stale = [entry for entry in mine if entry.rate == "always"]
            if any(entry.rate == "always" and entry not in mine for entry in listed):
                changes.append(f"{name} holds, but a pattern or the shipped ledger lists it: mend that by hand")
            changes += [f"{name}: {_retire(tables, entry, version)}" for entry in stale]
        elif any(entry.cause == each.cause or entry.expired(ledger.today) for entry in mine):
            changes.append(f"{name} has expired, or fails with another message: mend it by hand")
        elif len(mine) == 1 and mine[0].versions == f"=={version}":
            _recause(_table(tables, mine[0]), each.cause)
            changes.append(f"{name}: the cause is {each.cause or 'none'} now")
        else:
            for entry in mine:
                _retire(tables, entry, version)
            added.append(_entry(each, version=version, contract=contract, source=source))
            changes.append(f"{name}: listed")
    if not tables and "divergence" in document:
        del document["divergence"]  # it would be written as an empty list, before everything else
    kept = tomlkit.dumps(document)
    if added and kept.strip():
        kept = kept.rstrip("\n") + "\n\n"
    return Updated(kept + "\n".join(added), tuple(changes))


def _table(tables: AoT | list[Table], entry: Divergence) -> Table:
    """Return the table that an entry was read from."""
    names = ("scenario", "check", "versions", "contract", "cause", "message")
    for table in tables:
        if tuple(str(table.get(name, "")) for name in names) == entry.key:
            assert isinstance(table, Table)
            return table
    raise LookupError(entry.title)


def _retire(tables: AoT | list[Table], entry: Divergence, version: str) -> str:
    """Let an entry no longer speak about `version`; say how."""
    table = _table(tables, entry)
    if entry.versions == f"=={version}":
        del tables[next(at for at, each in enumerate(tables) if each is table)]
        return "taken out, it holds"
    table["versions"] = f"{entry.versions},!={version}" if entry.versions else f"!={version}"
    return f"no longer about {version}, where it holds"


def _recause(table: Table, cause: str) -> None:
    table.pop("message", None)
    if cause:
        table["cause"] = cause
    else:
        table.pop("cause", None)


def _entry(found: Found, *, version: str, contract: str, source: str) -> str:
    fields: dict[str, Any] = {
        "scenario": found.scenario,
        "check": found.check,
        "versions": f"=={version}",
        "contract": contract,
        "cause": found.cause,
        "kind": "bug",
        "reason": " ".join(found.message.split()) or "it fails",
        "source": source,
    }
    return tomlkit.dumps({"divergence": [{name: value for name, value in fields.items() if value}]})

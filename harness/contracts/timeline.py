"""Reads the timeline of contracts and gives its points.

The file holds a baseline and, in order of release, changes. A point is the baseline with every change up to its
release applied. Only releases that the file names exist: nothing is interpolated between them.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.contracts.model import Change, Contract
from harness.errors import ParityError

PREFIX = "tinker-"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    baseline: dict[str, Any]
    change: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The described releases and what changed between them.

    `described` holds the releases in order, the baseline first; `changes` the entries in the order of the file.
    """

    described: tuple[str, ...]
    changes: tuple[Change, ...]
    points: Mapping[str, Contract]

    def point(self, contract_id: str) -> Contract:
        """Return the contract called `contract_id` (`tinker-0.15.0`).

        Raises ParityError `contract-unknown` when the id is not of that form, `contract-undescribed` when that release
        is not on the timeline.
        """
        if not contract_id.startswith(PREFIX):
            raise ParityError(
                "contract-unknown",
                f"{contract_id!r} is no contract",
                hint=f"a contract is called {PREFIX}<release>, for example {PREFIX}{self.described[-1]}",
            )
        return self.contract_for_version(contract_id.removeprefix(PREFIX))

    def contract_for_version(self, version: str) -> Contract:
        """Return the contract of one release of the official SDK.

        Raises ParityError `contract-undescribed`, naming the described releases and the nearest, when there is none.
        """
        contract = self.points.get(version) or self.points.get(self._same(version))
        if contract is None:
            before = self.last_before(version)
            raise ParityError(
                "contract-undescribed",
                f"the timeline does not describe release {version} (it describes {', '.join(self.described)})",
                hint=f"the last described one before it is {before}: --contract {PREFIX}{before} judges by that",
            )
        return contract

    def _same(self, version: str) -> str:
        """Return the described release that is written otherwise (`0.38` for 0.38.0), or nothing."""
        numbers = release_key(version)
        if version.replace(".", "").isdigit():
            for release in self.described:
                known = release_key(release)
                longest = max(len(numbers), len(known))
                if numbers + (0,) * (longest - len(numbers)) == known + (0,) * (longest - len(known)):
                    return release
        return ""

    def last_before(self, version: str) -> str:
        """Return the last described release that is not newer than `version`, else the first."""
        wanted = release_key(version)
        return max(
            (release for release in self.described if release_key(release) <= wanted),
            key=release_key,
            default=self.described[0],
        )


def release_key(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, for comparison; what follows the numbers of a part is ignored."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits) if digits else 0)
    return tuple(numbers)


def load_timeline(path: Path) -> Timeline:
    """Read a timeline.

    Raises ParityError `timeline-malformed` when the file cannot be read, a key is unknown or missing, a change sets
    what has no place, or releases are out of order.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _malformed(path, str(error)) from error
    return build_timeline(raw, path)


def build_timeline(raw: Mapping[str, Any], path: Path) -> Timeline:
    """Make the timeline of a file's content; `path` names it in errors. Raises as `load_timeline` does."""
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise _malformed(path, str(error)) from error
    state = copy.deepcopy(file.baseline)
    first = state.get("release")
    if not isinstance(first, str):
        raise _malformed(path, "the baseline names no release")
    points: dict[str, Contract] = {}
    releases = [first]
    for change in file.change:
        if release_key(change.release) < release_key(releases[-1]):
            raise _malformed(path, f"{change.release} stands after {releases[-1]}")
        if change.release == first:
            raise _malformed(path, f"a change of {first}, which is the baseline")
        if change.release != releases[-1]:
            points[releases[-1]] = _contract(state, releases[-1], path)
            releases.append(change.release)
        _apply(state, change, path)
    points[releases[-1]] = _contract(state, releases[-1], path)
    return Timeline(described=tuple(releases), changes=file.change, points=points)


def _apply(state: dict[str, Any], change: Change, path: Path) -> None:
    # What is gone goes first, so that one entry can replace a table's keys.
    for key in change.drop:
        place, last = _place(state, key, change, path)
        if last not in place:
            raise _malformed(path, f"{change.release} drops {key}, which is not there")
        del place[last]
    for key, value in change.set.items():
        place, last = _place(state, key, change, path)
        place[last] = copy.deepcopy(value)


def _place(state: dict[str, Any], key: str, change: Change, path: Path) -> tuple[dict[str, Any], str]:
    *parents, last = key.split(".")
    place: Any = state
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise _malformed(path, f"{change.release} names {key}, which has no place")
    return place, last


def _contract(state: Mapping[str, Any], release: str, path: Path) -> Contract:
    fields = {**copy.deepcopy(dict(state)), "id": f"{PREFIX}{release}", "release": release}
    try:
        return msgspec.convert(fields, Contract)
    except msgspec.ValidationError as error:
        raise _malformed(path, f"at {release}: {error}") from error


def _malformed(path: Path, what: str) -> ParityError:
    return ParityError("timeline-malformed", f"{path}: {what}", hint="docs/contracts.md describes the timeline")

"""The user's constraints on what an SDK's environment is resolved to: lines as for `pip install -c`, or a lock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from harness.errors import ParityError

LINES = "--subject-constraints names a file with lines of a name and versions, such as httpx==0.28.1"
LOCK = "for a release of Tinkex --subject-constraints names a mix.lock, as Mix writes it"


@dataclass(frozen=True, slots=True)
class Constraints:
    """The constraints of a file: its path, for errors, and its lines without comments."""

    path: Path
    text: str

    def allow(self, package: str, version: str) -> None:
        """Refuse constraints that keep out the version of a package which is lent, not installed.

        Raises ParityError `constraints-unmet`.
        """
        for line in self.text.splitlines():
            told = Requirement(line)
            if canonicalize_name(told.name) == package and not told.specifier.contains(version, prereleases=True):
                raise ParityError(
                    "constraints-unmet",
                    f"{self.path} wants {line}, and environments borrow {package} {version}",
                    hint=f"leave {package} out, or name with --python an interpreter that has this {package}",
                )

    def explain(self, complaint: str) -> None:
        """Raise ParityError `constraints-unmet` where a resolver's complaint is that it finds no solution."""
        if "No solution found" in complaint:
            raise ParityError(
                "constraints-unmet",
                f"the release cannot be resolved under {self.path}: {' '.join(complaint.split())}",
                hint="widen the constraints that are named here; without --subject-constraints there are none",
            )


def read_constraints(path: Path) -> Constraints:
    """Return the constraints of a file. Raises ParityError `constraints-missing` or `constraints-malformed`."""
    lines = []
    for number, line in enumerate(_read(path, LINES).splitlines(), start=1):
        told = line.partition(" #")[0].strip()
        if not told or told.startswith("#"):
            continue
        try:
            requirement = Requirement(told)
        except InvalidRequirement as error:
            raise _malformed(path, f"line {number}: {told!r} is no constraint: {error}", LINES) from error
        if requirement.url or requirement.extras:
            raise _malformed(
                path, f"line {number}: a constraint is a name and versions, without address or extras", LINES
            )
        lines.append(told)
    return Constraints(path, "".join(f"{line}\n" for line in lines))


def read_lock(path: Path) -> str:
    """Return the text of a `mix.lock`. Raises ParityError `constraints-missing` or `constraints-malformed`.

    Only that it looks like one is checked here: an Elixir map that locks something. Mix reads it, and complains.
    """
    content = _read(path, LOCK)
    if re.fullmatch(r'\s*%\{\s*"[a-z0-9_]+":\s*\{.*\}\s*', content, re.DOTALL) is None:
        raise _malformed(path, "is no mix.lock", LOCK)
    return content


def _read(path: Path, hint: str) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(path, f"is no text: {error}", hint) from error
    except OSError as error:
        raise ParityError(
            "constraints-missing", f"{path} cannot be read: {error.strerror or error}", hint=hint
        ) from error


def _malformed(path: Path, why: str, hint: str) -> ParityError:
    return ParityError("constraints-malformed", f"{path} {why}", hint=hint)

"""Where the scenarios, contracts, losses, ledgers and golden traces are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import ParityError


@dataclass(frozen=True, slots=True)
class Locations:
    """The folder that holds `fixtures/` and `golden/`, and the folder of the user's own scenarios, if there is one.

    In an installed wheel `root` is `harness/bundled`, in a checkout the repository's root. `own` holds `scenarios/`,
    `losses/` and `golden/` (docs/own-scenarios.md).
    """

    root: Path
    own: Path | None = None

    @property
    def fixtures(self) -> Path:
        """Contracts, scenarios, losses and ledgers."""
        return self.root / "fixtures"

    @property
    def golden(self) -> Path:
        """Golden traces, their raw arrays, and the certificates."""
        return self.root / "golden"

    @property
    def timeline(self) -> Path:
        """The contract timeline of the official SDK."""
        return self.fixtures / "contracts" / "tinker.toml"

    @property
    def operation_vectors(self) -> Path:
        """Values and gradients of every loss operation, computed independently in float64."""
        return self.fixtures / "losses" / "ops"

    @property
    def revisions(self) -> Path:
        """The revisions of the suite; the folder need not exist."""
        return self.fixtures / "revisions"

    @property
    def revision(self) -> int:
        """The number of the newest revision of the suite, 0 where none is released; told by the names of files."""
        names = (path.stem for path in self.revisions.glob("*.json"))
        return max((int(name) for name in names if name.isascii() and name.isdecimal()), default=0)

    @property
    def costs(self) -> Path:
        """How long scenarios took, for balanced shards; the file need not exist."""
        return self.fixtures / "costs.json"

    def ledger(self, sdk: str) -> Path:
        """Return where the known divergences of the SDK called `sdk` are listed; the file need not exist."""
        return self.fixtures / "ledgers" / f"{sdk}.toml"

    def certificate(self, contract: str) -> Path:
        """Return where the certificate of the golden traces of `contract` is kept."""
        return self.golden / "certified" / f"{contract}.json"

    def refuse_installed(self) -> None:
        """Raise ParityError `root-read-only` where `root` is part of the installed package: it is never written to."""
        if self.root == _BUNDLED:
            raise ParityError(
                "root-read-only",
                f"{self.root} is part of the installed package, which is never written to",
                hint="--root names a checkout, or a copy of fixtures/ and golden/, that may be written to; --fixtures "
                "a folder of your own scenarios",
            )


_HERE = Path(__file__).resolve().parent
_BUNDLED = _HERE / "bundled"


def locate(root: Path | None = None, own: Path | None = None) -> Locations:
    """Return the locations below `root`, or below what was installed with the harness.

    `own` is the folder of the user's own scenarios. Raises ParityError `root-missing` when there is no `fixtures`
    folder below `root`, `fixtures-missing` when `own` holds neither scenarios nor losses.
    """
    if root is None:
        root = _BUNDLED if _BUNDLED.is_dir() else _HERE.parent
    if not (root / "fixtures").is_dir():
        raise ParityError(
            "root-missing",
            f"{root} holds no fixtures folder",
            hint="--root names the folder that holds fixtures/ and golden/; without it the installed ones are used",
        )
    if own is not None and not any((own / name).is_dir() for name in ("scenarios", "losses")):
        raise ParityError(
            "fixtures-missing",
            f"{own} holds neither scenarios/ nor losses/",
            hint="--fixtures, or fixtures in parity.toml, names the folder of your own scenarios; see "
            "docs/own-scenarios.md",
        )
    return Locations(root=root.resolve(), own=None if own is None else own.resolve())

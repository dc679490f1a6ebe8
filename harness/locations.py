"""Where the scenarios, contracts, losses, ledgers and golden traces are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import ParityError


@dataclass(frozen=True, slots=True)
class Locations:
    """The folder that holds `fixtures/` and `golden/`.

    In an installed wheel that is `harness/bundled`, in a checkout the repository's root.
    """

    root: Path

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

    def ledger(self, sdk: str) -> Path:
        """Return where the known divergences of the SDK called `sdk` are listed; the file need not exist."""
        return self.fixtures / "ledgers" / f"{sdk}.toml"

    def certificate(self, contract: str) -> Path:
        """Return where the certificate of the golden traces of `contract` is kept."""
        return self.golden / "certified" / f"{contract}.json"


def locate(root: Path | None = None) -> Locations:
    """Return the locations below `root`, or below what was installed with the harness.

    Raises ParityError `root-missing` when there is no `fixtures` folder below it.
    """
    if root is None:
        here = Path(__file__).resolve().parent
        bundled = here / "bundled"
        root = bundled if bundled.is_dir() else here.parent
    if not (root / "fixtures").is_dir():
        raise ParityError(
            "root-missing",
            f"{root} holds no fixtures folder",
            hint="--root names the folder that holds fixtures/ and golden/; without it the installed ones are used",
        )
    return Locations(root=root.resolve())

"""Drives one deliberately wrong client, or lists them all.

`driver.py --list` writes the catalogue as JSON; `driver.py NAME` speaks the driver protocol for that client.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Executor
from dataclasses import dataclass

import msgspec
from catalogue import MUTANTS
from mutant import CONSEQUENCES, Mutant

from harness.contracts.timeline import load_timeline
from harness.drivers.reference.serving import hello_of, serve
from harness.locations import locate
from harness.reference.behaviour import behaviour_of
from harness.reference.client import ReferenceClient


@dataclass(frozen=True, slots=True)
class WrongClients:
    """Makes the wrong client for each run."""

    mutant: Mutant

    def __call__(self, base_url: str, api_key: str, workers: Executor) -> ReferenceClient:
        """Return the client of one run."""
        contract = load_timeline(locate().timeline).point(self.mutant.contract)
        behaviour = self.mutant.change(behaviour_of(contract))
        return self.mutant.client(base_url, api_key, behaviour, workers=workers)


def catalogue() -> list[dict[str, object]]:
    """Return what the self-test needs to know of each mutant."""
    return [
        {
            "name": mutant.name,
            "says": mutant.says,
            "because": mutant.because,
            "contract": mutant.contract,
            "scenarios": list(mutant.scenarios),
            "reddens": sorted(mutant.reddens),
            "silences": sorted(mutant.silences),
            "follows": sorted(set().union(*(CONSEQUENCES.get(check, ()) for check in mutant.reddens))),
            "equivalent": mutant.equivalent,
        }
        for mutant in MUTANTS.values()
    ]


def main(arguments: list[str]) -> int:
    """Serve the mutant called `arguments[0]`."""
    if arguments == ["--list"]:
        sys.stdout.write(json.dumps(catalogue()) + "\n")
        return 0
    if len(arguments) != 1 or arguments[0] not in MUTANTS:
        sys.stderr.write(f"usage: driver.py --list | NAME, one of {', '.join(sorted(MUTANTS))}\n")
        return 2
    mutant = MUTANTS[arguments[0]]
    contract = load_timeline(locate().timeline).point(mutant.contract)
    hello = hello_of(contract)
    serve(WrongClients(mutant), msgspec.structs.replace(hello, sdk=msgspec.structs.replace(hello.sdk, name="mutant")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

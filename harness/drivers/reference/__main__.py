"""Starts the driver: finds the contract, takes stdin and stdout for the protocol, serves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.contracts.timeline import load_timeline
from harness.drivers.reference.serving import ContractClients, hello_of, serve
from harness.errors import ParityError
from harness.locations import locate
from harness.reference.behaviour import behaviour_of


def main(arguments: list[str]) -> int:
    """Serve the reference client under one contract; 2 when there is no such contract."""
    parser = argparse.ArgumentParser(prog="python -m harness.drivers.reference")
    parser.add_argument("--contract", required=True, help="a point on the timeline: tinker-0.38.0")
    parser.add_argument("--root", type=Path, default=None, help="the folder that holds fixtures/")
    options = parser.parse_args(arguments)
    try:
        contract = load_timeline(locate(options.root).timeline).point(options.contract)
    except ParityError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    serve(ContractClients(behaviour_of(contract)), hello_of(contract))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

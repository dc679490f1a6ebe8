"""Starts the driver: `python -s -B -P driver.py [--source DIR]`.

`--source` names a directory that goes first on the path of imports: the SDK in it is driven. The modules of this
folder are imported under a name of their own, without putting anything on that path: nothing of the harness can
shadow a module of the SDK, or be imported by it.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType


def take_stdout() -> int:
    """Keep the protocol's descriptor, and point fd 1 at stderr: what the SDK prints cannot reach the runner."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # not buffered apart, so that nothing printed is lost at the end
    return descriptor


def take_stdin() -> int:
    """Keep the protocol's descriptor, and give fd 0 nothing to read."""
    descriptor = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return descriptor


def main(arguments: list[str]) -> None:
    """Take the descriptors, arrange the imports, and serve until stdin ends."""
    commands, answers = take_stdin(), take_stdout()
    if arguments[:1] == ["--source"]:
        sys.path.insert(0, arguments[1])
    drivers = ModuleType("parity_drivers")
    drivers.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["parity_drivers"] = drivers
    importlib.import_module("parity_drivers.tinker.service").serve(commands, answers)


if __name__ == "__main__":
    main(sys.argv[1:])

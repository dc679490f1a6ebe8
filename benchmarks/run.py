"""Every measurement in one run, as ratios.

    python benchmarks/run.py [--sdk SDK] [--only PART]

PART is one of suite, checks, posts, bodies, compare, sizes, plugin. `--sdk` (repeatable; default tinker==0.38.0 and
reference) says whose suite time is measured. What is compared is measured in turn and medians are taken, so that other
load on the machine changes absolute numbers more than ratios. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Mapping

from comparing import checks, comparing
from plugin import unused_plugin
from posts import large_bodies, small_posts
from sizes import growing
from suite_time import suite_time


def main(arguments: list[str]) -> int:
    """Print the measurements that were asked for."""
    parser = argparse.ArgumentParser(description="The speed of parity, as ratios.")
    parser.add_argument("--sdk", action="append", help="whose suite time (default: tinker==0.38.0 and reference)")
    parser.add_argument("--rounds", type=int, default=3, help="how often the suite is run (default: 3)")
    parts = ("compare", "checks", "posts", "bodies", "sizes", "plugin", "suite")
    parser.add_argument("--only", action="append", choices=parts, help="repeatable")
    options = parser.parse_args(arguments)
    sdks = options.sdk or ["tinker==0.38.0", "reference"]

    def suites() -> Iterator[str]:
        for sdk in sdks:
            yield from suite_time(sdk, rounds=options.rounds)

    measured: Mapping[str, Callable[[], Iterator[str]]] = {
        "compare": comparing,
        "checks": checks,
        "posts": small_posts,
        "bodies": large_bodies,
        "sizes": growing,
        "plugin": unused_plugin,
        "suite": suites,
    }
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in options.only or parts:
        print(f"\n{name}", flush=True)
        for line in measured[name]():
            print(f"  {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

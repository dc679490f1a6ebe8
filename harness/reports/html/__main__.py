"""`python -m harness.reports.html FIRST SECOND`: whether two pages say the same, whichever zlib wrote them.

Exit status 0 where all but the compression is the same, 1 where something differs, 2 where a file is no page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.reports.html.block import unfolded


def main(arguments: list[str]) -> int:
    """Compare the two pages that are named, and say on stdout where they differ."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m harness.reports.html FIRST SECOND\n")
        return 2
    try:
        (frame, data), (other_frame, other_data) = (unfolded(Path(name).read_text("utf-8")) for name in arguments)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    differing = ["the page around the data"] if frame != other_frame else []
    differing += [
        key for key in sorted({*data, *other_data}) if _spelled(data.get(key)) != _spelled(other_data.get(key))
    ]
    if differing:
        sys.stdout.write(f"{arguments[0]} and {arguments[1]} differ: {', '.join(differing)}\n")
    return int(bool(differing))


def _spelled(value: Any) -> str:
    """Return a value so that 1, 1.0 and true are three, as they are in the page."""
    return repr(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

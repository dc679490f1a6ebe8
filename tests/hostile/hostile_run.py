"""`parity run` with a driver called `hostile`, little patience, and a note of its memory: the rest is what users run.

Run as `python hostile_run.py FOLDER MODE ARGUMENTS...`; the arguments are those of `parity`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from harness.cli import main
from harness.drivers import registry
from harness.drivers.failure import Patience
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine import prepare as preparing

FOLDER, MODE = Path(sys.argv[1]), sys.argv[2]
PATIENCE = Patience(hello=1.0 if MODE else 30.0, answer=1.0, end=3.0, last_words=1.0)


def hostile(_subject: registry.Subject) -> DriverSpec:
    """Return how the hostile driver is started."""
    driver = Path(__file__).with_name("hostile_driver.py")
    argv = (sys.executable, "-S", "-E", str(driver), str(FOLDER), MODE)
    return DriverSpec(argv=argv, name="hostile", version="1.0", env=base_environment())


registry.DRIVERS = {**registry.DRIVERS, "hostile": hostile}
_prepare = preparing.prepare
# It computes no losses: what it could prove about them is left out.
preparing.prepare = lambda *given, **options: replace(_prepare(*given, **options), patience=PATIENCE, vectors=())
try:
    main(sys.argv[3:], prog_name="parity")
finally:
    # Not ru_maxrss: Linux starts it at what the process that started this one took, the tests themselves.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert peak is not None
    (FOLDER / "megabytes").write_text(str(int(peak[1]) // 1024))

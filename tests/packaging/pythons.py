"""`make pythons`: what needs no torch, on every Python from 3.11 to 3.13 that is found here.

Each gets an environment with parity and its dependencies, torch left out, and runs the tests below. A version that is
not found is named as such; it is not counted as tested. Not covered: the reference and the drivers, which need torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import uv

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
TESTS = (
    "tests/checks", "tests/cli/test_help.py", "tests/contracts", "tests/golden", "tests/ledger", "tests/mock_server",
    "tests/reports", "tests/suite/test_suite_data.py", "tests/suite/test_suite_invalid.py",
    "tests/suite/test_suite_loader.py", "tests/test_architecture.py", "tests/test_errors_documented.py",
    "tests/test_schemas.py", "tests/trace",
)  # fmt: skip
NEEDS_TORCH = ("tests/mock_server/test_mock_model.py",)  # compares the server's arithmetic with torch's


def find(version: str) -> str | None:
    """Return an interpreter of a version: one that pyenv has, or that uv finds; None where there is none."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in sorted(kept.glob(f"{version}.*/bin/python")):
        return str(python)
    told = subprocess.run(
        [uv.find_uv_bin(), "--quiet", "python", "find", "--no-project", "--no-python-downloads", version],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if told.returncode else told.stdout.strip()


def main() -> int:
    """Test every version; 1 when one fails or none is found."""
    failed, tested = [], []
    for version in VERSIONS:
        tool = [uv.find_uv_bin(), "--quiet"]
        found = find(version)
        if found is None:
            sys.stdout.write(f"Python {version}: not found here, not tested\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            overrides = Path(folder) / "overrides.txt"
            overrides.write_text('torch ; sys_platform == "never"\n', "utf-8")
            python = str(Path(folder) / "venv" / "bin" / "python")
            subprocess.run(
                [*tool, "venv", "--no-project", "--python", found, str(Path(python).parents[1])],
                check=True,
            )
            subprocess.run(
                [*tool, "pip", "install", "--python", python, "--overrides", str(overrides), "-e", f"{ROOT}[respx]",
                 "hypothesis", "jsonschema", "pytest"],
                check=True,
            )  # fmt: skip
            command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
            command += [f"--ignore={test}" for test in NEEDS_TORCH]
            sys.stdout.write(f"Python {version}, without torch\n")
            sys.stdout.flush()
            tested.append(version)
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(version)
    sys.stdout.write(f"tested: {', '.join(tested) or 'none'}; failed: {', '.join(failed) or 'none'}\n")
    return 1 if failed or not tested else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line explains itself, at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = {
    "run",
    "gate",
    "diff",
    "plan",
    "merge",
    "suite",
    "list",
    "show",
    "serve",
    "record",
    "import-har",
    "check",
    "work",
    "golden",
    "certify",
    "explain",
    "repro",
    "selftest",
    "completion",
    "new-driver",
    "check-driver",
    "drive",
}
SUBJECT = {"--python", "--subject-constraints"}
REPORTS = {"--json", "--junit", "--markdown", "--html", "--badge", "--support", "--annotations", "--trace"}
OPTIONS = {
    ("run",): {
        "--sdk", "--sdk-path", "--driver", "--contract", "-k", "--jobs", *REPORTS, "--timeout", "--replay",
        "--slow", "--record", "--ledger", "--update-ledger", "--fixtures", *SUBJECT, "--suite", "--shard", "--help",
    },
    ("gate",): {
        "--sdk", "--sdk-path", "--driver", "--contract", "-k", "--jobs", *REPORTS, "--timeout", "--replay",
        "--slow", "--ledger", "--baseline", "--fixtures", *SUBJECT, "--suite", "--shard", "--help",
    },
    ("work",): {
        "--sdk", "--sdk-path", "--driver", "--contract", "-k", "--jobs", "--timeout", "--replay",
        "--slow", "--ledger", "--fixtures", *SUBJECT, "--suite", "--shard", "--help",
    },
    ("diff",): {"-k", "--json", "--help"},
    ("plan",): {"--shards", "--format", "-k", "--contract", "--slow", "--fixtures", "--help"},
    ("merge",): {*REPORTS, "--help"},
    ("suite",): {"--help"},
    ("suite", "release"): {"--help"},
    ("suite", "verify"): {"--help"},
    ("suite", "costs"): {"--help"},
    ("list",): {"-k", "--fixtures", "--help"},
    ("show",): {"--fixtures", "--help"},
    ("explain",): {"--help"},
    ("completion",): {"--help"},
    ("new-driver",): {"--name", "--help"},
    ("check-driver",): {"--sdk", "--sdk-path", "--seconds", "--json", "--help"},
    ("drive",): {"--print", "--attach", "--contract", "--base-url", "--timeout", *REPORTS, "--fixtures", "--help"},
    ("repro",): {"--sdk", "--sdk-path", "--driver-lines", "--base-url", "--out", "--fixtures", "--help"},
    ("serve",): {"--port", "--scenario", "--replay", "--contract", "--help"},
    ("record",): {"--upstream", "--out", "--port", "--no-scrub", "--help"},
    ("import-har",): {"--out", "--no-scrub", "--help"},
    ("check",): {
        "--sdk", "--ledger", "--no-stale", "--scenario", "--contract", "--fixtures", *REPORTS, "--help",
    },
    ("golden",): {"--help"},
    ("golden", "emit"): {"-k", "--fixtures", "--help"},
    ("golden", "verify"): {"--fixtures", "--help"},
    ("certify",): {"--contract", "--check", "--jobs", "--help"},
    ("selftest",): {"-k", "--jobs", "--repeat", "--slow", "--sdk", "--seed", "--help"},
}  # fmt: skip


def _parity(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_names_every_command():
    """`parity --help` lists the commands and says what exit statuses mean."""
    done = _parity("--help")
    assert done.returncode == 0
    listed = done.stdout.partition("Commands:\n")[2]
    assert {line.split()[0] for line in listed.splitlines() if line.strip()} == COMMANDS
    assert "Exit status" in done.stdout


@pytest.mark.parametrize("command", OPTIONS, ids=" ".join)
def test_every_option_is_documented(command):
    """Each command's help names exactly these options, each with a sentence."""
    done = _parity(*command, "--help")
    assert done.returncode == 0
    rows = done.stdout.partition("Options:\n")[2].partition("Commands:\n")[0].splitlines()
    starts = [row for row in rows if row.startswith("  -")]
    names = {name.rstrip(",") for row in starts for name in row.split() if name.startswith("-")}
    assert names - {"-h"} == OPTIONS[command]
    text = " ".join(row.strip() for row in rows)
    for name in OPTIONS[command]:
        assert text.partition(name)[2].strip(" ,"), f"{name} has no text"


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help"), ("certify", "--help")])
def test_help_loads_nothing_heavy(arguments):
    """What help needs is click; torch, numpy and the server are for commands that run."""
    program = (
        "import sys\n"
        "from harness.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = names & {'torch', 'numpy', 'starlette', 'uvicorn', 'httpx', 'google', 'deepdiff', 'mock_server'}\n"
        "light = ('harness.cli', 'harness.errors', 'harness.locations', 'harness.settings')\n"
        "own = {name for name in sys.modules if name.startswith('harness.') and not name.startswith(light)}\n"
        "print('HEAVY', sorted(heavy), 'OWN', sorted(own), 'ALL', len(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    told = done.stdout.splitlines()[-1]
    assert "HEAVY [] OWN []" in told
    assert int(told.split()[-1]) < 350


def test_unknown_options_and_commands_exit_with_2():
    """What the parser refuses could not be run."""
    assert _parity("run", "--sdk", "reference", "--nonsense").returncode == 2
    assert _parity("nonsense").returncode == 2
    assert _parity("run").returncode == 2

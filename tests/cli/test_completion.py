"""The shell completes what can be typed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.checks.causes import CAUSES
from harness.cli.completion import SHELLS

PROGRAM = "from harness.cli import main\nmain(prog_name='parity')"


def _complete(*words: str) -> list[str]:
    """Return what bash is offered for the last of `words`."""
    environment = {
        **os.environ,
        "_PARITY_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["parity", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_variable_that_asks_for_completions(shell):
    """`parity completion SHELL` prints what click understands, and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "completion", shell], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"_PARITY_COMPLETE={shell}_complete" in done.stdout
    assert not done.stderr


def test_the_script_is_good_bash():
    """Bash reads the script without a complaint, and knows how to complete parity afterwards."""
    script = subprocess.run(
        [sys.executable, "-m", "harness", "completion", "bash"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p parity"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("complete ")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sh",), ["show"]),
        (("show", "custom/sum-l"), ["custom/sum-literal"]),
        (("serve", "--scenario", "chunks/count-20"), ["chunks/count-2049"]),
        (("explain", "opposite"), ["opposite-sign"]),
        (("explain", "garb"), ["garbage"]),
        (("run", "--contract", "tinker-0.38"), ["tinker-0.38.0"]),
        (("gate", "--sdk", "tinkex"), ["tinkex"]),
        (("check-driver", "--sdk", "tinkex"), ["tinkex"]),
        (("certify", "--contract", "tinker-0.7"), ["tinker-0.7.0"]),
        (("new-driver", "j"), ["javascript"]),
        (("repro", "custom/sum-literal", "--sdk", "tinker==0.38"), ["tinker==0.38.0"]),
        (("repro", "custom/sum-literal", "--sdk", "ref"), ["reference"]),
        (("completion", "f"), ["fish"]),
    ],
    ids=" ".join,
)
def test_what_is_offered(words, offered):
    """Commands, scenarios, SDKs and codes are completed from their beginning."""
    assert _complete(*words) == offered


def test_contracts_are_offered_newest_first():
    """The contract that most people mean comes first."""
    found = _complete("serve", "--contract", "")
    assert found[0] == "tinker-0.38.0"
    assert found[-1] == "tinker-0.7.0"


def test_every_cause_is_offered():
    """The codes that `parity explain` knows are all there."""
    assert set(CAUSES) <= set(_complete("explain", ""))


def test_a_folder_without_fixtures_offers_nothing(tmp_path):
    """A completer never fails: what is wrong is said by the command itself."""
    assert _complete("--root", str(tmp_path), "show", "") == []

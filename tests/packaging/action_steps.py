"""`make action`: the steps of action.yml, run as GitHub runs them, in a scratch checkout of an SDK.

One checkout is a release of the official SDK, unpacked. Gated as it is, it has to hold; with a sign turned it has to
fail. Another is an SDK that parity does not know, with a driver of its own. Of the language of actions only what
action.yml uses is understood; the rest is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RELEASE = "0.38.0"
SELECT = "custom/sum-literal or custom/nonlinear or chunks/count-1025 or training/five-steps-sgd-awaited"
WRONG = ("tinker/lib/public_interfaces/training_client.py", re.compile(r'(?<="weights": )-(?=grad)'))
"""Where weights are made of gradients, and the sign that is taken away there."""

DRIVER = "python3 driver/driver.py"
"""How the driver of an SDK that parity does not know is started."""

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""What `shell: bash` of a step means."""


def evaluate(text: str, values: Mapping[str, str]) -> str:
    """Replace each expression by its value. Raises KeyError for one that is not in `values`."""
    return _EXPRESSION.sub(lambda found: values[found[1]], text)


def run_action(
    checkout: Path, temporary: Path, given: Mapping[str, str], *, installed: bool = False
) -> tuple[int, dict[str, str], str]:
    """Run the steps in `checkout`; return the status of the first that fails, or 0, the outputs, and what was printed.

    Where parity is `installed` in `temporary` already, the step that does it is left out: it takes its time.
    Raises KeyError for an input that is unknown, or required and not given.
    """
    action: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    assert set(given) <= set(action["inputs"]), "an input that the action does not have"
    inputs = {
        name: given[name] if declared.get("required") else given.get(name, declared.get("default", ""))
        for name, declared in action["inputs"].items()
    }
    temporary.mkdir(parents=True, exist_ok=True)
    values = {f"inputs.{name}": value for name, value in inputs.items()}
    values |= {"github.action_path": str(ROOT), "runner.temp": str(temporary)}
    printed, status = [], 0
    for number, step in enumerate(action["runs"]["steps"]):
        assert set(step) <= {"name", "id", "shell", "env", "run"}, f"a step with {set(step)}"
        assert step["shell"] == "bash"
        if installed and step["name"].startswith("Install"):
            continue
        files = {name: temporary / f"{name.lower()}-{number}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("", encoding="utf-8")  # what an earlier case left is not of this one
        script = temporary / f"step-{number}.sh"
        script.write_text(step["run"], encoding="utf-8")
        done = subprocess.run(
            [*_SHELL, str(script)],
            cwd=checkout,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("PARITY", "VIRTUAL_ENV"))},
                **{name: str(file) for name, file in files.items()},
                **{name: evaluate(value, values) for name, value in step.get("env", {}).items()},
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        printed += [f"-- {step['name']}\n", done.stdout, files["GITHUB_STEP_SUMMARY"].read_text("utf-8")]
        for line in files["GITHUB_OUTPUT"].read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step['id']}.outputs.{name}"] = value
        if done.returncode:
            status = done.returncode
            break
    outputs = {
        name: evaluate(declared["value"], values) if "steps.gate.outputs.status" in values else ""
        for name, declared in action["outputs"].items()
    }
    return status, outputs, "".join(printed)


def unpack(folder: Path) -> None:
    """Put the sources of the release into `folder`, as a checkout has them."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
         "--target", str(folder), f"tinker=={RELEASE}"],
        check=True,
    )  # fmt: skip


def turn_the_sign(folder: Path) -> None:
    """Make the checkout send the gradient instead of its negative."""
    file = folder / WRONG[0]
    text = file.read_text("utf-8")
    changed, count = WRONG[1].subn("", text)
    assert count == 1, f"{count} places look like the sign of the weights"
    file.write_text(changed, encoding="utf-8")


def write_own(folder: Path) -> None:
    """Make a repository of an SDK that parity does not know: a driver, as parity writes it, and a parity.toml."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "harness", "new-driver", "python", str(folder / "driver"), "--name", "my-sdk"],
        cwd=ROOT, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    (folder / "parity.toml").write_text(f"[driver]\ncommand = '{DRIVER}'\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Case:
    """A checkout, inputs of the action, and what is to come of them."""

    title: str
    checkout: str
    given: Mapping[str, str]
    status: int
    annotated: bool


def cases() -> list[Case]:
    """Return what is run, in order: later cases find the reports of earlier ones in their checkout."""
    python = {"python": sys.executable}
    released = {**python, "sdk": f"tinker=={RELEASE}", "sdk-path": ".", "select": SELECT}
    # Were the quotes kept, or the second line lost, everything would be run, or nothing.
    several = {**python, "arguments": "--jobs 1\n-k 'session/lifecycle and not (custom or chunks)'\n"}
    return [
        Case("a checkout that is right", "sdk", released, status=0, annotated=False),
        Case("a checkout that is wrong", "wrong", released, status=1, annotated=True),
        Case("a driver of its own, in parity.toml", "own", several, status=0, annotated=False),
        Case("a driver of its own, given", "bare", {**several, "driver": DRIVER}, status=0, annotated=False),
        Case("an SDK that parity does not know", "own", {**several, "sdk": "my-sdk"}, status=2, annotated=False),
        Case("a quote that is never closed", "own", {**python, "arguments": "-k 'session"}, status=2, annotated=True),
        Case("nothing to drive", "sdk", {**python, "select": SELECT}, status=2, annotated=False),
    ]


def wrong_about(case: Case, checkout: Path, temporary: Path, *, installed: bool) -> str:
    """Run a case; return what is not as it should be, or ""."""
    status, outputs, printed = run_action(checkout, temporary, case.given, installed=installed)
    sys.stdout.write(f"== {case.title}\n{printed}\n")
    named = {name for name in ("report", "html") if outputs[name]}
    there = {name for name in named if (checkout / outputs[name]).is_file()}
    summed_up = "**parity could not be run**" in printed
    seen = (status, outputs["status"], named, there, "::error" in printed, summed_up)
    reports = {"report", "html"} if case.status < 2 else set()
    meant = (case.status, str(case.status), reports, reports, case.annotated, case.status == 2)
    return "" if seen == meant else f"status, reports, annotations and summary are {seen} instead of {meant}"


def main() -> int:
    """Run every case; return 0 when each ends as it should."""
    with tempfile.TemporaryDirectory(prefix="parity-action-") as scratch:
        folder = Path(scratch)
        unpack(folder / "sdk")
        shutil.copytree(folder / "sdk", folder / "wrong")
        turn_the_sign(folder / "wrong")
        write_own(folder / "own")
        shutil.copytree(folder / "own", folder / "bare")
        (folder / "bare" / "parity.toml").unlink()
        for number, case in enumerate(cases()):
            if wrong := wrong_about(case, folder / case.checkout, folder / "runner", installed=number > 0):
                sys.stdout.write(f"{wrong}\n")
                return 1
    sys.stdout.write("the steps of action.yml do what they should\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What the command line of pytest asks for: options of `parity work`, and ids of checks."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from itertools import pairwise

import pytest

_VALUED = ("--parity-sdk", "--parity-driver", "--parity-sdk-path", "--parity-args")
_ID = "parity::"


def refuse_taken_for_paths(config: pytest.Config) -> None:
    """Refuse a value that pytest has taken for a path of tests.

    pytest looks for its rootdir and its settings before it knows the options of plugins. Of `--parity-sdk-path DIR` it
    knows no option then, only a folder to start from: it would read DIR's settings instead of the project's, and write
    its cache there. A value after `=` is never taken for a path, and neither is one that does not exist.

    Raises UsageError.
    """
    early = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    for option, value in pairwise(early):
        place = config.invocation_params.dir / value.partition("::")[0]
        if option in _VALUED and os.path.exists(place):  # noqa: PTH110 - what is too long for a path does not exist
            raise pytest.UsageError(
                f"{option} {value}: pytest takes {value} for a path of tests when it looks for its rootdir and its "
                f"settings; write {shlex.quote(f'{option}={value}')}"
            )


def refuse_incomplete(config: pytest.Config) -> None:
    """Refuse an empty value, and options that say how something is driven without one that says what.

    Raises UsageError.
    """
    for option in ("--parity-sdk", "--parity-driver", "--parity-sdk-path"):
        if config.getoption(option) == "":
            raise pytest.UsageError(f"{option} is empty; is a variable not set?")
    if not any(config.getoption(option) for option in ("--parity", "--parity-sdk", "--parity-driver")):
        raise pytest.UsageError(
            "nothing says what is driven: add --parity, --parity-sdk=SDK or --parity-driver=COMMAND"
        )


def take_ids(config: pytest.Config) -> tuple[tuple[str, ...], ...]:
    """Take the ids of checks out of what pytest is to collect, and return their names: among files it would find none.

    `parity::custom/sum-literal` names a scenario, `parity::custom/sum-literal::weights.values` a check of it.
    """
    ids = [each for each in config.args if each.startswith(_ID)]
    config.args[:] = [each for each in config.args if not each.startswith(_ID)]
    return tuple(tuple(each.split("::")[1:]) for each in ids)


def selected(plan: Sequence[tuple[str, str]], ids: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return what of the plan the ids name, in the plan's order; everything where there is no id.

    Raises UsageError for an id that names nothing.
    """
    if not ids:
        return list(plan)
    for each in ids:
        if not any(pair[: len(each)] == each for pair in plan):
            raise pytest.UsageError(f"not found: {_ID}{'::'.join(each)} (parity plans no such check)")
    return [pair for pair in plan if any(pair[: len(each)] == each for each in ids)]


def work_arguments(config: pytest.Config, *, jobs: int | None) -> list[str]:
    """Return the options of `parity work`: what is driven only where it was said, else parity.toml decides.

    Raises UsageError for arguments whose quotes do not close.
    """
    told = []
    for ours, theirs in (
        ("--parity-sdk", "--sdk"),
        ("--parity-driver", "--driver"),
        ("--parity-sdk-path", "--sdk-path"),
    ):
        if value := config.getoption(ours):
            told += [theirs, str(value)]
    if jobs is not None:
        told += ["--jobs", str(jobs)]
    given = config.getoption("--parity-args") or ""
    try:
        return told + shlex.split(str(given))
    except ValueError as error:
        raise pytest.UsageError(f"--parity-args {given}: {error}") from error

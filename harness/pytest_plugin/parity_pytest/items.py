"""The checks of an SDK as tests of pytest."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .asked import refuse_incomplete, refuse_taken_for_paths, selected, take_ids, work_arguments
from .process import Pair, ParityProcess, ParityProcessError


class CheckFailed(Exception):  # noqa: N818 - pytest shows the name: it failed, it is no error
    """A check does not hold, or could not be judged."""


class ParityPlugin:
    """Collects the checks of what is to be driven, and runs their scenarios in a `parity` process of its own.

    A worker of pytest-xdist has its own plugin and its own process: a scenario runs once per worker at most.
    """

    def __init__(self, config: pytest.Config) -> None:
        refuse_incomplete(config)
        refuse_taken_for_paths(config)
        self._config = config
        self._ids = take_ids(config)
        self._process: ParityProcess | None = None
        self._apart = "PYTEST_XDIST_WORKER" in os.environ

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the checks to what the session collects, after the tests in files."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result = [*(report.result or ()), self._checks(collector)]
        return report

    def _checks(self, session: pytest.Session) -> Checks:
        # Each worker has a process already: one driver in each.
        arguments = work_arguments(self._config, jobs=1 if self._apart else None)
        try:
            self._process = ParityProcess(arguments, folder=self._config.invocation_params.dir)
        except (ParityProcessError, OSError) as error:
            raise pytest.UsageError(f"parity {shlex.join(arguments)}: {error}") from error
        return Checks.from_parent(
            session,
            name="parity",
            nodeid="parity",
            planned=selected(self._process.plan, self._ids),
            process=self._process,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Ask for everything that is left after selection, so that scenarios run side by side."""
        if self._process is not None and not self._apart and not self._config.option.collectonly:
            self._process.want(item.scenario for item in session.items if isinstance(item, ParityCheck))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Ask for the scenario of this check, and of the next one while this one is reported."""
        if self._process is not None:
            self._process.want(each.scenario for each in (item, nextitem) if isinstance(each, ParityCheck))

    def pytest_sessionfinish(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()


class Checks(pytest.Collector):
    """All checks, scenario by scenario."""

    def __init__(self, *, planned: Sequence[Pair], process: ParityProcess, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._planned = planned
        self._process = process

    def collect(self) -> Iterator[pytest.Collector]:
        """Return the scenarios that are planned, in order."""
        scenarios: dict[str, list[str]] = {}
        for scenario, check in self._planned:
            scenarios.setdefault(scenario, []).append(check)
        for scenario, checks in scenarios.items():
            yield Scenario.from_parent(
                self, name=scenario, nodeid=f"parity::{scenario}", checks=checks, process=self._process
            )


class Scenario(pytest.Collector):
    """The checks of one scenario."""

    def __init__(self, *, checks: Sequence[str], process: ParityProcess, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._checks = checks
        self._process = process

    def collect(self) -> Iterator[pytest.Item]:
        """Return its checks, in order."""
        for check in self._checks:
            yield ParityCheck.from_parent(self, name=check, process=self._process)


class ParityCheck(pytest.Item):
    """One check of one scenario."""

    def __init__(self, *, process: ParityProcess, **keywords: Any) -> None:
        super().__init__(**keywords)
        assert self.parent is not None
        self.scenario = self.parent.name
        self._process = process
        self.add_marker("parity")

    def runtest(self) -> None:
        """Take the verdict. Known divergences are expected failures, what the SDK does not offer is skipped."""
        told = self._process.verdict(self.scenario, self.name)
        outcome, message = told["outcome"], str(told.get("message", ""))
        if outcome == "pass":
            return
        if told.get("unscored"):
            pytest.skip(f"unscored: {outcome}: {message}")
        if outcome == "known":
            pytest.xfail(message)
        if outcome == "unsupported" and not told.get("required"):
            pytest.skip(message)
        raise CheckFailed(_shown(told, self._process.arguments))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what the check says, without the stack of this plugin."""
        if isinstance(excinfo.value, CheckFailed | ParityProcessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the check is, for reports: it is in no file."""
        return self.path, None, f"parity::{self.scenario}::{self.name}"


def _shown(told: dict[str, Any], arguments: tuple[str, ...]) -> str:
    lines = [f"{told['outcome'].replace('_', '-')}: {told.get('message', '')}"]
    for name in ("expected", "observed", "where", "cause"):
        if told.get(name):
            lines += [f"{name:<9} {line}" for line in str(told[name]).splitlines()]
    again = shlex.join(["parity", "run", *arguments, "-k", f"{told['scenario']}:{told['check']}"])
    lines.append(f"again     {again}")
    lines.append(f"meaning   parity explain {told.get('cause') or told['check']}")
    return "\n".join(lines)

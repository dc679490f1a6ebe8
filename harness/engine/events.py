"""What happens during a run, as a stream of frozen events. Reports are handlers of this stream and see nothing else."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from harness.checks.verdict import Outcome


class PlannedCheck(Struct, frozen=True):
    """One check of one scenario."""

    scenario: str
    check: str


class RunStarted(Struct, frozen=True, tag=True):
    """The plan is made. Every planned check will have exactly one `CheckJudged`.

    `arguments` are what `parity run` needs to drive the same subject under the same contract again.
    """

    sdk: str
    version: str
    contract: str
    suite: str
    planned: tuple[PlannedCheck, ...]
    jobs: int
    arguments: tuple[str, ...] = ()


class SubjectReady(Struct, frozen=True, tag=True):
    """A driver answered hello: what is really being driven."""

    sdk: dict[str, Any]
    language: str
    runtime: str
    libraries: dict[str, str]
    capabilities: tuple[str, ...]


class ScenarioStarted(Struct, frozen=True, tag=True):
    """A scenario began on a driver."""

    scenario: str


class CheckJudged(Struct, frozen=True, tag=True):
    """The final outcome of one planned check. Sides are always `expected` (golden) and `observed`.

    `cause`, `certainty` and `detail` are those of the verdict.

    `required`: the contract requires the capability that an `unsupported` check lacks, so that it fails the run.
    """

    scenario: str
    check: str
    outcome: Outcome
    message: str = ""
    expected: str = ""
    observed: str = ""
    where: str = ""
    cause: str = ""
    required: bool = False
    certainty: str = ""
    detail: str = ""


class ScenarioFinished(Struct, frozen=True, tag=True):
    """All checks of a scenario are judged.

    `exchange` is the rendered trace, for `--trace`; `around` the few requests next to the first failure; `note` says
    what a rerun found.
    """

    scenario: str
    title: str
    seconds: float
    reruns: int = 0
    note: str = ""
    exchange: str = ""
    around: str = ""


class RunFinished(Struct, frozen=True, tag=True):
    """The end of a run. `interrupted` when the plan was cut short by a signal."""

    seconds: float
    interrupted: bool = False


Event = RunStarted | SubjectReady | ScenarioStarted | CheckJudged | ScenarioFinished | RunFinished

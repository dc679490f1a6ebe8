"""What a run is about, decided before anything is started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.contracts.model import Contract
from harness.drivers.failure import Patience
from harness.drivers.process import DriverProcess
from harness.drivers.protocol import HelloAnswer
from harness.drivers.spec import DriverSpec
from harness.engine.events import Edition, PlannedCheck
from harness.engine.observe import Observation
from harness.ledger import Ledger
from harness.suite.losses.vectors import Vector
from harness.suite.scenario import Loss, Scenario
from harness.trace.model import Trace


@dataclass(frozen=True, slots=True)
class PlannedScenario:
    """One scenario to be run, the checks that were selected, and the golden trace they compare with.

    `stimulus` is the digest of the scenario's stimulus; `timeout` is in seconds, for the whole scenario. `stored`
    returns the golden trace, which may be read from its files at the first call.
    """

    scenario: Scenario
    stimulus: str
    checks: tuple[str, ...]
    stored: Callable[[], Trace]
    timeout: float

    @property
    def golden(self) -> Trace:
        """The golden trace. Raises ParityError `golden-corrupt` where its file turns out to hold none."""
        return self.stored()


class Recorder(Protocol):
    """What keeps the observations of a run (`harness.engine.recorder`)."""

    def begin(self, plan: Plan, hello: HelloAnswer) -> None:
        """Take notice of what is driven."""

    async def pack(self, planned: PlannedScenario, seen: Sequence[Observation], *, seconds: float) -> bytes:
        """Return what was observed in the runs of a scenario, ready to be kept."""
        ...

    def keep(self, planned: PlannedScenario, packed: bytes, *, reruns: int, note: str) -> None:
        """Keep the attempt that is reported."""

    def end(self, *, whole: bool) -> None:
        """Finish; `whole` says whether the run came to its end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs.

    `suite` is one digest over the stimuli that are run. `vectors` are what the driver must compute right before its
    scenarios mean anything; empty skips that. `jobs` is the number of driver processes at most. `rerun`: a scenario
    that does not hold is run again, alone, in a fresh process. `keep_exchange`: `ScenarioFinished` of a failing
    scenario carries its exchange. `pictures`: every scenario that was run has its `ScenarioPictured`. `replay`: the
    server answers with golden's responses instead of computing any; `left_out` are the checks that were asked for and
    make no sense then. `slow` are the checks of slow scenarios, which were not asked for. `arguments` are those of
    `parity run` for the same subject and contract. `recorder` keeps what is observed. `own_contract`: the contract is
    the one that the subject picks. `start` gives a process of the driver that has answered hello, where it is not
    started from `spec`. `unscored` are planned pairs of scenario and check that decide nothing, being later than the
    revision that is scored. `edition` says which suite it is; what follows from the other fields is filled in when the
    run begins.
    """

    spec: DriverSpec
    contract: Contract
    scenarios: tuple[PlannedScenario, ...]
    losses: Mapping[str, Loss]
    suite: str
    ledger: Ledger = field(default_factory=Ledger)
    vectors: tuple[Vector, ...] = ()
    jobs: int = 2
    rerun: bool = True
    keep_exchange: bool = False
    pictures: bool = False
    replay: bool = False
    left_out: tuple[PlannedCheck, ...] = ()
    slow: tuple[PlannedCheck, ...] = ()
    arguments: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)
    recorder: Recorder | None = None
    own_contract: bool = True
    start: Callable[[], Awaitable[DriverProcess]] | None = None
    unscored: frozenset[tuple[str, str]] = frozenset()
    edition: Edition = field(default_factory=Edition)

    @property
    def stimuli(self) -> dict[str, str]:
        """The digests of the stimuli that are run, by scenario."""
        return {planned.scenario.id: planned.stimulus for planned in self.scenarios}

    @property
    def checks(self) -> tuple[PlannedCheck, ...]:
        """Every planned check, in the order reports list them."""
        return tuple(PlannedCheck(planned.scenario.id, check) for planned in self.scenarios for check in planned.checks)

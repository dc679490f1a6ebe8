"""What a run is about, decided before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.contracts.model import Contract
from harness.drivers.process import Patience
from harness.drivers.spec import DriverSpec
from harness.engine.events import PlannedCheck
from harness.ledger import Ledger
from harness.suite.losses.vectors import Vector
from harness.suite.scenario import Loss, Scenario
from harness.trace.model import Trace


@dataclass(frozen=True, slots=True)
class PlannedScenario:
    """One scenario to be run, the checks that were selected, and the golden trace they compare with.

    `stimulus` is the digest of the scenario's stimulus; `timeout` is in seconds, for the whole scenario.
    """

    scenario: Scenario
    stimulus: str
    checks: tuple[str, ...]
    golden: Trace
    timeout: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs.

    `suite` is one digest over the stimuli that are run. `vectors` are what the driver must compute right before its
    scenarios mean anything; empty skips that. `jobs` is the number of driver processes at most. `rerun`: a scenario
    that does not hold is run again, alone, in a fresh process. `keep_exchange`: `ScenarioFinished` of a failing
    scenario carries its exchange. `replay`: the server answers with golden's responses instead of computing any;
    `left_out` are the checks that were asked for and make no sense then. `arguments` are those of
    `parity run` for the same subject and contract.
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
    replay: bool = False
    left_out: tuple[PlannedCheck, ...] = ()
    arguments: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)

    @property
    def checks(self) -> tuple[PlannedCheck, ...]:
        """Every planned check, in the order reports list them."""
        return tuple(PlannedCheck(planned.scenario.id, check) for planned in self.scenarios for check in planned.checks)

"""What a check says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from harness.contracts.model import Contract
from harness.suite.losses.parts import Composition
from harness.suite.scenario import Tolerance
from harness.trace.model import Trace
from mock_server.script import Script

CheckOutcome = Literal["pass", "fail", "not_run"]
Outcome = Literal["pass", "fail", "known", "fixed", "unsupported", "error", "not_run"]


class Verdict(Struct, frozen=True):
    """One judgement over (golden, observed).

    `not_run` means there was nothing to look at; `message` then says why. `where` names the first place of a
    divergence (`fb backward seq 3, datum 17, weights[4]`). `cause` is a code of `harness.checks.causes` where a reason
    can be told, else ""; `certainty` says how sure it is (`certain`, `likely`), `detail` gives its particulars.
    """

    outcome: CheckOutcome
    message: str = ""
    expected: str = ""
    observed: str = ""
    where: str = ""
    cause: str = ""
    certainty: str = ""
    detail: str = ""


class Case(Struct, frozen=True):
    """Everything a check may look at.

    `script` is what the server was told (limits in client/config, the optimizer): the same for both traces.
    `compositions` says what the steps compose of a base and regularizers, by step.
    """

    golden: Trace
    observed: Trace
    contract: Contract
    tolerance: Tolerance
    script: Script = Script()
    compositions: Mapping[str, Composition] = {}


class Check(Struct, frozen=True):
    """A check: its stable id (`family.name`), one sentence on what holds when it passes, and its judge.

    `looks_at` names capabilities of a driver. Where a scenario has something for one of them that the driver does not
    declare, the check is `unsupported` there, while the other checks of the scenario are judged.
    """

    id: str
    says: str
    judge: Callable[[Case], Verdict]
    looks_at: frozenset[str] = frozenset()

"""What happens during a run, as a stream of frozen events. Reports are handlers of this stream and see nothing else."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from harness.checks.verdict import Outcome
from harness.ledger.model import Account as Account

Label = Literal["new", "fixed", "known", "changed", "new-in-suite", "not-comparable"]
"""How a check stands against an earlier report; `harness.gate.labels` says when it is which."""


class PlannedCheck(Struct, frozen=True):
    """One check of one scenario."""

    scenario: str
    check: str


class Shard(Struct, frozen=True):
    """One of `of` parts of a run: the `index`-th, counted from 1.

    `whole` is the digest of everything that the parts together plan (`harness.engine.sharding.digest_of`).
    """

    index: int
    of: int
    whole: str


class Edition(Struct, frozen=True):
    """Which suite a run is about.

    `parity` is the version of parity, `revision` the newest revision of its suite (0: none is released yet), `scored`
    the revision that `--suite` fixed (0: everything is scored). `stimuli` are the digests of the stimuli that are run,
    by scenario. `selection` is the expression of `-k`, or "". `replay` says that golden answered. `shard` is the part
    of the selection that is run, where it is one.
    """

    parity: str = ""
    revision: int = 0
    scored: int = 0
    stimuli: dict[str, str] = {}
    selection: str = ""
    replay: bool = False
    shard: Shard | None = None


class RunStarted(Struct, frozen=True, tag=True):
    """The plan is made. Every planned check will have exactly one `CheckJudged`.

    `arguments` are what `parity run` needs to drive the same subject under the same contract again. `slow` are checks
    of slow scenarios that are selected but not planned, because slow ones were not asked for.
    """

    sdk: str
    version: str
    contract: str
    suite: str
    planned: tuple[PlannedCheck, ...]
    jobs: int
    arguments: tuple[str, ...] = ()
    slow: tuple[PlannedCheck, ...] = ()
    edition: Edition = Edition()


class SubjectReady(Struct, frozen=True, tag=True):
    """A driver answered hello: what is really being driven.

    `libraries` is what the driver told, `dependencies` what the environment that parity built for it was resolved to,
    package by package; empty where parity built none.
    """

    sdk: dict[str, Any]
    language: str
    runtime: str
    libraries: dict[str, str]
    capabilities: tuple[str, ...]
    dependencies: dict[str, str] = {}


class ScenarioStarted(Struct, frozen=True, tag=True):
    """A scenario began on a driver."""

    scenario: str


class CheckJudged(Struct, frozen=True, tag=True):
    """The final outcome of one planned check. Sides are always `expected` (golden) and `observed`.

    `cause`, `certainty` and `detail` are those of the verdict.

    `required`: the contract requires the capability that an `unsupported` check lacks, so that it fails the run.
    `unscored`: the check is later than the revision of the suite that is scored, so that it decides nothing.
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
    unscored: bool = False


class ScenarioFinished(Struct, frozen=True, tag=True):
    """All checks of a scenario are judged.

    `exchange` is the rendered trace, for `--trace`; `around` the few requests next to the first failure; `note` says
    what a rerun found. The scenario was run `runs` times, where it is repeated, and `failed_runs` of them did not hold.
    """

    scenario: str
    title: str
    seconds: float
    reruns: int = 0
    note: str = ""
    exchange: str = ""
    around: str = ""
    runs: int = 1
    failed_runs: int = 0


class PicturedRequest(Struct, frozen=True):
    """One request as the server saw it, times in milliseconds since the run began.

    `kind` is what it is for: `session`, `forward`, `backward` (of a custom loss), `train` (a plain forward_backward),
    `optim`, `state` (saves and loads), `poll` or `other`. `answered_ms` is None where it was never answered.
    """

    connection: str
    route: str
    kind: str
    model: str
    seq_id: int | None
    datums: int
    at_ms: float
    answered_ms: float | None
    status: int | None
    resend: bool


class PicturedChunk(Struct, frozen=True):
    """One request of a pass: its seq_id and how many datums it carries."""

    seq_id: int | None
    datums: int


class PicturedPass(Struct, frozen=True):
    """One phase of one call, or one request without data: what golden sends, and what the subject sent of it."""

    name: str
    kind: str
    model: str
    expected: tuple[PicturedChunk, ...]
    observed: tuple[PicturedChunk, ...]


class PicturedWeights(Struct, frozen=True):
    """A stretch of the weights of custom losses, on both sides, laid end to end in golden's order.

    It begins at the number `first` of `total`, shortly before the first of the `differing` ones; `where` names the
    datum it begins in, and `begins` are the places in the stretch at which another datum begins.
    """

    where: str
    first: int
    total: int
    differing: int
    begins: tuple[int, ...]
    expected: tuple[float, ...]
    observed: tuple[float, ...]


class PicturedLoss(Struct, frozen=True):
    """The loss that a call returned; None on a side that returned none."""

    step: str
    expected: float | None
    observed: float | None


class PicturedUpdate(Struct, frozen=True):
    """One optimizer step of a model: L2 norms of the gradient it found and of the parameters it left, on both sides.

    `difference` is the L2 norm of the difference of the parameters. A side that did not make the step has None.
    """

    model: str
    gradient: tuple[float | None, float | None]
    parameters: tuple[float | None, float | None]
    difference: float | None


class ScenarioPictured(Struct, frozen=True, tag=True):
    """What a scenario looked like, for reports that draw. It comes before its `ScenarioFinished`, where asked for.

    Everything is bounded: `more_requests` and `more_passes` are how many are not in it. `trouble` says why there is
    nothing to be seen of it, or "".
    """

    scenario: str
    requests: tuple[PicturedRequest, ...] = ()
    more_requests: int = 0
    passes: tuple[PicturedPass, ...] = ()
    more_passes: int = 0
    weights: PicturedWeights | None = None
    losses: tuple[PicturedLoss, ...] = ()
    updates: tuple[PicturedUpdate, ...] = ()
    trouble: str = ""


class RecordingOpened(Struct, frozen=True, tag=True):
    """What follows was not observed now: it is a recording, taken on a day by a version of parity.

    `stale` are recorded scenarios that have changed since, or are gone, so that they cannot be judged; `unplanned` are
    scenarios of the suite that the recording knows nothing of.
    """

    taken: str
    parity: str
    stale: tuple[str, ...]
    unplanned: tuple[str, ...]


class LedgerHeld(Struct, frozen=True, tag=True):
    """What each ledger entry was good for that speaks about planned checks."""

    accounts: tuple[Account, ...]


class Labelled(Struct, frozen=True):
    """How one check stands against an earlier report; `said` is the reason where it is not comparable, or changed."""

    scenario: str
    check: str
    label: Label
    said: str = ""


class BaselineHeld(Struct, frozen=True, tag=True):
    """How every check of the run stands against an earlier report.

    Of that report: the SDK's `version`, the `parity` it was made with and the `digest` of the file. `labels` has no
    entry for a check about which nothing has changed that is worth saying. `apart` are sentences about what else is
    different between the two runs: versions, interpreters, dependencies.
    """

    version: str
    parity: str
    digest: str
    labels: tuple[Labelled, ...]
    apart: tuple[str, ...] = ()


class RunFinished(Struct, frozen=True, tag=True):
    """The end of a run. `interrupted` when the plan was cut short by a signal."""

    seconds: float
    interrupted: bool = False


Event = (
    RunStarted
    | RecordingOpened
    | SubjectReady
    | ScenarioStarted
    | CheckJudged
    | ScenarioPictured
    | ScenarioFinished
    | LedgerHeld
    | BaselineHeld
    | RunFinished
)

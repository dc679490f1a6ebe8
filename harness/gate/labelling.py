"""Labels of a run while it runs: what is added to its events when it ends."""

from __future__ import annotations

from harness.engine.events import (
    BaselineHeld,
    CheckJudged,
    Event,
    Labelled,
    RunFinished,
    RunStarted,
    SubjectReady,
)
from harness.gate.labels import Earlier, apart, stand
from harness.gate.reading import refuse_foreign


class Labelling:
    """Adds to the events of a run, just before its end, how it stands against an earlier report."""

    def __init__(self, earlier: Earlier) -> None:
        self.earlier = earlier
        self._started: RunStarted | None = None
        self._subject: SubjectReady | None = None
        self._judged: list[CheckJudged] = []

    def heard(self, event: Event) -> tuple[Event, ...]:
        """Return what is to be told when `event` happened.

        Raises ParityError `report-of-another` at the start of a run that the report has nothing to say about.
        """
        match event:
            case RunStarted():
                refuse_foreign(
                    self.earlier.document,
                    "the baseline",
                    sdk=event.sdk,
                    contract=event.contract,
                    replay=event.edition.replay,
                )
                self._started = event
            case SubjectReady():
                self._subject = event
            case CheckJudged():
                self._judged.append(event)
            case RunFinished() if self._started is not None:
                if event.interrupted:  # what was not reached stands nowhere
                    self._judged = [result for result in self._judged if result.outcome != "not_run"]
                held = BaselineHeld(
                    version=self.earlier.document.sdk.version,
                    parity=self.earlier.document.run.parity,
                    digest=self.earlier.digest,
                    labels=self._labels(self._started),
                    apart=self._apart(self._started),
                )
                return held, event
        return (event,)

    def _labels(self, started: RunStarted) -> tuple[Labelled, ...]:
        found = (
            self.earlier.labelled(
                (result.scenario, result.check),
                stand(result, required=result.required),
                stimulus=started.edition.stimuli.get(result.scenario, ""),
                selection=started.edition.selection,
            )
            for result in self._judged
        )
        return tuple(each for each in found if each is not None)

    def _apart(self, started: RunStarted) -> tuple[str, ...]:
        subject = self._subject
        return apart(
            self.earlier.document,
            version=started.version,
            parity=started.edition.parity,
            revision=started.edition.revision,
            runtime=subject.runtime if subject else "",
            dependencies=subject.dependencies if subject else {},
        )

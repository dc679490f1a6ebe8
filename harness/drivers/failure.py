"""How a driver fails, and how long it is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.drivers.answers import DETAIL_KEPT, shortened

FailureKind = Literal["crash", "garbage", "silence", "driver_error", "flood"]


class DriverFailure(Exception):  # noqa: N818 - it is a finding about the driver, named as reports name it
    """The driver, not the SDK, failed: nothing can be said about the subject.

    `crash`: the process ended or could not be written to. `garbage`: a line that is no answer. `silence`: no answer
    within the deadline; `stacks` has what the process wrote when it was aborted. `driver_error`: the driver says that
    it could not do what was asked (`code: message`, details in `stacks`); only then does the process live on. `flood`:
    it sent the server more than a run may (`give_up`).

    Message and stacks are kept in bounds: every check of a scenario repeats them.
    """

    def __init__(self, kind: FailureKind, message: str, *, stacks: str = "", stderr_tail: str = "") -> None:
        self.message = shortened(message)
        super().__init__(f"{kind}: {self.message}")
        self.kind = kind
        self.stacks = stacks[-DETAIL_KEPT:]
        self.stderr_tail = stderr_tail


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a driver, in seconds.

    `hello`: imports of tensor libraries take seconds. `answer`: beyond the run's own timeout. `evaluate`: operation
    vectors. `leave`: from the answer to a run that ends with `exit` to the end of the process. `end`: each stage of
    stopping. `last_words`: stacks and stderr of a process that is being given up.
    """

    hello: float = 120.0
    answer: float = 15.0
    evaluate: float = 120.0
    leave: float = 10.0
    end: float = 5.0
    last_words: float = 3.0

"""What can be wrong with a driver: stable codes, each a rule of docs/driver-protocol.md that was not kept."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

FINDINGS: Mapping[str, str] = MappingProxyType(
    {
        "hello-unanswered": "hello is answered by what the driver is",
        "hello-malformed": "the answer to hello has every key, in its type",
        "nonce-not-echoed": "the answer to hello has the nonce of its command",
        "protocol-foreign": "the major version of the protocol is the runner's",
        "sdk-unnamed": "sdk.name is lower-case letters, digits, - and _, and sdk.version a version",
        "contract-malformed": "contract is tinker-<release>, or empty",
        "capability-unknown": "a capability is one that the protocol has",
        "stray-output": "nothing but answers is written to stdout",
        "line-too-long": "a line to the runner has at most 16 MiB",
        "answered-twice": "a command is answered once",
        "answer-unasked": "an answer has the id of a command that was sent",
        "bad-line": "a line that is no command is not answered, and does not end the driver",
        "unknown-command": "a command that the driver does not know is answered by driver_error",
        "split-line": "a line may come in pieces, and two in one piece",
        "run-unanswered": "a run is answered by the results of its steps",
        "run-results": "a run has one result for each step that has an id, in order, and last the end's",
        "run-failed": "creating a model on a healthy server succeeds",
        "run-elsewhere": "a run sends its requests to its base_url, with its api_key",
        "unknown-key": "a key that the driver does not know is ignored",
        "unknown-step": "a step that the driver does not know is answered by driver_error",
        "long-line": "a line to the driver may have many megabytes",
        "runs-mixed": "runs in flight at the same time are kept apart, and each is answered",
        "vectors-differ": "losses, metrics and gradients are those of the operation vectors",
        "evaluate-unanswered": "evaluate has one result for each case",
        "unknown-operation": "an operation that the driver does not know is an error of its case alone",
        "number-spelling": "NaN, the infinities and negative zero are strings",
        "server-gone": "a server that cannot be reached is a result, in time",
        "timeout-ignored": "a run is answered when its time is up, whatever hangs",
        "shutdown-unheeded": "shutdown is answered and followed by exit status 0, also when calls hang",
        "end-of-input": "the end of stdin ends the driver at once, also in the middle of a run",
        "termination": "SIGTERM ends the driver",
        "left-behind": "a driver that has ended leaves no process",
    }
)
"""The rule that each finding says was broken."""


class Finding(Struct, frozen=True):
    """One rule that was broken: its code, the exam in which it showed, and what was seen."""

    code: str
    exam: str
    message: str


class Sitting(Struct, frozen=True):
    """One exam: `outcome` is `ok`, `found` or `left-out`; `reason` says why it was left out."""

    exam: str
    says: str
    outcome: str
    reason: str = ""


class Examination(Struct, frozen=True):
    """What came of all exams. `driver` is what it said about itself, empty where it said nothing that can be read."""

    driver: dict[str, object]
    sittings: tuple[Sitting, ...]
    findings: tuple[Finding, ...]

"""What the words of a report mean that are neither cause nor check nor error: outcomes, labels, failures, kinds."""

from __future__ import annotations

from collections.abc import Mapping

OUTCOMES: Mapping[str, str] = {
    "pass": "The check looked, and it held.",
    "fail": "It differs from golden, and the ledger does not say so. It fails the run.",
    "known": "It fails as an entry of the ledger lists it; the entry's reason stands beside it.",
    "fixed": "An entry of the ledger lists it, and it holds: the entry has to go. It fails the run.",
    "unsupported": "The driver does not declare a capability that the check needs. It fails the run where the contract "
    "requires the capability.",
    "error": "The driver failed, not the SDK, and nothing is said about the SDK: crash, garbage, silence, driver_error "
    "or flood, as the message says. It fails the run. `parity check-driver` says what is wrong with a driver.",
    "not_run": "There was nothing to look at, mostly because of what else is red in the scenario, or the run was cut "
    "short. It fails the run.",
}

LABELS: Mapping[str, str] = {
    "new": "It fails, and did not in the baseline.",
    "fixed": "It holds, and did not in the baseline.",
    "known": "The ledger lists it, or it fails of the same as in the baseline.",
    "changed": "It fails in both, for another cause.",
    "new-in-suite": "The baseline's suite did not have the check.",
    "not-comparable": "The stimulus has changed since, or the check was judged on one side only.",
}

FAILURES: Mapping[str, str] = {
    "crash": "The driver's process ended, or could not be written to, before it had answered.",
    "garbage": "A line on the driver's stdout is no answer: something printed there, an unknown id, JSON of another "
    "shape. stdout belongs to the protocol; what is to be read by people goes to stderr.",
    "silence": "The driver did not answer within the scenario's timeout and some seconds. Its stacks are what it wrote "
    "when it was aborted.",
    "driver_error": "The driver says that it could not do what was asked.",
    "flood": "The driver sent the server more than a run may: requests without an end, or too much to keep.",
}

KINDS: Mapping[str, str] = {
    "invalid_input": "The SDK refused the caller's arguments.",
    "loss_failed": "The loss callback raised.",
    "no_gradient": "A datum, or the whole loss, has no gradient.",
    "not_scalar": "The loss is not a scalar.",
    "bad_output": "The server's result could not be used.",
    "client_poisoned": "Refused because an earlier call of this client failed.",
    "request_failed": "The operation failed on the server.",
    "http_status": "An HTTP status that the SDK does not retry, or no more.",
    "transport": "Connection trouble.",
    "timeout": "A time limit of the SDK itself.",
    "cancelled": "The call was cancelled.",
}

ENTRIES: Mapping[str, str] = {
    "unused": "What the entry of the ledger is about was judged, and it excuses nothing of it: the entry has to go. It "
    "fails a run that is not narrowed.",
    "race": "The entry of the ledger fails sometimes: so often it did in this run. It fails nothing.",
}

WORDS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("an outcome of a check", OUTCOMES),
    ("a label against the baseline", LABELS),
    ("how a driver failed", FAILURES),
    ("a kind of error that a call ended with", KINDS),
    ("a word about an entry of the ledger", ENTRIES),
)
"""Every word with its kind; a word may be of several."""

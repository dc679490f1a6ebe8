"""Start and end of a client: which routes it calls to set itself up, per model, and when it is closed.

Golden's control requests are the contract's; they are compared rather than the contract's lists because a
scenario's own get_info, asked before anything else, looks like one that belongs to the set-up.
"""

from __future__ import annotations

from harness.checks.causes import certain, likely
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.lifetime import END
from harness.trace.model import Trace

_CREATE = "create_model"


def start(case: Case) -> Verdict:
    """Judge what comes before the first model."""
    golden, seen = _parts(case.golden)[0], _parts(case.observed)[0]
    if not case.observed.control:
        return nothing("no request of a session was seen")
    return _judge("the start of a session", golden, seen)


def model(case: Case) -> Verdict:
    """Judge what creates each model."""
    golden, seen = _parts(case.golden)[1], _parts(case.observed)[1]
    if not golden:
        return nothing("golden creates no model")
    if not seen:
        return nothing("no create_model was seen")
    if len(golden) != len(seen):
        stuck = next((step.step for step in case.observed.steps if step.status == "hang"), None)
        return failed(
            "another number of models is created",
            expected=len(golden),
            observed=len(seen),
            where=_CREATE,
            cause=likely("follows", f"nothing is run after {stuck}, which hangs: see result.hang")
            if stuck is not None and len(seen) < len(golden)
            else certain("not-sent" if len(seen) < len(golden) else "sent-besides", _CREATE),
        )
    for number, (wanted, routes) in enumerate(zip(golden, seen, strict=True), start=1):
        verdict = _judge(f"the creation of model {number}", wanted, routes)
        if verdict.outcome != "pass":
            return verdict
    return passed("created by " + " > ".join(golden[0]))


def end(case: Case) -> Verdict:
    """Judge what comes at the end. That nothing comes, where golden sends nothing, is a judgement too."""
    if not case.observed.control:
        return nothing("no request of a session was seen")
    if any(step.status == "hang" for step in case.observed.steps):
        return nothing("the client was not closed: the run ended in a hang")
    return _judge("the end of a session", _parts(case.golden)[2], _parts(case.observed)[2])


def silent(case: Case) -> Verdict:
    """Judge that a client that was closed sends nothing any more."""
    if not _parts(case.golden)[2]:
        return nothing("golden's client is not closed on the wire")
    if not _parts(case.observed)[2]:
        return nothing("the client was not closed on the wire")
    late = case.observed.late
    if late:
        return failed(
            "the client goes on after it was closed",
            expected="no request",
            observed=f"{count(len(late), 'request')}: {listed(dict.fromkeys(late))}",
            where=late[0],
            cause=certain("sent-after-close"),
        )
    return passed("nothing was sent after the end of the session")


def _parts(trace: Trace) -> tuple[list[str], list[list[str]], list[str]]:
    """Split the control requests into start, one part per model, and end."""
    before: list[str] = []
    models: list[list[str]] = []
    ending: list[str] = []
    for request in trace.control:
        if request.route in END:
            ending.append(request.route)
        elif request.route == _CREATE:
            models.append([request.route])
        else:
            (models[-1] if models else before).append(request.route)
    return before, models, ending


def _judge(what: str, wanted: list[str], seen: list[str]) -> Verdict:
    if wanted == seen:
        return passed(f"{what}: {' > '.join(wanted) or 'no request'}")
    place = next((i for i, (a, b) in enumerate(zip(wanted, seen, strict=False)) if a != b), min(len(wanted), len(seen)))
    missing = [route for route in wanted if route not in seen]
    added = [route for route in seen if route not in wanted]
    if missing:
        cause = certain("not-sent", listed(missing) + (f"; sent besides: {listed(added)}" if added else ""))
    elif added or len(seen) > len(wanted):
        cause = certain("sent-besides" if added else "sent-twice", listed(added) or listed(seen[place : place + 1]))
    else:
        cause = certain("reordered")
    return failed(
        f"{what} differs",
        expected=" > ".join(wanted) or "nothing",
        observed=" > ".join(seen) or "nothing",
        where=f"call {place + 1}",
        cause=cause,
    )


CHECKS = (
    Check("session.start", "Before its first model a client calls golden's routes, in golden's order.", start),
    Check("session.model", "Each model is created by golden's routes, in golden's order.", model),
    Check("session.end", "A client that is closed calls golden's routes, in golden's order, and no others.", end),
    Check("session.silent", "A client that was closed sends nothing any more.", silent),
)

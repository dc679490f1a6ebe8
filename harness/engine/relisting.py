"""From the outcome of a run to the user's ledger."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from harness.atomic import write_whole
from harness.engine.events import CheckJudged
from harness.engine.plan import Plan
from harness.errors import ParityError
from harness.ledger.model import unlisted
from harness.ledger.update import Found, updated


def refuse_update(ledger: Path | None, *, partial: str) -> None:
    """Refuse to update no ledger, or one by a run of less than everything; `partial` is the option that says so.

    Raises ParityError `ledger-unnamed` or `ledger-partial`.
    """
    if ledger is None:
        raise ParityError(
            "ledger-unnamed",
            "--update-ledger writes to the file of --ledger, and none was named",
            hint="name one with --ledger FILE, or ledger in parity.toml; it may be empty",
        )
    if partial:
        raise ParityError(
            "ledger-partial",
            f"a ledger is not updated by a run with {partial}: what was not judged could look mended",
            hint=f"leave {partial} out",
        )


def relist(plan: Plan, results: Sequence[CheckJudged], ledger: Path) -> tuple[str, ...]:
    """Bring the file `ledger` in line with the results of a whole run; return what was changed, one sentence each."""
    found = [
        Found(scenario=r.scenario, check=r.check, outcome=r.outcome, message=unlisted(r.message), cause=r.cause)
        for r in results
    ]
    text = ledger.read_text("utf-8")
    if (sdk := tomllib.loads(text).get("sdk", plan.spec.name)) != plan.spec.name:
        return (f"it is about {sdk}, not {plan.spec.name}: nothing was changed",)
    new = updated(
        text,
        plan.ledger,
        found,
        version=plan.spec.version,
        contract="" if plan.own_contract else plan.contract.id,
        source=f"parity run --sdk {plan.spec.name}=={plan.spec.version} --contract {plan.contract.id}",
    )
    if new.changes:
        write_whole(ledger, new.text.encode())
    return new.changes

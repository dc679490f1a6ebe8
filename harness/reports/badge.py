"""A badge for the README of an SDK: the JSON that shields.io's endpoint badge reads."""

from __future__ import annotations

import json

from harness.reports.tally import HELD, Tally, fails


def badge_json(tally: Tally) -> str:
    """Return the document: whether the run held, and by which contract."""
    contract = tally.started.contract if tally.started else ""
    told: dict[str, object] = {"schemaVersion": 1, "label": f"parity {contract}".strip()}
    diverging = sum(fails(result) for result in tally.results)
    known = tally.totals["known"]
    if tally.interrupted:
        told |= {"message": "not judged", "color": "lightgrey", "isError": True}
    elif tally.exit_status != HELD:
        # Where no check diverges, the run fails by its ledger, or because nothing could be judged.
        told |= {"message": f"{diverging} diverging" if diverging else "does not hold", "color": "red"}
    elif known:
        told |= {"message": f"holds, {known} known", "color": "yellowgreen"}
    else:
        told |= {"message": "holds", "color": "brightgreen"}
    return json.dumps(told, indent=1) + "\n"

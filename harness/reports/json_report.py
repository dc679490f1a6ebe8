"""The JSON report: everything a run said, in one file, for programs."""

from __future__ import annotations

import json

from msgspec import to_builtins

from harness.reports.document import document
from harness.reports.tally import Tally
from harness.reports.text import for_json


def json_text(tally: Tally) -> str:
    """Return the JSON report of what `tally` has heard, as text that a terminal can show."""
    written = json.dumps(to_builtins(document(tally)), indent=1, ensure_ascii=False, allow_nan=False)
    return for_json(written) + "\n"

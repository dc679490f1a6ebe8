"""One page to look at: totals, scenario by check, and what each scenario looked like. One file, nothing from elsewhere.

The page holds its data, deflated, and a short script that draws it. Text of a subject is data: it is never markup, and
the page's own policy lets nothing but that script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path
from string import Template

from harness.reports.html.data import packed
from harness.reports.html.facts import facts, verdict
from harness.reports.tally import Tally
from harness.reports.text import for_terminal

BYTES = 290_000
"""So much a page takes at most: what does not fit is left out, pictures of what held first, and the page counts it."""

_HERE = Path(__file__).parent


def page(tally: Tally) -> str:
    """Return the page of what `tally` has heard. The same events give the same page."""
    style, script = _part("page.css"), _part("page.js")
    started = tally.started
    title = f"{started.sdk} {started.version} against {started.contract}" if started else "no run"
    shown = Template(_part("page.html"))
    given = {
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'",
        "style": style,
        "script": script,
        "title": _text(title),
        "verdict": _text(verdict(tally)),
        "held": "held" if tally.exit_status == 0 else "diverged",
        "facts": "".join(f"<li>{_text(fact)}</li>" for fact in facts(tally)),
    }
    bare = shown.substitute(given, data="")
    return shown.substitute(given, data=packed(tally, room=BYTES - len(bare.encode("utf-8", "replace"))))


def _part(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _text(text: str) -> str:
    return html.escape(for_terminal(text))

"""What a cause, a check or an error means, for `parity explain`; and docs/causes.md, written from the causes."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path

from harness.checks.causes import CAUSES, FAMILIES, Cause
from harness.checks.registry import CHECKS
from harness.drivers.examining.findings import FINDINGS
from harness.engine.words import WORDS
from harness.errors import ParityError
from harness.locations import locate

_WIDTH = 100
_NEAR = 0.72
"""A code that is less alike than this is not what was meant: `nonsense` is not `not-sent`."""


def explain(code: str) -> str:
    """Return what a cause, a check, an error, a finding about a driver or a word of a report means, wrapped.

    Raises ParityError `code-unknown` with the closest code.
    """
    if code in CAUSES:
        return _cause(CAUSES[code])
    if code in CHECKS:
        return _block(
            code, "a check", [CHECKS[code].says, f"It looks at: {_looks_at().get(code, 'see docs/checks.md')}"]
        )
    errors = error_meanings()
    if code in errors:
        return _block(code, "an error, exit status 2", [f"{errors[code]}."])
    if code in FINDINGS:
        return _block(code, "a finding of parity check-driver", [f"The rule that was broken: {FINDINGS[code]}."])
    word = code.replace("not-run", "not_run")
    if found := [_block(word, kind, [words[word]]) for kind, words in WORDS if word in words]:
        return "\n\n".join(found)
    known = [*CAUSES, *CHECKS, *errors, *FINDINGS, *(word for _, words in WORDS for word in words)]
    close = difflib.get_close_matches(code, known, n=1, cutoff=_NEAR)
    raise ParityError(
        "code-unknown",
        f"there is no cause, check, error, finding or word of a report called {code!r}",
        hint=f"did you mean {close[0]!r}?" if close else "`parity explain` without a code lists them all",
    )


def every_code() -> str:
    """Return every code with a few words, by kind."""
    lines = ["causes"]
    lines += [f"  {cause.code:<28}{cause.title}" for cause in CAUSES.values()]
    lines += ["", "checks"]
    lines += [f"  {check.id:<28}{check.says}" for check in CHECKS.values()]
    lines += ["", "errors"]
    lines += [f"  {code:<28}{meaning}" for code, meaning in error_meanings().items()]
    lines += ["", "findings of check-driver"]
    lines += [f"  {code:<28}{rule}" for code, rule in FINDINGS.items()]
    for kind, words in WORDS:
        lines += ["", f"words: {kind}"]
        lines += [f"  {word:<28}{meaning}" for word, meaning in words.items()]
    return "\n".join(line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in lines)


def error_meanings() -> dict[str, str]:
    """Return the meaning of every error code, from docs/errors.md."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", _documentation("errors.md"), re.MULTILINE)
    return dict(rows)


def causes_document() -> str:
    """Return docs/causes.md."""
    lines = [
        "# Causes",
        "",
        "<!-- written by python -m harness.engine.explain; tests/checks/test_causes.py finds it stale -->",
        "",
        "A check that fails says why, where the golden and the observed trace tell. The causes are a closed list with",
        "stable codes: the `cause` of a verdict, of the JSON report and of a ledger entry. `parity explain CODE` shows",
        "one. A cause is **certain** when the traces show the thing itself, and **likely** when it would explain what",
        "was observed but could have come about in another way. A failure without a cause could not be explained.",
    ]
    for family, causes in FAMILIES.items():
        lines += ["", f"## {family}", "", "| code | what was seen | where to look | told as |", "|---|---|---|---|"]
        lines += [f"| `{cause.code}` | {cause.says} | {cause.look} | {' or '.join(cause.levels)} |" for cause in causes]
    return "\n".join(lines) + "\n"


def _cause(cause: Cause) -> str:
    return _block(
        cause.code,
        f"{cause.title}; a cause, told as {' or '.join(cause.levels)}",
        [cause.says, f"Where to look: {cause.look}"],
    )


def _block(code: str, kind: str, paragraphs: list[str]) -> str:
    wrapped = [
        textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
        for text in paragraphs
    ]
    return "\n\n".join([f"{code}  ({kind})", *wrapped])


def _looks_at() -> dict[str, str]:
    rows = re.findall(r"^\| `([\w.]+)` \| .*? \| (.+) \|$", _documentation("checks.md"), re.MULTILINE)
    return dict(rows)


def _documentation(name: str) -> str:
    """Return a page of the documentation: of the checkout, or the one that was installed."""
    return (locate().root / "docs" / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    (Path(locate().root) / "docs" / "causes.md").write_text(causes_document(), encoding="utf-8")

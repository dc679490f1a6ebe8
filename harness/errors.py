"""The one exception root of the harness.

Every error a user can cause (a malformed scenario, an unknown SDK, a corrupted golden file, a bad option) is a
`ParityError`: a stable code, what is wrong, and what to do about it. The command line prints the three and exits
with status 2. A divergence of a subject is never an exception: it is a verdict.
"""

from __future__ import annotations


class ParityError(Exception):
    """Something could not be run or read; nothing is said about any subject.

    `code` is stable and lower-case with dashes (`scenario-malformed`); `message` says what is wrong and where;
    `hint` says what to do next.
    """

    exit_status = 2

    def __init__(self, code: str, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}] ({self.hint})"

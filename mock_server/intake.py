"""Request bodies on their way in: how many come at a time does not decide how much memory they take."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import BinaryIO, cast

from mock_server.limits import Quota
from mock_server.wire.body import MAX_BODY_BYTES
from mock_server.wire.errors import TooLargeError

MAX_READING = 2 * MAX_BODY_BYTES
"""Bound on the bodies of one tenant that come at the same time, together."""

MAX_HELD = MAX_BODY_BYTES // 2
"""So much of them is held in memory. A body that would be more than that goes to a file: those of the suite are small
enough that eight may come at a time, and what waits for its turn to be decoded waits on the disk."""

_ALONE = "the body is too large"


class Intake:
    """One body as it comes: `add` its parts, then `take` the whole, or `drop` it. Used by one thread.

    `size` is what came, kept or not. `announced` is what the client said will come, None where it did not.
    """

    def __init__(self, quota: Quota, announced: int | None = None) -> None:
        self.size = 0
        self._quota = quota
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None
        self._held = self._kept = 0
        self._problem: str | None = None
        self._failure: OSError | None = None
        if announced is not None and announced > MAX_BODY_BYTES:
            self._problem = _ALONE

    def add(self, part: bytes) -> None:
        """Take a part. What is too large, alone or with what else comes, is dropped, and its size counted."""
        self.size += len(part)
        if self._problem is None and self.size > MAX_BODY_BYTES:
            self._refuse(_ALONE)
        if self._problem is None and self._quota.reading + len(part) > MAX_READING:
            self._refuse(f"bodies that come at the same time have more than {MAX_READING} bytes")
        if self._problem is not None or self._failure is not None or not part:
            return
        self._quota.reading += len(part)
        self._kept += len(part)
        try:
            if self._file is None and self._quota.held + len(part) > MAX_HELD:
                self._move()
            if self._file is None:
                self._parts.append(part)
                self._held += len(part)
                self._quota.held += len(part)
            else:
                self._file.write(part)
        except OSError as error:
            self.drop()
            self._failure = error

    def take(self) -> bytes:
        """Return the body and forget it. Raises TooLargeError; OSError where it could not be kept."""
        if self._problem is _ALONE:
            raise TooLargeError(f"the body has {self.size} bytes, more than {MAX_BODY_BYTES}")
        if self._problem is not None:
            raise TooLargeError(self._problem)
        if self._failure is not None:
            raise self._failure
        if self._file is not None:
            self._file.seek(0)
            raw = self._file.read()
        else:
            raw = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.drop()
        return raw

    def drop(self) -> None:
        """Forget the body."""
        self._parts.clear()
        self._quota.held -= self._held
        self._quota.reading -= self._kept
        self._held = self._kept = 0
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _refuse(self, why: str) -> None:
        self.drop()
        self._problem = why

    def _move(self) -> None:
        """Go on in a file. It has no name: whatever ends this process, nothing of it is left."""
        self._file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115  # closed by `drop`
        for part in self._parts:
            self._file.write(part)
        self._parts.clear()
        self._quota.held -= self._held
        self._held = 0

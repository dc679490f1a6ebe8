"""What a body can be wrong in."""

from __future__ import annotations


class WireError(Exception):
    """A body that cannot be read as what its route takes. The message names the place and what was expected."""


class TooLargeError(WireError):
    """A body of more than the server takes, before or after decompression."""

"""What holds for every test: property tests draw the same examples every time, and no deadline depends on load."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("parity", deadline=None, derandomize=True)
settings.load_profile("parity")

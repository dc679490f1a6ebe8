"""Where a call is sent in several chunks, no two of its datums have the same logprobs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from harness.engine.prepare import prepare
from harness.locations import locate


@pytest.mark.parametrize("release", ["0.7.0", "0.15.0", "0.38.0"])
def test_datums_of_different_chunks_can_be_told_apart(release: str) -> None:
    """A datum that is answered in the place of another one of its call always shows in its logprobs."""
    calls = 0
    for planned in prepare(locate(), sdk=f"reference=={release}", slow=True).scenarios:
        chunks = defaultdict(list)
        for request in planned.golden.requests:
            if request.call and request.phase != "backward" and request.batch is not None:
                chunks[request.call].append(request)
        for call, requests in chunks.items():
            rows = [
                np.ascontiguousarray(output["logprobs"].values).tobytes()
                for request in requests
                for output in request.outputs
                if "logprobs" in output
            ]
            if len(requests) > 1:
                calls += 1
                assert len(set(rows)) == len(rows), f"{planned.scenario.id}: {call}"
    assert calls > 20

"""From a trace to the answers that a server gives when it replays it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.trace.model import Request, Trace
from mock_server.replay import Canned, Replay


def answers(trace: Trace) -> Replay:
    """Return what the server answered in a golden trace: by model and effect, in the order of effect.

    Operations are in canonical order in a trace, which is the order of their effect.
    """
    models: dict[str, dict[str, list[Canned]]] = {}
    for request in _operations(trace.requests):
        models.setdefault(request.model, {}).setdefault(request.effect, []).append(
            Canned(
                call=request.call,
                outputs=request.outputs,
                metrics=request.metrics,
                failure=request.failure,
                data=tuple(datum.tokens.tobytes() for datum in request.batch.datums)
                if request.batch is not None
                else (),
            )
        )
    return models


def _operations(requests: Sequence[Request]) -> list[Request]:
    """Return the requests that were submitted as operations; get_info is answered at once, by the server itself."""
    return [request for request in requests if request.effect != "get_info" and request.status == 200]

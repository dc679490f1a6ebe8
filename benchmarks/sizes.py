"""Cost and memory of many datums: the server's, and the checks'. `python sizes.py N` measures N in its own process.

The requests are made in the process itself, a thousand datums each, and given to the server's application without a
socket. CPU seconds are counted, so that other load on the machine does not matter; the client is not in them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from posts import json_body
from serving import KEY, memory

from harness.checks.registry import CHECKS, judge
from harness.checks.verdict import Case
from harness.contracts.timeline import load_timeline
from harness.locations import locate
from harness.suite.scenario import Tolerance
from harness.trace.normalise import make_trace
from mock_server import Registry, create_app

SIZES = (2_000, 20_000, 200_000)
CHUNK = 1_000
TOKENS = 4
FAMILIES = ("wire", "chunks", "order", "gaps", "forward", "weights", "training", "session")


async def post(app: Any, route: str, body: bytes, **headers: str) -> dict[str, Any]:
    """Give one request to the application; return the answer."""
    told = {"x-api-key": KEY, "content-type": "application/json", **headers}
    scope = {
        "type": "http", "method": "POST", "path": f"/api/v1/{route}", "client": ("127.0.0.1", 1), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer: dict[str, Any] = json.loads(sent[-1]["body"])
    if sent[0]["status"] != 200:
        raise RuntimeError(f"the server refused: {answer}")
    return answer


async def measure(count: int) -> dict[str, float]:
    """Serve and judge `count` datums; return CPU seconds and bytes."""
    registry = Registry()
    tenant = registry.open_tenant(api_key=KEY)
    app = create_app(registry)
    session = (await post(app, "create_session", b"{}"))["session_id"]
    asked = {"base_model": "tiny", "session_id": session, "model_seq_id": 1, "lora_config": {"rank": 8}}
    future = (await post(app, "create_model", json.dumps(asked).encode()))["request_id"]
    model = (await post(app, "retrieve_future", json.dumps({"request_id": future}).encode()))["model_id"]
    idle = memory()["now"]
    served, largest, sent = 0.0, 0, 0
    for number in range(count // CHUNK):
        body = json_body(model, 1 + number, CHUNK, TOKENS).partition(b"\r\n\r\n")[2]
        largest, sent = max(largest, len(body)), sent + len(body)
        began = time.process_time()
        await post(app, "forward_backward", body, **{"x-parity-call": "fb", "x-parity-phase": "backward"})
        served += time.process_time() - began
    kept = memory()["now"] - idle
    record = tenant.record()
    contract = load_timeline(locate().timeline).point("tinker-0.15.0")
    began = time.process_time()
    golden = make_trace("benchmark", "", contract.id, record, ())
    observed = make_trace("benchmark", "", contract.id, record, ())
    traced = (time.process_time() - began) / 2
    case = Case(golden, observed, contract, Tolerance())
    began = time.process_time()
    for check in CHECKS:
        if check.partition(".")[0] in FAMILIES:
            judge(check, case)
    checked = time.process_time() - began
    return {"server": served, "trace": traced, "checks": checked, "kept": kept, "sent": sent, "peak": memory()["peak"]}


def growing() -> Iterator[str]:
    """Yield a line per size, and how cost grows from one to the next."""
    found: list[dict[str, float]] = []
    for count in SIZES:
        done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        one = json.loads(done.stdout.splitlines()[-1])
        found.append(one)
        cost = "  ".join(f"{name} {one[name]:5.2f} s" for name in ("server", "trace", "checks"))
        yield (
            f"{count:>7} datums  {cost}  keeps {one['kept'] / 1e6:6.1f} MB of {one['sent'] / 1e6:5.1f} MB sent"
            f"  peak {one['peak'] / 1e6:.0f} MB"
        )
    for name in ("server", "trace", "checks"):
        ratios = [f"{after[name] / before[name]:.1f}" for before, after in pairwise(found)]
        yield f"{name} cost for ten times the datums: {', '.join(ratios)} times (aim: linear, 10)"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))

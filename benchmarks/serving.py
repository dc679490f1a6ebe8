"""A server in a process of its own, for the benchmarks: the mock server, or a bare Starlette route.

python serving.py mock|bare      prints the port; then answers each line on stdin with its CPU time and memory
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mock_server import MockServer, Registry

KEY = "tml-benchmark"


async def only_read(request: Request) -> Response:
    """Read the body and answer nothing."""
    await request.body()
    return Response()


def bare(bound: socket.socket) -> None:
    """Serve the bare route with the options that the mock server has."""
    app = Starlette(routes=[Route("/{rest:path}", only_read, methods=["POST"])])
    config = uvicorn.Config(
        app, lifespan="off", loop="asyncio", http="httptools", ws="none", log_level="critical", access_log=False,
        timeout_keep_alive=3600, server_header=False, date_header=False,
    )  # fmt: skip
    asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))


def memory() -> dict[str, int]:
    """Return what this process has in memory now, and the most it ever had, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text("ascii")
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
    return {"now": int(found["VmRSS"]) * 1024, "peak": int(found["VmHWM"]) * 1024}


def main(kind: str) -> None:
    """Serve until stdin ends."""
    server = MockServer(Registry(open_to_all=True))  # a tenant of it has no limits
    if kind == "mock":
        server.start()
        port = int(server.base_url.rpartition(":")[2])
    else:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.bind(("127.0.0.1", 0))
        bound.listen(256)
        port = bound.getsockname()[1]
        threading.Thread(target=bare, args=(bound,), daemon=True).start()
    print(port, flush=True)
    for _ in sys.stdin:
        print(json.dumps({"cpu": time.process_time(), **memory()}), flush=True)
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1])

"""The recording proxy over real sockets: everything passes, and is kept without secrets."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harness.errors import ParityError
from harness.recording.assemble import assemble
from harness.recording.proxy import RecordingProxy
from harness.recording.store import FILE, read_recording
from mock_server import MockServer
from mock_server.serving import Loopback

KEY = "tml-secret-key-1"


async def _echo(request: Request) -> Response:
    """Answer the body, compressed, with what came beside it."""
    headers = {
        "content-encoding": "gzip",
        "content-type": "application/json",
        "x-seen-key": request.headers.get("x-api-key", ""),
        "x-seen-query": request.url.query,
        "x-seen-host": request.headers["host"],
    }
    return Response(gzip.compress(await request.body()), 200, headers)


def test_bodies_headers_and_queries_pass_unchanged():
    """The upstream sees key, query and bytes; the client sees the upstream's bytes, compressed as they were."""
    with (
        Loopback(Starlette(routes=[Route("/{rest:path}", _echo, methods=["POST"])])) as upstream,
        RecordingProxy(f"{upstream.base_url}/") as proxy,
        httpx.Client(base_url=proxy.base_url, trust_env=False) as http,
    ):
        answer = http.post("/api/v1/telemetry?a=b%20c", content=b'{"events": []}', headers={"x-api-key": KEY})
        (kept,) = proxy.exchanges()
        host = upstream.base_url.removeprefix("http://")
    assert answer.content == b'{"events": []}'
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-seen-key"] == KEY
    assert answer.headers["x-seen-query"] == "a=b%20c"
    assert answer.headers["x-seen-host"] == host
    assert (kept.path, kept.response, kept.status) == ("/api/v1/telemetry", b'{"events": []}', 200)


def test_an_upstream_that_is_not_there_is_said_and_kept():
    """The client gets a 502 that says why; the exchange is kept as never answered."""
    with Loopback(Starlette()) as gone:
        url = gone.base_url
    with RecordingProxy(url) as proxy, httpx.Client(base_url=proxy.base_url, trust_env=False) as http:
        answer = http.post("/api/v1/create_session", json={})
        record = assemble(proxy.exchanges())
    assert answer.status_code == 502
    assert "did not answer" in answer.text
    assert [(e.route, e.status, e.answered_ms) for e in record.exchanges] == [("create_session", None, None)]


def test_a_held_poll_does_not_keep_the_proxy_from_ending():
    """What the upstream still holds is broken off, and nothing waits for it."""
    held, release = threading.Event(), threading.Event()

    async def hold(request: Request) -> Response:
        held.set()
        await request.receive()
        await request.receive()  # until the proxy hangs up
        release.set()
        return Response()

    with Loopback(Starlette(routes=[Route("/{rest:path}", hold, methods=["POST"])])) as upstream:
        proxy = RecordingProxy(upstream.base_url)
        proxy.start()
        answers = []

        def ask():
            try:
                answers.append(
                    httpx.post(f"{proxy.base_url}/x", content=b"{}", timeout=30, trust_env=False).status_code
                )
            except httpx.HTTPError as error:
                answers.append(type(error).__name__)

        asking = threading.Thread(target=ask)
        asking.start()
        assert held.wait(20)
        proxy.stop()
        asking.join(20)
        assert not asking.is_alive()
        assert release.wait(20)
    assert len(answers) == 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://host", "http://", "http://host?x=1"])
def test_an_upstream_that_is_no_url_is_refused(url):
    """Before anything listens."""
    with pytest.raises(ParityError) as caught:
        RecordingProxy(url)
    assert caught.value.code == "upstream-malformed"


def _ask(url):
    with httpx.Client(base_url=url, headers={"x-api-key": KEY, "cookie": "c=secret"}, trust_env=False) as http:
        body = {"tags": [], "user_metadata": {"name": "alice"}, "sdk_version": "eyJhbGciOiJIUzI1NiJ9.e30.x"}
        session = http.post("/api/v1/create_session", json=body).json()["session_id"]
        return http.post("/api/v1/create_model", json={"session_id": session, "model_seq_id": 0, "base_model": "b"})


def _record(upstream, out, *options):
    """Run `parity record`, make two requests, end it by a signal, and return what it printed."""
    command = [sys.executable, "-m", "harness", "record", "--upstream", upstream, "--out", str(out), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        url = process.stdout.readline().split()[-1]
        assert _ask(url).status_code == 200
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    return stdout


def test_the_command_writes_a_recording_without_secrets(tmp_path):
    """`parity record` ends by Ctrl-C with a whole recording; key, cookie, JWT and user metadata are nowhere in it."""
    with MockServer() as server:
        server.open_tenant(api_key=KEY)
        said = _record(server.base_url, tmp_path / "taken")
        assert "2 requests written" in said
        text = (tmp_path / "taken" / FILE).read_text()
        for secret in (KEY, "c=secret", "eyJ", "alice", "cookie", "x-api-key"):
            assert secret not in text
        record = read_recording(tmp_path / "taken")
        assert [e.route for e in record.exchanges] == ["create_session", "create_model"]
        assert set(record.aliases.values()) >= {"session-1", "model-1"}
        _record(server.base_url, tmp_path / "all", "--no-scrub")
        text = (tmp_path / "all" / FILE).read_text()
        assert "alice" in text
        assert KEY not in text


def test_a_folder_in_use_is_refused_before_anything_is_recorded(tmp_path):
    """Nobody records for an hour and learns then that there is no place for it."""
    (tmp_path / "x").write_text("mine")
    command = [sys.executable, "-m", "harness", "record", "--upstream", "http://127.0.0.1:1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "error [recording-exists]" in done.stderr

"""The recording proxy over real sockets: everything passes, and is kept without secrets."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
import zstandard
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harness.errors import ParityError
from harness.recording.assemble import assemble
from harness.recording.journal import JOURNAL
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


SECRETS = (KEY, "c=secret", "eyJ", "alice", "cookie", "x-api-key", "hunter2", "zzz-token", "abcdefghijkl")


def _ask(url):
    headers = {"x-api-key": KEY, "cookie": "c=secret", "authorization": "Bearer abcdefghijklmnop"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
        body = {
            "tags": [f"mine {KEY}"],
            "user_metadata": {"name": "alice"},
            "sdk_version": "eyJhbGciOiJIUzI1NiJ9.e30.x",
        }
        session = http.post("/api/v1/create_session?token=zzz-token", json=body).json()["session_id"]
        http.post("/api/v1/telemetry", json={"events": [{"password": "hunter2", "who": "alice"}]})
        http.post("/api/v1/auth/token", json={"api_key": KEY})
        packed = zstandard.ZstdCompressor().compress(json.dumps({"user_metadata": {"name": "alice"}}).encode())
        http.post("/api/v1/create_session", content=packed, headers={"content-encoding": "zstd"})
        return http.post("/api/v1/create_model", json={"session_id": session, "model_seq_id": 0, "base_model": "b"})


@contextmanager
def _recording(upstream, out, *options):
    """Run `parity record`, make requests, and yield the process."""
    command = [sys.executable, "-m", "harness", "record", "--upstream", upstream, "--out", str(out), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        url = process.stdout.readline().split()[-1]
        assert _ask(url).status_code == 200
        yield process


def _record(upstream, out, *options):
    """Record until Ctrl-C and return what was printed."""
    with _recording(upstream, out, *options) as process:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    return stdout


def _all_said(folder):
    """Return everything in a folder; bodies in a journal as what their base64 and compression stand for."""
    said = [path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL]
    for line in (folder / JOURNAL).read_text().splitlines() if (folder / JOURNAL).exists() else ():
        entry = json.loads(line)
        for body in (base64.b64decode(entry.pop(name, "")) for name in ("body", "response")):
            packed = body.startswith(zstandard.FRAME_HEADER)
            said.append(zstandard.ZstdDecompressor().decompress(body) if packed else body)
        said.append(json.dumps(entry).encode())
    return b"\n".join(said).decode("utf-8", "replace")


ROUTES = ["create_session", "telemetry", "create_session", "create_model"]


def test_the_command_writes_a_recording_without_secrets(tmp_path):
    """`parity record` ends by Ctrl-C with a whole recording.

    Keys, cookies, tokens in headers, bodies and queries, telemetry and user metadata are nowhere in it.
    """
    with MockServer() as server:
        server.open_tenant(api_key=KEY)
        said = _record(server.base_url, tmp_path / "taken")
        assert "4 requests written" in said
        assert [path.name for path in (tmp_path / "taken").iterdir()] == [FILE]
        assert not [secret for secret in SECRETS if secret in _all_said(tmp_path / "taken")]
        record = read_recording(tmp_path / "taken").record
        assert [e.route for e in record.exchanges] == ROUTES
        assert set(record.aliases.values()) >= {"session-1", "model-1"}
        _record(server.base_url, tmp_path / "all", "--no-scrub")
        text = _all_said(tmp_path / "all")
        assert "alice" in text
        assert "mine" in text
        assert not [secret for secret in ("c=secret", "hunter2", "zzz-token", "abcdefghijkl") if secret in text]


def test_what_a_killed_process_leaves_is_a_recording(tmp_path):
    """Killed without warning, it leaves every exchange, free of secrets; a cut-off last entry is dropped and told."""
    out = tmp_path / "taken"
    with MockServer() as server:
        server.open_tenant(api_key=KEY)
        with _recording(server.base_url, out) as process:
            process.kill()
            process.wait(30)
    assert [path.name for path in out.iterdir()] == [JOURNAL]
    assert not [secret for secret in SECRETS if secret in _all_said(out)]
    taken = read_recording(out)
    assert [e.route for e in taken.record.exchanges] == ROUTES
    assert taken.note == "4 requests of a recording that was not finished"
    content = (out / JOURNAL).read_bytes()
    (out / JOURNAL).write_bytes(content[:-9])
    taken = read_recording(out)
    assert [e.route for e in taken.record.exchanges] == ROUTES[:3]
    assert taken.note == "3 requests of a recording that was not finished; one more was cut off and is left out"
    command = [sys.executable, "-m", "harness", "check", str(out), "--scenario", "session/lifecycle"]
    done = subprocess.run(
        [*command, "--contract", "tinker-0.38.0"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert taken.note in done.stdout


def test_a_folder_in_use_is_refused_before_anything_is_recorded(tmp_path):
    """Nobody records for an hour and learns then that there is no place for it."""
    (tmp_path / "x").write_text("mine")
    command = [sys.executable, "-m", "harness", "record", "--upstream", "http://127.0.0.1:1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "error [recording-exists]" in done.stderr


def test_a_port_in_use_leaves_nothing_behind(tmp_path):
    """The folder that was made for the recording is gone again."""
    with Loopback(Starlette()) as other:
        port = other.base_url.rpartition(":")[2]
        command = [sys.executable, "-m", "harness", "record", "--upstream", other.base_url, "--port", port]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert "error [port-taken]" in done.stderr
    assert not (tmp_path / "out").exists()

"""Client configuration, sessions, telemetry, capabilities, health."""

from __future__ import annotations

from typing import Any

from mock_server.handlers.call import Call, RefusalError, Reply, once, reply
from mock_server.tenants import Session
from mock_server.wire import requests

BASE_MODEL = "parity/tiny-bigram"


def client_config(call: Call) -> Reply:
    """Answer the script's client configuration, verbatim."""
    return reply(call.tenant.script.client_config)


def client_dynamic_config(call: Call) -> Reply:  # noqa: ARG001  # every handler takes the call
    """Answer nothing: every key has a default in the client."""
    return reply({})


def create_session(call: Call) -> Reply:
    """Open a session."""

    def start() -> dict[str, Any]:
        session = Session(call.tenant.hand_out("session"))
        call.tenant.sessions[session.session_id] = session
        return {
            "type": "create_session",
            "session_id": session.session_id,
            "info_message": None,
            "warning_message": None,
            "error_message": None,
        }

    return once(call, None, "", start)


def session_heartbeat(call: Call) -> Reply:
    """Answer a heartbeat; 410 tells the client that the session is over (release 0.27.2 on stops its loop)."""
    session = _session(call, call.body(requests.SessionHeartbeat).session_id)
    if session.finished is not None:
        raise RefusalError(410, f"session {session.session_id} is finished")
    return reply({"type": "session_heartbeat"})


def finish_session(call: Call) -> Reply:
    """End a session. The first reason stays."""
    session = _session(call, call.params["session_id"])
    if session.finished is None:
        session.finished = dict(call.decoded.fields)
    return reply({})


def telemetry(call: Call) -> Reply:  # noqa: ARG001  # every handler takes the call
    """Accept telemetry; the record has it."""
    return reply({"status": "accepted"})


def get_server_capabilities(call: Call) -> Reply:  # noqa: ARG001  # every handler takes the call
    """Name the one model there is."""
    return reply(
        {
            "supported_models": [
                {"model_name": BASE_MODEL, "max_context_length": 2**20, "trainable": True, "sampleable": False}
            ]
        }
    )


def healthz(call: Call) -> Reply:  # noqa: ARG001  # every handler takes the call
    """Answer that the server is up."""
    return reply({"status": "ok"})


def _session(call: Call, session_id: str) -> Session:
    session = call.tenant.sessions.get(session_id)
    if session is None:
        raise RefusalError(404, f"there is no session {session_id!r}")
    return session

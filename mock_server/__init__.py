"""A Tinker server on loopback: real HTTP, a tiny real model, everything recorded.

The public names are loaded on first use, so that importing `mock_server.script` or `mock_server.record` for their
types costs neither numpy's models nor a web server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mock_server.app import asgi_transport as asgi_transport
    from mock_server.app import create_app as create_app
    from mock_server.record import Record as Record
    from mock_server.respx_adapter import respx_router as respx_router
    from mock_server.script import Script as Script
    from mock_server.serving import MockServer as MockServer
    from mock_server.tenants import Registry as Registry
    from mock_server.tenants import Tenant as Tenant

_HOMES = {
    "MockServer": "mock_server.serving",
    "Record": "mock_server.record",
    "Registry": "mock_server.tenants",
    "Script": "mock_server.script",
    "Tenant": "mock_server.tenants",
    "asgi_transport": "mock_server.app",
    "create_app": "mock_server.app",
    "respx_router": "mock_server.respx_adapter",
}

__all__ = sorted(_HOMES)  # computed from the table below the imports


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

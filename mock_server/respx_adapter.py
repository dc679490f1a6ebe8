"""A respx router in front of the mock server, for tests that use respx already (`pip install parity[respx]`)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import httpx

from mock_server.app import asgi_transport
from mock_server.tenants import Registry

if TYPE_CHECKING:
    import respx


def respx_router(registry: Registry, *, base_url: str = "http://parity.test") -> respx.MockRouter:
    """Return a router that answers every request below `base_url` from a registry.

    Use it as a context manager or decorator, as any respx router; it can hold further routes of the caller's.
    Synchronous clients are answered too, outside of a running event loop.
    """
    import respx  # an optional dependency

    transport = asgi_transport(registry)

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        response = await transport.handle_async_request(request)
        await response.aread()
        # respx hands the response on to sync and async clients alike: it needs the bytes, not the stream
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    def respond(request: httpx.Request) -> httpx.Response | Coroutine[Any, Any, httpx.Response]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(answer(request))
        return answer(request)

    router = respx.mock(base_url=base_url, assert_all_called=False)
    router.route().mock(side_effect=respond)
    return router

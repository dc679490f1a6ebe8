"""One request of a tenant that has a fault script: which instruction hits it, and what is noted about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from mock_server.faults.connection import Connection
from mock_server.faults.playing import failure, needs_connection, play, prevents_effect
from mock_server.faults.script import OPERATIONS, Failed
from mock_server.handlers.call import Call, Identity, Reply, attempt_identities
from mock_server.recording import Entry
from mock_server.tenants import Tenant
from mock_server.wire.body import Decoded, same_content

Handle = Callable[[Call], Awaitable[Reply]]


def reset_unread(tenant: Tenant, route: str, entry: Callable[[], Entry], connect: Callable[[], Connection]) -> bool:
    """Reset a request before its body is read where the script says so, and return whether it does.

    It is recorded as `entry` makes it. `connect` returns its connection; raises NoConnectionError, before anything
    is noted, where it has none.
    """
    assert tenant.faults is not None, "asked only where there is a script"
    with tenant.lock:
        index = tenant.faults.unread(route)
        if index is None:
            return False
        connection = connect()
        made = entry()
        made.fault = index
        tenant.faults.hit(index, made.ordinal)
        _remember(tenant, made, attempt_identities(route, made.headers, {}), None)
    connection.reset()
    return True


async def answer(call: Call, handle: Handle, connect: Callable[[], Connection]) -> Reply:
    """Answer a decoded request of a tenant with a fault script, as its script says.

    `handle` answers it as if there were no script, `connect` returns its connection.
    """
    tenant, entry = call.tenant, call.entry
    assert tenant.faults is not None, "asked only where there is a script"
    identities = attempt_identities(entry.route, entry.headers, call.decoded.fields)
    with tenant.lock:
        entry.resend_of = _first_attempt(tenant, identities, call.decoded)
        index = tenant.faults.decoded(_meant(call), seq_id=_seq_id(call), model=_model(call))
        if index is None:
            fault = None
        else:
            fault = tenant.faults.fault(index)
            if prevents_effect(fault):
                _remember(tenant, entry, identities, call.decoded)
    if fault is None or index is None:
        return await handle(call)
    if isinstance(fault, Failed) and entry.route in OPERATIONS:
        known = set(tenant.futures)
        reply = await handle(replace(call, fails=failure(fault)))
        # A resend of what was submitted before gets the old future: nothing fails, and nothing was played.
        if tenant.futures.keys() != known:
            _note(call, index)
        return reply
    connection = connect() if needs_connection(fault) else None
    _note(call, index)
    return await play(fault, call, lambda: handle(call), connection)


def _note(call: Call, index: int) -> None:
    with call.tenant.lock:
        assert call.tenant.faults is not None
        call.entry.fault = index
        call.tenant.faults.hit(index, call.entry.ordinal)


def _remember(tenant: Tenant, entry: Entry, identities: list[Identity], content: Decoded | None) -> None:
    first = entry.ordinal if entry.resend_of is None else entry.resend_of
    for identity in identities:
        tenant.lost.setdefault(identity, (first, content))


def _first_attempt(tenant: Tenant, identities: list[Identity], content: Decoded) -> int | None:
    """Return the ordinal of an earlier attempt that had no effect and, where its body is known, said the same."""
    for identity in identities:
        first, before = tenant.lost.get(identity, (None, None))
        if first is not None and (before is None or same_content(before, content)):
            return first
    return None


def _meant(call: Call) -> str:
    """Return the route that a script names: a forward pass is one, whichever route its release sends it to."""
    route = call.entry.route
    return "forward" if route == "forward_backward" and call.decoded.fields.get("forward_only") is True else route


def _seq_id(call: Call) -> int | None:
    fields = call.decoded.fields
    if call.entry.route == "retrieve_future":
        asked = call.tenant.futures.get(str(fields.get("request_id", "")))
        return asked.seq_id if asked else None
    # Protobuf cannot tell 0 from none, and no release counts from 0.
    return fields.get("seq_id") or None


def _model(call: Call) -> int | None:
    """Return the number of the model a request is about, in the order in which the tenant created them."""
    fields = call.decoded.fields
    model_id = fields.get("model_id")
    if call.entry.route == "retrieve_future":
        asked = call.tenant.futures.get(str(fields.get("request_id", "")))
        model_id = asked.model_id if asked else None
    numbers = {known: number for number, known in enumerate(call.tenant.models, start=1)}
    return numbers.get(str(model_id))

"""Tenants: one API key, one isolated service. The registry finds them by key.

A tenant may be used from several threads and event loops at once; its lock guards all of its state, and is held for
bookkeeping and arithmetic only, never while waiting.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mock_server.execution import Checkpoint, Trainer
from mock_server.faults.accounting import Instructions
from mock_server.faults.script import problems
from mock_server.futures import Future
from mock_server.limits import Limits, Quota
from mock_server.record import Gap, Record, Violation
from mock_server.recording import Entry, Recorder
from mock_server.replay import Replay, Replayer
from mock_server.script import Script
from mock_server.sequencing import Turns
from mock_server.wire.body import Decoded

REQUEST = "request"
HOLD_SECONDS = 20.0
"""How long a poll is held while there is no result. Every SDK reads for 45 seconds."""


@dataclass(slots=True, eq=False)
class Submission:
    """The first request under an identity (a seq_id, a model_seq_id or an idempotency key) and what it was answered."""

    entry: Entry
    answer: dict[str, Any]


@dataclass(slots=True, eq=False)
class Model:
    """One model of a session."""

    model_id: str
    session_id: str | None
    base_model: str
    rank: int | None
    trainer: Trainer | Replayer
    turns: Turns[Callable[[], None]] = field(default_factory=Turns)
    unloaded: bool = False
    saves: int = 0


@dataclass(slots=True, eq=False)
class Session:
    """One session; `finished` holds the first reported reason."""

    session_id: str
    finished: dict[str, Any] | None = None


class Tenant:
    """One isolated service: sessions, models, futures, script and record of its own.

    Get one from `Registry.open_tenant` or `MockServer.open_tenant`. With a `replay`, results of operations come from
    there; the script still says how they are written, paced and configured. Beyond its `limits` it is flooded: nothing
    more is recorded, and everything is refused. `unread` holds, for each body that still comes, how to give it up.
    """

    def __init__(
        self,
        script: Script,
        *,
        api_key: str,
        replay: Replay | None = None,
        limits: Limits | None = None,
        hold_seconds: float = HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        on_close: Callable[[Tenant], None] = lambda _: None,
        on_violation: Callable[[Violation], object] = lambda _: None,
    ) -> None:
        _check(script)
        self.api_key = api_key
        self.script = script
        self.replay = replay
        self.hold_seconds = hold_seconds
        self.clock = clock
        self.lock = threading.RLock()
        self.recorder = Recorder(clock, clock(), told=on_violation)
        self.sessions: dict[str, Session] = {}
        self.models: dict[str, Model] = {}
        self.futures: dict[str, Future] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.submissions: dict[tuple[str | int | None, ...], Submission] = {}
        self.faults = Instructions(script.faults) if script.faults else None
        self.lost: dict[tuple[str | int | None, ...], tuple[int, Decoded | None]] = {}
        self.unread: dict[object, Callable[[], object]] = {}
        self.quota = Quota(limits)
        self.closed = False
        self._on_close = [on_close]
        self._in_flight = 0
        self._last_activity = clock()
        self._named: dict[str, int] = {}

    def record(self) -> Record:
        """Return everything seen so far. Safe from any thread; the snapshot does not change later."""
        with self.lock:
            unfinished = tuple(f.request_id for f in self.futures.values() if f.outcome is None)
            return self.recorder.take(unfinished, self.faults.uses() if self.faults is not None else ())

    def close(self) -> None:
        """Forget the tenant: its key is unknown from now on, held polls and bodies that still come are answered by 410.

        Its record stays readable.
        """
        with self.lock:
            if self.closed:
                return
            self.closed = True
            for future in self.futures.values():
                future.abandon()
            for give_up in tuple(self.unread.values()):
                give_up()
        for call in self._on_close:
            call(self)

    def at_close(self, call: Callable[[Tenant], None]) -> None:
        """Have something done when the tenant closes."""
        self._on_close.append(call)

    # --- ids ---

    def hand_out(self, kind: str, identifier: str | None = None) -> str:
        """Return a random-looking id and note its stable name, `<kind>-<n>`."""
        if identifier is None:
            random = os.urandom(16).hex()
            identifier = f"{random[:8]}-{random[8:12]}-{random[12:16]}-{random[16:20]}-{random[20:]}"
        if kind == REQUEST:
            self.recorder.handed_out.append(identifier)  # by the thousand: named when the record is taken
            return identifier
        number = self._named.get(kind, 0) + 1
        self._named[kind] = number
        self.recorder.aliases[identifier] = f"{kind}-{number}"
        return identifier

    def hand_out_path(self, model: Model, folder: str, name: str) -> str:
        """Return `tinker://<model>/<folder>/<name>` and note its stable form."""
        path = f"tinker://{model.model_id}/{folder}/{name}"
        self.recorder.aliases[path] = f"tinker://{self.recorder.aliases[model.model_id]}/{folder}/{name}"
        return path

    # --- activity and gaps ---

    def begin(self) -> None:
        """Note the start of a request that is more than a poll or a heartbeat."""
        with self.lock:
            self._in_flight += 1
            self._last_activity = self.clock()

    def end(self) -> None:
        """Note that such a request was answered."""
        with self.lock:
            self._in_flight -= 1
            self._last_activity = self.clock()

    def delivered(self) -> None:
        """Note that a result left: its caller has something to do now."""
        self._last_activity = self.clock()

    def quiet_left(self) -> float:
        """Return the seconds until the tenant counts as quiet, 0 or less when it does."""
        if self._in_flight:
            return self.script.quiet_seconds
        return self._last_activity + self.script.quiet_seconds - self.clock()

    def declare_gap(self, model_id: str) -> bool:
        """Record the hole in a model's seq_ids, then let the held operations take effect so that the run goes on.

        Returns whether there was one.
        """
        model = self.models[model_id]
        hole = model.turns.hole()
        if hole is None:
            return False
        self.recorder.gaps.append(Gap(model_id, hole.missing, hole.held))
        for run in model.turns.skip():
            run()
        return True


class Registry:
    """Finds tenants by API key.

    `open_to_all` opens a tenant for every unknown key, with `script` (or an empty one) and `replay` (or none), and
    without limits: whoever points an SDK at a server by hand may do so for days. `on_violation` is called with each
    violation of any tenant, on the server's thread: it must not block.
    """

    def __init__(
        self,
        *,
        open_to_all: bool = False,
        script: Script | None = None,
        replay: Replay | None = None,
        hold_seconds: float = HOLD_SECONDS,
        on_violation: Callable[[Violation], object] = lambda _: None,
    ) -> None:
        self.on_violation = on_violation
        self.open_to_all = open_to_all
        self.script = script or Script()
        self.replay = replay
        self.hold_seconds = hold_seconds
        self._lock = threading.Lock()
        self._tenants: dict[str, Tenant] = {}

    def open_tenant(
        self, script: Script | None = None, *, api_key: str | None = None, replay: Replay | None = None
    ) -> Tenant:
        """Open a tenant. Without an `api_key` it gets a random one. ValueError when the key is taken."""
        key = api_key or f"tml-{secrets.token_hex(16)}"
        tenant = self._new(script or Script(), key, replay, Limits())
        with self._lock:
            if key in self._tenants:
                raise ValueError("a tenant with this API key is open already")
            self._tenants[key] = tenant
        return tenant

    def find(self, api_key: str) -> Tenant | None:
        """Return the tenant of a key, opening one where the registry is open to all."""
        tenant = self._tenants.get(api_key)
        if tenant is None and self.open_to_all:
            with self._lock:
                tenant = self._tenants.get(api_key)
                if tenant is None:
                    tenant = self._new(self.script, api_key, self.replay, None)
                    self._tenants[api_key] = tenant
        return tenant

    def tenants(self) -> tuple[Tenant, ...]:
        """Return the open tenants."""
        with self._lock:
            return tuple(self._tenants.values())

    def close(self) -> None:
        """Close every tenant."""
        for tenant in self.tenants():
            tenant.close()

    def _new(self, script: Script, key: str, replay: Replay | None, limits: Limits | None) -> Tenant:
        return Tenant(
            script,
            api_key=key,
            replay=replay,
            limits=limits,
            hold_seconds=self.hold_seconds,
            on_close=self._forget,
            on_violation=self.on_violation,
        )

    def _forget(self, tenant: Tenant) -> None:
        with self._lock:
            self._tenants.pop(tenant.api_key, None)


def _check(script: Script) -> None:
    if script.logprobs.kind == "table" and not script.logprobs.table:
        raise ValueError("logprobs of kind 'table' need a table that is not empty")
    if script.model.vocab < 1:
        raise ValueError("a model's vocabulary has at least one token")
    for place, what in problems(script.faults):
        raise ValueError(f"{place}: {what}")

"""Writing the record: open entries while requests are answered, immutable values when the record is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mock_server.record import Batch, Encoding, Exchange, FaultUse, Gap, Operation, OptimizerState, Record, Violation

SECRET_HEADERS = frozenset({"x-api-key", "authorization", "cookie"})


@dataclass(slots=True, eq=False)
class Entry:
    """One exchange being written; the fields are those of `Exchange`."""

    ordinal: int
    at_ms: float
    connection: str
    method: str
    path: str
    route: str
    headers: Mapping[str, str]
    size: int
    encoding: Encoding = "none"
    compressed: bool = False
    body: Any = None
    batch: Batch | None = None
    unknown_fields: tuple[str, ...] = ()
    answered_ms: float | None = None
    status: int | None = None
    response: Any = None
    resend_of: int | None = None
    fault: int | None = None
    frozen: Exchange | None = None

    def freeze(self) -> Exchange:
        """Return the exchange as it stands; kept once it was answered."""
        if self.frozen is not None:
            return self.frozen
        exchange = Exchange(
            ordinal=self.ordinal,
            at_ms=self.at_ms,
            answered_ms=self.answered_ms,
            connection=self.connection,
            method=self.method,
            path=self.path,
            route=self.route,
            headers=self.headers,
            encoding=self.encoding,
            compressed=self.compressed,
            size=self.size,
            body=self.body,
            batch=self.batch,
            unknown_fields=self.unknown_fields,
            status=self.status,
            response=self.response,
            resend_of=self.resend_of,
            fault=self.fault,
        )
        if self.status is not None:
            self.frozen = exchange
        return exchange


@dataclass(slots=True, eq=False)
class Recorder:
    """A tenant's growing record. Not thread-safe: the tenant's lock guards it.

    `handed_out` are the ids of requests, in order. `told` is called with each violation as it is noted.
    """

    clock: Callable[[], float]
    opened: float
    entries: list[Entry] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    optimizer_states: list[OptimizerState] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    handed_out: list[str] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    connections: dict[tuple[str, int] | None, str] = field(default_factory=dict)
    told: Callable[[Violation], object] = lambda _: None

    def violate(self, violation: Violation) -> None:
        """Note a violation."""
        self.violations.append(violation)
        self.told(violation)

    def arrive(
        self,
        client: tuple[str, int] | None,
        method: str,
        path: str,
        route: str,
        headers: Mapping[str, str],
        size: int,
    ) -> Entry:
        """Open the entry of a request whose body has arrived."""
        connection = self.connections.setdefault(client, f"c{len(self.connections) + 1}")
        entry = Entry(len(self.entries), self._now(), connection, method, path, route, headers, size)
        self.entries.append(entry)
        return entry

    def answer(self, entry: Entry, status: int, response: Any) -> None:
        """Close an entry: the answer is on its way to the client."""
        entry.answered_ms, entry.status, entry.response = self._now(), status, response

    def take(self, unfinished: tuple[str, ...], faults: tuple[FaultUse, ...] = ()) -> Record:
        """Return a snapshot that later requests do not change."""
        return Record(
            exchanges=tuple(entry.freeze() for entry in self.entries),
            operations=tuple(self.operations),
            optimizer_states=tuple(self.optimizer_states),
            violations=tuple(self.violations),
            gaps=tuple(self.gaps),
            aliases={**self.aliases, **{name: f"request-{n}" for n, name in enumerate(self.handed_out, start=1)}},
            unfinished=unfinished,
            failures=dict(self.failures),
            faults=faults,
        )

    def _now(self) -> float:
        return (self.clock() - self.opened) * 1000.0

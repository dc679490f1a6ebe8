"""What an exam works with: the driver's processes, servers that answer and that do not, and what was found so far."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.drivers.examining.conversation import Conversation, short
from harness.drivers.examining.findings import Finding
from harness.drivers.protocol import PROTOCOL, Answer, HelloAnswer
from harness.drivers.spec import DriverSpec
from harness.suite.losses.vectors import Vector
from mock_server import MockServer, Tenant

MODEL = "model"
CREATE = {"do": "create_model", "id": MODEL, "base_model": "parity/tiny-bigram", "rank": 8, "seed": None}
"""The step that every driver can do which can do anything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited, in seconds: for hello, for operation vectors, for any other answer, for an end."""

    hello: float = 120.0
    evaluate: float = 120.0
    answer: float = 15.0
    end: float = 5.0


@dataclass(slots=True)
class Desk:
    """The state of one examination. `stalled` is the base URL of a server that accepts connections and says nothing."""

    spec: DriverSpec
    server: MockServer
    stalled: str
    capabilities: frozenset[str]
    vectors: Sequence[Vector]
    limits: Limits
    exam: str = ""
    hello: HelloAnswer | None = None
    main: Conversation | None = None
    findings: list[Finding] = field(default_factory=list)
    begun: list[Conversation] = field(default_factory=list)

    def found(self, code: str, message: str) -> None:
        """Note a finding. What shows again in later exams was found already."""
        if all(finding.code != code for finding in self.findings):
            self.findings.append(Finding(code, self.exam, message))

    def can(self, capability: str) -> bool:
        """Whether the driver declares a capability."""
        return self.hello is not None and capability in self.hello.capabilities

    async def talk(self) -> Conversation:
        """Return the conversation that most exams share, begun anew where the last one has ended."""
        if self.main is not None and not self.main.alive:
            await self.main.end()
            self.main = None
        if self.main is None:
            self.main = await self.fresh()
        return self.main

    async def fresh(self) -> Conversation:
        """Begin a conversation: the driver has answered hello, or will be found not to."""
        conversation = await Conversation.begin(self.spec, self.found)
        self.begun.append(conversation)
        answer = await self.greet(conversation)
        if self.hello is not None and (answer is None or answer.ok is None):
            self.found("hello-unanswered", f"another process of the driver: {self._seen(conversation, answer)}")
        return conversation

    async def greet(self, conversation: Conversation) -> Answer | None:
        """Say hello, and judge the answer if it is the first."""
        nonce = secrets.token_hex(8)
        answer = await conversation.asked("hello", seconds=self.limits.hello, protocol=PROTOCOL, nonce=nonce)
        if self.hello is None and answer is not None and answer.ok is not None:
            try:
                self.hello = msgspec.convert(answer.ok, HelloAnswer)
            except msgspec.ValidationError as error:
                self.found("hello-malformed", f"{error}: {short(answer)}")
            if answer.ok.get("nonce") != nonce:
                self.found("nonce-not-echoed", f"{answer.ok.get('nonce')!r} for {nonce!r}")
        elif self.hello is None:
            self.found("hello-unanswered", self._seen(conversation, answer))
        return answer

    async def close(self) -> None:
        """End every process that was begun."""
        for conversation in self.begun:
            await conversation.end()

    def run(self, conversation: Conversation, tenant: Tenant, **content: Any) -> tuple[int, bytes]:
        """Return a run that creates a model for a tenant; `content` replaces or adds keys."""
        command = {
            "base_url": self.server.url_of(tenant),
            "api_key": tenant.api_key,
            "steps": [CREATE],
            "data": {},
            "losses": {},
            "timeout": self.limits.answer,
            **content,
        }
        return conversation.ask("run", **command)

    def _seen(self, conversation: Conversation, answer: Answer | None) -> str:
        return conversation.instead(self.limits.hello) if answer is None else short(answer)


@asynccontextmanager
async def stalling() -> AsyncIterator[str]:
    """Serve nothing: accept connections, read what comes, and never answer. Yields the base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1 << 16):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()

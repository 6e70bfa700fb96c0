"""The engine's side of a provider in tests: a Watch that remembers, and messages to send."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

import pytest
import uvloop

from outrider.contracts.outcome import Outcome
from outrider.contracts.provider import Outgoing

BODY = b"Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class Recorder:
    """Gives leave unless `withhold` gives a reason; keeps every outcome, so that a second one shows."""

    def __init__(self, withhold: Callable[[Outgoing], str | None] = lambda _: None) -> None:
        self.withhold = withhold
        self.begun: list[str] = []
        self.settled: dict[str, list[Outcome]] = {}
        self.order: list[str] = []
        self.keys: dict[str, list[str]] = {}
        self._changed = asyncio.Event()

    def begin(self, message: Outgoing) -> str | None:
        reason = self.withhold(message)
        if reason is None:
            self.begun.append(message.address)
            self._changed.set()
        return reason

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        self.settled.setdefault(message.address, []).append(outcome)
        self.order.append(message.address)
        self._changed.set()

    async def keep_key(self, key: str, messages: Sequence[Outgoing]) -> str | None:
        self.keys[key] = [message.address for message in messages]
        return None

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of each address; fails when one was settled twice."""
        assert all(len(outcomes) == 1 for outcomes in self.settled.values()), self.settled
        return {address: outcomes[0] for address, outcomes in self.settled.items()}

    async def until(self, is_so: Callable[[], bool], *, bound_s: float = 60) -> None:
        """Wait for something to be true after a begin or a settle."""
        async with asyncio.timeout(bound_s):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()


def outgoing(address: str = "a@example.com", body: bytes = BODY, *, sender: str = "news@example.org") -> Outgoing:
    """One message whose id follows from its address."""
    number = int.from_bytes(address.encode()[-16:], "big")
    return Outgoing(UUID(int=number), address, sender, body, f"key-{address}", is_8bit=not body.isascii())


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test under asyncio's own loop and under uvloop, each bounded to 150 s."""

    @functools.wraps(test)
    def run(loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(asyncio.wait_for(test(**arguments), 150))

    parameters = list(inspect.signature(test).parameters.values())
    own = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*parameters, own])  # type: ignore[attr-defined]  # what pytest reads
    marked: Callable[..., None] = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])(run)
    return marked

"""Connections that rest: left alone until their time is over, watched again when there is work; on both loops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from outrider.contracts.outcome import Accepted, Deferred
from outrider.plugins.providers.smtp import session as sessions
from outrider.plugins.providers.smtp import transport as transports
from outrider.plugins.providers.smtp.session import Session
from tests.kit.smtp_faults import Action, Event, Hang, SmtpFaults
from tests.kit.smtp_sending import open_transport
from tests.kit.watching import Recorder, on_both_loops, outgoing


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is work, connections are looked at every 25 ms."""
    monkeypatch.setattr(transports, "_TICK_S", 0.025)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The connections that were looked at, one for each look."""
    found: list[Session] = []
    tick = Session.tick

    def looked(self: Session, now: float, **given: Any) -> None:
        found.append(self)
        tick(self, now, **given)

    monkeypatch.setattr(Session, "tick", looked)
    return found


@on_both_loops
async def test_a_connection_that_rests_is_looked_at_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, looks: list[Session]
) -> None:
    monkeypatch.setattr(sessions, "IDLE_LIMIT_S", 1.0)
    async with SmtpFaults() as server:
        transport = open_transport(server)
        await transport.send([outgoing()], Recorder())
        looks.clear()
        await server.until(lambda: server.ended == server.connections)
        assert server.said("QUIT") == ["QUIT"], "it ends politely"
        assert 1 <= len(looks) <= 20, "not once in 25 ms for a second, which would be about 40"
        await transport.close()


@on_both_loops
async def test_silence_is_noticed_after_a_rest_as_soon_as_before() -> None:
    def script(event: Event) -> Action:
        return Hang() if event.stage == "mail" and event.nth > 1 else None

    async with SmtpFaults(script) as server:
        transport: Any = open_transport(server, command_timeout_s=30)
        recorder = Recorder()
        await transport.send([outgoing("first@example.com")], recorder)
        hasty = replace(transport._account, command_timeout_s=1)  # the first one is answered, however late
        for each in (transport, *transport._sessions):
            each._account = hasty
        await asyncio.sleep(0.2)  # it rests, and nobody looks for half a minute
        async with asyncio.timeout(20):
            await transport.send([outgoing("second@example.com")], recorder)
        await transport.close()
    assert isinstance(recorder.outcomes["first@example.com"], Accepted)
    second = recorder.outcomes["second@example.com"]
    assert isinstance(second, Deferred)
    assert second.cause == "connection_timeout"

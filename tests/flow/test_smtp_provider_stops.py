"""The engine's word to the SMTP provider: leave, pause, turns, cancelling, closing; under asyncio and uvloop."""

from __future__ import annotations

import asyncio

import pytest

from outrider.contracts.outcome import Accepted, Uncertain, Unsent
from outrider.contracts.provider import Outgoing
from tests.kit.smtp_faults import SmtpFaults, Wait
from tests.kit.smtp_sending import STYLES, at, open_transport, people
from tests.kit.watching import Recorder, on_both_loops, outgoing

# the engine's word


@on_both_loops
@STYLES
async def test_a_message_withdrawn_at_the_last_moment_leaves_no_dot_and_the_others_go(
    extensions: tuple[str, ...],
) -> None:
    async with SmtpFaults(extensions=extensions) as server:
        transport = open_transport(server)
        recorder = Recorder(lambda message: "suppressed" if message.address == "p2@example.com" else None)
        await transport.send(people(6), recorder)
        await transport.close()
        await server.until(lambda: server.ended == server.connections)
    assert recorder.outcomes.pop("p2@example.com") == Unsent("suppressed")
    assert {taken.recipient for taken in server.accepted} == {f"p{n}@example.com" for n in (0, 1, 3, 4, 5)}
    assert server.dots == 5
    assert server.connections == 2


@on_both_loops
async def test_a_pause_withdraws_a_whole_batch_for_one_connection() -> None:
    async with SmtpFaults() as server:
        transport = open_transport(server)
        recorder = Recorder(lambda _: "paused" if len(recorder.begun) >= 3 else None)
        await transport.send(people(400), recorder)
        assert server.connections == 1
        recorder.withhold = lambda _: None
        await transport.send([outgoing("after@example.com")], recorder)
        await transport.close()
    reasons = [outcome for outcome in recorder.outcomes.values() if outcome == Unsent("paused")]
    assert (len(reasons), server.dots, len(server.accepted)) == (397, 4, 4)


@on_both_loops
async def test_leave_is_asked_after_the_go_ahead_and_before_the_body() -> None:
    seen: list[tuple[int, int]] = []
    async with SmtpFaults() as server:
        transport = open_transport(server)

        def withhold(_: Outgoing) -> None:
            seen.append((len(server.said("DATA")), server.dots))

        await transport.send(people(3), Recorder(withhold))
        await transport.close()
    assert seen[0] == (1, 0)
    assert len(seen) == 3


@on_both_loops
async def test_one_message_overtakes_five_hundred_that_came_before() -> None:
    async with SmtpFaults() as server:
        transport = open_transport(server)
        bulk, single = Recorder(), Recorder()
        sending = asyncio.create_task(transport.send(people(500), bulk))
        await bulk.until(lambda: len(bulk.settled) >= 5)
        before = len(bulk.settled)
        await transport.send([outgoing("urgent@example.com")], single)
        assert len(bulk.settled) - before < 50
        await sending
        await transport.close()
    assert isinstance(single.outcomes["urgent@example.com"], Accepted)
    assert len(bulk.outcomes) == 500


@on_both_loops
async def test_cancelling_settles_what_was_begun_as_uncertain_and_the_rest_as_unsent() -> None:
    never = asyncio.Event()
    async with SmtpFaults(at("dot", Wait(never), nth=2)) as server:
        transport = open_transport(server)
        mine, others = Recorder(), Recorder()
        sending = asyncio.create_task(transport.send(people(10), mine))
        await server.until(lambda: server.dots == 2)
        other = asyncio.create_task(transport.send([outgoing("other@example.com")], others))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        outcomes = mine.outcomes
        await other
        await transport.close()
    assert len(outcomes) == 10
    assert isinstance(outcomes["p0@example.com"], Accepted)
    assert isinstance(outcomes["p1@example.com"], Uncertain)
    assert {outcomes[f"p{n}@example.com"] for n in range(2, 10)} == {Unsent("cancelled")}
    assert isinstance(others.outcomes["other@example.com"], Accepted)
    assert {taken.recipient for taken in server.accepted} <= {"p0@example.com", "p1@example.com", "other@example.com"}


@on_both_loops
async def test_closing_waits_for_answers_and_leaves_nothing_open() -> None:
    late = asyncio.Event()
    async with SmtpFaults(at("dot", Wait(late), nth=2)) as server:
        transport = open_transport(server)
        recorder = Recorder()
        sending = asyncio.create_task(transport.send(people(6), recorder))
        await server.until(lambda: server.dots == 2)
        closing = asyncio.create_task(transport.close())
        await recorder.until(lambda: len(recorder.settled) == 5)
        late.set()
        await asyncio.gather(sending, closing)
        await transport.close()
        await server.until(lambda: server.ended == server.connections)
        again = Recorder()
        await transport.send([outgoing()], again)
    kinds = [type(outcome) for outcome in recorder.outcomes.values()]
    assert (kinds.count(Accepted), kinds.count(Unsent)) == (2, 4)
    assert again.outcomes == {"a@example.com": Unsent("transport_closed")}
    assert len(server.accepted) == 2

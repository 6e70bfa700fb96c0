"""F75: connections that break, fall silent or were never SMTP; under asyncio and uvloop."""

from __future__ import annotations

import asyncio

import pytest

from outrider.contracts.outcome import Accepted, Deferred, Uncertain
from outrider.plugins.providers.smtp import Smtp
from tests.kit.smtp_faults import Action, Close, Event, Hang, SmtpFaults, Wait
from tests.kit.smtp_sending import LONG_BODY, LOOPBACK, STYLES, at, contexts, open_transport, people, send, send_one
from tests.kit.watching import Recorder, on_both_loops, outgoing

# 421 and broken connections, at each step


@on_both_loops
@STYLES
@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "dot"])
async def test_421_defers_the_message_at_each_step(extensions: tuple[str, ...], stage: str) -> None:
    async with SmtpFaults(at(stage, Close(b"421 4.3.2 closing\r\n")), extensions=extensions) as server:
        outcome = await send_one(server)
    label = {"ehlo": "EHLO", "banner": "banner"}.get(stage, stage.upper())
    assert outcome == Deferred("server_busy", f"{label}: 421 4.3.2 closing")
    assert (server.accepted, server.dots) == ([], int(stage == "dot"))


@on_both_loops
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
async def test_421_from_a_server_that_limits_messages_per_connection_costs_no_message(stage: str) -> None:
    def script(event: Event) -> Action:
        return Close(b"421 too many\r\n") if event.stage == stage and event.nth % 3 == 0 else None

    async with SmtpFaults(script) as server:
        outcomes = await send(server, *people(7))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert len(server.accepted) == 7
    assert server.connections > 1


@on_both_loops
@STYLES
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
async def test_a_connection_that_breaks_before_the_body_is_tried_once_more_and_then_deferred(
    extensions: tuple[str, ...], stage: str
) -> None:
    async with SmtpFaults(at(stage, Close(), nth=1), extensions=extensions) as server:
        assert isinstance(await send_one(server), Accepted)
        assert (server.connections, len(server.accepted)) == (2, 1)
    async with SmtpFaults(at(stage, Close()), extensions=extensions) as server:
        assert await send_one(server) == Deferred("connection_failed", "the server hung up")
        assert (server.connections, server.dots) == (2, 0)


@on_both_loops
@STYLES
async def test_a_recipient_that_breaks_every_connection_is_deferred_after_two_and_harms_nobody(
    extensions: tuple[str, ...],
) -> None:
    async with SmtpFaults(at("rcpt", Close(), recipient="p2@example.com"), extensions=extensions) as server:
        outcomes = await send(server, *people(8))
    assert outcomes.pop("p2@example.com") == Deferred("connection_failed", "the server hung up")
    assert {type(outcome) for outcome in outcomes.values()} == {Accepted}
    assert server.said("RCPT").count("RCPT TO:<p2@example.com>") == 2
    assert len(server.accepted) == 7


@on_both_loops
@STYLES
@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_answer_lost_after_the_dot_is_uncertain_and_never_repeated(
    extensions: tuple[str, ...], *, is_taken: bool
) -> None:
    script = at("dot", Close(is_taken=is_taken), nth=2)
    async with SmtpFaults(script, extensions=extensions) as server:
        outcomes = await send(server, *people(4))
    assert outcomes["p1@example.com"] == Uncertain("answer_lost", "the server hung up")
    assert sum(isinstance(outcome, Accepted) for outcome in outcomes.values()) == 3
    assert len(server.accepted) == 3 + is_taken
    assert server.dots == 4


@on_both_loops
async def test_a_long_body_cut_off_before_its_dot_is_known_not_sent() -> None:
    deaf = at("data", Hang(b"354 go ahead\r\n", is_deaf=True))
    async with SmtpFaults(deaf, extensions=("PIPELINING",)) as server:
        transport = open_transport(server)
        recorder = Recorder()
        # far more than the kernel buffers on both sides, so that the end cannot have left us
        sending = asyncio.create_task(transport.send([outgoing("a@b.c", LONG_BODY * 12)], recorder))
        await recorder.until(lambda: recorder.begun == ["a@b.c"])
        await server.until(lambda: bool(server.said("DATA")))
        await server.stop()
        await sending
        await transport.close()
    assert recorder.outcomes == {"a@b.c": Deferred("connection_failed", recorder.outcomes["a@b.c"].detail)}  # type: ignore[union-attr]  # Deferred has a detail
    assert server.dots == 0


@on_both_loops
async def test_250_and_then_hanging_up_is_accepted_and_the_rest_goes_elsewhere() -> None:
    script = at("dot", Close(b"250 2.0.0 queued as LAST\r\n"))
    async with SmtpFaults(script) as server:
        outcomes = await send(server, *people(5))
    assert set(outcomes.values()) == {Accepted("LAST")}
    assert (len(server.accepted), server.connections) == (5, 5)


@on_both_loops
async def test_an_idle_connection_that_was_closed_costs_no_message() -> None:
    def script(event: Event) -> Action:
        # the second MAIL of a connection is met by a server that left without being heard
        return Close() if event.stage == "mail" and event.nth in (2, 4) else None

    async with SmtpFaults(script) as server:
        transport = open_transport(server)
        recorder = Recorder()
        for message in people(4):
            await transport.send([message], recorder)
        await transport.close()
    assert all(isinstance(outcome, Accepted) for outcome in recorder.outcomes.values())
    assert len(server.accepted) == 4


# time-outs


@on_both_loops
@STYLES
@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data"])
async def test_silence_before_the_body_is_a_timeout_and_known_not_sent(extensions: tuple[str, ...], stage: str) -> None:
    async with SmtpFaults(at(stage, Hang()), extensions=extensions) as server:
        outcome = await send_one(server, command_timeout_s=0.1)
    assert isinstance(outcome, Deferred)
    assert outcome.cause == "connection_timeout"
    assert server.dots == 0


@on_both_loops
@pytest.mark.parametrize("is_taken", [True, False])
async def test_silence_after_the_dot_is_uncertain(*, is_taken: bool) -> None:
    async with SmtpFaults(at("dot", Hang(is_taken=is_taken))) as server:
        outcome = await send_one(server, data_timeout_s=0.1)
    assert outcome == Uncertain("answer_lost", "no answer in time")
    assert (server.dots, len(server.accepted)) == (1, int(is_taken))


@on_both_loops
async def test_an_answer_to_the_dot_may_take_longer_than_every_other_answer() -> None:
    late = asyncio.Event()
    async with SmtpFaults(at("dot", Wait(late))) as server:
        transport = open_transport(server, command_timeout_s=2.0, data_timeout_s=60)
        recorder = Recorder()
        sending = asyncio.create_task(transport.send([outgoing()], recorder))
        await server.until(lambda: server.dots == 1)
        async with SmtpFaults(at("mail", Hang())) as silent:  # by now another message has run into its time-out
            assert isinstance(await send_one(silent, command_timeout_s=2.4), Deferred)
        assert not recorder.settled
        late.set()
        await sending
        await transport.close()
    assert recorder.outcomes == {"a@example.com": Accepted("ABC001")}


@on_both_loops
async def test_a_message_behind_a_slow_answer_moves_to_another_connection() -> None:
    late = asyncio.Event()

    def script(event: Event) -> Action:
        return Wait(late) if event.stage == "dot" and event.nth == 2 else None

    async with SmtpFaults(script) as server:
        transport = open_transport(server, connections=2)
        recorder = Recorder()
        first = asyncio.create_task(transport.send(people(4), recorder))
        await recorder.until(lambda: len(recorder.settled) == 3)
        late.set()
        await first
        await transport.close()
    assert all(isinstance(outcome, Accepted) for outcome in recorder.outcomes.values())
    assert len(server.accepted) == len({taken.recipient for taken in server.accepted}) == 4


@on_both_loops
async def test_a_server_that_reads_nothing_of_a_long_body_is_a_timeout_and_known_not_sent() -> None:
    deaf = at("data", Hang(b"354 go ahead\r\n", is_deaf=True))
    async with SmtpFaults(deaf, extensions=("PIPELINING",)) as server:
        outcome = await send_one(server, outgoing("a@b.c", LONG_BODY * 12), command_timeout_s=0.3)
    assert outcome == Deferred("connection_timeout", "no answer in time")


@on_both_loops
async def test_a_server_that_reads_nothing_of_a_short_body_leaves_it_uncertain() -> None:
    async with SmtpFaults(at("data", Hang(b"354 go ahead\r\n", is_deaf=True))) as server:
        outcome = await send_one(server, data_timeout_s=0.3)
    assert outcome == Uncertain("answer_lost", "no answer in time")


# nothing listens, or something else does


@on_both_loops
async def test_when_nothing_listens_all_that_wait_are_deferred_after_one_attempt() -> None:
    async with SmtpFaults() as server:
        port = server.port
    transport = Smtp(contexts).open({"host": "127.0.0.1", "port": port, "tls": "off", "connections": 8}, {}, LOOPBACK)
    recorder = Recorder()
    await transport.send(people(500), recorder)
    await transport.close()
    causes = {outcome.cause for outcome in recorder.outcomes.values() if isinstance(outcome, Deferred)}
    assert (causes, len(recorder.outcomes)) == ({"connection_failed"}, 500)


@on_both_loops
async def test_a_server_that_hangs_up_on_everyone_is_not_stormed() -> None:
    async with SmtpFaults(at("banner", Close())) as server:
        outcomes = await send(server, *people(300), connections=8)
        assert server.connections == 1
    assert {outcome.cause for outcome in outcomes.values() if isinstance(outcome, Deferred)} == {"connection_failed"}
    async with SmtpFaults(at("mail", Close())) as server:
        outcomes = await send(server, *people(300), connections=8)
        assert server.connections <= 16
    assert {outcome.cause for outcome in outcomes.values() if isinstance(outcome, Deferred)} == {"connection_failed"}


@on_both_loops
async def test_a_limit_on_connections_slows_down_and_fails_nothing() -> None:
    def script(event: Event) -> Action:
        return Close(b"421 4.7.0 too many connections\r\n") if event.stage == "banner" and event.nth > 2 else None

    async with SmtpFaults(script) as server:
        outcomes = await send(server, *people(200), connections=8)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert {taken.connection for taken in server.accepted} <= {1, 2}


@on_both_loops
@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220-one\r\n250 two\r\n",
        b"2x0 hm\r\n",
        b"22\r\n",
        b"220_odd\r\n",
        b"220-" + b"x" * 5000,
        b"220-more\r\n" * 300,
        b"\x00\xff\x16\x03\x01\r\n",
    ],
)
async def test_what_is_not_smtp_is_a_protocol_error_and_is_not_quoted(noise: bytes) -> None:
    async with SmtpFaults(at("banner", noise)) as server:
        outcome = await send_one(server)
    assert isinstance(outcome, Deferred)
    assert outcome.cause == "protocol_error"
    assert "Bad Request" not in outcome.detail


@on_both_loops
@STYLES
async def test_a_server_that_answers_twice_never_gets_a_message_counted_that_it_did_not_take(
    extensions: tuple[str, ...],
) -> None:
    script = at("dot", b"250 2.0.0 queued as ONE\r\n250 2.0.0 queued as TWO\r\n")
    async with SmtpFaults(script, extensions=extensions) as server:
        outcomes = await send(server, *people(6))
    accepted = {address for address, outcome in outcomes.items() if isinstance(outcome, Accepted)}
    assert accepted == {taken.recipient for taken in server.accepted}
    assert len(accepted) == 6


@on_both_loops
async def test_an_answer_that_came_before_its_question_accepts_nothing() -> None:
    script = at("data", b"354 go ahead\r\n250 2.0.0 queued as LIE\r\n")
    async with SmtpFaults(script) as server:
        outcome = await send_one(server)
    assert isinstance(outcome, Uncertain)

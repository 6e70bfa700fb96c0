"""F75: what each answer of a mail server means for its message; under asyncio and uvloop."""

from __future__ import annotations

import pytest

from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected
from outrider.contracts.provider import Outgoing
from tests.kit.smtp_faults import Action, Event, SmtpFaults
from tests.kit.smtp_sending import LONG_BODY, STYLES, at, open_transport, people, send, send_one
from tests.kit.watching import BODY, Recorder, on_both_loops, outgoing

# a sound server


@on_both_loops
@STYLES
async def test_messages_arrive_byte_for_byte_with_their_queue_ids(extensions: tuple[str, ...]) -> None:
    body = BODY + b".leading dot\r\n..two\r\n.\r\nend\r\n"
    async with SmtpFaults(extensions=extensions) as server:
        outcomes = await send(server, outgoing("a@example.com", body), outgoing("b@example.com", b"." + body))
    assert outcomes == {"a@example.com": Accepted("ABC001"), "b@example.com": Accepted("ABC002")}
    assert [(taken.recipient, taken.body) for taken in server.accepted] == [
        ("a@example.com", body),
        ("b@example.com", b"." + body),
    ]
    assert server.connections == 1
    assert server.talked_ahead == 0
    assert server.said("QUIT") == ["QUIT"]


@on_both_loops
async def test_a_body_of_megabytes_arrives_whole_between_short_ones() -> None:
    async with SmtpFaults() as server:
        outcomes = await send(server, outgoing("a@b.c"), outgoing("long@b.c", LONG_BODY), outgoing("z@b.c"))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert [len(taken.body) for taken in server.accepted] == [len(BODY), len(LONG_BODY), len(BODY)]
    assert server.accepted[1].body == LONG_BODY
    assert server.connections == 1


@on_both_loops
async def test_connections_are_shared_kept_and_replaced_after_their_messages() -> None:
    async with SmtpFaults() as server:
        transport = open_transport(server, connections=3, messages_per_connection=4)
        recorder = Recorder()
        for _ in range(2):
            await transport.send(people(12), recorder)
        assert len(server.accepted) == 24
        await transport.close()
        await server.until(lambda: server.ended == server.connections)
    assert max(sum(taken.connection == n for taken in server.accepted) for n in range(1, server.connections + 1)) == 4
    assert server.connections >= 6


@on_both_loops
async def test_a_multi_line_answer_is_one_answer() -> None:
    def script(event: Event) -> Action:
        return {
            "banner": b"220-welcome\r\n220-to\r\n220 faults\r\n",
            "mail": b"250-2.1.0 fine\r\n250 2.1.0 ok\r\n",
            "rcpt": b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n" if event.recipient == "b@b.c" else None,
            "dot": b"250-2.0.0 taken\r\n250 2.0.0 queued as LATE1\r\n",
        }.get(event.stage)

    async with SmtpFaults(script) as server:
        outcomes = await send(server, outgoing("a@b.c"), outgoing("b@b.c"), outgoing("c@b.c"))
    assert outcomes["a@b.c"] == outcomes["c@b.c"] == Accepted("LATE1")
    assert outcomes["b@b.c"] == Rejected(
        "mailbox_unavailable", "RCPT: 550 5.1.1 no 5.1.1 such 5.1.1 user", "hard_bounce"
    )


# refusals, for each step and each recipient


@on_both_loops
@STYLES
@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("mail", "450 4.7.1 later", Deferred("server_deferred", "MAIL: 450 4.7.1 later")),
        ("mail", "550 5.7.1 you may not", Rejected("message_rejected", "MAIL: 550 5.7.1 you may not")),
        ("mail", "530 5.7.0 sign in first", Deferred("authentication_failed", "MAIL: 530 5.7.0 sign in first")),
        ("mail", "552 5.3.4 too big", Rejected("too_large", "MAIL: 552 5.3.4 too big")),
        ("mail", "503 5.5.1 order", Deferred("protocol_error", "MAIL: 503 5.5.1 order")),
        ("rcpt", "450 4.2.1 try later", Deferred("server_deferred", "RCPT: 450 4.2.1 try later", is_soft=True)),
        (
            "rcpt",
            "451 4.7.1 Greylisted, try again in 300 seconds",
            Deferred("server_deferred", "RCPT: 451 4.7.1 Greylisted, try again in 300 seconds", 300.0),
        ),
        ("rcpt", "550 5.1.1 unknown", Rejected("mailbox_unavailable", "RCPT: 550 5.1.1 unknown", "hard_bounce")),
        ("rcpt", "550 unknown", Rejected("mailbox_unavailable", "RCPT: 550 unknown", is_soft=True)),
        ("rcpt", "552 5.2.2 full", Rejected("mailbox_unavailable", "RCPT: 552 5.2.2 full", is_soft=True)),
        ("rcpt", "554 5.7.1 relay access denied", Rejected("message_rejected", "RCPT: 554 5.7.1 relay access denied")),
        ("data", "451 4.3.0 not now", Deferred("server_deferred", "DATA: 451 4.3.0 not now")),
        ("data", "554 5.7.1 no", Rejected("message_rejected", "DATA: 554 5.7.1 no")),
        ("dot", "451 4.3.2 scanner down", Deferred("server_deferred", "DOT: 451 4.3.2 scanner down")),
        ("dot", "554 5.7.1 spam", Rejected("message_rejected", "DOT: 554 5.7.1 spam")),
        ("dot", "550 5.1.1 nobody", Rejected("mailbox_unavailable", "DOT: 550 5.1.1 nobody", "hard_bounce")),
        ("dot", "552 5.3.4 too big", Rejected("too_large", "DOT: 552 5.3.4 too big")),
    ],
)
async def test_a_refusal_concerns_its_own_message_alone(
    extensions: tuple[str, ...], stage: str, answer: str, expected: Outcome
) -> None:
    # the second transaction is the one refused: what was sent ahead of it and after it must come through
    script = at(stage, answer.encode() + b"\r\n", nth=2)
    async with SmtpFaults(script, extensions=extensions) as server:
        outcomes = await send(server, *people(4))
    assert outcomes["p1@example.com"] == expected
    assert [taken.recipient for taken in server.accepted] == ["p0@example.com", "p2@example.com", "p3@example.com"]
    assert sum(isinstance(outcome, Accepted) for outcome in outcomes.values()) == 3
    assert (server.connections, server.talked_ahead, server.lone_dots) == (1, 0, 0)


@on_both_loops
@pytest.mark.parametrize("dot", [b"250 2.0.0 queued as NOBODY\r\n", b"554 5.5.1 no valid recipients\r\n"])
async def test_a_go_ahead_without_a_recipient_ends_with_a_lone_dot_and_counts_as_nothing(dot: bytes) -> None:
    def script(event: Event) -> Action:
        if event.stage == "rcpt" and event.recipient in ("p1@example.com", "p2@example.com"):
            return b"550 5.1.1 unknown\r\n"
        return dot if event.stage == "dot" and not event.recipient else None

    async with SmtpFaults(script, is_354_without_recipient=True) as server:
        outcomes = await send(server, *people(5))
    unknown = Rejected("mailbox_unavailable", "RCPT: 550 5.1.1 unknown", "hard_bounce")
    assert outcomes["p1@example.com"] == outcomes["p2@example.com"] == unknown
    assert [taken.recipient for taken in server.accepted] == ["p0@example.com", "p3@example.com", "p4@example.com"]
    assert all(taken.body == BODY for taken in server.accepted)
    assert (server.dots, server.lone_dots, server.connections) == (5, 2, 1)


@on_both_loops
async def test_no_dot_is_sent_when_the_sender_was_refused_but_the_recipient_taken() -> None:
    def script(event: Event) -> Action:
        if event.nth == 1:
            return {"mail": b"550 5.7.1 no\r\n", "rcpt": b"250 ok\r\n", "data": b"354 go\r\n"}.get(event.stage)
        return None

    async with SmtpFaults(script) as server:
        outcomes = await send(server, *people(2))
        await server.until(lambda: server.ended == 2)
    assert outcomes["p0@example.com"] == Rejected("message_rejected", "MAIL: 550 5.7.1 no")
    assert isinstance(outcomes["p1@example.com"], Accepted)
    assert (server.dots, len(server.accepted)) == (1, 1)


# what the server cannot carry


@on_both_loops
async def test_8_bit_content_goes_only_where_8bitmime_is_offered() -> None:
    message = outgoing("a@b.c", BODY + "Grüße\r\n".encode())
    async with SmtpFaults() as server:
        assert isinstance(await send_one(server, message), Accepted)
        assert server.said("MAIL") == [f"MAIL FROM:<news@example.org> SIZE={len(message.body)} BODY=8BITMIME"]
    async with SmtpFaults(extensions=("PIPELINING",)) as server:
        outcomes = await send(server, message, outgoing("plain@b.c"))
        assert outcomes["a@b.c"] == Rejected(
            "eight_bit_unsupported", "the message has 8-bit content and the server no 8BITMIME"
        )
        assert server.said("MAIL") == ["MAIL FROM:<news@example.org>"]
        assert server.said("RCPT") == ["RCPT TO:<plain@b.c>"]


@on_both_loops
async def test_a_non_ascii_address_goes_only_where_smtputf8_is_offered() -> None:
    message = outgoing("müller@example.com")
    async with SmtpFaults() as server:
        assert isinstance(await send_one(server, message), Accepted)
        assert server.said("MAIL")[0].endswith(" SMTPUTF8")
        assert server.accepted[0].recipient == "müller@example.com"
    async with SmtpFaults(extensions=("PIPELINING", "8BITMIME")) as server:
        assert await send_one(server, message) == Rejected("smtputf8_unsupported", "the server does not offer SMTPUTF8")
        assert server.said("MAIL") == []


@on_both_loops
async def test_a_message_above_the_size_limit_is_not_offered() -> None:
    big = outgoing("big@b.c", BODY + b"x" * 900 + b"\r\n")
    async with SmtpFaults(extensions=("PIPELINING", "SIZE 500")) as server:
        outcomes = await send(server, big, outgoing("a@b.c"))
    assert outcomes["big@b.c"] == Rejected("too_large", f"{len(big.body)} bytes; the server takes 500")
    assert isinstance(outcomes["a@b.c"], Accepted)
    assert server.said("RCPT") == ["RCPT TO:<a@b.c>"]


@on_both_loops
@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (outgoing("a@b.c>\r\nRCPT TO:<x@y.z"), "mailbox_unavailable"),
        (outgoing("a b@c.d"), "mailbox_unavailable"),
        (outgoing("a@b.c> SIZE=1"), "mailbox_unavailable"),
        (outgoing("a@b\u2028c"), "mailbox_unavailable"),
        (outgoing("a@b.c", sender="x@y.z>\r\nDATA"), "render_failed"),
        (outgoing("a@b.c", b"Subject: x\r\n\r\nbare\nline\r\n"), "render_failed"),
        (outgoing("a@b.c", b"Subject: x\r\n\r\nbare\rline\r\n"), "render_failed"),
        (outgoing("a@b.c", b"Subject: x\r\n\r\n\n.\r\nMAIL FROM:<evil@x.y>\r\n"), "render_failed"),
        (outgoing("a@b.c", b"no end"), "render_failed"),
        (outgoing("a@b.c", b""), "render_failed"),
    ],
)
async def test_what_could_end_a_command_or_a_body_early_never_reaches_the_wire(message: Outgoing, cause: str) -> None:
    async with SmtpFaults() as server:
        outcomes = await send(server, message, outgoing("good@b.c"))
    outcome = outcomes[message.address]
    assert isinstance(outcome, Rejected)
    assert outcome.cause == cause
    assert server.said("RCPT") == ["RCPT TO:<good@b.c>"]
    assert [taken.recipient for taken in server.accepted] == ["good@b.c"]

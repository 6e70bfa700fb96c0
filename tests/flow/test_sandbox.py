"""The sandbox speaks SMTP: real clients, raw sockets, every byte where it belongs."""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
from pathlib import Path

import pytest

from tests.kit.smtp_talk import ENVELOPE, MESSAGE, Talk, open_sandbox, records, summary, until, with_smtplib

HELLO = b"EHLO client.test\r\n"


async def test_a_message_of_the_standard_client_is_recorded_as_it_came(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, keeps_bodies=True) as sandbox:

        def send(client: smtplib.SMTP) -> dict[str, tuple[int, bytes]]:
            return client.sendmail("from@example.org", ["ana@example.org", "bo@example.org"], MESSAGE)

        assert await with_smtplib(sandbox, send) == {}
        ana, bo = records(sandbox)
    assert (ana.seq, bo.seq) == (1, 2)
    assert (ana.rcpt_to, bo.rcpt_to) == ("ana@example.org", "bo@example.org")
    assert ana.mail_from == "from@example.org"
    assert ana.message_id == "<m1@example.org>"
    assert ana.outrider_ids == {"message": "0198"}
    assert (ana.sha256, ana.size_bytes) == (hashlib.sha256(MESSAGE).hexdigest(), len(MESSAGE))
    assert ana.queue_id == bo.queue_id
    assert ana.queue_id is not None
    assert ana.reply == f"250 2.0.0 Ok: queued as {ana.queue_id}"
    assert (ana.is_tls, ana.auth_user, ana.fault, ana.mail_params) == (False, None, None, f"size={len(MESSAGE)}")
    assert (tmp_path / "ledger.jsonl.bodies").read_bytes() == MESSAGE


async def test_extensions_are_offered_to_ehlo_only(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, max_message_bytes=5_000) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        offered = await talk.say(HELLO, expect=250)
        words = {line[4:] for line in offered.splitlines()[1:]}
        assert words == {
            b"PIPELINING", b"SIZE 5000", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES", b"STARTTLS", b"HELP",
        }  # fmt: skip
        assert await talk.say(b"HELO client.test\r\n", expect=250) == b"250 sandbox.localhost\r\n"
        await talk.say(b"MAIL FROM:<a@b> SIZE=1\r\n", expect=555)
        await talk.say(b"MAIL FROM:<a@b>\r\n", expect=250)


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        (b"", b"MAIL FROM:<a@b>", 503),
        (HELLO, b"RCPT TO:<a@b>", 503),
        (HELLO, b"DATA", 503),
        (HELLO + b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b>", 503),
        (HELLO + b"MAIL FROM:<a@b>\r\n", b"DATA", 503),
        (HELLO, b"MAIL FROM: <a@b>", 501),
        (HELLO, b"MAIL FROM:<a@b> BODY=9BIT", 501),
        (HELLO, b"MAIL FROM:<a@b> SIZE=many", 501),
        (HELLO, b"MAIL FROM:<a@b> SIZE=" + b"9" * 19, 552),
        (HELLO, b"MAIL FROM:<a@b> RET=HDRS", 555),
        (HELLO, b"MAIL FROM:<a@b> AUTH=<>", 555),
        (HELLO, "MAIL FROM:<zoë@b>".encode(), 553),
        (HELLO + b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<a@b> NOTIFY=NEVER", 555),
        (HELLO + b"MAIL FROM:<a@b>\r\n", "RCPT TO:<zoë@b>".encode(), 553),
        (HELLO + b"MAIL FROM:<a@b>\r\n", b"RCPT TO:a@b", 501),
        (b"", b"EHLO", 501),
        (b"", b"EHLO two words", 501),
        (HELLO, b"DATA now", 501),
        (HELLO, b"QUIT now", 501),
        (HELLO, b"VRFY", 501),
        (HELLO, b"VRFY ana", 252),
        (HELLO, b"EXPN list", 502),
        (HELLO, b"BDAT 10", 502),
        (HELLO, b"AUTH PLAIN AGEAYg==", 502),
        (HELLO, b"FETCH mail", 500),
        (HELLO, b"", 500),
        (HELLO, b"NOOP \x00", 500),
        (HELLO, b"NOOP " + b"x" * 1_100, 500),
        (HELLO, b"NOOP as you like", 250),
        (HELLO, b"HELP", 214),
        (HELLO, b"RSET", 250),
        (HELLO, b"NOOP\n", 500),
    ],
)
async def test_each_mistake_has_its_own_answer(tmp_path: Path, before: bytes, line: bytes, code: int) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        for command in before.splitlines(keepends=True):
            await talk.say(command, expect=250)
        await talk.say(line if line.endswith(b"\n") else line + b"\r\n", expect=code)
        await talk.say(b"QUIT\r\n", expect=221)
        assert await talk.ended() == b""


async def test_a_line_without_end_closes_the_session(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(b"x" * 13_000, expect=500)
        assert await talk.ended() == b""


async def test_pipelined_commands_are_answered_in_order_and_across_messages(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        for _ in range(3):
            await talk.say(
                MESSAGE + b".\r\nMAIL FROM:<a@b>\r\nRCPT TO:<bad>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"
            )
            await talk.hear(250, 250, 501, 250, 250, 354)
        await talk.say(MESSAGE + b".\r\nQUIT\r\n")
        await talk.hear(250, 221)
        assert await talk.ended() == b""
        assert summary(sandbox) == [("accepted", "dot", "ana@example.org")] + [
            ("accepted", "dot", rcpt) for _ in range(3) for rcpt in ("c@d", "e@f")
        ]
        assert len({record.queue_id for record in records(sandbox)}) == 4


async def test_data_after_refused_recipients_says_no_valid_recipients(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<bad>\r\nDATA\r\nRSET\r\n" + ENVELOPE)
        await talk.hear(250, 501, 554, 250, 250, 250, 354)


async def test_a_message_cut_into_single_bytes_keeps_its_dots(tmp_path: Path) -> None:
    message = b"Subject: dots\r\n\r\n.\r\n..\r\n.text\r\n\r\n.\r\n"
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    async with open_sandbox(tmp_path, keeps_bodies=True) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        for byte in ENVELOPE + b"":
            await talk.say(bytes([byte]))
        await talk.hear(250, 250, 354)
        for byte in stuffed + b".\r\n":
            await talk.say(bytes([byte]))
        await talk.hear(250)
        assert (tmp_path / "ledger.jsonl.bodies").read_bytes() == message


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\n.\r\n"])
async def test_a_smuggled_message_is_refused_and_the_session_ends(tmp_path: Path, end: bytes) -> None:
    smuggled = end + b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nevil\r\n.\r\n"
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b"text" + smuggled)
        assert b"bare <" in await talk.hear(521)
        assert await talk.ended() == b""
        assert summary(sandbox) == [("refused", "dot", "ana@example.org")]
        assert records(sandbox)[0].message_id == "<m1@example.org>"


async def test_a_client_that_does_not_wait_for_354_is_refused(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE + MESSAGE + b".\r\n")
        await talk.hear(250, 250, 354, 503)
        assert await talk.ended() == b""
        assert summary(sandbox) == [("refused", "data", "ana@example.org")]


async def test_pipelining_without_ehlo_is_refused(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(b"HELO client.test\r\n", expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 503)
        assert await talk.ended() == b""


async def test_size_is_enforced_before_and_after(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, max_message_bytes=1_000) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b> SIZE=1001\r\n", expect=552)
        for size, code in ((1_000, 250), (1_001, 552), (200_000, 552)):
            await talk.say(b"MAIL FROM:<a@b> SIZE=1000\r\nRCPT TO:<c@d>\r\nDATA\r\n")
            await talk.hear(250, 250, 354)
            body = b"x" * 98 + b"\r\n"
            message = (body * (size // 100 + 1))[: size - 2].replace(b"\r\r\n", b"xx\r\n").rstrip(b"\r") + b"\r\n"
            message = b"y" * (size - len(message)) + message
            await talk.say(message + b".\r\n", expect=code)
        assert [outcome for outcome, _, _ in summary(sandbox)] == ["refused", "accepted", "refused", "refused"]
        assert [record.size_bytes for record in records(sandbox)] == [0, 1_000, 1_001, 200_000]


async def test_lines_longer_than_the_standard_allows_are_refused(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        for length, code in ((998, 250), (999, 554)):
            await talk.say(ENVELOPE)
            await talk.hear(250, 250, 354)
            await talk.say(b"x" * length + b"\r\n.\r\n", expect=code)


async def test_international_addresses_need_smtputf8(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say("MAIL FROM:<zoë@b> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<ümit@exämple.org>\r\nDATA\r\n".encode())
        await talk.hear(250, 250, 354)
        await talk.say("Subject: ü\r\n\r\nü\r\n.\r\n".encode(), expect=250)
        record = records(sandbox)[0]
        assert (record.mail_from, record.rcpt_to) == ("zoë@b", "ümit@exämple.org")
        assert record.mail_params == "SMTPUTF8 BODY=8BITMIME"


async def test_too_many_recipients_errors_and_connections_are_answered(tmp_path: Path) -> None:
    async with (
        open_sandbox(tmp_path, max_recipients=2, max_errors=3, max_connections=1) as sandbox,
        Talk(sandbox.addresses.smtp) as talk,
    ):
        async with Talk(sandbox.addresses.smtp, is_greeting_heard=False) as second:
            assert b"4.3.2" in await second.hear(421)
            assert await second.ended() == b""
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 3)
        await talk.hear(250, 250, 250, 452)
        await talk.say(b"FOO\r\nFOO\r\nFOO\r\nFOO\r\n")
        await talk.hear(500, 500, 500, 421)
        assert await talk.ended() == b""
        talk.vanish()
        assert sandbox.house.stats()["turned_away"] == 1
        await until(lambda: not sandbox.house.sessions)
        async with Talk(sandbox.addresses.smtp):
            pass


async def test_a_silent_client_is_told_and_disconnected(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, idle_timeout_s=3.0) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE)
        assert b"4.4.2" in await talk.hear(421)
        assert await talk.ended() == b""
        assert summary(sandbox) == [("dropped_before_dot", "before_dot", "ana@example.org")]


async def test_a_client_that_vanishes_within_a_message_leaves_a_record(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE)
        talk.vanish()
        await until(lambda: bool(summary(sandbox)))
        record = records(sandbox)[0]
        assert (record.outcome, record.message_id) == ("dropped_before_dot", "<m1@example.org>")


async def test_a_client_that_stops_talking_is_still_answered(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, fsync="flush") as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b".\r\n")
        talk.half_close()
        await talk.hear(250)
        assert await talk.ended() == b""


async def test_a_stop_dismisses_the_idle_and_lets_messages_be_finished(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, grace_s=10) as sandbox, Talk(sandbox.addresses.smtp) as idle:
        async with Talk(sandbox.addresses.smtp) as busy:
            await busy.say(HELLO, expect=250)
            await busy.say(ENVELOPE)
            await busy.hear(250, 250, 354)
            stopping = asyncio.create_task(sandbox.stop())
            assert b"4.3.2" in await idle.hear(421)
            await busy.say(MESSAGE + b".\r\nMAIL FROM:<a@b>\r\n")
            await busy.hear(250, 421)
            assert await busy.ended() == b""
        idle.vanish()
        await stopping
        assert summary(sandbox) == [("accepted", "dot", "ana@example.org")]


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, grace_s=0) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await sandbox.stop()
        assert await talk.ended() == b""
        assert summary(sandbox) == [("dropped_before_dot", "before_dot", "ana@example.org")]

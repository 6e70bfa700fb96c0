"""SMTP submission: signed in with a key, accepted means committed, one message per recipient, nothing twice."""

from __future__ import annotations

import asyncio
import base64
import json
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from outrider.base.errors import Misconfigured, Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.settings import load
from outrider.domain.tenants import keys
from outrider.interfaces.sandbox.tls import make_certificate
from outrider.interfaces.smtp import room
from outrider.interfaces.smtp.house import certificate
from outrider.interfaces.submission import intake as accepting
from outrider.interfaces.submission import session
from tests.kit.api import TESTER
from tests.kit.smtp_talk import Talk, until
from tests.kit.submission import Intake, intake_of, letter, plain


@pytest.fixture(scope="module")
async def intake(new_database: Callable[..., str]) -> AsyncIterator[Intake]:
    async with intake_of(new_database("migrated"), submission_max_bytes=20_000) as running:
        yield running


@pytest.fixture
async def key(intake: Intake) -> str:
    return await intake.api.key("messages:write", role="operator")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_SLOW_S", 0.0)


async def last(intake: Intake) -> dict[str, object]:
    """The newest message with its content."""
    async with intake.api.engine() as uow:
        row = await uow.raw.fetchrow(
            "SELECT m.address, m.purpose, l.message_class, c.subject, c.html, c.text, c.id AS content_id "
            "FROM messages m JOIN contents c ON c.tenant_id = m.tenant_id AND c.id = m.content_id "
            "JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id ORDER BY m.id DESC LIMIT 1"
        )
    return dict(row)


# accepting


async def test_250_means_that_it_is_in_the_ledger_and_names_its_id(intake: Intake, key: str) -> None:
    answer = await intake.send(key, letter(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?="), "first@example.org")
    found = await last(intake)
    assert (found["address"], found["subject"], found["text"]) == ("first@example.org", "Grüße", "Hello.\n")
    assert (found["message_class"], found["purpose"]) == ("transactional", "transactional")
    async with intake.api.engine() as uow:
        newest = await uow.raw.fetchval("SELECT id FROM messages ORDER BY id DESC LIMIT 1")
    assert str(newest).encode() in answer


async def test_each_recipient_gets_a_message_of_its_own_and_a_doubled_one_gets_one(intake: Intake, key: str) -> None:
    before = await intake.addresses()
    await intake.send(key, letter(), "a@example.org", "b@Example.ORG", "a@example.org")
    assert (await intake.addresses())[len(before) :] == ["a@example.org", "b@example.org"]


async def test_a_program_that_knows_only_smtp_sends_text_html_and_a_file(intake: Intake, key: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Cc"] = "news@example.org", "ann@example.org", "bob@example.org"
    message["Subject"], message["X-Outrider-Class"], message["X-Outrider-Purpose"] = "Both", "bulk", "news"
    message.set_content("plain\n")
    message.add_alternative("<p>rich</p>", subtype="html")
    message.add_attachment(b"%PDF-1", maintype="application", subtype="pdf", filename="bill.pdf")

    def send() -> None:
        with smtplib.SMTP(*intake.address, timeout=60) as client:
            client.login("anybody", key)
            client.send_message(message)

    await asyncio.to_thread(send)
    found = await last(intake)
    assert (found["text"], found["html"]) == ("plain\n", "<p>rich</p>\n")
    assert (found["message_class"], found["purpose"]) == ("bulk", "news")
    async with intake.api.engine() as uow:
        file = await uow.raw.fetchrow(
            "SELECT name, content_type, content FROM content_attachments WHERE content_id = $1", found["content_id"]
        )
    assert tuple(file) == ("bill.pdf", "application/pdf", b"%PDF-1")


async def test_dots_are_taken_off_and_commands_may_come_in_one_write(intake: Intake, key: str) -> None:
    body = b"..one\r\n...two\r\nplain\r\n..\r\n"
    async with Talk(intake.address) as talk:
        await talk.say(b"EHLO me\r\n", expect=250)
        await talk.say(plain(key), expect=235)
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<dots@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        await talk.say(letter(body=body) + b".\r\nNOOP\r\nQUIT\r\n")
        await talk.hear(250, 250, 221)
    assert (await last(intake))["text"] == ".one\n..two\nplain\n.\n"


async def test_a_message_of_many_parts_over_the_wire_is_taken_as_it_was_sent(intake: Intake, key: str) -> None:
    text = b"".join(b"line %d\r\n" % number for number in range(1000))
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<parts@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        whole = letter(body=text) + b".\r\n"
        for at in range(0, len(whole), 997):
            await talk.say(whole[at : at + 997])
        await talk.hear(250)
    assert (await last(intake))["text"] == text.decode().replace("\r\n", "\n")


# once


async def test_a_repeated_message_id_is_answered_with_the_id_of_then(intake: Intake, key: str) -> None:
    message = letter(b"Message-ID: <m-1@example.org>")
    first = await intake.send(key, message, "once@example.org")
    count = len(await intake.addresses())
    again = await intake.send(
        key, letter(b"Message-ID: <m-1@example.org>", b"Received: by elsewhere"), "once@example.org"
    )
    assert (again, len(await intake.addresses())) == (first, count)


async def test_the_rest_of_the_recipients_may_come_in_another_transaction(intake: Intake, key: str) -> None:
    message = letter(b"Message-ID: <m-2@example.org>")
    await intake.send(key, message, "p1@example.org")
    count = len(await intake.addresses())
    await intake.send(key, message, "p1@example.org", "p2@example.org")
    assert (await intake.addresses())[count:] == ["p2@example.org"]


async def test_another_message_under_the_same_id_is_refused(intake: Intake, key: str) -> None:
    await intake.send(key, letter(b"Message-ID: <m-3@example.org>"), "x@example.org")
    other = letter(b"Message-ID: <m-3@example.org>", body=b"Something else.\r\n")
    assert b"idempotency_mismatch" in await intake.send(key, other, "x@example.org", expect=550)


async def test_a_hundred_at_once_under_one_message_id_send_one(intake: Intake, key: str) -> None:
    count = len(await intake.addresses())
    message = letter(b"Message-ID: <m-4@example.org>")

    async def one() -> bytes:
        async with intake.talk(key) as talk:
            await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<race@example.org>\r\nDATA\r\n")
            await talk.hear(250, 250, 354)
            await talk.say(message + b".\r\n")
            return (await talk._reply())[:3]

    answers = await asyncio.gather(*(one() for _ in range(20)))
    assert set(answers) <= {b"250", b"451"}
    assert b"250" in answers
    assert len(await intake.addresses()) == count + 1


# who


@pytest.mark.parametrize("mechanism", ["plain", "plain later", "login", "login at once"])
async def test_a_key_signs_in_by_plain_and_login(intake: Intake, key: str, mechanism: str) -> None:
    user, password = base64.b64encode(b"me") + b"\r\n", base64.b64encode(key.encode()) + b"\r\n"
    async with intake.talk() as talk:
        match mechanism:
            case "plain":
                await talk.say(plain(key), expect=235)
            case "plain later":
                await talk.say(b"AUTH PLAIN\r\n", expect=334)
                await talk.say(plain(key)[len(b"AUTH PLAIN ") :], expect=235)
            case "login":
                await talk.say(b"AUTH LOGIN\r\n", expect=334)
                await talk.say(user, expect=334)
                await talk.say(password, expect=235)
            case _:
                await talk.say(b"AUTH LOGIN " + user, expect=334)
                await talk.say(password, expect=235)


async def test_a_wrong_key_is_refused_three_times_and_never_logged(intake: Intake, key: str, quick: None) -> None:
    wrong = key[:-4] + "AAAA"
    with capture_logs() as lines:
        async with intake.talk() as talk:
            await talk.say(plain(wrong), expect=535)
            await talk.say(plain("\0"), expect=501)
            await talk.say(plain(wrong), expect=535)
            await talk.say(plain(wrong), expect=421)
            assert await talk.ended() == b""
    assert wrong not in str(lines)
    assert [line["event"] for line in lines].count("login_failed") == 3


@pytest.mark.parametrize(
    ("scopes", "role"), [(["messages:read"], "operator"), (["contacts:write"], "admin"), (["messages:read"], "owner")]
)
async def test_a_key_that_may_not_send_does_not_sign_in(
    intake: Intake, scopes: list[str], role: str, quick: None
) -> None:
    async with intake.talk() as talk:
        await talk.say(plain(await intake.api.key(*scopes, role=role)), expect=535)
        await talk.say(b"MAIL FROM:<>\r\n", expect=530)


async def test_a_key_revoked_in_the_middle_of_a_conversation_sends_nothing_more(intake: Intake) -> None:
    async with intake.api.app() as uow:
        made, key = await keys.create(uow, TESTER, name="short", role="operator", scopes=["messages:write"])
    count = len(await intake.addresses())
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        async with intake.api.app() as uow:
            await keys.revoke(uow, TESTER, made.id)
        assert b"unauthenticated" in await talk.say(letter() + b".\r\n", expect=550)
    assert len(await intake.addresses()) == count


async def test_without_signing_in_nothing_is_taken(intake: Intake) -> None:
    async with intake.talk() as talk:
        for command in (b"MAIL FROM:<a@example.org>\r\n",):
            await talk.say(command, expect=530)
        await talk.say(b"RCPT TO:<a@example.org>\r\n", expect=503)
        await talk.say(b"DATA\r\n", expect=503)


# TLS


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    certificate, private_key = make_certificate("localhost", "127.0.0.1")
    path = tmp_path_factory.mktemp("tls") / "submission.pem"
    path.write_bytes(private_key + certificate)
    return path, ssl.create_default_context(cadata=certificate.decode())


@pytest.fixture
async def secured(
    new_database: Callable[..., str], pem: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Intake]:
    monkeypatch.setattr(session, "_is_loopback", lambda _: False)
    async with intake_of(new_database("migrated"), submission_certificate=pem[0]) as running:
        yield running


async def test_from_elsewhere_a_key_is_heard_only_under_tls(secured: Intake, pem: tuple[Path, ssl.SSLContext]) -> None:
    key = await secured.api.key("messages:write")
    async with Talk(secured.address) as talk:
        assert b"AUTH" not in await talk.say(b"EHLO me\r\n", expect=250)
        await talk.say(plain(key), expect=538)
        await talk.say(b"STARTTLS\r\n", expect=220)
        await talk.start_tls(pem[1])
        await talk.say(plain(key), expect=503)  # what was said in the clear is forgotten: greet again
        offers = await talk.say(b"EHLO me\r\n", expect=250)
        assert b"AUTH PLAIN LOGIN" in offers
        assert b"STARTTLS" not in offers
        await talk.say(plain(key), expect=235)
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<tls@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        await talk.say(letter() + b".\r\n", expect=250)
    assert await secured.addresses() == ["tls@example.org"]


async def test_what_follows_starttls_in_the_clear_is_never_heard(secured: Intake) -> None:
    async with Talk(secured.address) as talk:
        await talk.say(b"EHLO me\r\n", expect=250)
        await talk.say(b"STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n", expect=554)
        assert await talk.ended() == b""


def test_a_listener_for_elsewhere_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="SUBMISSION_CERTIFICATE"):
        load(submission_host="0.0.0.0")
    with pytest.raises(Misconfigured, match="cannot be used"):
        certificate(tmp_path / "nothing.pem", variable="OUTRIDER_SUBMISSION_CERTIFICATE", code="submission_certificate")
    assert certificate(None, variable="OUTRIDER_SUBMISSION_CERTIFICATE", code="submission_certificate") is None


# refusing


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([b"From: somebody@elsewhere.example"], b"unknown_sender"),
        ([b"X-Outrider-Sender: nobody"], b"unknown_sender"),
        ([b"Reply-To: somebody@elsewhere.example"], b"header_refused"),
        ([b"List-Unsubscribe: <https://example.org>"], b"header_refused"),
        ([b"Resent-From: a@example.org"], b"header_refused"),
        ([b"DKIM-Signature: v=1"], b"header_refused"),
        ([b"Subject: a", b"Subject: b"], b"header_repeated"),
        ([b"Subject: =?utf-8?q?hi=0D=0ABcc:_v=40example.com?="], b"header_newline"),
        ([b"X-Outrider-Class: urgent"], b"invalid_value"),
        ([b"Content-Type: multipart/signed; boundary=x"], b"content_refused"),
        ([b"Content-Type: text/plain; charset=no-such"], b"malformed_message"),
        ([b"Content-Type: application/pdf"], b"content_required"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_says_why(
    intake: Intake, key: str, headers: list[bytes], code: bytes
) -> None:
    count = len(await intake.addresses())
    assert b"[" + code + b"]" in await intake.send(key, letter(*headers), expect=550)
    assert len(await intake.addresses()) == count


async def test_the_reply_to_of_the_sender_and_headers_of_others_are_no_obstacle(intake: Intake, key: str) -> None:
    headers = [
        b"Reply-To: answers@EXAMPLE.org",
        b"X-Mailer: cron",
        b"Date: Fri, 1 Jan 2027 00:00:00 +0000",
        b"Bcc: x@y.z",
    ]
    count = len(await intake.addresses())
    await intake.send(key, letter(*headers, b"X-Outrider-Sender: news", b"From: whoever@elsewhere.example"))
    assert len(await intake.addresses()) == count + 1


async def test_one_bad_recipient_is_refused_at_once_and_the_others_go(intake: Intake, key: str) -> None:
    count = len(await intake.addresses())
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\n", expect=250)
        await talk.say(b"RCPT TO:<not an address>\r\n", expect=501)
        await talk.say(b"RCPT TO:<nobody@>\r\n", expect=550)
        await talk.say(b"RCPT TO:<good@example.org>\r\n", expect=250)
        await talk.say(b"DATA\r\n", expect=354)
        await talk.say(letter() + b".\r\n", expect=250)
    assert (await intake.addresses())[count:] == ["good@example.org"]


async def test_recipients_beyond_the_hundredth_are_put_off(intake: Intake, key: str) -> None:
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\n", expect=250)
        for number in range(session.MOST_RECIPIENTS):
            await talk.say(b"RCPT TO:<r%d@example.org>\r\n" % number, expect=250)
        await talk.say(b"RCPT TO:<more@example.org>\r\n", expect=452)


async def test_a_message_too_large_is_refused_before_and_after_it_came(intake: Intake, key: str) -> None:
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<> SIZE=20001\r\n", expect=552)
        await talk.say(b"MAIL FROM:<> SIZE=99999999999999999999999999\r\n", expect=552)
        await talk.say(b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n", expect=250)
        await talk.say(b"RCPT TO:<ann@example.org>\r\nDATA\r\n")
        await talk.hear(250, 354)
        await talk.say(letter(body=b"x" * 70 * 400 + b"\r\n") + b".\r\n", expect=552)
        await talk.say(b"NOOP\r\n", expect=250)


async def test_a_message_without_end_is_cut_off(intake: Intake, key: str) -> None:
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<endless@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        for _ in range(20):
            await talk.say(b"y" * 60_000)
        assert (await talk.ended())[:3] in {b"552", b""}  # reset, when the farewell came behind what nobody read
    assert "endless@example.org" not in await intake.addresses()


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n\0.\r\n"])
async def test_no_other_end_of_a_message_smuggles_a_second_one(intake: Intake, key: str, end: bytes) -> None:
    count = len(await intake.addresses())
    smuggled = (
        end + b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: x\r\n\r\nevil\r\n.\r\n"
    )
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        await talk.say(letter() + b"text" + smuggled, expect=550)
    assert len(await intake.addresses()) == count


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"BOGUS\r\n", 500),
        (b"\xff\xfe\r\n", 500),
        (b"NOOP\n", 500),
        (b"NOOP " + b"x" * 3000 + b"\r\n", 500),
        (b"MAIL FROM:<a@b> AUTH=<> X=1\r\n", 555),
        (b"MAIL FROM:a@b\r\n", 501),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=2\r\n", 501),
        (b"RCPT TO:<a@b>\r\n", 503),
        (b"AUTH CRAM-MD5\r\n", 503),
        (b"VRFY root\r\n", 252),
        (b"STARTTLS\r\n", 502),
        (b"HELO\r\n", 501),
    ],
)
async def test_odd_commands_are_answered_and_end_nothing(intake: Intake, key: str, line: bytes, code: int) -> None:
    async with intake.talk(key) as talk:
        await talk.say(line, expect=code)
        await talk.say(b"NOOP\r\n", expect=250)


async def test_a_line_without_end_and_endless_nonsense_end_the_connection(intake: Intake) -> None:
    async with intake.talk() as talk:
        await talk.say(b"x" * 5000, expect=500)
        assert await talk.ended() == b""
    async with intake.talk() as talk:
        await talk.say(b"BOGUS\r\n" * 30)
        assert (await talk.ended()).count(b"421 4.7.0") == 1


@pytest.mark.parametrize("words", [b"", b"NOOP\r\n" * 20, b"AUTH LOGIN\r\n"], ids=["silent", "busy", "half signed in"])
async def test_who_does_not_sign_in_gives_the_place_to_others_and_who_did_stays(
    intake: Intake, key: str, words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SIGN_IN_WITHIN_S", 0.5)
    async with intake.talk(key) as signed_in, intake.talk() as stranger:
        await stranger.say(words)
        assert b"\r\n421 4." in b"\r\n" + await stranger.ended()
        await signed_in.say(b"NOOP\r\n", expect=250)


async def test_messages_that_never_end_fill_only_so_much_memory(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HELD_BYTES", 0)
    rooms: list[room.Room] = []

    class Watched(room.Room):
        def __init__(self, message_bytes: int) -> None:
            super().__init__(message_bytes)
            rooms.append(self)

    monkeypatch.setattr(room, "Room", Watched)
    large = letter(body=b"x" * 70 + b"\r\n" + b"y" * 70 + b"\r\n") + (b"z" * 78 + b"\r\n") * 180
    async with intake_of(new_database("migrated"), submission_max_bytes=20_000) as running:
        key = await running.api.key("messages:write", role="operator")
        async with running.talk(key) as one, running.talk(key) as two, running.talk(key) as three:
            for number, talk in enumerate((one, two, three)):
                await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<r%d@example.org>\r\nDATA\r\n" % number)
                await talk.hear(250, 250, 354)
            for talk in (one, two):
                await talk.say(large)
            await until(lambda: rooms[0].held_bytes >= 2 * len(large))
            await three.say(large + b".\r\n", expect=452)
            for talk in (one, two):
                await talk.say(b".\r\n", expect=250)
            assert (rooms[0].held_bytes, rooms[0].by_tenant) == (0, {})
            await three.say(b"MAIL FROM:<>\r\nRCPT TO:<r3@example.org>\r\nDATA\r\n")
            await three.hear(250, 250, 354)
            await three.say(large + b".\r\n", expect=250)
        assert await running.addresses() == ["r0@example.org", "r1@example.org", "r3@example.org"]


async def test_a_client_that_vanishes_in_the_middle_leaves_nothing(intake: Intake, key: str) -> None:
    count = len(await intake.addresses())
    async with intake.talk(key) as talk:
        await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        await talk.hear(250, 250, 354)
        await talk.say(letter() + b"no dot yet\r\n")
        talk.vanish()
    async with intake.talk(key) as talk:  # the server lives on
        await talk.say(b"NOOP\r\n", expect=250)
    assert len(await intake.addresses()) == count


async def test_while_the_database_is_away_the_client_is_told_to_come_back(
    intake: Intake, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def away(*_: object) -> None:
        raise Unavailable("database_unavailable", "the database is not reachable; try again")

    monkeypatch.setattr(accepting, "accept", away)
    assert (await intake.send(key, letter(), expect=451)).startswith(b"451 4.3.0")


async def test_a_stop_ends_idle_conversations_with_a_word(new_database: Callable[..., str]) -> None:
    async with intake_of(new_database("migrated")) as running:
        talk = Talk(running.address)
        await talk.__aenter__()
        await talk.say(b"EHLO me\r\n", expect=250)
    assert (await talk.ended()).startswith(b"421 4.3.2")
    await talk.__aexit__(None, None, None)


async def test_a_tenant_uses_its_own_senders_only(intake: Intake) -> None:
    async with intake.api.engine(None) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    assert other != DEFAULT_TENANT
    key = await intake.api.key("messages:write", tenant_id=other)
    assert b"unknown_sender" in await intake.send(key, letter(), expect=550)


async def test_the_answer_under_a_key_is_stored_as_the_api_would(intake: Intake, key: str) -> None:
    await intake.send(key, letter(b"Message-ID: <m-9@example.org>"), "stored@example.org")
    async with intake.api.engine() as uow:
        row = await uow.raw.fetchrow(
            "SELECT status, body::text AS body FROM idempotency_keys ORDER BY created_at DESC LIMIT 1"
        )
    assert (row["status"], list(json.loads(row["body"]))) == (202, ["id"])

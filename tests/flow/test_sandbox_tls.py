"""The sandbox's TLS and AUTH, with the standard library's client and with one that cheats."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.rules import AuthFail, StarttlsStrip
from outrider.interfaces.sandbox.tls import make_certificate
from tests.kit.smtp_talk import ENVELOPE, MESSAGE, Talk, open_sandbox, records, summary, trusting, with_smtplib

HELLO = b"EHLO client.test\r\n"
CREDENTIALS = {"ana": "s3cret", "bo": "other"}
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0ana\0s3cret") + b"\r\n"


async def test_a_client_that_verifies_sends_through_starttls(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, is_tls_required=True) as sandbox:

        def send(client: smtplib.SMTP) -> None:
            client.starttls(context=trusting(sandbox))
            client.ehlo()
            assert not client.has_extn("starttls")
            client.sendmail("from@example.org", "ana@example.org", MESSAGE)

        await with_smtplib(sandbox, send)
        assert [record.is_tls for record in records(sandbox)] == [True]
        assert sandbox.house.stats()["tls_sessions"] == 1


async def test_a_large_message_passes_tls_whole(tmp_path: Path) -> None:
    message = MESSAGE + b"0123456789abcdef" * 4 + b"\r\n"
    message += (b"x" * 76 + b"\r\n") * 20_000
    async with open_sandbox(tmp_path, keeps_bodies=True, smtps_port=0) as sandbox:
        assert sandbox.addresses.smtps is not None
        host, port = sandbox.addresses.smtps

        def send() -> None:
            with smtplib.SMTP_SSL(host, port, context=trusting(sandbox), timeout=60) as client:
                client.sendmail("from@example.org", "ana@example.org", message)

        await asyncio.to_thread(send)
        assert [record.is_tls for record in records(sandbox)] == [True]
        assert (tmp_path / "ledger.jsonl.bodies").read_bytes() == message


async def test_what_was_sent_in_the_clear_behind_starttls_is_forgotten(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<evil@example.org>\r\n", expect=220)
        await talk.start_tls(trusting(sandbox))
        await talk.say(b"RCPT TO:<ana@example.org>\r\n", expect=503)
        await talk.say(b"MAIL FROM:<from@example.org>\r\n", expect=503)
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b".\r\n", expect=250)
        assert [record.mail_from for record in records(sandbox)] == ["from@example.org"]


async def test_starttls_forgets_who_the_client_was(tmp_path: Path) -> None:
    async with (
        open_sandbox(tmp_path, credentials=CREDENTIALS, is_auth_required=True) as sandbox,
        Talk(sandbox.addresses.smtp) as talk,
    ):
        await talk.say(HELLO, expect=250)
        await talk.say(PLAIN, expect=235)
        await talk.say(b"STARTTLS\r\n", expect=220)
        await talk.start_tls(trusting(sandbox))
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<from@example.org>\r\n", expect=530)
        await talk.say(b"STARTTLS\r\n", expect=503)


async def test_a_client_that_shakes_no_hands_is_disconnected(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, handshake_timeout_s=1.0) as sandbox:
        for garbage in (b"EHLO in the clear\r\n", b""):
            async with Talk(sandbox.addresses.smtp) as talk:
                await talk.say(HELLO, expect=250)
                await talk.say(b"STARTTLS\r\n", expect=220)
                await talk.say(garbage)
                assert b"250" not in await talk.ended()
        async with Talk(sandbox.addresses.smtp) as talk:
            await talk.say(HELLO, expect=250)


async def test_tls_can_be_required(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, is_tls_required=True, credentials=CREDENTIALS) as sandbox:
        async with Talk(sandbox.addresses.smtp) as talk:
            assert b"AUTH" not in await talk.say(HELLO, expect=250)
            await talk.say(b"MAIL FROM:<from@example.org>\r\n", expect=530)
            await talk.say(PLAIN, expect=530)
            await talk.say(b"STARTTLS\r\n", expect=220)
            await talk.start_tls(trusting(sandbox))
            assert b"AUTH PLAIN LOGIN" in await talk.say(HELLO, expect=250)
            await talk.say(PLAIN, expect=235)
        assert [record.outcome for record in records(sandbox)] == ["refused"]


async def test_stripped_starttls_is_neither_offered_nor_done(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, StarttlsStrip(times=1)) as sandbox:
        async with Talk(sandbox.addresses.smtp) as talk:
            assert b"STARTTLS" not in await talk.say(HELLO, expect=250)
            await talk.say(b"STARTTLS\r\n", expect=502)
        async with Talk(sandbox.addresses.smtp) as talk:
            assert b"STARTTLS" in await talk.say(HELLO, expect=250)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_the_standard_client_signs_in(tmp_path: Path, mechanism: str) -> None:
    async with open_sandbox(tmp_path, credentials=CREDENTIALS, is_auth_required=True) as sandbox:

        def send(client: smtplib.SMTP) -> None:
            client.user, client.password = "bo", "other"
            client.ehlo()
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail("from@example.org", "ana@example.org", MESSAGE)
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
            client.sendmail("from@example.org", "ana@example.org", MESSAGE)

        await with_smtplib(sandbox, send)
        assert [(record.outcome, record.auth_user) for record in records(sandbox)] == [
            ("refused", None),
            ("accepted", "bo"),
        ]


async def test_auth_in_every_wrong_way_is_answered(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, credentials=CREDENTIALS) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(PLAIN, expect=503)
        await talk.say(HELLO, expect=250)
        await talk.say(b"AUTH\r\n", expect=501)
        await talk.say(b"AUTH CRAM-MD5\r\n", expect=504)
        await talk.say(b"AUTH PLAIN !!!\r\n", expect=501)
        await talk.say(b"AUTH PLAIN\r\n", expect=334)
        await talk.say(b"*\r\n", expect=501)
        await talk.say(b"AUTH LOGIN\r\n", expect=334)
        await talk.say(base64.b64encode(b"ana") + b"\r\n", expect=334)
        await talk.say(base64.b64encode(b"other") + b"\r\n", expect=535)
        await talk.say(b"AUTH PLAIN " + b"A" * 11_000 + b"\r\n", expect=501)
        await talk.say(b"MAIL FROM:<a@b> AUTH=<>\r\n", expect=250)
        await talk.say(PLAIN, expect=503)
        await talk.say(b"RSET\r\n", expect=250)
        await talk.say(PLAIN, expect=235)
        await talk.say(PLAIN, expect=503)
        assert sandbox.house.stats()["auth_failures"] == 1


async def test_right_credentials_can_be_refused_on_request(tmp_path: Path) -> None:
    async with (
        open_sandbox(tmp_path, AuthFail(times=1), credentials=CREDENTIALS) as sandbox,
        Talk(sandbox.addresses.smtp) as talk,
    ):
        await talk.say(HELLO, expect=250)
        await talk.say(PLAIN, expect=535)
        await talk.say(PLAIN, expect=235)


async def test_given_certificates_are_used_and_bad_ones_named(tmp_path: Path) -> None:
    certificate, key = make_certificate("mail.test", "127.0.0.1")
    paths: dict[str, Any] = {"certificate_path": tmp_path / "own.crt", "private_key_path": tmp_path / "own.key"}
    paths["certificate_path"].write_bytes(certificate)
    paths["private_key_path"].write_bytes(key)
    async with open_sandbox(tmp_path, **paths) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        assert sandbox.addresses.certificate_path == paths["certificate_path"]
        await talk.say(HELLO, expect=250)
        await talk.say(b"STARTTLS\r\n", expect=220)
        await talk.start_tls(ssl.create_default_context(cadata=certificate.decode()))
        await talk.say(HELLO, expect=250)
    paths["private_key_path"].write_bytes(make_certificate("mail.test", "127.0.0.1")[1])
    with pytest.raises(Misconfigured) as caught:
        async with open_sandbox(tmp_path, **paths):
            pass
    assert caught.value.field == "certificate_path"
    assert summary(sandbox) == []


async def test_the_self_made_key_is_left_nowhere(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as sandbox:
        written = sandbox.addresses.certificate_path.read_bytes()
        assert b"PRIVATE" not in written
        assert await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.iterdir())) == [
            "ledger.jsonl",
            "ledger.jsonl.crt",
        ]

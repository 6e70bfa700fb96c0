"""F75: TLS and passwords: nothing in the clear, nothing to the wrong server; under asyncio and uvloop."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any

import pytest

from outrider.contracts.outcome import Accepted, Deferred
from outrider.data.egress import Egress
from outrider.plugins.providers.smtp import Smtp
from tests.kit.certificates import server_context
from tests.kit.smtp_faults import SmtpFaults
from tests.kit.smtp_sending import at, contexts, open_transport, people, send, send_one
from tests.kit.watching import Recorder, on_both_loops

# TLS and passwords

SECRETS = {"password": "hunter2-canary"}


def words_in_clear(server: SmtpFaults) -> list[str]:
    return [line.text for line in server.lines if not line.is_tls]


@on_both_loops
async def test_required_tls_protects_everything_after_starttls() -> None:
    async with SmtpFaults(tls=server_context(), login=("me", "hunter2-canary")) as server:
        outcomes = await send(
            server, *people(3), tls="required", username="me", secrets=SECRETS, ehlo_name="me.example"
        )
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert words_in_clear(server) == ["EHLO me.example", "STARTTLS"]
    assert next(line.text for line in server.lines if line.is_tls) == "EHLO me.example"
    assert len(server.accepted) == 3


@on_both_loops
async def test_implicit_tls_sends_nothing_in_the_clear() -> None:
    async with SmtpFaults(tls=server_context(), is_implicit=True, login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls="implicit", username="me", secrets=SECRETS)
    assert isinstance(outcome, Accepted)
    assert words_in_clear(server) == []


@on_both_loops
async def test_starttls_stripped_sends_neither_message_nor_password() -> None:
    async with SmtpFaults(login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls="required", username="me", secrets=SECRETS, ehlo_name="me.example")
    assert outcome == Deferred("tls_unavailable", "the server does not offer STARTTLS")
    assert words_in_clear(server) == ["EHLO me.example"]


@on_both_loops
async def test_starttls_refused_sends_neither_message_nor_password() -> None:
    script = at("starttls", b"454 4.7.0 not available\r\n")
    for mode in ("required", "opportunistic"):
        async with SmtpFaults(script, tls=server_context(), login=("me", "hunter2-canary")) as server:
            outcome = await send_one(server, tls=mode, username="me", secrets=SECRETS, ehlo_name="me.example")
        assert outcome == Deferred("tls_unavailable", "STARTTLS: 454 4.7.0 not available")
        assert words_in_clear(server) == ["EHLO me.example", "STARTTLS"]


@on_both_loops
@pytest.mark.parametrize(
    "answer", [b"220 go\r\n250-faults\r\n250 AUTH PLAIN\r\n", b"220 go\r\n25", b"220-go\r\n220 go\r\n\x16\x03"]
)
async def test_bytes_behind_the_answer_to_starttls_are_an_attack(answer: bytes) -> None:
    async with SmtpFaults(at("starttls", answer), tls=server_context(), login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls="required", username="me", secrets=SECRETS)
        await server.until(lambda: server.ended == 1)
    assert outcome == Deferred("tls_failed", "bytes followed the answer to STARTTLS in the clear")
    assert server.said("AUTH") == server.said("MAIL") == []


@on_both_loops
@pytest.mark.parametrize("mode", ["required", "implicit", "opportunistic"])
@pytest.mark.parametrize(
    "context",
    [
        pytest.param(lambda: server_context("mail.example.org"), id="wrong-name"),
        pytest.param(lambda: server_context(is_signed=False), id="self-signed"),
        pytest.param(lambda: server_context(is_expired=True), id="expired"),
    ],
)
async def test_a_certificate_that_is_not_right_ends_it_before_the_password(mode: str, context: Any) -> None:
    # opportunistic as well: there is a password to protect
    async with SmtpFaults(tls=context(), is_implicit=mode == "implicit", login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls=mode, username="me", secrets=SECRETS)
    assert isinstance(outcome, Deferred)
    assert (outcome.cause, "certificate" in outcome.detail) == ("tls_failed", True)
    assert server.said("AUTH") == server.said("MAIL") == []
    assert not server.accepted


@on_both_loops
async def test_opportunistic_encrypts_to_anybody_and_sends_in_the_clear_only_where_tls_is_not_offered() -> None:
    async with SmtpFaults(tls=server_context(is_signed=False)) as server:
        assert isinstance(await send_one(server, tls="opportunistic"), Accepted)
        assert not [line for line in words_in_clear(server) if line.startswith("MAIL")]
    async with SmtpFaults() as server:
        assert isinstance(await send_one(server, tls="opportunistic"), Accepted)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # no certificate: every handshake fails
    async with SmtpFaults(tls=old) as server:
        outcome = await send_one(server, tls="opportunistic")
        assert isinstance(outcome, Deferred)
        assert (outcome.cause, server.said("MAIL")) == ("tls_failed", [])


@on_both_loops
async def test_a_password_needs_tls_or_the_explicit_word_that_it_may_go_in_the_clear() -> None:
    for mode in ("off", "opportunistic"):
        async with SmtpFaults(login=("me", "hunter2-canary")) as server:
            outcome = await send_one(server, tls=mode, username="me", secrets=SECRETS)
        assert outcome == Deferred("tls_unavailable", "the password is not sent without TLS")
        assert server.said("AUTH") == server.said("MAIL") == []
    async with SmtpFaults(login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls="off", username="me", secrets=SECRETS, allow_plaintext_auth=True)
        assert isinstance(outcome, Accepted)


@on_both_loops
@pytest.mark.parametrize("auth", ["PLAIN LOGIN", "LOGIN"])
async def test_a_wrong_password_is_tried_once_for_all_and_is_never_quoted(auth: str) -> None:
    async with SmtpFaults(tls=server_context(), login=("me", "right"), auth=auth) as server:
        outcomes = await send(server, *people(100), tls="required", username="me", secrets=SECRETS, connections=8)
    assert set(outcomes.values()) == {Deferred("authentication_failed", "AUTH: 535 5.7.8")}
    assert len(server.said("AUTH")) == 1
    assert server.said("MAIL") == []


@on_both_loops
async def test_a_wrong_password_is_not_tried_again_by_the_next_batch() -> None:
    async with SmtpFaults(tls=server_context(), login=("me", "right")) as server:
        transport = open_transport(server, SECRETS, tls="required", username="me")
        recorder = Recorder()
        for message in people(5):
            await transport.send([message], recorder)
        await transport.close()
    assert set(recorder.outcomes.values()) == {Deferred("authentication_failed", "AUTH: 535 5.7.8")}
    assert len(server.said("AUTH")) == 1


@on_both_loops
async def test_login_is_used_where_plain_is_not_offered() -> None:
    async with SmtpFaults(tls=server_context(), login=("me", "hunter2-canary"), auth="CRAM-MD5 LOGIN") as server:
        assert isinstance(await send_one(server, tls="required", username="me", secrets=SECRETS), Accepted)
        assert server.said("AUTH") == ["AUTH LOGIN"]
    async with SmtpFaults(tls=server_context(), login=("me", "hunter2-canary"), auth="CRAM-MD5") as server:
        outcome = await send_one(server, tls="required", username="me", secrets=SECRETS)
        assert outcome == Deferred("authentication_failed", "the server offers neither AUTH PLAIN nor LOGIN")
        assert server.said("AUTH") == []


@on_both_loops
async def test_a_temporary_failure_of_auth_is_no_wrong_password() -> None:
    script = at("auth", b"454 4.7.0 database down\r\n")
    async with SmtpFaults(script, tls=server_context(), login=("me", "hunter2-canary")) as server:
        outcome = await send_one(server, tls="required", username="me", secrets=SECRETS)
    assert outcome == Deferred("server_deferred", "AUTH: 454 4.7.0")


@on_both_loops
async def test_a_target_the_guard_refuses_is_never_dialled() -> None:
    async with SmtpFaults() as server:
        transport = Smtp(contexts).open({"host": "127.0.0.1", "port": server.port, "tls": "off"}, {}, Egress())
        recorder = Recorder()
        await transport.send(people(2), recorder)
        await transport.close()
        assert server.connections == 0
    causes = [outcome.cause for outcome in recorder.outcomes.values() if isinstance(outcome, Deferred)]
    assert causes == ["target_refused"] * 2


@on_both_loops
async def test_the_password_is_in_no_representation() -> None:
    async with SmtpFaults() as server:
        transport = open_transport(server, SECRETS, username="me")
        shown = repr(transport) + repr(getattr(transport, "_account", ""))
    assert "hunter2" not in shown
    assert b64encode(b"hunter2-canary").decode() not in shown

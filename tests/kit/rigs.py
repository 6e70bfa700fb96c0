"""What the conformance suites need to know about each provider: a server to send to, and how to make it misbehave.

A new provider needs one entry in RIGS; the suite (tests/contract/test_providers.py) fails until it has one.

API
    RIGS[key]() -> async context manager of Rig
    Rig.settings, .secrets, .egress     what `Provider.open` takes
    Rig.taken() -> list[tuple[str, bytes]]     (address, body) of everything the server took responsibility for
    Rig.behave(mood)                    from now on; MOODS names the moods
    Rig.until(condition)                looked at after each thing that happens at the server
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from outrider.contracts.provider import Egress as EgressPort
from outrider.data.egress import Egress
from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.interfaces.sandbox.resend.options import Rule as ResendRule
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from outrider.interfaces.sandbox.twilio.ledger import TAKEN
from outrider.interfaces.sandbox.twilio.options import Rule
from tests.kit.smtp_faults import Action, Close, Event, Hang, SmtpFaults

Mood = Literal["sound", "refuses", "defers", "cuts after the body", "hangs after the body", "away", "wrong password"]
MOODS: tuple[Mood, ...] = get_args(Mood)
_PATIENT_S = 30.0
"""Server and client share an event loop: where neither is silent, no standstill of it may count as silence."""
_HASTY_S = 1.0
"""For transports that are opened while the server hangs."""


@dataclass
class Rig:
    """A server on loopback for one provider."""

    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    taken: Callable[[], list[tuple[str, bytes]]]
    behave: Callable[[Mood], None]
    until: Callable[[Callable[[], bool]], Any]
    connections: Callable[[], int]
    wrong: Mapping[str, Any]
    """Settings with which nothing can be reached."""
    signed_in: Mapping[str, Any]
    """Settings with which the secrets are used; in the mood "wrong password" the server says them back."""
    egress: EgressPort = field(default_factory=lambda: Egress((ip_network("127.0.0.0/8"),)))


@asynccontextmanager
async def smtp() -> AsyncIterator[Rig]:
    """The server of tests/kit/smtp_faults.py."""
    mood: Mood = "sound"

    def script(event: Event) -> Action:
        match mood, event.stage:
            case "away", "banner":
                return Close()
            case "refuses", "rcpt":
                return b"550 5.1.1 no such user\r\n"
            case "defers", "rcpt":
                return b"450 4.2.1 later\r\n"
            case "cuts after the body", "dot":
                return Close(is_taken=True)
            case "hangs after the body", "dot":
                return Hang(is_taken=True)
        return None

    def behave(wanted: Mood) -> None:
        nonlocal mood
        mood = wanted
        server.login = ("user", "another password") if wanted == "wrong password" else None
        rig.settings = hasty if wanted == "hangs after the body" else settings

    async with SmtpFaults(script) as server:
        common = {
            "host": "127.0.0.1", "tls": "off", "connections": 2, "connect_timeout_s": _PATIENT_S,
            "command_timeout_s": _PATIENT_S, "data_timeout_s": _PATIENT_S,
        }  # fmt: skip
        settings = {**common, "port": server.port}
        hasty = {**settings, "data_timeout_s": _HASTY_S}
        rig = Rig(
            settings=settings,
            secrets={"password": "hunter2-hunter2"},
            taken=lambda: [(taken.recipient, taken.body) for taken in server.accepted],
            behave=behave,
            until=server.until,
            connections=lambda: server.connections,
            wrong={**common, "port": 1},
            signed_in={**settings, "username": "user", "allow_plaintext_auth": True},
        )
        yield rig


@asynccontextmanager
async def twilio() -> AsyncIterator[Rig]:
    """The Twilio-shaped sandbox."""
    token = "hunter2-hunter2"
    with TemporaryDirectory() as folder:
        options = TwilioOptions(ledger_path=Path(folder) / "l", port=0, auth_token=token, checks_numbers=False)
        sandbox = TwilioSandbox(options)
        url = await sandbox.start()
        settings = {
            "account_sid": options.account_sid, "base_url": url, "connections": 4, "answer_timeout_s": _PATIENT_S,
            "connect_timeout_s": _PATIENT_S,
        }  # fmt: skip
        hasty = {**settings, "answer_timeout_s": _HASTY_S}
        wrong = {**settings, "base_url": "http://127.0.0.1:1"}
        rules: dict[str, Rule] = {
            "refuses": Rule(status=400, code=21211),
            "defers": Rule(status=503, code=20503),
            "cuts after the body": Rule(cut="after"),
            "hangs after the body": Rule(hang_s=30.0),
        }

        def behave(mood: Mood) -> None:
            sandbox.rules = [rules[mood]] if mood in rules else []
            sandbox.refuses_everybody = mood == "wrong password"
            rig.settings = {"away": wrong, "hangs after the body": hasty}.get(mood, settings)

        rig = Rig(
            settings=settings,
            secrets={"auth_token": token},
            taken=lambda: [(e.to, e.text.encode()) for e in sandbox.ledger.entries if e.outcome in TAKEN],
            behave=behave,
            until=_looking,
            connections=lambda: sandbox.request_count,
            wrong=wrong,
            signed_in=settings,
        )
        try:
            yield rig
        finally:
            await sandbox.close()


@asynccontextmanager
async def resend() -> AsyncIterator[Rig]:
    """The Resend-shaped sandbox. Message-ID is theirs, so that it is not among what arrives."""
    key = "hunter2-hunter2"
    with TemporaryDirectory() as folder:
        sandbox = ResendSandbox(ResendOptions(ledger_path=Path(folder) / "l", port=0, api_key=key))
        url = await sandbox.start()
        settings = {
            "base_url": url, "connections": 4, "answer_timeout_s": _PATIENT_S, "connect_timeout_s": _PATIENT_S,
            "requests_per_s": 500,
        }  # fmt: skip
        hasty = {**settings, "answer_timeout_s": _HASTY_S}
        wrong = {**settings, "base_url": "http://127.0.0.1:1"}
        rules: dict[str, ResendRule] = {
            "refuses": ResendRule(status=422, name="validation_error"),
            "defers": ResendRule(status=503, name="service_unavailable"),
            "cuts after the body": ResendRule(cut="after"),
            "hangs after the body": ResendRule(hang_s=30.0),
        }

        def behave(mood: Mood) -> None:
            sandbox.rules = [rules[mood]] if mood in rules else []
            sandbox.refuses_everybody = mood == "wrong password"
            rig.settings = {"away": wrong, "hangs after the body": hasty}.get(mood, settings)

        def body(email: Mapping[str, Any]) -> bytes:
            text = f"Subject: {email['subject']}\nMessage-ID: <1@example.org>\n\n{email['text']}"
            return text.replace("\n", "\r\n").encode()

        rig = Rig(
            settings=settings,
            secrets={"api_key": key},
            taken=lambda: [(entry.to, body(entry.email)) for entry in sandbox.taken],
            behave=behave,
            until=_looking,
            connections=lambda: sandbox.request_count,
            wrong=wrong,
            signed_in=settings,
        )
        try:
            yield rig
        finally:
            await sandbox.close()


async def _looking(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody tells when a request was taken
            await asyncio.sleep(0.005)


RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "resend": resend,
    "smtp": smtp,
    "twilio": twilio,
}

"""Sending through the SMTP provider in tests: transports to a server on loopback, batches, scripts of one fault."""

from __future__ import annotations

import ssl
from ipaddress import ip_network
from typing import Any

import pytest

from outrider.contracts.outcome import CAUSES, Outcome
from outrider.contracts.provider import Outgoing, Transport
from outrider.data.egress import Egress
from outrider.plugins.providers.smtp import Smtp
from tests.kit.certificates import client_context
from tests.kit.smtp_faults import EXTENSIONS, Action, Event, Script, SmtpFaults
from tests.kit.watching import BODY, Recorder, outgoing

LOOPBACK = Egress((ip_network("127.0.0.0/8"),))
STOP_AND_WAIT = tuple(word for word in EXTENSIONS if word != "PIPELINING")
STYLES = pytest.mark.parametrize("extensions", [EXTENSIONS, STOP_AND_WAIT], ids=["pipelined", "stop-and-wait"])
LONG_BODY = BODY + b"x" * 70 + b"\r\n" + (b"y" * 998 + b"\r\n") * 3000
"""Three megabytes: written in parts."""


def contexts(is_verified: bool) -> ssl.SSLContext:  # noqa: FBT001 - the shape of TlsContexts
    context = client_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def open_transport(server: SmtpFaults, secrets: dict[str, str] | None = None, **settings: Any) -> Transport:
    given = {"host": "127.0.0.1", "port": server.port, "tls": "off", "connections": 1, "command_timeout_s": 5}
    return Smtp(contexts).open({**given, **settings}, secrets or {}, LOOPBACK)


async def send(
    server: SmtpFaults, *messages: Outgoing, secrets: dict[str, str] | None = None, **settings: Any
) -> dict[str, Outcome]:
    """Send one batch over a transport of its own and give what each message came to."""
    transport = open_transport(server, secrets, **settings)
    recorder = Recorder()
    await transport.send(messages, recorder)
    await transport.close()
    assert len(recorder.outcomes) == len(messages)
    assert all(not hasattr(outcome, "cause") or outcome.cause in CAUSES for outcome in recorder.outcomes.values())
    return recorder.outcomes


async def send_one(server: SmtpFaults, message: Outgoing | None = None, **settings: Any) -> Outcome:
    outcomes = await send(server, message or outgoing(), **settings)
    return next(iter(outcomes.values()))


def at(stage: str, action: Action, *, nth: int | None = None, recipient: str | None = None) -> Script:
    """A script with one fault."""

    def script(event: Event) -> Action:
        is_it = event.stage == stage and nth in (None, event.nth) and recipient in (None, event.recipient)
        return action if is_it else None

    return script


def people(count: int) -> list[Outgoing]:
    return [outgoing(f"p{n}@example.com") for n in range(count)]

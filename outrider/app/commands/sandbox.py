"""Run a capture mail server: takes every message, delivers none; a web inbox, a ledger on disk, faults on request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import aiohttp
from cyclopts import App, Parameter

from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.base.errors import Unavailable
from outrider.interfaces.cli import exits
from outrider.interfaces.cli.options import JSON, Json, between, whole_number
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.sandbox import Addresses, SandboxOptions, serve
from outrider.interfaces.sandbox.resend import ResendOptions
from outrider.interfaces.sandbox.resend import serve as serve_resend
from outrider.interfaces.sandbox.resend.options import KEY as RESEND_KEY
from outrider.interfaces.sandbox.resend.options import SECRET as RESEND_SECRET
from outrider.interfaces.sandbox.twilio import TwilioOptions
from outrider.interfaces.sandbox.twilio import serve as serve_twilio
from outrider.interfaces.sandbox.twilio.options import SID, TOKEN

APP = App(name="sandbox", help_epilogue="Example: `outrider sandbox --ledger sandbox.jsonl --keep-bodies`")

_PATIENCE_S: Final = 30.0
_TAKEN: Final = range(200, 300)
Port = Annotated[int, Parameter(converter=whole_number, validator=between(0, 65_535), n_tokens=1)]


@APP.default
def sandbox(
    *,
    ledger: Path,
    host: str = "127.0.0.1",
    smtp_port: Port = 2525,
    http_port: Port = 8025,
    http: bool = True,
    faults: Path | None = None,
    keep_bodies: Annotated[bool, Parameter(negative="")] = False,
    fsync: Literal["none", "flush"] = "none",
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run the sandbox until told to stop; prints where it listens.

    Parameters
    ----------
    ledger
        JSON lines file with one record per recipient; made when missing, continued when there.
    host
        Address of its listeners. It asks nobody who they are.
    smtp_port
        Port of SMTP; 0: a free one.
    http_port
        Port of the inbox and the statistics; 0: a free one.
    http
        Serve the inbox and the statistics at all.
    faults
        JSON file of fault rules, read again whenever it changes.
    keep_bodies
        Keep the bytes of every message, for the inbox.
    fsync
        flush: what was answered survives a power cut too.
    lifeline
        Also stop when stdin ends.
    """
    options = SandboxOptions(
        ledger_path=ledger,
        host=host,
        smtp_port=smtp_port,
        http_port=http_port if http else None,
        faults_path=faults,
        keeps_bodies=keep_bodies,
        fsync=fsync,
    )

    async def work(stop: Stop) -> None:
        await serve(options, ready=lambda addresses: ready(_where(addresses)), stop=stop.event)

    return run_process("sandbox", work, grace_s=options.grace_s, lifeline=lifeline)


@APP.command(help_epilogue="")
def twilio(
    *,
    ledger: Path,
    host: str = "127.0.0.1",
    port: Port = 8026,
    account_sid: str = SID,
    auth_token: str = TOKEN,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run a server that answers as Twilio's Messages API does and sends nothing to anybody.

    A connection of provider twilio reaches it with base_url=http://host:port. `PUT /sandbox/rules` makes it fail,
    `POST /sandbox/inbound` plays a phone that writes, `GET /sandbox/ledger` shows what it took.

    Example: `outrider sandbox twilio --ledger twilio.jsonl`

    Parameters
    ----------
    ledger
        JSON lines file with one record per request for a message; made when missing, continued when there.
    host
        Address it listens on.
    port
        Its port; 0: a free one.
    account_sid
        The account it knows.
    auth_token
        The account's token, with which it signs callbacks; not a real one.
    lifeline
        Also stop when stdin ends.
    """
    options = TwilioOptions(ledger_path=ledger, host=host, port=port, account_sid=account_sid, auth_token=auth_token)

    async def work(stop: Stop) -> None:
        await serve_twilio(options, ready=ready, stop=stop.event)

    return run_process("sandbox-twilio", work, grace_s=2.0, lifeline=lifeline)


@APP.command(help_epilogue="")
def resend(
    *,
    ledger: Path,
    host: str = "127.0.0.1",
    port: Port = 8027,
    api_key: str = RESEND_KEY,
    domain: Annotated[list[str] | None, Parameter(negative="")] = None,
    webhook_url: str = "",
    webhook_secret: str = RESEND_SECRET,
    requests_per_s: Annotated[float, Parameter(validator=between(0, 10_000))] = 2.0,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run a server that answers as Resend's API does and sends nothing to anybody.

    A connection of provider resend reaches it with base_url=http://host:port. `PUT /sandbox/rules` makes it fail,
    `PUT /sandbox/webhook` tells it where to report events, `GET /sandbox/ledger` shows what it took.

    Example: `outrider sandbox resend --ledger resend.jsonl`

    Parameters
    ----------
    ledger
        JSON lines file with one record per email; made when missing, continued when there.
    host
        Address it listens on.
    port
        Its port; 0: a free one.
    api_key
        The key it knows; not a real one.
    domain
        A verified domain, several times; email from others is refused. Without any, every domain is verified.
    webhook_url
        Where events are reported: the connection's callback address.
    webhook_secret
        With which it signs events; not a real one.
    requests_per_s
        More are answered 429; 0: no limit.
    lifeline
        Also stop when stdin ends.
    """
    options = ResendOptions(
        ledger_path=ledger,
        host=host,
        port=port,
        api_key=api_key,
        domains=dict.fromkeys(domain or (), "verified"),
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        requests_per_s=requests_per_s,
    )

    async def work(stop: Stop) -> None:
        await serve_resend(options, ready=ready, stop=stop.event)

    return run_process("sandbox-resend", work, grace_s=2.0, lifeline=lifeline)


@APP.command(help_epilogue="")
async def phone(
    number: str, to: str, text: str, *, url: str, at: str = "http://127.0.0.1:8026", options: Json = JSON
) -> Answer:
    """Let a phone write by a running `outrider sandbox twilio`; prints what it was answered. Exit 1 when refused.

    Example: `outrider sandbox phone +61412345001 +61400000000 STOP --url http://127.0.0.1:8026`

    Parameters
    ----------
    number
        Whose phone it is, as +61412345678.
    to
        The number it writes to.
    text
        What it writes.
    url
        Where the provider passes it on to: see `outrider callbacks url CONNECTION`.
    at
        Where the sandbox is.
    """
    del options
    said = {"from": number, "to": to, "body": text, "url": url}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_S)) as http,
            http.post(f"{at.rstrip('/')}/sandbox/inbound", json=said) as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise Unavailable("sandbox_unreachable", f"no sandbox answers at {at}: {why}") from None
    is_taken = answer["status"] in _TAKEN
    told = "\n".join(f"answered: {reply}" for reply in answer["replies"]) or "taken, without an answer"
    refused = f"{url} answered {answer['status'] or 'nothing'}"
    return Answer(answer, told if is_taken else refused, exits.OK if is_taken else exits.CHECK_FAILED)


def _where(addresses: Addresses) -> str:
    smtp = f"smtp://{addresses.smtp[0]}:{addresses.smtp[1]}"
    return smtp if addresses.http is None else f"{smtp} http://{addresses.http[0]}:{addresses.http[1]}"

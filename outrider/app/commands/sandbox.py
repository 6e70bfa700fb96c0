"""Run a capture mail server: takes every message, delivers none; a web inbox, a ledger on disk, faults on request."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import aiohttp
from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.base.errors import Refused, Unavailable
from outrider.interfaces.cli import exits
from outrider.interfaces.cli.options import JSON, Json, between, text_of, whole_number
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.sandbox import Addresses, SandboxOptions, serve
from outrider.interfaces.sandbox.resend import ResendOptions
from outrider.interfaces.sandbox.resend import serve as serve_resend
from outrider.interfaces.sandbox.resend.options import KEY as RESEND_KEY
from outrider.interfaces.sandbox.resend.options import SECRET as RESEND_SECRET
from outrider.interfaces.sandbox.twilio import TwilioOptions
from outrider.interfaces.sandbox.twilio import serve as serve_twilio
from outrider.interfaces.sandbox.twilio.options import SID, TOKEN

APP = App(
    name="sandbox",
    help_epilogue="Example: `outrider sandbox --ledger sandbox.jsonl --user shop --require-auth --tls required`",
)

_PATIENCE_S: Final = 30.0
_TAKEN: Final = range(200, 300)
_SMTPS_PORT: Final = 2465
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
    user: str | None = None,
    password_file: Path | None = None,
    require_auth: Annotated[bool, Parameter(negative="")] = False,
    tls: Literal["off", "starttls", "required", "implicit"] = "starttls",
    smtps_port: Port | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
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
    user
        Offer AUTH to this user. The password is OUTRIDER_SANDBOX_PASSWORD, or asked for on a terminal.
    password_file
        The password is the first line of this file instead.
    require_auth
        Refuse mail of who has not signed in.
    tls
        off: none; starttls: offered; required: mail and AUTH are refused before it; implicit: they are refused on the
        SMTP port, and taken on one that is inside TLS from the first byte.
    smtps_port
        Port of SMTP inside TLS from the first byte, whatever --tls says; 0: a free one. --tls implicit has 2465.
    certificate
        PEM file of your own certificate and its chain; else one is made at each start: `<ledger>.crt`, to be trusted.
    key
        PEM file with its private key.
    lifeline
        Also stop when stdin ends.
    """
    smtps_port = _SMTPS_PORT if tls == "implicit" and smtps_port is None else smtps_port
    _check_certificate(certificate, key, is_used=tls != "off" or smtps_port is not None)
    options = SandboxOptions(
        ledger_path=ledger,
        host=host,
        smtp_port=smtp_port,
        http_port=http_port if http else None,
        faults_path=faults,
        keeps_bodies=keep_bodies,
        fsync=fsync,
        credentials=_credentials(user, password_file, is_required=require_auth),
        is_auth_required=require_auth,
        is_tls_required=tls in {"required", "implicit"},
        is_starttls_offered=tls in {"starttls", "required"},
        smtps_port=smtps_port,
        certificate_path=certificate,
        private_key_path=key,
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


def _check_certificate(certificate: Path | None, key: Path | None, *, is_used: bool) -> None:
    """Refuse half of a pair, and one that nobody would see.

    Raises:  Refused(required, invalid_choice).
    """
    if (certificate is None) != (key is None):
        missing = "--key" if key is None else "--certificate"
        raise Refused("required", "certificate and key go together: give both or neither", field=missing)
    if certificate is not None and not is_used:
        raise Refused("invalid_choice", "nothing is inside TLS: give --smtps-port, or no --tls off", field="--tls")


def _credentials(user: str | None, password_file: Path | None, *, is_required: bool) -> dict[str, str] | None:
    """Who may sign in; None: nobody. The password never stands in an argument, where every user could see it.

    Raises:  Refused(required, file_unusable, encoding).
    """
    if user is None:
        if is_required or password_file is not None:
            raise Refused("required", "nobody could sign in: name a user", field="--user")
        return None
    if not user:
        raise Refused("required", "must not be empty", field="--user")
    password = _password(user, password_file)
    if not password:
        raise Refused("required", "the password must not be empty", field="--password-file")
    return {user: password}


def _password(user: str, path: Path | None) -> str:
    if path is not None:
        return text_of(path, "--password-file").partition("\n")[0].rstrip("\r")
    found = wiring.settings().sandbox_password
    if found is not None:
        return found.get_secret_value()
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"password of {user}: ")
    raise Refused(
        "required", f"give the password of {user} in OUTRIDER_SANDBOX_PASSWORD or a file", field="--password-file"
    )


def _where(addresses: Addresses) -> str:
    listening = {"smtp": addresses.smtp, "smtps": addresses.smtps, "http": addresses.http}
    return " ".join(f"{scheme}://{at[0]}:{at[1]}" for scheme, at in listening.items() if at is not None)

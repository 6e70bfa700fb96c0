"""The examination of an account for `doctor`: each stage by itself, by another client than the one that sends.

Uses aiosmtplib, so that a fault of our own client cannot hide behind itself. Sends no message; signs in at most once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import aiosmtplib

from outrider.contracts.outcome import Deferred
from outrider.contracts.provider import Egress, Stage
from outrider.plugins.providers.smtp.handshake import TlsContexts, addresses_of
from outrider.plugins.providers.smtp.settings import Account, ehlo_name
from outrider.plugins.providers.smtp.wire import tls_problem


async def examine(account: Account, egress: Egress, contexts: TlsContexts) -> AsyncIterator[Stage]:
    """Give dns, tcp, greeting, tls and auth as they are passed (tls before greeting when implicit).

    Gives:   Stages with `is_ok`; after the first that is not, nothing more. A stage the settings do not ask for is ok
             and says so.
    """
    addresses = await addresses_of(account, egress)
    if isinstance(addresses, Deferred):
        yield Stage("dns", is_ok=False, detail=addresses.detail)
        return
    yield Stage("dns", is_ok=True, detail=f"{account.host} is {', '.join(addresses)}")
    connected = await _connect(account, addresses)
    if isinstance(connected, Stage):
        yield connected
        return
    yield Stage("tcp", is_ok=True, detail=f"connected to port {account.port}")
    context = await asyncio.to_thread(contexts, account.is_verified)
    client = aiosmtplib.SMTP(
        hostname=account.host,
        sock=connected,
        local_hostname=ehlo_name(account, str(connected.getsockname()[0])),
        timeout=account.command_timeout_s,
        use_tls=account.tls == "implicit",
        start_tls=False,
        tls_context=context if account.tls != "off" else None,
    )
    try:
        async for stage in _conversation(client, account):
            yield stage
            if not stage.is_ok:
                return
    finally:
        client.close()


async def _connect(account: Account, addresses: list[str]) -> socket.socket | Stage:
    """A TCP connection to the first address that takes one."""
    loop = asyncio.get_running_loop()
    detail = "the name has no address"
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(0)
        try:
            async with asyncio.timeout(account.connect_timeout_s / len(addresses)):
                await loop.sock_connect(connection, (address, account.port))
        except TimeoutError:
            detail = f"no connection to port {account.port} in {account.connect_timeout_s:g} s"
        except OSError as error:
            detail = f"no connection to port {account.port}: {error.strerror or type(error).__name__}"
        else:
            return connection
        connection.close()
    return Stage("tcp", is_ok=False, detail=detail)


async def _conversation(client: aiosmtplib.SMTP, account: Account) -> AsyncIterator[Stage]:
    """What follows TCP."""
    try:
        await client.connect()
        if account.tls == "implicit":
            yield Stage("tls", is_ok=True, detail="TLS from the first byte, certificate verified")
        await client.ehlo()
    except (aiosmtplib.SMTPException, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            yield Stage("tls", is_ok=False, detail=tls_problem(cause))
        else:
            yield Stage("greeting", is_ok=False, detail=_problem(error))
        return
    yield Stage("greeting", is_ok=True, detail="the server said hello")
    if account.tls != "implicit":
        stage = await _start_tls(client, account)
        yield stage
        if not stage.is_ok:
            return
    yield await _sign_in(client, account)


async def _start_tls(client: aiosmtplib.SMTP, account: Account) -> Stage:
    if account.tls == "off":
        return Stage("tls", is_ok=True, detail="not used: tls is off")
    if not client.supports_extension("starttls"):
        is_ok = account.tls == "opportunistic"
        return Stage("tls", is_ok=is_ok, detail="the server does not offer STARTTLS")
    try:
        await client.starttls(server_hostname=account.host)
        await client.ehlo()
    except (aiosmtplib.SMTPException, OSError) as error:
        cause = error if isinstance(error, ssl.SSLError) else error.__cause__
        return Stage("tls", is_ok=False, detail=tls_problem(cause) if cause else _problem(error))
    is_checked = "verified" if account.is_verified else "not verified (opportunistic)"
    return Stage("tls", is_ok=True, detail=f"STARTTLS, certificate {is_checked}")


async def _sign_in(client: aiosmtplib.SMTP, account: Account) -> Stage:
    """One attempt with PLAIN, else LOGIN. What the server says about it is not quoted."""
    if not account.username:
        return Stage("auth", is_ok=True, detail="not used: no username")
    is_private = client.get_transport_info("sslcontext") is not None
    if not is_private and not (account.tls == "off" and account.allow_plaintext_auth):
        return Stage("auth", is_ok=False, detail="the password is not sent without TLS")
    methods = client.server_auth_methods
    try:
        if "plain" in methods:
            await client.auth_plain(account.username, account.password)
        elif "login" in methods:
            await client.auth_login(account.username, account.password)
        else:
            return Stage("auth", is_ok=False, detail="the server offers neither AUTH PLAIN nor LOGIN")
    except aiosmtplib.SMTPResponseException as error:
        return Stage("auth", is_ok=False, detail=f"the server answered {error.code}")
    except (aiosmtplib.SMTPException, OSError) as error:
        return Stage("auth", is_ok=False, detail=type(error).__name__)
    return Stage("auth", is_ok=True, detail=f"signed in as {account.username}")


def _problem(error: BaseException) -> str:
    """A server's refusal by its code, everything else by its kind: foreign text is not shown here."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"the server answered {error.code}"
    return {
        "SMTPConnectError": "the server hung up before its banner, or did not answer as a mail server",
        "SMTPConnectTimeoutError": "no banner in time",
        "SMTPServerDisconnected": "the server hung up",
    }.get(type(error).__name__, type(error).__name__)

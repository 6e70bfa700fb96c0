"""From a host name to a connection that may carry messages: address, TCP, banner, EHLO, STARTTLS, AUTH.

Owns the rules of what may be said in the clear: a password only over TLS (or where the operator of the account allowed
it with TLS off), nothing at all where TLS is required and missing. Never carries messages.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable

from outrider.base.errors import OutriderError, Refused
from outrider.contracts.outcome import Deferred
from outrider.contracts.provider import Egress
from outrider.plugins.providers.smtp.envelope import offer_of
from outrider.plugins.providers.smtp.replies import (
    CHALLENGE,
    DONE,
    READY,
    SIGNED_IN,
    TRANSIENT,
    Reply,
    describe,
    enhanced_code,
)
from outrider.plugins.providers.smtp.session import Session, Source
from outrider.plugins.providers.smtp.settings import Account, ehlo_name
from outrider.plugins.providers.smtp.wire import tls_problem

TlsContexts = Callable[[bool], ssl.SSLContext]
"""Makes the TLS context for a connection; the argument says whether the certificate is verified."""


def tls_context(is_verified: bool) -> ssl.SSLContext:  # noqa: FBT001 - the one argument of a TlsContexts
    """The system's trust store (SSL_CERT_FILE and SSL_CERT_DIR are honoured), TLS 1.2 or later.

    An unverified context serves opportunistic security (RFC 7435): encryption against listeners where the choice is
    plain text; it never carries a password.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def open_session(
    account: Account, egress: Egress, context: ssl.SSLContext | None, source: Source
) -> Session | Deferred:
    """Connect and get ready to carry messages; or why that did not work, with nothing left open.

    Takes:   at most connect_timeout_s for the address and as much for TCP, command_timeout_s for each answer.
    Raises:  CancelledError, with nothing left open.
    """
    addresses = await addresses_of(account, egress)
    if isinstance(addresses, Deferred):
        return addresses
    session = await _dial(account, addresses, context, source)
    if isinstance(session, Deferred):
        return session
    is_ready = False
    try:
        problem = await _greet(session, account, context)
        is_ready = problem is None and not session.is_over
    finally:
        if not is_ready:
            session.end("not ready")
    return session if is_ready else problem or Deferred("connection_failed", "the server hung up")


async def addresses_of(account: Account, egress: Egress) -> list[str] | Deferred:
    """The numeric addresses that may be dialled for this account now."""
    try:
        async with asyncio.timeout(account.connect_timeout_s):
            return await egress.resolve(account.host, account.port)
    except TimeoutError:
        return Deferred("connection_timeout", "the name of the server was not resolved in time")
    except Refused as error:
        return Deferred("target_refused", error.message)
    except OutriderError as error:
        return Deferred("connection_failed", error.message)


async def _dial(
    account: Account, addresses: list[str], context: ssl.SSLContext | None, source: Source
) -> Session | Deferred:
    """Try the addresses in turn, each with its share of the time that is left."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + account.connect_timeout_s
    problem = Deferred("connection_failed", "the name of the server has no address")
    is_implicit = account.tls == "implicit"
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            async with asyncio.timeout((ends_at - loop.time()) / left):
                _, session = await loop.create_connection(
                    lambda: Session(account, source),
                    address,
                    account.port,
                    ssl=context if is_implicit else None,
                    server_hostname=account.host if is_implicit else None,
                )
        except TimeoutError:
            problem = Deferred("connection_timeout", f"no connection in {account.connect_timeout_s:g} s")
        except ssl.SSLError as error:
            problem = Deferred("tls_failed", tls_problem(error))
        except OSError as error:
            problem = Deferred("connection_failed", f"no connection: {error.strerror or type(error).__name__}")
        else:
            return session
    return problem


async def _greet(session: Session, account: Account, context: ssl.SSLContext | None) -> Deferred | None:
    """Banner, EHLO, STARTTLS, EHLO again, AUTH."""
    banner = await session.ask(b"", account.command_timeout_s)
    if isinstance(banner, Deferred):
        return banner
    if banner.code != READY:
        return _no_service("banner", banner)
    problem = await _hello(session, account)
    if problem:
        return problem
    if account.tls in ("required", "opportunistic") and context is not None and session.offer.is_starttls:
        problem = await session.start_tls(context, account.host, account.command_timeout_s)
        problem = problem or await _hello(session, account)
        if problem:
            return problem
    if account.tls in ("required", "implicit") and not session.is_encrypted:
        return Deferred("tls_unavailable", "the server does not offer STARTTLS")
    if not account.username:
        return None
    if not session.is_encrypted and not (account.tls == "off" and account.allow_plaintext_auth):
        return Deferred("tls_unavailable", "the password is not sent without TLS")
    return await _sign_in(session, account)


async def _hello(session: Session, account: Account) -> Deferred | None:
    """Say who we are and learn what the server can do now."""
    socket_name = session.transport.get_extra_info("sockname") if session.transport is not None else None
    name = ehlo_name(account, str(socket_name[0]) if socket_name else "127.0.0.1")
    reply = await session.ask(b"EHLO %b\r\n" % name.encode("ascii"), account.command_timeout_s)
    if isinstance(reply, Deferred):
        return reply
    if reply.code != DONE:
        return _no_service("EHLO", reply)
    session.offer = offer_of(reply.text)
    return None


async def _sign_in(session: Session, account: Account) -> Deferred | None:
    """AUTH PLAIN, else LOGIN, once. What the server says is not kept: some quote what they were sent."""
    user, password = account.username.encode(), account.password.encode()
    timeout_s = account.command_timeout_s
    if "PLAIN" in session.offer.auth:
        token = base64.b64encode(b"\0%b\0%b" % (user, password))
        reply = await session.ask(b"AUTH PLAIN %b\r\n" % token, timeout_s, is_secret=True)
    elif "LOGIN" in session.offer.auth:
        reply = await session.ask(b"AUTH LOGIN\r\n", timeout_s, is_secret=True)
        for secret in (user, password):
            if isinstance(reply, Deferred) or reply.code != CHALLENGE:
                break
            reply = await session.ask(b"%b\r\n" % base64.b64encode(secret), timeout_s, is_secret=True)
    else:
        return Deferred("authentication_failed", "the server offers neither AUTH PLAIN nor LOGIN")
    if isinstance(reply, Deferred):
        return reply
    if reply.code == SIGNED_IN:
        return None
    cause = "server_deferred" if reply.code in TRANSIENT else "authentication_failed"
    return Deferred(cause, f"AUTH: {reply.code} {enhanced_code(reply)}".rstrip())


def _no_service(what: str, reply: Reply) -> Deferred:
    """The server does not want to talk to us, for now or for a reason only its operator knows."""
    cause = "server_deferred" if reply.code in TRANSIENT else "connection_failed"
    return Deferred(cause, describe(what, reply))

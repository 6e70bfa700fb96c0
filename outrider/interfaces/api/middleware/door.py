"""The outermost layer: request id, caller's address, refusals before routing, security headers, access log, figures.

Owns what holds for every answer, errors and unknown paths included; never looks into a body or a credential.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_network
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.interfaces.api import problems
from outrider.interfaces.api.exchange import KEY, Exchange
from outrider.interfaces.api.middleware.body_clock import BodyClock
from outrider.interfaces.api.middleware.proxies import client_of, is_within

_access = structlog.get_logger("outrider.access")
_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{8,128}")
_ONCE = (b"authorization", b"content-type", b"host", b"content-length", b"idempotency-key", b"origin")
_LONGEST_PATH = 2048
_ODD_PATH = re.compile(r"//|[\\\x00-\x1f\x7f]|(?:^|/)\.\.?(?:/|$)")
_SERVER_ERROR = 500
_LOGGED_PATH = 120
_KEY_LIKE = re.compile(r"[A-Za-z0-9_\-=.~]{24,}")
_YEAR_S = 31_536_000
_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


class Figures(Protocol):
    """Where the door counts requests."""

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one finished request."""
        ...

    def turned_away(self, code: str) -> None:
        """Count a refusal by its code, where the queue was full."""
        ...


class Door:
    """The application's outside."""

    def __init__(self, settings: Settings, figures: Figures) -> None:
        self._settings = settings
        self._figures = figures
        self._trusted = [ip_network(network) for network in settings.trusted_proxies]
        is_https = urlsplit(settings.public_url).scheme == "https"
        self._headers = security_headers(is_https=is_https)

    async def __call__(self, inner: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one HTTP request through, or refuse it."""
        headers = scope["headers"]
        exchange = self._exchange(scope, headers)
        scope.setdefault("state", {})[KEY] = exchange
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        clock = BodyClock(receive, exchange, headers, most_bytes=self._settings.max_body_bytes)
        has_started = False

        async def answer(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                exchange.status = message["status"]
                if exchange.has_unread_body and exchange.status >= HTTPStatus.BAD_REQUEST:
                    clock.skim()
                message["headers"] = self._complete(message["headers"], exchange)
            await send(message)

        try:
            refuse_odd(scope["path"], scope.get("raw_path", b""), headers)
            clock.refuse_announced()
            await inner(scope, clock.receive, answer)
        except Refused as error:
            await refuse(error, exchange, answer)
        except Exception as error:
            if has_started:
                raise
            _log.exception("request_broken", request_id=exchange.request_id)
            await refuse(error, exchange, answer)
        finally:
            self._note(scope, exchange)

    def _exchange(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> Exchange:
        found: dict[bytes, bytes] = {}
        forwarded: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
            found.setdefault(name, value)
        peer = (scope.get("client") or ("unknown", 0))[0]
        scheme = str(scope.get("scheme", "http"))
        if self._trusted and is_within(peer, self._trusted):
            said = found.get(b"x-forwarded-proto", b"").decode("latin-1").strip().lower()
            scheme = said if said in {"http", "https"} else scheme
        given = found.get(b"x-request-id", b"")
        return Exchange(
            request_id=given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16),
            client_ip=client_of(peer, forwarded, self._trusted),
            scheme=scheme,
            host=found.get(b"host", b"").decode("latin-1"),
            method=str(scope.get("method", "")),
            started_s=time.monotonic(),
        )

    def _complete(self, given: Iterable[tuple[bytes, bytes]], exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """The answer's own headers and those it lacks."""
        headers = [(low, value) for name, value in given if (low := name.lower()) != b"server"]
        names = {name for name, _ in headers}
        headers.extend(pair for pair in (*self._headers, *exchange.rate_headers) if pair[0] not in names)
        headers.append((b"x-request-id", exchange.request_id.encode()))
        if exchange.has_unread_body and exchange.status >= HTTPStatus.BAD_REQUEST:
            # what is still coming would be read for nothing, and a slow sender would keep the connection
            headers.append((b"connection", b"close"))
        return headers

    def _note(self, scope: Scope, exchange: Exchange) -> None:
        took_s = time.monotonic() - exchange.started_s
        route = str(scope.get("path_template") or "unmatched")
        self._figures.request(exchange.method, route, exchange.status, took_s)
        if exchange.code:
            self._figures.turned_away(exchange.code)
        if exchange.is_told_elsewhere or (exchange.is_unlogged and exchange.status < HTTPStatus.BAD_REQUEST):
            return
        level = _access.warning if exchange.status >= _SERVER_ERROR else _access.info
        facts: dict[str, Any] = {"path": shown_path(scope["path"])} if route == "unmatched" else {}
        level(
            "request",
            method=exchange.method[:20],
            route=route,
            status=exchange.status,
            took_ms=round(took_s * 1000, 1),
            ip=exchange.client_ip,
            **({"code": exchange.code} if exchange.code else {}),
            **({"who": exchange.who} if exchange.who else {}),
            **facts,
        )


def security_headers(*, is_https: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every answer that does not bring its own (ASVS V3.4)."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (
            b"content-security-policy",
            _POLICY,
        ),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"x-frame-options", b"DENY"),
        (b"cache-control", b"no-store"),
    ]
    if is_https:
        headers.append((b"strict-transport-security", f"max-age={_YEAR_S}; includeSubDomains".encode()))
    return tuple(headers)


def refuse_odd(path: str, raw_path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what no honest client sends: doubled headers, compressed bodies, paths that could be read in two ways.

    Raises:  Refused(duplicate_header, 400), Refused(unsupported_encoding, 415), Refused(not_found, 404).
    """
    if len(path) > _LONGEST_PATH or _ODD_PATH.search(path) or b"%2f" in raw_path.lower() or "\ufffd" in path:
        raise Refused("not_found", "there is nothing here", status=404)
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _ONCE and name in seen:
            raise Refused("duplicate_header", f"the header {name.decode().title()} is given twice", status=400)
        seen.add(name)
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise Refused("unsupported_encoding", "send the body without Content-Encoding", status=415)


async def refuse(error: Exception, exchange: Exchange, send: Send) -> None:
    """Answer an error outside the framework."""
    found, extra = problems.translate(error, exchange.request_id)
    exchange.code = found.code
    body = problems.encode(found)
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers.extend((name.lower().encode(), value.encode()) for name, value in extra.items())
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def shown_path(path: str) -> str:
    """A path as it may stand in a log: printable, short, without what could be a key or token."""
    short = path[:_LOGGED_PATH].encode("unicode_escape").decode("ascii")
    return _KEY_LIKE.sub("[redacted]", short)

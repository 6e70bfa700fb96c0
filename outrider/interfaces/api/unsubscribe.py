"""The page behind a message's unsubscribe link, and the one-click POST of RFC 8058.

Owns `/u/{token}`: looking (GET, HEAD, OPTIONS) never changes anything; a POST does, once, and may be repeated. No
sign-in, no script, nothing from elsewhere, no personal data in the URL.
"""

from __future__ import annotations

import base64
import hashlib
import math
from html import escape
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns.unsubscribe import Subject, mask, subject_of, unsubscribe
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.auth import PUBLIC

_MOST_BODY_BYTES = 10_000
_RATES = "unsubscribe_rates"

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; font: 1.1rem/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { max-width: 32rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
button { font: inherit; padding: .75rem 1.25rem; min-height: 3rem; width: 100%; border: 0; border-radius: .5rem;
         background: #1a56c4; color: #fff; cursor: pointer; }
button:focus-visible { outline: 3px solid CanvasText; outline-offset: 2px; }
p.note { font-size: .9rem; }
"""


def style_hash(style: str) -> str:
    """How a content security policy names an inline style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src '{style_hash(_STYLE)}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}
_OPTIONS = {"content_types": ("application/x-www-form-urlencoded", "multipart/form-data"), "auth": PUBLIC}
_FORM = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
    '<button name="via" value="page">Unsubscribe</button></form>'
)


class Rates:
    """How often one address may come, per process.

    guesses   tokens that are none: guessing gets slow at once
    clicks    genuine tokens: mailbox providers click for many of their people from one address
    """

    def __init__(self) -> None:
        self.guesses = Buckets(1.0, 20.0)
        self.clicks = Buckets(100.0, 1_000.0)


@get("/u/{token:str}", opt={"auth": PUBLIC}, include_in_schema=False)
async def shown(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show who would unsubscribe from whom; changes nothing."""
    place = _place(token, request, runtime)
    subject = await _subject(runtime, place) if place else None
    if subject is None:
        return _unknown()
    tenant, address = escape(subject.tenant_name), escape(mask(subject.address))
    return _page(
        200,
        "Unsubscribe",
        f"<h1>Unsubscribe from {tenant}?</h1>"
        f"<p>{address} will get no more newsletters or offers from {tenant}.</p>"
        f"{_FORM}"
        '<p class="note">Messages about your orders or your account are not concerned.</p>',
    )


@post("/u/{token:str}", status_code=200, opt=_OPTIONS, include_in_schema=False)
async def done(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Unsubscribe: by the page's button, or by a mail program's one click. Repeating it changes nothing."""
    place = _place(token, request, runtime)
    body = await _body(request)
    if place is None:
        return _unknown()
    if b"List-Unsubscribe" not in body or b"One-Click" not in body:
        return _page(400, "Unsubscribe", f"<h1>Unsubscribe?</h1><p>Please press the button.</p>{_FORM}")
    tenant_id, message_id = place
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        subject = await subject_of(uow, message_id)
        if subject is None:
            return _unknown()
        how = "page" if b"via" in body else "one_click"
        await unsubscribe(uow, subject, ip=exchange_of(request).client_ip, how=how)
    tenant, address = escape(subject.tenant_name), escape(mask(subject.address))
    return _page(
        200,
        "You are unsubscribed",
        f"<h1>You are unsubscribed</h1><p>{address} will get no more newsletters or offers from {tenant}.</p>"
        f'<p class="note">If this was a mistake, subscribe again where {tenant} offers it.</p>',
    )


async def _subject(runtime: Runtime, place: tuple[UUID, UUID]) -> Subject | None:
    tenant_id, message_id = place
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        return await subject_of(uow, message_id)


def _place(token: str, request: Request[Any, Any, Any], runtime: Runtime) -> tuple[UUID, UUID] | None:
    """Tenant and message of a token of ours; None for any other.

    Raises:  Refused(rate_limited, 429).
    """
    place = runtime.unsubscribe_links.read(token)
    rates = _rates(request)
    wait_s = (rates.clicks if place else rates.guesses).take(source_of(exchange_of(request).client_ip))
    if wait_s:
        raise Refused("rate_limited", "too many requests", status=429, retry_after_s=math.ceil(wait_s))
    return place


def _rates(request: Request[Any, Any, Any]) -> Rates:
    """Those of this process, made at their first use."""
    found: Rates | None = request.app.state.get(_RATES)
    if found is None:
        found = request.app.state[_RATES] = Rates()
    return found


def source_of(client_ip: str) -> str:
    """Whose rate it is: an IPv4 address, or the network of an IPv6 address, in which one caller has 2^64."""
    try:
        address = ip_address(client_ip)
    except ValueError:
        return client_ip
    return client_ip if address.version == 4 else address.exploded[:19]  # noqa: PLR2004 - the protocol's own number


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The form, of which only the mark of RFC 8058 is looked at."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise Refused("too_large", f"a form may have {_MOST_BODY_BYTES} bytes", status=413)
    return body


def _unknown() -> Response[str]:
    return _page(
        404,
        "Unknown link",
        "<h1>This link does not work</h1><p>It is incomplete or too old. Open it again from the message, or answer the"
        " message and ask to be taken off the list.</p>",
    )


def _page(status: int, title: str, content: str) -> Response[str]:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><main>{content}</main></body></html>"
    )
    return Response(text, status_code=status, media_type="text/html; charset=utf-8", headers=_HEADERS)


ROUTES = [shown, done]

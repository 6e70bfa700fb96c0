"""The page behind a message's unsubscribe link, and the one-click POST of RFC 8058.

Owns `/u/{token}`: looking (GET, HEAD, OPTIONS) never changes anything; a POST does, once, and may be repeated. No
sign-in, no script, nothing from elsewhere, no personal data in the URL.
"""

from __future__ import annotations

from html import escape
from typing import Any
from uuid import UUID

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.campaigns.unsubscribe import Subject, mask, subject_of, unsubscribe
from outrider.domain.contacts import offers, suppressions
from outrider.domain.signup.links import Links
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import Look
from outrider.interfaces.api import visits
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.pages import page
from outrider.interfaces.api.parts import parts_of

_MOST_BODY_BYTES = 10_000

_TAKEN = (*visits.FORM_TYPE, "multipart/form-data")
_FORM = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
    '<button name="via" value="page">Unsubscribe</button></form>'
)
_NOT_CONCERNED = '<p class="note">Messages about your orders or your account are not concerned.</p>'
_INSTEAD = '<p class="note">Too much, or not the right things? <a href="{}">Choose what you get</a></p>'


class Rates:
    """How often one address may come, per process.

    guesses   tokens that are none: guessing gets slow at once
    clicks    genuine tokens: mailbox providers click for many of their people from one address
    """

    def __init__(self) -> None:
        self.guesses = Buckets(1.0, 20.0)
        self.clicks = Buckets(100.0, 1_000.0)


@visits.looked_at("/u/{token:str}")
async def shown(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show who would unsubscribe from whom; changes nothing."""
    place = _place(token, request, runtime)
    if place is None:
        return _unknown()
    tenant_id, message_id = place
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        subject = await subject_of(uow, message_id)
        if subject is None:
            return _unknown()
        look = await looks.of(uow)
        if await _has_asked(uow, subject, runtime):
            return _unsubscribed(subject, look, is_new=False)
        has_choice = bool(await offers.listed(uow))
    tenant = _tenant(look)
    instead = Links(runtime.keyring).path("preferences", tenant_id, message_id) if has_choice else ""
    return page(
        200,
        f"Unsubscribe from {look.name}",
        f"<h1>Unsubscribe from {tenant}?</h1>"
        f"<p>{_address(subject)} will get no more newsletters or offers from {tenant}.</p>"
        f"{_FORM}{_NOT_CONCERNED}{_INSTEAD.format(instead) if instead else ''}",
        look=look,
    )


@visits.pressed("/u/{token:str}", takes=_TAKEN)
async def done(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Unsubscribe: by the page's button, or by a mail program's one click. Repeating it changes nothing."""
    place = _place(token, request, runtime)
    body = await _body(request)
    if place is None:
        return _unknown()
    if b"List-Unsubscribe" not in body or b"One-Click" not in body:
        return page(400, "Unsubscribe", f"<h1>Unsubscribe?</h1><p>Please press the button.</p>{_FORM}")
    tenant_id, message_id = place
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        subject = await subject_of(uow, message_id)
        if subject is None:
            return _unknown()
        how = "page" if b"via" in body else "one_click"
        await unsubscribe(uow, subject, ip=exchange_of(request).client_ip, how=how)
        look = await looks.of(uow)
    return _unsubscribed(subject, look, is_new=True)


async def _has_asked(uow: UnitOfWork, subject: Subject, runtime: Runtime) -> bool:
    """Whether the recipient has said before that they want no more of this."""
    if subject.channel not in runtime.channels:  # its plugin was taken out since
        return False
    entries = await suppressions.lookup(uow, runtime.channels, subject.channel, subject.address)
    return any(entry.reason in suppressions.RECIPIENT_ASKED for entry in entries)


def _unsubscribed(subject: Subject, look: Look, *, is_new: bool) -> Response[str]:
    tenant, title = _tenant(look), "You are unsubscribed" if is_new else "You are already unsubscribed"
    note = _NOT_CONCERNED if is_new else ""  # who complained before may get nothing at all
    return page(
        200,
        title,
        f"<h1>{title}</h1>"
        f"<p>{_address(subject)} will get no more newsletters or offers from {tenant}. You can close this page.</p>"
        f'{note}<p class="note">If this was a mistake, subscribe again where {tenant} offers it.</p>',
        look=look,
    )


def _tenant(look: Look) -> str:
    """The tenant's name as HTML; a name written from right to left does not turn the sentence around."""
    return f"<bdi>{escape(look.name)}</bdi>"


def _address(subject: Subject) -> str:
    return f"<bdi>{escape(mask(subject.address))}</bdi>"


def _place(token: str, request: Request[Any, Any, Any], runtime: Runtime) -> tuple[UUID, UUID] | None:
    """Tenant and message of a token of ours; None for any other.

    Raises:  Refused(rate_limited, 429).
    """
    place = runtime.unsubscribe_links.read(token)
    rates = parts_of(request).once(Rates)
    visits.slow_down(rates.clicks if place else rates.guesses, request)
    return place


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The form, of which only the mark of RFC 8058 is looked at."""
    return await visits.body(request, _MOST_BODY_BYTES)


def _unknown() -> Response[str]:
    return page(
        404,
        "Unknown link",
        "<h1>This link does not work</h1><p>It is incomplete or too old. Open it again from the message, or answer the"
        " message and ask to be taken off the list.</p>",
    )


ROUTES = [shown, done]

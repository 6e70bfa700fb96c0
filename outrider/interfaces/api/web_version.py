"""Messages and campaigns in a browser: `/w/{token}` for a recipient, `/v/{token}` for anybody with the address.

Owns the two pages and what surrounds a tenant's HTML there: nothing in it may run, submit, frame or reach this site's
cookies (a sandbox without an origin), nothing is indexed or passed on as referrer. Looking never changes anything and
is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from html import escape
from typing import Any, Final
from uuid import UUID

from litestar import HttpMethod, MediaType, Request, Response, route
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.base.errors import Refused
from outrider.base.signing import TrackingSigner
from outrider.contracts.channel import Composer, Item, Unrenderable
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import content, read
from outrider.domain.senders import senders
from outrider.domain.senders.senders import SenderView
from outrider.domain.senders.shown import identity_of
from outrider.domain.signup.links import Links
from outrider.domain.templates import contents
from outrider.domain.tracking import web_versions
from outrider.domain.tracking.web_versions import Letter
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.pages import page
from outrider.interfaces.api.parts import parts_of
from outrider.interfaces.api.visits import sorry
from outrider.interfaces.auth import PUBLIC

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline' https:; font-src https: data:; "
        "media-src https:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}
_OPTIONS: Final[dict[str, Any]] = {"auth": PUBLIC}
Find = Callable[[UnitOfWork, UUID, int], Awaitable[Letter | None]]


class Rates:
    """How often one address may come, per process: guesses, and genuine ones, each of which costs a rendering."""

    def __init__(self) -> None:
        self.guesses = Buckets(1.0, 20.0)
        self.looks = Buckets(20.0, 200.0)


@route(
    "/w/{token:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=_OPTIONS,
    include_in_schema=False,
    exception_handlers={Exception: sorry},
)
async def of_message(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show a message to its recipient again."""

    async def find(uow: UnitOfWork, message_id: UUID, _: int) -> Letter | None:
        return await web_versions.letter_of(uow, message_id)

    return await _answer(token, TrackingSigner.VIEW, request, runtime, find)


@route(
    "/v/{token:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=_OPTIONS,
    include_in_schema=False,
    exception_handlers={Exception: sorry},
)
async def of_campaign(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show what a campaign says to anybody who was given the address; of variants the winner, else the first."""

    async def find(uow: UnitOfWork, campaign_id: UUID, code: int) -> Letter | None:
        letter = await web_versions.published_letter(uow, campaign_id, code)
        if letter is None:
            return None
        said = await content.said_as(uow, await read.get(uow, campaign_id), None)
        return replace(letter, content_id=said.content_id)

    return await _answer(token, TrackingSigner.PUBLIC, request, runtime, find)


async def _answer(
    token: str, kind: int, request: Request[Any, Any, Any], runtime: Runtime, find: Find
) -> Response[str]:
    """The page behind a token.

    Raises:  Refused(rate_limited, 429).
    """
    place = web_versions.signer_of(runtime.keyring).read(kind, token)
    rates = parts_of(request).once(Rates)
    wait_s = (rates.looks if place else rates.guesses).take(source_of(exchange_of(request).client_ip))
    if wait_s:
        raise Refused("rate_limited", "too many requests", status=429, retry_after_s=math.ceil(wait_s))
    if place is None:
        return _gone()
    tenant_id, subject_id, number = place
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        letter = await find(uow, subject_id, number)
        sender = None if letter is None else await senders.get(uow, letter.sender_id)
        made = None if letter is None or sender is None else await _composer(uow, runtime, letter, sender)
    if letter is None or sender is None or made is None:
        return _gone()
    base = sender.public_url or runtime.settings.public_url
    shown = await made.page(_item(runtime, tenant_id, letter, base, token))
    if isinstance(shown, Unrenderable):
        return _gone()
    return Response(shown, media_type=MediaType.HTML, headers=_HEADERS)


async def _composer(uow: UnitOfWork, runtime: Runtime, letter: Letter, sender: SenderView) -> Composer | None:
    """The composer of a letter, untracked; None when its content or channel is gone."""
    channel = runtime.channels.get(letter.channel)
    found = await contents.load(uow, uow.tenant, [letter.content_id])
    content = found.get(letter.content_id)
    if channel is None or content is None:
        return None
    identity = await identity_of(uow, sender)
    return channel.composer(replace(content, attachments=()), identity, runtime.renderer)


def _item(runtime: Runtime, tenant_id: UUID, letter: Letter, base: str, token: str) -> Item:
    unsubscribe = f"{base}/u/{runtime.unsubscribe_links.sign(tenant_id, letter.id)}" if letter.is_bulk else ""
    preferences = Links(runtime.keyring).path("preferences", tenant_id, letter.id)
    return Item(
        letter.id,
        letter.address,
        letter.variables,
        letter.dated_at,
        unsubscribe,
        web_version_url=f"{base}/{'w' if letter.address else 'v'}/{token}",
        preferences_url=f"{base}{preferences}" if letter.address else "",
    )


def _gone() -> Response[str]:
    title = "There is nothing here"
    text = "The address is incomplete, or what was here is no longer kept."
    return page(404, title, f"<h1>{escape(title)}</h1><p>{text}</p>")


ROUTES = [of_message, of_campaign]

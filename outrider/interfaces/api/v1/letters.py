"""What can be done with a template before it is used: look at it, check its links, compare, restore, try it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.contracts.channel import Channel, Content, Identity, Item, LinkNote
from outrider.data.db import Role, UnitOfWork
from outrider.data.link_dial import Dialled, dial
from outrider.data.runtime import Runtime
from outrider.domain.contacts import read as contacts
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.views import ContactView
from outrider.domain.messages import quotes, trials
from outrider.domain.messages.quotes import PricedPreview
from outrider.domain.senders import senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.templates import contents, preview, templates, versions
from outrider.domain.templates.templates import NEWEST, VersionView
from outrider.domain.templates.versions import Difference
from outrider.interfaces.api.v1.messages import tell_ready
from outrider.interfaces.api.v1.templates import version_of
from outrider.interfaces.auth import Principal, needs

Version = Annotated[int, msgspec.Meta(ge=1, le=NEWEST)]
AskedVersion = Annotated[int | None, QueryParameter(ge=1, le=NEWEST, description="The latest by default.")]
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src https: data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'self'; sandbox"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}


class PreviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """For whom: a contact, or variables of one's own on top of it; bulk messages have a link to unsubscribe."""

    version: Version | None = None
    contact_id: UUID | None = None
    sender_id: UUID | None = None
    variables: dict[str, Any] = {}
    is_bulk: bool = True


class LinksIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which version, the latest by default. `dial` asks each link's server, up to 30 s; needs the role operator."""

    version: Version | None = None
    is_bulk: bool = True
    dial: bool = False


class LinksOut(msgspec.Struct):
    """What there is to say about links; `is_ok`: none leads nowhere. `dialled`: what became of each that was tried."""

    is_ok: bool
    notes: list[LinkNote]
    dialled: list[Dialled] = []


class TestIn(msgspec.Struct, forbid_unknown_fields=True):
    """A test send: to the tenant's users or to OUTRIDER_TEST_ADDRESSES."""

    to: Annotated[list[str], msgspec.Meta(min_length=1, max_length=trials.MOST_ADDRESSES)]
    version: Version | None = None
    sender: str | None = None
    contact_id: UUID | None = None
    variables: dict[str, Any] = {}


class TestOut(msgspec.Struct):
    """The messages that were queued, in the order of the addresses."""

    ids: list[UUID]


@post("/templates/{template_id:str}/preview", status_code=200, guards=[needs("operator", "templates:read")])
async def previewed(
    template_id: FromPath[str],
    data: JSONBody[PreviewIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> PricedPreview:
    """Show what a recipient would get and what it would cost: made as the worker makes it, sent to nobody."""
    asked = await _asked(parse_id(template_id, "template_id"), data, principal, runtime)
    made = await preview.rendered(
        asked.channel, asked.content, runtime.renderer, asked.item, asked.version, asked.identity
    )
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await quotes.of_preview(uow, asked.channel.key, made, asked.own_address)


@get(
    "/templates/{template_id:str}/preview",
    guards=[needs("operator", "templates:read")],
    media_type="text/html",  # the word itself: the description shows it as it stands here
)
async def preview_page(
    template_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    contact_id: FromQuery[Annotated[UUID | None, QueryParameter(description="For this contact.")]] = None,
    version: FromQuery[AskedVersion] = None,
) -> Response[str]:
    """Show what a recipient would see, as a page in which nothing can run."""
    wanted = PreviewIn(version=version, contact_id=contact_id)
    asked = await _asked(parse_id(template_id, "template_id"), wanted, principal, runtime)
    shown = await preview.page_of(asked.channel, asked.content, runtime.renderer, asked.item, asked.identity)
    return Response(shown, media_type="text/html", headers=_PAGE_HEADERS)


@post("/templates/{template_id:str}/links", status_code=200, guards=[needs("viewer", "templates:read")])
async def links(
    template_id: FromPath[str],
    data: JSONBody[LinksIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> LinksOut:
    """Look at the links of a version as recipients would follow them; dials nobody unless asked to.

    Raises:  Refused(forbidden, 403): asking servers over the network is more than reading.
    """
    identifier = parse_id(template_id, "template_id")
    if data.dial and not principal.may("operator", "templates:read"):
        raise Refused("forbidden", "trying links needs the role operator", status=403, field="/dial")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        channel, content, _ = await _content(uow, runtime, identifier, data.version)
    notes = channel.review(content, is_bulk=data.is_bulk)
    tried_links = await dial(channel.links(content), runtime.egress) if data.dial else []
    is_good = all(each.severity != "error" for each in notes) and all(each.verdict != "dead" for each in tried_links)
    return LinksOut(is_good, notes, tried_links)


@get("/templates/{template_id:str}/versions/{version:str}/difference", guards=[needs("viewer", "templates:read")])
async def difference(
    template_id: FromPath[str],
    version: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    after: FromQuery[AskedVersion] = None,
) -> Difference:
    """Compare a version with a later one, part by part, as a unified difference."""
    identifier, before = parse_id(template_id, "template_id"), version_of(version)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        old, new = await versions.pair(uow, identifier, before, after)
    return await versions.compared(old, new)


@post(
    "/templates/{template_id:str}/versions/{version:str}/restore",
    status_code=201,
    guards=[needs("operator", "templates:write")],
)
async def version_restored(
    template_id: FromPath[str],
    version: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> VersionView:
    """Make what an earlier version says the latest again, as a new version."""
    identifier, number = parse_id(template_id, "template_id"), version_of(version)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await templates.restore_version(uow, principal.actor, identifier, number)


@post("/templates/{template_id:str}/test", status_code=202, guards=[needs("operator", "messages:write")])
async def tried(
    template_id: FromPath[str],
    data: JSONBody[TestIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> TestOut:
    """Send a version to people of one's own, marked as a test, through the queue like everything else."""
    identifier = parse_id(template_id, "template_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        contact = await contact_of(uow, principal, data.contact_id)
        template = await templates.get(uow, identifier)
        variables = preview.variables_of(contact, "", data.variables, template.channel)
        trial = trials.Trial(identifier, data.version, data.to, data.sender, variables)
        ids = await trials.send(
            uow,
            runtime.channels,
            runtime.renderer,
            principal.actor,
            trial,
            allowed=runtime.settings.test_addresses,
        )
    runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return TestOut(ids)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a preview is made of; `own_address` is the contact's, None without one."""

    channel: Channel
    content: Content
    item: Item
    version: int
    identity: Identity | None
    own_address: str | None


async def _asked(template_id: UUID, wanted: PreviewIn, principal: Principal, runtime: Runtime) -> _Asked:
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        channel, content, version = await _content(uow, runtime, template_id, wanted.version)
        contact = await contact_of(uow, principal, wanted.contact_id)
        sender = await senders.get(uow, wanted.sender_id, field="/sender_id") if wanted.sender_id else None
        identity = await identity_of(uow, sender) if sender else None
    address = preview.address_of(contact, channel.key)
    variables = preview.variables_of(contact, address, wanted.variables, channel.key)
    public_url = (sender.public_url if sender else "") or runtime.settings.public_url
    item = preview.item_for(address, variables, is_bulk=wanted.is_bulk, public_url=public_url)
    return _Asked(channel, content, item, version, identity, preview.own_address(contact, channel.key))


async def contact_of(uow: UnitOfWork, principal: Principal, contact_id: UUID | None) -> ContactView | None:
    """The contact asked for: a template shows whatever it is given, so a key needs the right to read contacts too.

    Raises:  Refused(forbidden, 403; not_found, 404).
    """
    if contact_id is None:
        return None
    if not principal.may("viewer", "contacts:read"):
        raise Refused("forbidden", "for a contact, this key needs the scope contacts:read too", status=403)
    return await contacts.get(uow, contact_id)


async def _content(
    uow: UnitOfWork, runtime: Runtime, template_id: UUID, version: int | None
) -> tuple[Channel, Content, int]:
    template = await templates.get(uow, template_id)
    found = await templates.version_of(uow, template_id, version)
    content = (await contents.load(uow, uow.tenant, [found.content_id]))[found.content_id]
    return channel_of(runtime.channels, template.channel), content, found.version


ROUTES = [previewed, preview_page, links, difference, version_restored, tried]

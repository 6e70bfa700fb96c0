"""Sign-up forms: made and changed here, filled in by people on their public page or by a tenant's own program."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.contacts.consent import check_ip
from outrider.domain.senders import senders
from outrider.domain.signup import forms
from outrider.domain.signup.ask import Filled, ask
from outrider.domain.signup.forms import Form, FormChange, NewForm
from outrider.domain.signup.links import Links, embedded
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Name = Annotated[str, msgspec.Meta(max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
ListIds = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=forms.MOST_LISTS)]


class FormIn(msgspec.Struct, forbid_unknown_fields=True):
    """A form to be made; the lists must be on offer. `sender` sends the confirmations; left out when there is one."""

    name: Name
    title: Name
    consent_text: Text
    list_ids: ListIds
    intro: Text = ""
    purpose: Annotated[str, msgspec.Meta(max_length=40)] = "marketing"
    sender: Name | None = None
    asks_name: bool = False


class FormChangeIn(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays. `is_open` false: nobody can sign up for now."""

    name: Name | None = None
    title: Name | None = None
    consent_text: Text | None = None
    list_ids: ListIds | None = None
    intro: Text | None = None
    purpose: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    sender: Name | None = None
    asks_name: bool | None = None
    is_open: bool | None = None


class FormView(Form, frozen=True, kw_only=True):
    """A form with the address of its page, and its plain HTML for a page elsewhere."""

    url: str
    html: str


class SignupIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a visitor filled in on a page of the tenant's own. `agreed`: they ticked the form's `consent_text`."""

    address: Annotated[str, msgspec.Meta(max_length=500)]
    agreed: Literal[True]
    name: Name = ""
    list_ids: Annotated[list[UUID], msgspec.Meta(max_length=forms.MOST_LISTS)] = []
    ip: Annotated[str, msgspec.Meta(max_length=45)] | None = None
    """The visitor's own address, for the proof."""


class Accepted(msgspec.Struct):
    """The same for every address: whether a mail goes is the addressee's business alone."""

    status: Literal["accepted"] = "accepted"


@post("/forms", status_code=201, guards=[needs("operator", "contacts:write")])
async def create(
    data: JSONBody[FormIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> FormView:
    """Make a form, open at once. Whoever fills it in is mailed a link, and is on no list before they confirm."""
    new = NewForm(**msgspec.structs.asdict(data))
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await _view(uow, runtime, await forms.create(uow, principal.actor, new))


@get("/forms", guards=[needs("viewer", "contacts:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[FormView]:
    """List the forms in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await forms.listed(uow, limit=limit, after=after[0] if after else None)
        bases = await _bases(uow, runtime, found)
    items = [_shown(runtime, principal.tenant_id, each, bases[each.sender_id]) for each in found]
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/forms/{form_id:str}", guards=[needs("viewer", "contacts:read")])
async def shown(
    form_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> FormView:
    """Show one form with its address, its HTML, and how many signed up."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await _view(uow, runtime, await forms.get(uow, parse_id(form_id, "form_id")))


@patch("/forms/{form_id:str}", guards=[needs("operator", "contacts:write")])
async def changed(
    form_id: FromPath[str],
    data: JSONBody[FormChangeIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> FormView:
    """Change a form; its version rises when people see something else, and stands in the proof of each consent."""
    change = FormChange(**msgspec.structs.asdict(data))
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await _view(uow, runtime, await forms.update(uow, principal.actor, parse_id(form_id, "form_id"), change))


@delete("/forms/{form_id:str}", status_code=204, guards=[needs("operator", "contacts:write")])
async def deleted(
    form_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Delete a form and what waits for a confirmation of it; consent given by it stays."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        await forms.delete(uow, principal.actor, parse_id(form_id, "form_id"))


@post("/forms/{form_id:str}/signups", status_code=202, guards=[needs("support", "contacts:write")])
async def signed_up(
    form_id: FromPath[str],
    data: JSONBody[SignupIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Accepted:
    """Take what a visitor filled in on a page of the tenant's own; its addressee is asked for a confirmation."""
    tenant_id, links = principal.tenant_id, Links(runtime.keyring)
    filled = Filled(data.address, data.name, data.list_ids, check_ip(data.ip), "api")
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        form = await forms.get(uow, parse_id(form_id, "form_id"))
        await ask(
            uow, runtime.channels, runtime.renderer, runtime.settings, form, filled,
            lambda signup_id: links.path("confirm", tenant_id, signup_id),
        )  # fmt: skip
    return Accepted()


async def _view(uow: UnitOfWork, runtime: Runtime, form: Form) -> FormView:
    bases = await _bases(uow, runtime, [form])
    return _shown(runtime, uow.tenant, form, bases[form.sender_id])


async def _bases(uow: UnitOfWork, runtime: Runtime, found: list[Form]) -> dict[UUID, str]:
    """Below which address the pages of each sender are."""
    own: dict[UUID, str] = {}
    for sender_id in {each.sender_id for each in found}:
        own[sender_id] = (await senders.get(uow, sender_id)).public_url or runtime.settings.public_url
    return own


def _shown(runtime: Runtime, tenant_id: UUID, form: Form, base: str) -> FormView:
    url = f"{base}{Links(runtime.keyring).path('form', tenant_id, form.id)}"
    values: dict[str, Any] = {name: getattr(form, name) for name in Form.__struct_fields__}
    return FormView(**values, url=url, html=embedded(form, url))


ROUTES = [create, listed, shown, changed, deleted, signed_up]

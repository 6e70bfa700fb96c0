"""The preference centre behind a message's link: `/p/{token}`, each list on or off, or everything off.

Owns the page. Looking changes nothing, saving may be repeated. No sign-in, no script, no personal data in the address.
"""

from __future__ import annotations

from html import escape
from typing import Any
from uuid import UUID

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns.unsubscribe import mask
from outrider.domain.contacts.offers import Choice
from outrider.domain.signup import preferences
from outrider.domain.signup.preferences import Chosen, Preferences
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import Look
from outrider.interfaces.api import visits
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.pages import notice, page

_TITLE = "What you get by email"


@visits.looked_at("/p/{token:str}")
async def shown(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show what is on and what is off; changes nothing."""
    place = visits.place(token, "preferences", request, runtime)
    if place is None:
        return _unknown()
    tenant_id, message_id = place
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        found = await preferences.look(uow, message_id)
        look = await looks.of(uow)
    return _unknown() if found is None else _page(found, look, "")


@visits.pressed("/p/{token:str}")
async def saved(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Do what was chosen; pressing twice changes nothing more."""
    place = visits.place(token, "preferences", request, runtime)
    given = await visits.fields(request)
    if place is None:
        return _unknown()
    action = visits.first(given, "do")
    if action not in {"save", "leave"}:
        return notice(400, "Nothing was changed", "Please open the link again and press a button.")
    return await _done(runtime, *place, given, is_leaving=action == "leave", ip=exchange_of(request).client_ip)


async def _done(
    runtime: Runtime, tenant_id: UUID, message_id: UUID, given: visits.Fields, *, is_leaving: bool, ip: str
) -> Response[str]:
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        look = await looks.of(uow)
        if is_leaving:
            found = await preferences.leave(uow, message_id, ip=ip)
            told = _told("You are unsubscribed from everything.")
        else:
            wanted, shown_ids = visits.ids(given, "list"), visits.ids(given, "shown")
            came = await preferences.choose(uow, runtime.channels, message_id, shown=shown_ids, wanted=wanted, ip=ip)
            found, chosen = (None, None) if came is None else came
            told = "" if chosen is None else _summary(chosen)
    return _unknown() if found is None else _page(found, look, told)


def _page(found: Preferences, look: Look, told: str) -> Response[str]:
    tenant, address = f"<bdi>{escape(look.name)}</bdi>", f"<bdi>{escape(mask(found.subject.address))}</bdi>"
    if found.standing == "blocked":
        body = (
            f"<p>{tenant} does not write to {address}. That cannot be changed here; if it is a mistake, ask {tenant}"
            " directly.</p>"
        )
    elif found.choices:
        ticks = "".join(_tick(each) for each in found.choices)
        hidden = "".join(f'<input type="hidden" name="shown" value="{each.list_id}">' for each in found.choices)
        body = (
            f"<p>{tenant} may send to {address}:</p>"
            f'<form method="post"><fieldset><legend>Tick what you want to get</legend>{ticks}</fieldset>{hidden}'
            '<button name="do" value="save">Save</button></form>'
        )
    else:
        body = f"<p>{tenant} offers nothing to choose from at the moment. This link is about {address}.</p>"
    leave = ""
    if found.standing == "free":
        leave = (
            '<form method="post"><button class="quiet" name="do" value="leave">Unsubscribe from everything</button>'
            '</form><p class="note">Messages about your orders or your account are not concerned.</p>'
        )
    elif found.standing == "left":
        what = "; tick what you want to get again" if found.choices else ""
        leave = f'<p class="note">You are unsubscribed from everything{what}.</p>'
    return page(200, _TITLE, f"{told}<h1>{_TITLE}</h1>{body}{leave}", look=look)


def _tick(choice: Choice) -> str:
    more = f"<small>{escape(choice.description)}</small>" if choice.description else ""
    on = " checked" if choice.is_on else ""
    return (
        f'<label class="tick"><input type="checkbox" name="list" value="{choice.list_id}"{on}>'
        f"<span><bdi>{escape(choice.title)}</bdi>{more}</span></label>"
    )


def _summary(chosen: Chosen) -> str:
    if chosen.is_blocked:
        return _told("Nothing can be turned on for this address.")
    if chosen.turned_on or chosen.turned_off:
        return _told("Saved.")
    return _told("Saved: nothing was different.")


def _told(text: str) -> str:
    return f'<p class="told" role="status">{text}</p>'


def _unknown() -> Response[str]:
    return notice(
        404,
        "This link does not work",
        "It is incomplete or too old. Open it again from the message, or use the unsubscribe link there.",
    )


ROUTES = [shown, saved]

"""Sign-up forms for the public, `/s/{token}`: filling one in sends its addressee a link, whatever is known of them.

Owns the form's page and its two traps for programs: a field that people do not see, and a moment in which nobody has
read the page yet. No script, no cookie; what a page elsewhere posts is asked once more here. The answer is the same
for every address, and takes the same time.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass
from html import escape
from typing import Any, Final
from uuid import UUID

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.signup import forms
from outrider.domain.signup.ask import Filled, ask
from outrider.domain.signup.forms import Form
from outrider.domain.signup.links import HONEYPOT, Links
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import Look
from outrider.interfaces.api import visits
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.pages import notice, page
from outrider.interfaces.api.visits import Fields, first

SOONEST_S: Final = 2.0
"""Sooner than this after the page was made nobody has filled it in."""

_LATEST_S: Final = 43_200.0
_ANSWER_AFTER_S: Final = 0.35
"""No answer comes sooner: how long it takes must not tell what is known of an address."""

_LONGEST_FIELD: Final = 500
_FIELDS_SAID: Final = {"/address": "Email", "/name": "Name", "/list_ids": "Lists"}
_NOT_FOUND, _WRONG = 404, 422


@dataclass(frozen=True, slots=True)
class _Shown:
    """A form on its page, with what was typed before."""

    form: Form
    look: Look
    token: str
    typed: Fields


@visits.looked_at("/s/{token:str}")
async def shown(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show the form; changes nothing."""
    place = visits.place(token, "form", request, runtime)
    if place is None:
        return _unknown()
    async with runtime.db.uow(Role.APP, place[0]) as uow:
        form, look = await _form(uow, place[1]), await looks.of(uow)
    if form is None:
        return _unknown()
    return _page(_Shown(form, look, stamp(runtime, form.id, time.time()), {}))


@visits.pressed("/s/{token:str}")
async def filled(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Take what was filled in; says the same whoever it is about."""
    begun_s = time.monotonic()
    place = visits.place(token, "form", request, runtime)
    given = await visits.fields(request)
    if place is None:
        return _unknown()
    answer = await _taken(runtime, *place, given, request)
    await asyncio.sleep(max(0.0, begun_s + _ANSWER_AFTER_S - time.monotonic()))
    return answer


async def _taken(
    runtime: Runtime, tenant_id: UUID, form_id: UUID, given: Fields, request: Request[Any, Any, Any]
) -> Response[str]:
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        form, look = await _form(uow, form_id), await looks.of(uow)
    if form is None:
        return _unknown()
    fresh = _Shown(form, look, stamp(runtime, form_id, time.time()), given)
    if not form.takes_people:
        return _page(fresh)
    if first(given, HONEYPOT):
        return _thanks(look, given)
    if not is_timely(runtime, form_id, first(given, "t"), time.time()):
        return _page(fresh, told="One more step: look at what you filled in and press the button.")
    if first(given, "agree") != "yes":
        return _page(fresh, _WRONG, told="Please tick that you agree.")
    visits.slow_down(visits.rates_of(request).signups, request)
    what = Filled(
        first(given, "address")[:_LONGEST_FIELD],
        first(given, "name")[:_LONGEST_FIELD],
        sorted(visits.ids(given, "list")),
        exchange_of(request).client_ip,
        "page",
    )
    links = Links(runtime.keyring)
    try:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await ask(
                uow, runtime.channels, runtime.renderer, runtime.settings, form, what,
                lambda signup_id: links.path("confirm", tenant_id, signup_id),
            )  # fmt: skip
    except Refused as error:
        said = _FIELDS_SAID.get(f"/{(error.field or '').split('/')[1:2][0]}" if error.field else "")
        if said is None:
            raise
        return _page(fresh, _WRONG, told=f"{said}: {error.message}")
    return _thanks(look, given)


def stamp(runtime: Runtime, form_id: UUID, now_s: float) -> str:
    """When a page was made, signed for its form."""
    moment = str(int(now_s * 1000))
    return f"{moment}.{_mac(runtime, form_id, moment)}"


def is_timely(runtime: Runtime, form_id: UUID, text: str, now_s: float) -> bool:
    """Whether a form was posted from a page of ours, neither at once nor days later."""
    moment, _, mac = text.partition(".")
    if not (moment.isascii() and moment.isdigit() and mac.isascii()):
        return False
    if not hmac.compare_digest(_mac(runtime, form_id, moment), mac):
        return False
    return SOONEST_S <= now_s - int(moment) / 1000 <= _LATEST_S


def _mac(runtime: Runtime, form_id: UUID, moment: str) -> str:
    key = runtime.keyring.derive("signup-time")
    return hmac.digest(key, form_id.bytes + moment.encode(), "sha256")[:16].hex()


async def _form(uow: UnitOfWork, form_id: UUID) -> Form | None:
    try:
        return await forms.get(uow, form_id)
    except Refused as error:
        if error.http_status == _NOT_FOUND:
            return None
        raise


def _page(what: _Shown, status: int = 200, told: str = "") -> Response[str]:
    form, tenant = what.form, f"<bdi>{escape(what.look.name)}</bdi>"
    title = f"<h1>{escape(form.title)}</h1>"
    if not form.takes_people:
        note = "<p>Nobody can sign up here at the moment.</p>"
        return page(_NOT_FOUND, form.title, f"{title}{note}", look=what.look)
    intro = f'<p class="text">{escape(form.intro)}</p>' if form.intro else ""
    notice = f'<p class="told" role="alert">{escape(told)}</p>' if told else ""
    agreed = " checked" if first(what.typed, "agree") == "yes" else ""
    name = ""
    if form.asks_name:
        name = (
            '<label>Name (if you like) <input type="text" name="name" maxlength="200" autocomplete="name"'
            f' value="{_typed(what, "name")}"></label>'
        )
    return page(
        status,
        form.title,
        f"{notice}{title}{intro}"
        f'<form method="post"><label>Email <input type="email" name="address" required maxlength="320"'
        f' autocomplete="email" value="{_typed(what, "address")}"></label>{name}{_lists(what)}'
        f'<label class="tick plain"><input type="checkbox" name="agree" value="yes" required{agreed}>'
        f'<span class="text">{escape(form.consent_text)}</span></label>'
        f'<div class="aside" aria-hidden="true"><label>Leave this empty <input type="text" name="{HONEYPOT}"'
        f' tabindex="-1" autocomplete="off"></label></div><input type="hidden" name="t" value="{what.token}">'
        "<button>Sign up</button></form>"
        f'<p class="note">You get a mail with a link first; {tenant} sends nothing else before you press the button'
        " behind it.</p>",
        look=what.look,
    )


def _lists(what: _Shown) -> str:
    """What can be chosen; a form with one list has nothing to choose, but says what it is."""
    if len(what.form.lists) == 1:
        (only,) = what.form.lists
        more = f"<br>{escape(only.description)}" if only.description else ""
        return f'<p class="note"><b>{escape(only.title)}</b>{more}</p>'
    ticked = visits.ids(what.typed, "list")
    rows = []
    for each in what.form.lists:
        more = f"<small>{escape(each.description)}</small>" if each.description else ""
        on = " checked" if each.list_id in ticked else ""
        rows.append(
            f'<label class="tick"><input type="checkbox" name="list" value="{each.list_id}"{on}>'
            f"<span><bdi>{escape(each.title)}</bdi>{more}</span></label>"
        )
    return f"<fieldset><legend>What do you want to get?</legend>{''.join(rows)}</fieldset>"


def _typed(what: _Shown, name: str) -> str:
    return escape(first(what.typed, name)[:_LONGEST_FIELD])


def _thanks(look: Look, given: Fields) -> Response[str]:
    title = "Look into your mailbox"
    address = f"<bdi>{escape(first(given, 'address')[:_LONGEST_FIELD])}</bdi>"
    return page(
        200,
        title,
        f"<h1>{title}</h1><p>If <bdi>{escape(look.name)}</bdi> may write to {address}, a mail with a link is on its way"
        " there. Open the link and press the button: only then you are signed up.</p>"
        '<p class="note">Nothing came within ten minutes? Look among the unwanted mail, see whether the address is'
        " right, and sign up once more.</p>",
        look=look,
    )


def _unknown() -> Response[str]:
    return notice(_NOT_FOUND, "There is no form here", "The address is incomplete, or the form was taken away.")


ROUTES = [shown, filled]

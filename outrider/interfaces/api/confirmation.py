"""Confirming a sign-up, `/c/{token}`: a page with a button behind the link in the mail.

Owns the page. Looking changes nothing, so that mail scanners confirm nobody; pressing the button does, once.
"""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns.unsubscribe import mask
from outrider.domain.signup import confirm
from outrider.domain.signup.confirm import Pending
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import Look
from outrider.interfaces.api import visits
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.pages import notice, page

_BUTTON = (
    '<form method="post"><input type="hidden" name="seen" value="{}">'
    '<button name="do" value="confirm">Yes, sign me up</button></form>'
)
_CHANGED = (
    '<p class="told" role="alert">The form was filled in once more since you opened this page: look at what you would'
    " get, then press the button.</p>"
)


@visits.looked_at("/c/{token:str}")
async def shown(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Show what would be confirmed; changes nothing."""
    place = visits.place(token, "confirm", request, runtime)
    if place is None:
        return _unknown()
    async with runtime.db.uow(Role.APP, place[0]) as uow:
        pending, look = await confirm.look(uow, place[1]), await looks.of(uow)
    return _unknown() if pending is None else _page(pending, look)


@visits.pressed("/c/{token:str}")
async def done(
    token: FromPath[str], request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Confirm; pressing twice confirms once."""
    place = visits.place(token, "confirm", request, runtime)
    given = await visits.fields(request)
    if place is None:
        return _unknown()
    if visits.first(given, "do") != "confirm":
        return notice(400, "Not yet", "Open the link in the mail again and press the button.")
    ip = exchange_of(request).client_ip
    async with runtime.db.uow(Role.ENGINE, place[0]) as uow:
        seen = visits.first(given, "seen")
        pending = await confirm.confirm(uow, runtime.channels, place[1], seen=seen, ip=ip)
        look = await looks.of(uow)
    if pending is None:
        return _unknown()
    return _page(pending, look, _CHANGED if pending.state == "waiting" else "")


def _page(pending: Pending, look: Look, told: str = "") -> Response[str]:
    tenant, address = f"<bdi>{escape(look.name)}</bdi>", f"<bdi>{escape(mask(pending.address))}</bdi>"
    rows = "".join(f"<li><bdi>{escape(each)}</bdi></li>" for each in pending.lists)
    lists = f'<ul class="ticked">{rows}</ul>'
    match pending.state:
        case "waiting":
            title = "Sign up?"
            body = (
                f"<p>{tenant} may send this to {address}:</p>{lists}"
                f'<p class="note text">{escape(pending.text_shown)}</p>{_BUTTON.format(pending.mark)}'
                '<p class="note">Was it not you? Close this page: you will get nothing more because of this.</p>'
            )
        case "confirmed":
            title = "Confirmed"
            body = (
                f"<p>You confirmed that {tenant} may send this to {address}:</p>{lists}"
                '<p class="note">Every message has a link to unsubscribe. You can close this page.</p>'
            )
        case "refused":
            title = "This did not work"
            body = (
                f"<p>{tenant} does not write to {address}, and this link cannot change that. If it is a mistake, ask"
                f" {tenant} directly.</p>"
            )
        case "expired":
            title = "This link is too old"
            body = f"<p>Nothing was changed. Fill the form of {tenant} in once more to get a new one.</p>"
    return page(200, title, f"{told}<h1>{title}</h1>{body}", look=look)


def _unknown() -> Response[str]:
    return notice(
        404,
        "This link does not work",
        "It is incomplete or too old. Open it again from the mail, or fill the form in once more.",
    )


ROUTES = [shown, done]

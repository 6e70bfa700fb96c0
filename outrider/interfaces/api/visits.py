"""What the public pages share: their routes, reading the token in their address, how often one may come, small forms.

Owns the rates of those pages, per process, and the page that takes the place of one that went wrong. Whoever guesses is
slowed down at once, whoever has a genuine address hardly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from litestar import HttpMethod, Request, Response, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import AnyCallable as AnyHandler

from outrider.base.errors import Refused
from outrider.data.runtime import Runtime
from outrider.domain.signup.links import Kind, Links
from outrider.interfaces.api import problems
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.pages import page
from outrider.interfaces.api.parts import parts_of
from outrider.interfaces.auth import PUBLIC

FORM_TYPE: Final = ("application/x-www-form-urlencoded",)
_MOST_BODY_BYTES = 20_000
_MOST_FIELDS = 500
_TOO_MANY, _SERVER_ERROR = 429, 500
FORMS: Final = "/s/"
"""How the addresses of sign-up forms begin: who is there has no message to open again."""

Fields = Mapping[str, Sequence[str]]


def looked_at(path: str) -> Callable[[AnyHandler], HTTPRouteHandler]:
    """A page that is looked at: GET and HEAD, by anybody; errors are pages. Looking changes nothing."""
    return route(
        path,
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        opt={"auth": PUBLIC},
        include_in_schema=False,
        exception_handlers={Exception: sorry},
    )


def pressed(path: str, *, takes: Sequence[str] = FORM_TYPE) -> Callable[[AnyHandler], HTTPRouteHandler]:
    """A button of such a page: POST of a form of the types given, by anybody; errors are pages."""
    return post(
        path,
        status_code=200,
        opt={"content_types": tuple(takes), "auth": PUBLIC},
        include_in_schema=False,
        exception_handlers={Exception: sorry},
    )


def sorry(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Answer any error as a page: who clicked is a person, and a mail program looks at the status alone."""
    answer = problems.answer(request, error)
    status = answer.status_code or _SERVER_ERROR
    is_form = request.url.path.startswith(FORMS)
    again = "open this page again" if is_form else "open the link in the message again"
    if status == _TOO_MANY:
        title, text = "Too many tries", f"Please wait a minute, then {again}."
    elif status >= _SERVER_ERROR:
        title = "This did not work just now"
        text = "Please try again in a few minutes. Pressing the button twice does no harm."
    else:
        title, text = "This did not work", f"Please {again} and press the button."
    number = escape(exchange_of(request).request_id)
    ask = "tell whoever gave you this address" if is_form else "answer the message and mention"
    note = f'<p class="note">If it happens again, {ask} this number: {number}</p>'
    return page(status, title, f"<h1>{title}</h1><p>{text}</p>{note}", answer.headers)


class Rates:
    """How often one address may come, per process.

    guesses   tokens that are none; looks   genuine ones; posts   what changes something; signups   filling a form in
    """

    def __init__(self) -> None:
        self.guesses = Buckets(1.0, 20.0)
        self.looks = Buckets(20.0, 200.0)
        self.posts = Buckets(5.0, 60.0)
        self.signups = Buckets(0.1, 10.0)


def rates_of(request: Request[Any, Any, Any]) -> Rates:
    """Those of this process, made at their first use."""
    return parts_of(request).once(Rates)


def place(token: str, kind: Kind, request: Request[Any, Any, Any], runtime: Runtime) -> tuple[UUID, UUID] | None:
    """Tenant and subject of a token of ours; None for any other.

    Raises:  Refused(rate_limited, 429).
    """
    found = Links(runtime.keyring).read(kind, token)
    rates = rates_of(request)
    if found is None:
        slow_down(rates.guesses, request)
    else:
        slow_down(rates.looks if request.method in {"GET", "HEAD"} else rates.posts, request)
    return found


def slow_down(buckets: Buckets, request: Request[Any, Any, Any]) -> None:
    """Count a visit. Raises Refused(rate_limited, 429)."""
    wait_s = buckets.take(source_of(exchange_of(request).client_ip))
    if wait_s:
        raise Refused("rate_limited", "too many requests", status=429, retry_after_s=math.ceil(wait_s))


async def body(request: Request[Any, Any, Any], most_bytes: int) -> bytes:
    """What was posted. Raises Refused(too_large, 413)."""
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > most_bytes:
            raise Refused("too_large", f"a form may have {most_bytes} bytes", status=413)
    return found


async def fields(request: Request[Any, Any, Any]) -> Fields:
    """The fields of a form, each with its values in order.

    Raises:  Refused(too_large, 413; malformed_form, nul_character, 400).
    """
    text = await body(request, _MOST_BODY_BYTES)
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:  # not ASCII, not UTF-8 inside, too many fields
        raise Refused("malformed_form", "the form cannot be read", status=400) from None
    for name, value in pairs:
        if "\0" in value:
            raise Refused("nul_character", "text must not contain NUL", status=400)
        found.setdefault(name, []).append(value)
    return found


def first(given: Fields, name: str) -> str:
    """The first value of a field, empty without one."""
    return next(iter(given.get(name, ())), "")


def ids(given: Fields, name: str) -> set[UUID]:
    """The values of a field as ids; what is none is passed over."""
    found = set()
    for text in given.get(name, ()):
        try:
            found.add(UUID(text))
        except ValueError:
            continue
    return found

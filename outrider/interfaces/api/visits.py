"""What the public pages share: reading the token in their address, how often one may come, and their small forms.

Owns the rates of those pages, per process. Whoever guesses is slowed down at once, whoever has a genuine address
hardly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from litestar import Request

from outrider.base.errors import Refused
from outrider.data.runtime import Runtime
from outrider.domain.signup.links import Kind, Links
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets, source_of

FORM_TYPE: Final = ("application/x-www-form-urlencoded",)
_MOST_BODY_BYTES = 20_000
_MOST_FIELDS = 500
_RATES = "visit_rates"
Fields = Mapping[str, Sequence[str]]


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
    found: Rates | None = request.app.state.get(_RATES)
    if found is None:
        found = request.app.state[_RATES] = Rates()
    return found


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


async def fields(request: Request[Any, Any, Any]) -> Fields:
    """The fields of a form, each with its values in order.

    Raises:  Refused(too_large, 413; malformed_form, nul_character, 400).
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise Refused("too_large", f"a form may have {_MOST_BODY_BYTES} bytes", status=413)
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
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

"""What is known of one HTTP exchange before and beside its handler: request id, caller's address, outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from litestar.connection import ASGIConnection

from outrider.base.errors import Broken

KEY = "outrider_exchange"


@dataclass(slots=True)
class Exchange:
    """One request and what became of it.

    `client_ip` is the peer's address, or what a trusted proxy says; `scheme` and `host` as the browser used them.
    `code` is the problem's code when the answer is one; `who` names the caller in the access log. `is_unlogged`: not
    in the access log unless it failed, because it would tell who read what from where. `is_told_elsewhere`: not in it
    at all, because what is kept of it says more.
    """

    request_id: str
    client_ip: str
    scheme: str
    host: str
    method: str
    started_s: float
    status: int = 0
    code: str = ""
    who: str = ""
    has_unread_body: bool = False
    is_unlogged: bool = False
    is_told_elsewhere: bool = False
    rate_headers: tuple[tuple[bytes, bytes], ...] = ()


def exchange_in(scope: Mapping[str, Any]) -> Exchange:
    """The exchange of an ASGI scope. Raises Broken outside the application's door."""
    found = scope.get("state", {}).get(KEY)
    if found is None:
        raise Broken("no_exchange", "the request did not come through the door")
    return cast("Exchange", found)


def exchange_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Exchange:
    """The exchange of a request."""
    return exchange_in(cast("Mapping[str, Any]", connection.scope))

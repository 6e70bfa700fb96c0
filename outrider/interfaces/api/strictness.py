"""What every route refuses before its handler runs: no sign-in, unknown or doubled parameters, other content types.

The guard is a coroutine although it waits for nothing: the framework runs plain functions in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from outrider.base.errors import Refused
from outrider.interfaces.api.schemas import without_none
from outrider.interfaces.auth import PUBLIC, principal_of

_SAFE = {"GET", "HEAD", "OPTIONS"}
_MOST_PARAMETERS = 50
_LONGEST_QUERY = 8192
JSON = ("application/json",)

Connection = ASGIConnection[Any, Any, Any, Any]


def is_public(handler: BaseRouteHandler) -> bool:
    """Whether a route says that it needs no sign-in."""
    return handler.opt.get("auth") == PUBLIC


async def strict(connection: Connection, handler: BaseRouteHandler) -> None:
    """The guard of every route: one, because the framework copies the route for each guard of each request."""
    _declared_access(connection, handler)
    _declared_content_type(connection, handler)
    _known_parameters(connection)


def _declared_access(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse whoever is not signed in, unless the route is public."""
    if connection.scope.get("method") != "OPTIONS" and not is_public(handler):
        principal_of(connection)


def _known_parameters(connection: Connection) -> None:
    """Refuse query parameters the route does not name, and those given twice that are no lists (ASVS V15.3.7)."""
    raw: bytes = connection.scope.get("query_string", b"")
    if not raw or connection.scope.get("method") == "OPTIONS":
        return
    if len(raw) > _LONGEST_QUERY:
        raise Refused("query_too_long", f"must have at most {_LONGEST_QUERY} bytes", field="?")
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
    if len(pairs) > _MOST_PARAMETERS:
        raise Refused("too_many_parameters", f"at most {_MOST_PARAMETERS} query parameters")
    names = _names(connection.app)[connection.route_handler]
    seen: set[str] = set()
    for name, value in pairs:
        shown = name[:100]
        if name not in names.known:
            raise Refused("unknown_parameter", f"there is no parameter {shown!r} here", field=f"?{shown}")
        if name in seen and name not in names.lists:
            raise Refused("repeated_parameter", f"{shown} is given more than once", field=f"?{shown}")
        if "\0" in value:
            raise Refused("nul_character", "text must not contain NUL", field=f"?{shown}")
        if name in names.moments and ":" not in value:
            # the framework would take a number for seconds since 1970
            raise Refused("invalid_parameter", "must be a moment like 2026-11-20T09:00:00Z", field=f"?{shown}")
        if name in names.optional and value.lower() == "null":
            # the framework reads it as absent: who looks for one thing must not be shown everything
            raise Refused("invalid_parameter", "must not be null; leave it out", field=f"?{shown}")
        seen.add(name)


def _declared_content_type(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse bodies of other types than the route's: JSON unless `opt={"content_types": (…)}` says otherwise.

    Without a body no type is asked for where a route takes none, or `opt={"body_is_optional": True}`.

    A form of another site cannot send JSON without asking first, which closes that path to a session's cookie.
    """
    method = connection.scope.get("method", "")
    if method in _SAFE:
        return
    headers: Mapping[str, str] = connection.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not has_body and (handler.opt.get("body_is_optional") or not _takes_body(handler)):
        return
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    allowed: tuple[str, ...] = handler.opt.get("content_types", JSON)
    if given not in allowed:
        raise Refused("unsupported_media_type", f"the body must be {' or '.join(allowed)}", status=415)


def _takes_body(handler: BaseRouteHandler) -> bool:
    return not handler.parsed_fn_signature.parameters.keys().isdisjoint({"data", "body"})


@dataclass(frozen=True, slots=True)
class _Names:
    """Query parameters of a route.

    known all of them; lists may be repeated; optional may be absent without a default; moments are points in time
    """

    known: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()


def _names(app: Litestar) -> dict[BaseRouteHandler, _Names]:
    """The query parameters of each route; worked out once."""
    found: dict[BaseRouteHandler, _Names] | None = app.state.get("query_names")
    if found is None:
        found = {}
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler, model in route.route_handler_map.values():
                    before = found.get(handler, _Names())
                    fields = handler.parsed_fn_signature.parameters
                    expected = model.expected_query_params
                    optional = {one.field_alias for one in expected if fields[one.field_name].is_optional}
                    kinds = {one.field_alias: without_none(fields[one.field_name].annotation) for one in expected}
                    moments = {name for name, kind in kinds.items() if kind is datetime}
                    found[handler] = _Names(
                        before.known | {one.field_alias for one in expected},
                        before.lists | set(model.sequence_query_parameter_names),
                        before.optional | optional,
                        before.moments | moments,
                    )
        app.state["query_names"] = found
    return found

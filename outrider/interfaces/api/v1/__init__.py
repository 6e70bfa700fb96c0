"""The versioned API: one file per noun, each exposing `ROUTES` with paths below /api/v1; found by their names.

A handler names where each argument comes from (Litestar's implicit style is a warning, and warnings are errors here):

    from litestar.di import NamedDependency
    from litestar.params import FromPath, FromQuery, JSONBody

    @post("/lists", guards=[needs("support", "contacts:write")], status_code=201)
    async def create(data: JSONBody[NewList], principal: NamedDependency[Principal], runtime: ...) -> ListOut:

Every route has either a guard of `needs` or `opt={"auth": PUBLIC}`; without both it answers 401. Bodies are JSON unless
`opt={"content_types": ("text/csv",)}` says otherwise. Query parameters that no argument names are refused.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from litestar.types import ControllerRouterHandler

from outrider.base.errors import Misconfigured


def routes() -> list[ControllerRouterHandler]:
    """Every handler of every noun, in order of file names.

    Raises:  Misconfigured(routes_missing) for a file without `ROUTES`.
    """
    found: list[ControllerRouterHandler] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        handlers = getattr(import_module(f"{__name__}.{module.name}"), "ROUTES", None)
        if not isinstance(handlers, (list, tuple)):
            raise Misconfigured("routes_missing", f"{__name__}.{module.name} must define ROUTES, a list of handlers")
        found.extend(handlers)
    return found

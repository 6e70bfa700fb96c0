"""The API application: every route behind one door.

Owns putting the parts together; knows no noun. `create_app` gives the application, `server.serve` runs it.
"""

from __future__ import annotations

import asyncio
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from litestar import Litestar, Request, Response, Router, get
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import InitPlugin
from litestar.types import ControllerRouterHandler, LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send
from litestar.types.internal_types import PathParameterDefinition

from outrider.data.runtime import Runtime
from outrider.interfaces import api
from outrider.interfaces.api import import_runner, problems, server, v1
from outrider.interfaces.api.bodies import ApiRequest
from outrider.interfaces.api.browsers import cookie_name
from outrider.interfaces.api.figures import HttpFigures
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.middleware.door import Door
from outrider.interfaces.api.middleware.entry import Authenticator, Entry
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.api.strictness import strict
from outrider.interfaces.api.totals import MessageTotals
from outrider.interfaces.auth import PUBLIC, Principal, principal_of

API_VERSION = "1"
_LOGIN_PER_S, _LOGIN_BURST = 1.0, 100.0
"""Sign-ins per source address: spraying one password over many accounts stays slow (per account there is a lock)."""

_BUILT_IN_SITE = "/schema"


class Application(Litestar):
    """Litestar behind the door, through which everything passes, unknown paths included."""

    door: Door | None = None

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        """Serve one connection."""
        if scope["type"] == ScopeType.HTTP and self.door is not None:
            await self.door(super().__call__, scope, receive, send)  # type: ignore[arg-type]  # an HTTP scope's pair
        else:
            await super().__call__(scope, receive, send)


def create_app(runtime: Runtime) -> Litestar:
    """Make the application of one process.

    Raises:  Misconfigured when a file of v1 has no routes.
    """
    settings = runtime.settings
    authenticator = Authenticator(runtime)
    figures = HttpFigures(settings.app_label)
    snapshots, totals = Snapshots(runtime), MessageTotals(runtime.db)
    rate = Buckets(settings.api_rate_per_s, settings.api_rate_per_s * 2)
    login_rate = Buckets(_LOGIN_PER_S, _LOGIN_BURST)
    app = Application(
        route_handlers=[Router("/api/v1", route_handlers=v1.routes()), *_other_routes(), openapi_json],
        request_class=ApiRequest,
        dependencies={
            "runtime": Provide(lambda: runtime, sync_to_thread=False),
            "authenticator": Provide(lambda: authenticator, sync_to_thread=False),
            "figures": Provide(lambda: figures, sync_to_thread=False),
            "snapshots": Provide(lambda: snapshots, sync_to_thread=False),
            "totals": Provide(lambda: totals, sync_to_thread=False),
            "login_rate": Provide(lambda: login_rate, sync_to_thread=False),
            "principal": Provide(_principal, sync_to_thread=False),
        },
        middleware=[DefineMiddleware(Entry, authenticator=authenticator, rate=rate)],
        guards=[strict],
        exception_handlers={Exception: problems.answer},
        request_max_body_size=None,  # the door counts
        openapi_config=_openapi(runtime),
        on_app_init=[_without_built_in_site],
        lifespan=[import_runner.lifespan(runtime)],
        logging_config=None,
        state=State(),
        debug=False,
    )
    app.door = Door(settings, figures)
    return app


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve the API of this process until `stop` is set, then finish what is under way.

    Takes:   ready: called once with the base URL, for example `http://127.0.0.1:3000`.
    Raises:  Misconfigured(cannot_listen).
    """
    await server.run(create_app(runtime), runtime.settings, ready=ready, stop=stop)


def _other_routes() -> list[ControllerRouterHandler]:
    """The routes outside /api/v1: of every file beside this one that has `ROUTES`."""
    found: list[ControllerRouterHandler] = []
    for module in sorted(pkgutil.iter_modules(api.__path__), key=lambda item: item.name):
        if not module.ispkg:
            found.extend(getattr(import_module(f"{api.__name__}.{module.name}"), "ROUTES", ()))
    return found


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return principal_of(request)


@get("/openapi.json", opt={"auth": PUBLIC}, include_in_schema=False)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Describe every route in OpenAPI 3.1."""
    return Response(request.app.openapi_schema.to_schema(), media_type="application/json")


def _openapi(runtime: Runtime) -> OpenAPIConfig:
    schemes = {
        "key": SecurityScheme(type="http", scheme="bearer", description="An API key, or the token of a sign-in."),
        "session": SecurityScheme(type="apiKey", name=cookie_name(runtime.settings), security_scheme_in="cookie"),
    }
    return OpenAPIConfig(
        title="Outrider",
        version=API_VERSION,
        path=_BUILT_IN_SITE,
        components=Components(security_schemes=schemes),  # type: ignore[arg-type]  # invariant dict of a union
        security=[{"key": []}, {"session": []}],
        operation_id_creator=_operation_id,
        use_handler_docstrings=True,
    )


def _operation_id(_: HTTPRouteHandler, method: str | HttpMethod, path: list[str | PathParameterDefinition]) -> str:
    """`getApiV1UsersByUserId`: unique, because it is the method and the path."""
    steps = [str(getattr(method, "value", method)).lower()]
    for part in path:
        words = part if isinstance(part, str) else f"by_{part.name}"
        steps.extend(word.capitalize() for word in re.split(r"[^A-Za-z0-9]", words) if word)
    return "".join(steps)


class _NoBuiltInSite(InitPlugin):
    """Takes the framework's own documentation pages away: the schema is at /openapi.json alone."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Drop the router the framework has just added."""
        app_config.route_handlers = [
            handler
            for handler in app_config.route_handlers
            if not (isinstance(handler, Router) and handler.path == _BUILT_IN_SITE)
        ]
        return app_config


def _without_built_in_site(app_config: AppConfig) -> AppConfig:
    """Ask last: the framework's own plug-ins come after this."""
    app_config.plugins.append(_NoBuiltInSite())
    return app_config

"""The API application: every route behind one door.

Owns putting the parts together; knows no noun. `create_app` gives the application, `server.serve` runs it.
"""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import Any, cast

from litestar import Litestar, Request, Router
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.middleware import DefineMiddleware
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, ControllerRouterHandler, Message, Receive, Scope, Send

from outrider.data.runtime import Runtime
from outrider.domain.callbacks.address import PREFIX as CALLBACK_PREFIX
from outrider.engine.loop import running
from outrider.engine.maintenance import imports, upkeep
from outrider.engine.stalls import Stalls
from outrider.interfaces import api
from outrider.interfaces.api import problems, server, v1
from outrider.interfaces.api.bodies import ApiRequest
from outrider.interfaces.api.callbacks import CallbackApp
from outrider.interfaces.api.figures import HttpFigures
from outrider.interfaces.api.gathering import Gathering
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.middleware.door import Door
from outrider.interfaces.api.middleware.entry import Authenticator, Entry
from outrider.interfaces.api.money_figures import MoneyFigures
from outrider.interfaces.api.parts import KEY, Parts, parts_in
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.api.strictness import strict
from outrider.interfaces.api.totals import MessageTotals
from outrider.interfaces.api.tracking import PREFIX as TRACKING_PREFIX
from outrider.interfaces.api.tracking import TrackingApp
from outrider.interfaces.auth import Principal, principal_of

_GIVEN = (
    "runtime", "authenticator", "figures", "snapshots", "totals", "job_figures", "money_figures", "gathering",
    "login_rate",
)  # fmt: skip
"""The parts that handlers may ask for."""
_LOGIN_PER_S, _LOGIN_BURST = 1.0, 100.0
"""Sign-ins per source address: spraying one password over many accounts stays slow (per account there is a lock)."""


class Routes(Litestar):
    """Every route of the API, without anything that belongs to one process or its settings."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Bring msgspec's alone: those for pydantic and attrs, which no route uses, load 3 MB more."""
        return [*plugins, MsgspecDIPlugin()]


class Application:
    """The routes behind the door, through which everything passes, unknown paths included."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.runtime.settings
        self._parts = parts
        self._routes = routes()
        self._stalls = Stalls(settings.app_label)
        parts.figures.registry.register(self._stalls)
        self._door = Door(settings, parts.figures)
        # tracked links and providers' reports are taken beside the framework's routing
        self._tracking = TrackingApp(parts.runtime, parts.figures.registry)
        self._callbacks = CallbackApp(parts.runtime, parts.figures.registry)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """What goes on beside the requests, from before the first to after the last."""
        runtime = self._parts.runtime
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._parts.gathering.close)
            stack.push_async_callback(runtime.bell.quiet)
            stack.enter_context(self._stalls.watching())
            # imports and uploads that were left behind
            await stack.enter_async_context(running(imports.settling(runtime)))
            # what was accepted is counted also while no worker is there to do it
            await stack.enter_async_context(running(upkeep.standing_in(runtime)))
            await stack.enter_async_context(self._tracking.running())
            await stack.enter_async_context(self._callbacks.running())
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope.setdefault("state", {})[KEY] = self._parts
        inner: ASGIApp = self._routes
        path = scope["path"]
        if path.startswith(TRACKING_PREFIX):
            inner = cast("ASGIApp", self._tracking)
        elif path.startswith(CALLBACK_PREFIX):
            inner = cast("ASGIApp", self._callbacks)
        if scope.get("method") == HttpMethod.OPTIONS:
            send = self._with_every_method(scope, send)
        await self._door(inner, scope, receive, send)

    def _with_every_method(self, scope: Scope, send: Send) -> Send:
        """Answer OPTIONS with the methods of the whole path: the framework names those of its first handler alone."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NO_CONTENT:
                template = scope.get("path_template")
                methods = {"OPTIONS"}
                for route in self._routes.routes:
                    if isinstance(route, HTTPRoute) and route.path_format == template:
                        methods.update(route.methods)
                rest = [pair for pair in message["headers"] if pair[0].lower() != b"allow"]
                message["headers"] = [*rest, (b"allow", ", ".join(sorted(methods)).encode())]
            await send(message)

        return answer


@cache
def routes() -> Routes:
    """The routes, worked out once a process: reading the signatures of half a thousand handlers takes a while.

    Raises:  Misconfigured when a file of v1 has no routes.
    """
    return Routes(
        route_handlers=[Router("/api/v1", route_handlers=v1.routes()), *_other_routes()],
        request_class=ApiRequest,
        dependencies={
            **{name: Provide(_part(name), sync_to_thread=False) for name in _GIVEN},
            "principal": Provide(_principal, sync_to_thread=False),
        },
        middleware=[DefineMiddleware(Entry, authenticator_in=_part("authenticator"), rate_in=_part("rate"))],
        guards=[strict],
        exception_handlers={Exception: problems.answer},
        request_max_body_size=None,  # the door counts
        openapi_config=None,  # description.py says more, and nothing else
        logging_config=None,
        debug=False,
    )


def create_app(runtime: Runtime) -> Application:
    """Make the application of one runtime.

    Raises:  Misconfigured when a file of v1 has no routes.
    """
    settings = runtime.settings
    return Application(
        Parts(
            runtime=runtime,
            authenticator=Authenticator(runtime),
            figures=HttpFigures(settings.app_label),
            snapshots=Snapshots(runtime),
            totals=MessageTotals(runtime.db),
            job_figures=JobFigures(runtime.db),
            money_figures=MoneyFigures(runtime.db),
            gathering=Gathering(runtime),
            rate=Buckets(settings.api_rate_per_s, settings.api_rate_per_s * 2),
            login_rate=Buckets(_LOGIN_PER_S, _LOGIN_BURST),
        )
    )


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve the API of this process until `stop` is set, then finish what is under way.

    Takes:   ready: called once with the base URL, for example `http://127.0.0.1:3000`.
    Raises:  Misconfigured(cannot_listen).
    """
    app = create_app(runtime)
    async with app.lifespan():
        await server.run(cast("ASGIApp", app), runtime.settings, ready=ready, stop=stop)


def _other_routes() -> list[ControllerRouterHandler]:
    """The routes outside /api/v1: of every file beside this one that has `ROUTES`."""
    found: list[ControllerRouterHandler] = []
    for module in sorted(pkgutil.iter_modules(api.__path__), key=lambda item: item.name):
        if not module.ispkg:
            found.extend(getattr(import_module(f"{api.__name__}.{module.name}"), "ROUTES", ()))
    return found


def _part(name: str) -> Callable[[Scope], Any]:
    """What finds a part of the application that serves a request, by its name."""

    def part(scope: Scope) -> Any:
        return getattr(parts_in(cast("Mapping[str, Any]", scope)), name)

    return part


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return principal_of(request)

"""The API application: every route behind one door.

Owns putting the parts together; knows no noun. `create_app` gives the application, `server.serve` runs it.
"""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from importlib import import_module
from typing import Any, cast

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import HttpMethod, ScopeType
from litestar.middleware import DefineMiddleware
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import (
    ControllerRouterHandler,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Message,
    Receive,
    Scope,
    Send,
)

from outrider.data.runtime import Runtime
from outrider.domain.callbacks.address import PREFIX as CALLBACK_PREFIX
from outrider.engine.loop import running
from outrider.engine.maintenance import imports, upkeep
from outrider.engine.stalls import Stalls
from outrider.interfaces import api
from outrider.interfaces.api import problems, server, v1
from outrider.interfaces.api.bodies import ApiRequest
from outrider.interfaces.api.browsers import cookie_name
from outrider.interfaces.api.callbacks import CallbackApp
from outrider.interfaces.api.figures import HttpFigures
from outrider.interfaces.api.gathering import Gathering
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.middleware.door import Door
from outrider.interfaces.api.middleware.entry import Authenticator, Entry
from outrider.interfaces.api.money_figures import MoneyFigures
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.api.strictness import strict
from outrider.interfaces.api.totals import MessageTotals
from outrider.interfaces.api.tracking import PREFIX as TRACKING_PREFIX
from outrider.interfaces.api.tracking import TrackingApp
from outrider.interfaces.auth import Principal, principal_of

_LOGIN_PER_S, _LOGIN_BURST = 1.0, 100.0
"""Sign-ins per source address: spraying one password over many accounts stays slow (per account there is a lock)."""


class Application(Litestar):
    """Litestar behind the door, through which everything passes, unknown paths included."""

    door: Door | None = None
    tracking: TrackingApp | None = None
    """What serves tracked links, beside the framework's routing."""
    callbacks: CallbackApp | None = None
    """What takes providers' reports, likewise."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        """Serve one connection."""
        if scope["type"] == ScopeType.HTTP and self.door is not None:
            if scope.get("method") == HttpMethod.OPTIONS:
                send = self._with_every_method(cast("Scope", scope), cast("Send", send))
            if self.tracking is not None and str(scope.get("path")).startswith(TRACKING_PREFIX):
                await self.door(self.tracking, scope, receive, send)  # type: ignore[arg-type]  # an HTTP scope's pair
                return
            if self.callbacks is not None and str(scope.get("path")).startswith(CALLBACK_PREFIX):
                await self.door(self.callbacks, scope, receive, send)  # type: ignore[arg-type]  # an HTTP scope's pair
                return
            await self.door(super().__call__, scope, receive, send)  # type: ignore[arg-type]  # an HTTP scope's pair
        else:
            await super().__call__(scope, receive, send)

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Bring msgspec's alone: those for pydantic and attrs, which no route uses, load 3 MB more."""
        return [*plugins, MsgspecDIPlugin()]

    def _with_every_method(self, scope: Scope, send: Send) -> Send:
        """Answer OPTIONS with the methods of the whole path: the framework names those of its first handler alone."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NO_CONTENT:
                template = scope.get("path_template")
                methods = {"OPTIONS"}
                for route in self.routes:
                    if isinstance(route, HTTPRoute) and route.path_format == template:
                        methods.update(route.methods)
                rest = [pair for pair in message["headers"] if pair[0].lower() != b"allow"]
                message["headers"] = [*rest, (b"allow", ", ".join(sorted(methods)).encode())]
            await send(message)

        return answer


def create_app(runtime: Runtime) -> Litestar:
    """Make the application of one process.

    Raises:  Misconfigured when a file of v1 has no routes.
    """
    settings = runtime.settings
    authenticator = Authenticator(runtime)
    figures = HttpFigures(settings.app_label)
    stalls = Stalls(settings.app_label)
    figures.registry.register(stalls)
    snapshots, totals, job_figures = Snapshots(runtime), MessageTotals(runtime.db), JobFigures(runtime.db)
    money_figures = MoneyFigures(runtime.db)
    gathering = Gathering(runtime)
    rate = Buckets(settings.api_rate_per_s, settings.api_rate_per_s * 2)
    login_rate = Buckets(_LOGIN_PER_S, _LOGIN_BURST)
    tracking = TrackingApp(runtime, figures.registry)
    callbacks = CallbackApp(runtime, figures.registry)
    app = Application(
        route_handlers=[Router("/api/v1", route_handlers=v1.routes()), *_other_routes()],
        request_class=ApiRequest,
        dependencies={
            "runtime": Provide(lambda: runtime, sync_to_thread=False),
            "authenticator": Provide(lambda: authenticator, sync_to_thread=False),
            "figures": Provide(lambda: figures, sync_to_thread=False),
            "snapshots": Provide(lambda: snapshots, sync_to_thread=False),
            "totals": Provide(lambda: totals, sync_to_thread=False),
            "job_figures": Provide(lambda: job_figures, sync_to_thread=False),
            "money_figures": Provide(lambda: money_figures, sync_to_thread=False),
            "gathering": Provide(lambda: gathering, sync_to_thread=False),
            "login_rate": Provide(lambda: login_rate, sync_to_thread=False),
            "principal": Provide(_principal, sync_to_thread=False),
        },
        middleware=[DefineMiddleware(Entry, authenticator=authenticator, rate=rate)],
        guards=[strict],
        exception_handlers={Exception: problems.answer},
        request_max_body_size=None,  # the door counts
        openapi_config=None,  # description.py says more, and nothing else
        lifespan=[_watched(stalls), _left_imports(runtime), _folding(runtime), tracking.running, callbacks.running],
        on_shutdown=[runtime.bell.quiet, gathering.close],
        logging_config=None,
        state=State({"session_cookie": cookie_name(settings)}),
        debug=False,
    )
    app.door = Door(settings, figures)
    app.tracking = tracking
    app.callbacks = callbacks
    return app


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve the API of this process until `stop` is set, then finish what is under way.

    Takes:   ready: called once with the base URL, for example `http://127.0.0.1:3000`.
    Raises:  Misconfigured(cannot_listen).
    """
    await server.run(create_app(runtime), runtime.settings, ready=ready, stop=stop)


def _left_imports(runtime: Runtime) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """For the application's `lifespan`: look, in the background, at imports and uploads that were left behind."""
    return lambda _app: running(imports.settling(runtime))


def _watched(stalls: Stalls) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """For the application's `lifespan`: tell when the event loop stands still."""

    @asynccontextmanager
    async def watching(_app: Litestar) -> AsyncIterator[None]:
        with stalls.watching():
            yield

    return watching


def _folding(runtime: Runtime) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """For the application's `lifespan`: what was accepted is counted also while no worker is there to do it."""
    return lambda _app: running(upkeep.standing_in(runtime))


def _other_routes() -> list[ControllerRouterHandler]:
    """The routes outside /api/v1: of every file beside this one that has `ROUTES`."""
    found: list[ControllerRouterHandler] = []
    for module in sorted(pkgutil.iter_modules(api.__path__), key=lambda item: item.name):
        if not module.ispkg:
            found.extend(getattr(import_module(f"{api.__name__}.{module.name}"), "ROUTES", ()))
    return found


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return principal_of(request)

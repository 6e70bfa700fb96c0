"""Health of the installation for monitors, load balancers and people; the runbooks' paths included."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import HttpMethod, Request, Response, route
from litestar.di import NamedDependency

from outrider import __version__
from outrider.base.errors import OutriderError
from outrider.data.runtime import Runtime
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.auth import PUBLIC

_OPEN = {"auth": PUBLIC, "is_unlimited": True}
_ASKED = [HttpMethod.GET, HttpMethod.HEAD]
"""Monitors ask with HEAD."""


class DatabaseHealth(msgspec.Struct):
    """Whether the database answers, and how quickly."""

    status: Literal["up", "down"]
    took_ms: float


class WorkerHealth(msgspec.Struct):
    """Processes with loops: how many were heard of in the last 15 seconds, and how many have fallen silent."""

    alive: int
    silent: int


class Health(msgspec.Struct, omit_defaults=True):
    """`ok`, `degraded` (works, but somebody should look) or `down` (answered 503).

    `migrations` is current, pending, newer or unknown. `version` is told to signed-in callers only.
    """

    status: Literal["ok", "degraded", "down"]
    environment: str
    database: DatabaseHealth
    migrations: str
    workers: WorkerHealth
    maintenance: bool
    paused_switches: int
    emergency_file: bool
    version: str | None = None


class Alive(msgspec.Struct):
    """The process answers."""

    status: Literal["ok", "unavailable"] = "ok"


@route(
    ["/health", "/api/health", "/api/v1/health"],
    http_method=_ASKED,
    opt=_OPEN,
    summary="Health of the installation",
)
async def health(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    snapshots: NamedDependency[Snapshots],
    authenticator: NamedDependency[Authenticator],
) -> Response[Health]:
    """Say how the installation is: 200, or 503 when the database does not answer [S1-108, S2-08, S3-07]."""
    snapshot = await snapshots.now()
    schema = await snapshots.schema() if snapshot.is_up else "unknown"
    alive = snapshot.alive()
    is_emergency = runtime.settings.emergency_path.exists()
    is_well = bool(alive) and schema == "current" and not snapshot.is_in_maintenance and not is_emergency
    body = Health(
        status=("ok" if is_well else "degraded") if snapshot.is_up else "down",
        environment=runtime.settings.environment,
        database=DatabaseHealth("up" if snapshot.is_up else "down", round(snapshot.took_ms, 1)),
        migrations=schema,
        workers=WorkerHealth(len(alive), len([one for one in snapshot.workers if one.state != "stopped"]) - len(alive)),
        maintenance=snapshot.is_in_maintenance,
        paused_switches=len(snapshot.switches),
        emergency_file=is_emergency,
        version=__version__ if snapshot.is_up and await _is_signed_in(request, authenticator) else None,
    )
    return Response(body, status_code=200 if snapshot.is_up else 503)


@route("/livez", http_method=_ASKED, opt=_OPEN, summary="Whether this process answers")
async def livez() -> Alive:
    """Say that this process answers, whatever the database does: a restart would not help it."""
    return Alive()


@route("/readyz", http_method=_ASKED, opt=_OPEN, summary="Whether this process should get traffic")
async def readyz(snapshots: NamedDependency[Snapshots]) -> Response[Alive]:
    """Say whether a load balancer should send requests here: 503 while the database is away or the schema is old."""
    snapshot = await snapshots.now()
    is_ready = snapshot.is_up and await snapshots.schema() == "current"
    return Response(Alive() if is_ready else Alive("unavailable"), status_code=200 if is_ready else 503)


async def _is_signed_in(request: Request[Any, Any, Any], authenticator: Authenticator) -> bool:
    """Whether the caller brought a valid credential; a wrong one is no reason to hide the health."""
    try:
        return await authenticator.identify_in_the_open(request.headers, exchange_of(request)) is not None
    except OutriderError:
        return False


ROUTES = [health, livez, readyz]

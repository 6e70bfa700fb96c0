"""Metrics for Prometheus: open to loopback and to networks the operator named, else with a key."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_network
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency

from outrider.base.errors import Refused
from outrider.data.runtime import Runtime
from outrider.interfaces.api.exchange import exchange_of
from outrider.interfaces.api.figures import MEDIA_TYPE, HttpFigures, Scrape, exposition
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.middleware.proxies import Network, is_within
from outrider.interfaces.api.money_figures import MoneyFigures, MoneyReading
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.api.totals import MessageTotals
from outrider.interfaces.auth import PUBLIC

OPEN_TO_NETWORKS = {"auth": PUBLIC, "is_unlimited": True, "networks": True}


async def admit(request: Request[Any, Any, Any], runtime: Runtime, authenticator: Authenticator, scope: str) -> None:
    """Let in callers from `metrics_networks`, and others with a key of this scope or a person signed in.

    Raises:  Refused(unauthenticated, 401), Refused(forbidden, 403), Refused(rate_limited, 429).
    """
    exchange = exchange_of(request)
    if is_within(exchange.client_ip, _networks(tuple(runtime.settings.metrics_networks))):
        return
    principal = await authenticator.identify_in_the_open(request.headers, exchange)
    if principal is None:
        raise Refused("unauthenticated", f"needs a key with the scope {scope} from this network", status=401)
    if not principal.may("viewer", scope):
        raise Refused("forbidden", f"this key needs the scope {scope}", status=403)


@cache
def _networks(named: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in named)


@get(
    ["/metrics", "/api/v1/metrics"],
    opt=OPEN_TO_NETWORKS,
    media_type=MEDIA_TYPE,
    summary="Metrics in the text format of Prometheus",
)
async def metrics(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    snapshots: NamedDependency[Snapshots],
    authenticator: NamedDependency[Authenticator],
    figures: NamedDependency[HttpFigures],
    totals: NamedDependency[MessageTotals],
    job_figures: NamedDependency[JobFigures],
    money_figures: NamedDependency[MoneyFigures],
) -> Response[bytes]:
    """Give every figure of this process and of the installation as aggregates [S3-09, S4-33]."""
    await admit(request, runtime, authenticator, "metrics:read")
    snapshot = await snapshots.now()
    counted = await totals.now() if snapshot.is_up else {}
    jobs = await job_figures.now() if snapshot.is_up else None
    money = await money_figures.now() if snapshot.is_up else MoneyReading()
    text = exposition(figures, runtime.settings.app_label, runtime.db, Scrape(snapshot, counted, jobs, money))
    return Response(text, media_type=MEDIA_TYPE)


ROUTES = [metrics]

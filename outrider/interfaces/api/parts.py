"""What one application holds beside its routes: the runtime, memories, figures; found by the routes of every request.

Owns the slot in the request's scope. The routes are the same for every application of a process (application.py), so
none of them may keep a part for longer than a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from litestar.connection import ASGIConnection

from outrider.base.errors import Broken
from outrider.data.runtime import Runtime
from outrider.interfaces.api.figures import HttpFigures
from outrider.interfaces.api.gathering import Gathering
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.money_figures import MoneyFigures
from outrider.interfaces.api.snapshot import Snapshots
from outrider.interfaces.api.totals import MessageTotals

KEY = "outrider_parts"
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one application. `rate` and `login_rate` say how often one caller, or one address, may come."""

    runtime: Runtime
    authenticator: Authenticator
    figures: HttpFigures
    snapshots: Snapshots
    totals: MessageTotals
    job_figures: JobFigures
    money_figures: MoneyFigures
    gathering: Gathering
    rate: Buckets
    login_rate: Buckets
    _made: dict[Any, Any] = field(default_factory=dict)

    def once(self, make: Callable[[], Made]) -> Made:
        """What `make` gives, made at its first use and kept as long as the application is there."""
        if make not in self._made:
            self._made[make] = make()
        return cast("Made", self._made[make])


def parts_in(scope: Mapping[str, Any]) -> Parts:
    """The parts of the application that serves an ASGI scope. Raises Broken outside one."""
    found = scope.get("state", {}).get(KEY)
    if found is None:
        raise Broken("no_parts", "the request did not come through the application")
    return cast("Parts", found)


def parts_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Parts:
    """The parts of the application that serves a request."""
    return parts_in(cast("Mapping[str, Any]", connection.scope))

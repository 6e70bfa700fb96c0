"""The schedule that comes with a job type: the installation's upkeep registers itself with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule of the installation that is there from the first start on; people change or pause it, never delete it.

    cron, timezone  five fields, read in this zone's local time
    misfire         planned times that passed while nothing fired: `once` runs the latest, `all` each, `skip` none
    jitter_s        spreads schedules of the same minute
    """

    cron: str
    timezone: str = "UTC"
    misfire: Literal["once", "all", "skip"] = "once"
    grace_s: int = 60
    jitter_s: int = 30
    arguments: Mapping[str, Any] = field(default_factory=dict)

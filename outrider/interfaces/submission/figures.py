"""Figures of the intake: what it turned away because a quota was full, under the name that the API counts by.

Owns the counter; served at the health endpoint of the process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from outrider.domain.messages.quota import FULL_CODES, REFUSALS


class IntakeFigures:
    """Counters of this process."""

    def __init__(self, app_label: str) -> None:
        self.registry = CollectorRegistry()
        self._app = app_label
        self._refused = Counter(*REFUSALS, ["app", "code"], registry=self.registry)
        for code in FULL_CODES:
            self._refused.labels(app_label, code)

    def turned_away(self, code: str) -> None:
        """Count a message that was refused because a quota was full, told by its code; others are none."""
        if code in FULL_CODES:
            self._refused.labels(self._app, code).inc()

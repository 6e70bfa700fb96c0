"""The intake's listener: its certificate and its conversations, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outrider.data.runtime import Runtime
from outrider.engine.health import HealthServer
from outrider.engine.loop import running
from outrider.engine.maintenance import upkeep
from outrider.interfaces.smtp import house
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.submission.figures import IntakeFigures
from outrider.interfaces.submission.session import Session


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Listen until `stop` is set; then let messages under way be answered.

    Takes:   ready: called once with the address, for example `smtp://127.0.0.1:2587`.
    Raises:  Misconfigured(cannot_listen, submission_certificate).
    """
    settings = runtime.settings
    tls = house.certificate(  # without one only loopback may sign in
        settings.submission_certificate, variable="OUTRIDER_SUBMISSION_CERTIFICATE", code="submission_certificate"
    )
    rules = Rules(house.host_name(), settings.submission_max_bytes, tls)
    figures = IntakeFigures(settings.app_label)
    where = (settings.submission_host, settings.submission_port or 0)
    health = HealthServer(lambda: {"is_ok": True, "role": "submission"}, figures.registry)
    if settings.submission_health_port is not None:
        await health.start(settings.worker_health_host, settings.submission_health_port)
    try:
        async with running(upkeep.standing_in(runtime)):  # the quota counts also while no worker is there to do it
            await house.listen(
                "submission",
                where,
                lambda wire: Session(wire, runtime, rules, stop, figures).run(),
                ready=ready,
                stop=stop,
            )
    finally:
        await health.stop()

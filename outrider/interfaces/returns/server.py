"""The listener of returns: its certificate and its conversations, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outrider.base.signing import ReturnSigner
from outrider.data.runtime import Runtime
from outrider.interfaces.returns.intake import Intake
from outrider.interfaces.returns.session import Session
from outrider.interfaces.smtp import house
from outrider.interfaces.smtp.room import Rules


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Listen until `stop` is set; then let letters under way be answered.

    Takes:   ready: called once with the address, for example `smtp://127.0.0.1:25`.
    Raises:  Misconfigured(cannot_listen, returns_certificate).
    """
    settings = runtime.settings
    tls = house.certificate(
        settings.returns_certificate, variable="OUTRIDER_RETURNS_CERTIFICATE", code="returns_certificate"
    )
    rules = Rules(house.host_name(), settings.returns_max_bytes, tls)
    intake = Intake(runtime, ReturnSigner(runtime.keyring.derive("returns")))
    await house.listen(
        "returns",
        (settings.returns_host, settings.returns_port or 0),
        lambda wire: Session(wire, intake, rules, stop).run(),
        ready=ready,
        stop=stop,
    )

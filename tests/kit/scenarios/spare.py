"""A drill about a provider that goes away while another one could do its work.

Gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import json

from tests.kit.drill import Drill, Guarantee, Sender
from tests.kit.processes import until
from tests.kit.relay import Relay

SETTINGS = {"circuit_failures": "2", "circuit_open_s": "0.5", "circuit_open_most_s": "1", "circuit_close_after": "4"}
_CONNECTIONS = 2
_WORKERS = 2
_COUNT = 600


async def takes_over(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F77: the line to the first server is cut under load and mended later; the second server takes what never left."""
    async with Relay.open(await drill.smtp_port()) as relay:
        sender = await drill.sender(guarantee, connections=_CONNECTIONS, port=relay.port)
        await _spare(drill, sender)
        for _ in range(_WORKERS):
            await drill.worker()
        await drill.admit(sender, _COUNT)
        await drill.accepted(_COUNT // 10)
        await relay.cut()
        await drill.drained()
        found = [] if relay.passed_bytes else ["nothing went by the first server"]
        await drill.admit(sender, _COUNT)
        await drill.drained()
        if not await drill.value("SELECT state = 'open' OR state = 'half_open' FROM circuits"):
            found.append("its circuit is not open")
        await relay.mend()
        before = relay.passed_bytes

        async def is_trusted() -> bool:
            await drill.admit(sender, 20)
            await drill.drained()
            return not await drill.value("SELECT count(*) FROM circuits")

        await until(is_trusted, what="the first server is trusted again", poll_s=0.5, bound_s=300.0)
        if relay.passed_bytes == before:
            found.append("nothing went by the first server again")
    in_flight = _CONNECTIONS * _WORKERS
    if guarantee == "at_least_once":
        return found + await drill.violations(duplicates=in_flight)
    return found + await drill.violations(uncertain=in_flight)


async def _spare(drill: Drill, sender: Sender) -> None:
    """Another connection of the sender, straight to the capture server."""
    settings = {"host": "127.0.0.1", "port": await drill.smtp_port(), "tls": "off", "connections": _CONNECTIONS}
    await drill.execute(
        "WITH made AS (INSERT INTO connections (tenant_id, name, provider, settings) "
        "VALUES ($1, 'spare', 'smtp', $3::text::jsonb) RETURNING id) "
        "INSERT INTO sender_fallbacks (tenant_id, sender_id, position, connection_id) SELECT $1, $2, 1, id FROM made",
        sender.tenant_id, sender.id, json.dumps(settings),
    )  # fmt: skip

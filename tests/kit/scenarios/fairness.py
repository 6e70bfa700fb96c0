"""Drills about one tenant with very much and another with very little: how long the little has to wait.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import time

from tests.kit.drill import Drill
from tests.kit.processes import BOUND_S, say, slowness, until

CONNECTIONS = 4
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 20}
_SINGLES = 10
_MOST_WAIT_S = 30.0
_AT_ONCE = 5_000
_SLOWEST_PER_S = 150
"""A bound on waiting only: no claim is about how fast the great one goes."""


async def ten_beside_a_million(drill: Drill, *, great: int) -> list[str]:
    """F94: while one tenant sends its mass another submits ten of the same class, one by one: each goes in 30 s."""
    drill.faults(_SLOW)
    big = await drill.sender("at_most_once", connections=CONNECTIONS)
    small = await drill.sender("at_most_once", connections=CONNECTIONS, tenant_id=await drill.tenant("small"))
    for first in range(0, great, _AT_ONCE):
        await drill.admit(big, min(_AT_ONCE, great - first))
    await drill.worker()
    waits_s: list[float] = []
    found: list[str] = []
    for _ in range(_SINGLES):
        await drill.accepted(100)
        began_s = time.monotonic()
        (single,) = await drill.admit(small, 1)

        async def is_sent() -> bool:
            state = "SELECT state FROM messages WHERE tenant_id = $1 AND id = $2"
            return bool(await drill.value(state, small.tenant_id, single) == "sent")  # noqa: B023 - asked before the next

        await until(is_sent, what="a small tenant's message is sent", bound_s=2 * BOUND_S)
        waits_s.append(time.monotonic() - began_s)
        if waits_s[-1] > _MOST_WAIT_S and waits_s[-1] > (most_s := _MOST_WAIT_S * slowness()):
            found.append(
                f"F94: a small tenant's message took {waits_s[-1]:.0f} s, {most_s:.0f} s at most are wanted here"
            )
    waiting = await drill.value("SELECT count(*) FROM queue WHERE tenant_id = $1", big.tenant_id)
    say(f"of {great} {waiting} were waiting; ten took {', '.join(f'{each:.2f}' for each in waits_s)} s")
    assert waiting, "the great one was through already, so nothing is proved"
    drill.faults()
    await drill.drained(bound_s=BOUND_S + great / _SLOWEST_PER_S)
    return found + await drill.violations()

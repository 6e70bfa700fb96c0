"""When the machine stood still: a virtual machine whose host has other things to do stops for seconds at a time.

A bound on what the product does within seconds is a bound on the product, not on its machine. What a drill measured
across a standstill may take as much longer, and no more than that: on a machine that goes on nothing is excused. It is
this process that looks: what stands still with it counts, a standstill of a process of the product alone does not.

API
    watch()                             begin to look, once a process; drills do when they open
    stood_still_s(since_ns, until_ns)   how long in all, between two moments of `drill.boot_ns`
    SURVIVORS_LEASE_S                   a lease that no standstill ends
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import cache

from outrider.base.clock import boottime_s

SURVIVORS_LEASE_S = "30"
"""Of whoever is not the one that a drill is about: so long that no lease of theirs ends on a machine that stands still.
Not longer: nothing is swept until the database has run for as long."""
_TICK_S = 0.02
_LEAST_S = 0.1
"""Less than that is waiting for one's turn."""
_MOST_KEPT = 10_000
_seen: deque[tuple[float, float]] = deque(maxlen=_MOST_KEPT)
"""From when to when, each."""


@cache
def watch() -> None:
    """Look from now on, beside everything else."""
    threading.Thread(target=_look, name="standstills", daemon=True).start()


def _look() -> None:
    while True:
        began_s = boottime_s()
        time.sleep(_TICK_S)
        ended_s = boottime_s()
        if ended_s - began_s > _TICK_S + _LEAST_S:
            _seen.append((began_s + _TICK_S, ended_s))


def stood_still_s(since_ns: int, until_ns: int | None = None) -> float:
    """Seconds of an interval, until now if no end is given, in which nothing here went on."""
    watch()
    time.sleep(2 * _TICK_S)  # one that is just over is noted
    since_s, end_s = since_ns / 1e9, boottime_s() if until_ns is None else until_ns / 1e9
    return sum(max(0.0, min(ended_s, end_s) - max(began_s, since_s)) for began_s, ended_s in tuple(_seen))

"""When the machine stood still: a virtual machine whose host has other things to do stops for seconds at a time.

A bound on what the product does within seconds is a bound on the product, not on its machine. What a drill measured
across a standstill may take as much longer, and no more than that: on a machine that goes on nothing is excused. A
standstill of one process alone counts nowhere.

API
    watch()                             begin to look, once a process; drills do when they open
    stood_still_s(since_ns, until_ns)   how long in all, between two moments of `drill.boot_ns`
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import cache

_TICK_S = 0.02
_LEAST_S = 0.1
"""Less than that is waiting for one's turn."""
_MOST_KEPT = 10_000
_seen: deque[tuple[int, int]] = deque(maxlen=_MOST_KEPT)
"""From when to when, each."""


@cache
def watch() -> None:
    """Look from now on, beside everything else."""
    threading.Thread(target=_look, name="standstills", daemon=True).start()


def _look() -> None:
    while True:
        began_ns = _now_ns()
        time.sleep(_TICK_S)
        ended_ns = _now_ns()
        if ended_ns - began_ns > (_TICK_S + _LEAST_S) * 1e9:
            _seen.append((began_ns + int(_TICK_S * 1e9), ended_ns))


def stood_still_s(since_ns: int, until_ns: int | None = None) -> float:
    """Seconds of an interval, until now if no end is given, in which nothing here went on."""
    watch()
    time.sleep(2 * _TICK_S)  # one that is just over is noted
    end_ns = _now_ns() if until_ns is None else until_ns
    return sum(max(0, min(ended, end_ns) - max(began, since_ns)) for began, ended in tuple(_seen)) / 1e9


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

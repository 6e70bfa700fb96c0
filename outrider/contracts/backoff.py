"""When to try again: exponential back-off with full jitter, by class of repetition [faults.md F56]."""

from __future__ import annotations

import math
import random

from outrider.contracts.outcome import Retry

QUARTER_HOUR_S = 900.0
"""A connection timeout is not repeated earlier [S0-38]."""
LONGEST_WISH_S = 86_400.0
"""A server may ask for a day at most; what is no number of seconds is no wish."""


def delay_s(attempt: int, retry: Retry, *, first_s: float, most_s: float, asked_s: float | None = None) -> float | None:
    """Seconds until the next attempt.

    Takes:   attempt 1.. (the one that just failed); `asked_s` the server's own wish.
    Gives:   None: never repeated by itself; else at least what the server asked for (a day at most), or a moment
             between now and a ceiling that doubles: what failed together comes back spread over all of that time, while
             a part of the ceiling that nobody may use would only crowd them into the rest.
    """
    if retry in {"never", "by_hand"}:
        return None
    wish_s = 0.0 if asked_s is None or math.isnan(asked_s) else min(asked_s, LONGEST_WISH_S)
    if retry == "quarter_hour":
        return max(wish_s, QUARTER_HOUR_S * random.uniform(1.0, 1.2))  # noqa: S311 - spreads load, hides nothing
    ceiling = min(most_s, first_s * float(1 << min(attempt - 1, 20)))
    return max(wish_s, random.uniform(0.0, ceiling))  # noqa: S311 - spreads load, hides nothing

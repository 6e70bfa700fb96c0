"""The pace of a sender: how many messages the next claim asks for, learnt from what its server took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from outrider.engine.dispatch import routes
from outrider.engine.dispatch.batch import Batch

WORK_S = 0.5
"""A claim is at most this much work at the pace last seen."""
_FIRST_BATCH = 200
"""A sender's first claim, unless what other senders' servers took of late says that more is half a second of work."""
_RISING, _FALLING = 0.7, 0.3
"""What was fast proves what a server can take; what was slow may have waited for others of this worker."""


def least_of(route: routes.Route, batch_count: int) -> int:
    """Messages below which a claim would waste what a connection offers, with so many batches in flight.

    All that share a request; and so many that every line has the next message at hand. The pace alone would never find
    out about lines: one message at a time, half a second each, looks like a server that takes two a second, and so one
    message would be claimed at a time for ever.
    """
    return max(route.request_count, math.ceil(2 * route.line_count / batch_count))


@dataclass(slots=True)
class Pace:
    """What a sender's server was seen to take: messages per second, and since when it cannot be reached.

    left: how many its circuits let go, as far as is known. rests_until_s: not asked again before. first: messages of a
    claim while nothing was seen yet.
    """

    rate: float = 0.0
    first: int = _FIRST_BATCH
    failures: int = 0
    least: int = 1
    """What a claim asks for however slow the server is (`least_of`)."""
    left: float = routes.NO_LIMIT
    rests_until_s: float = 0.0

    def of_a_newcomer(self) -> Pace:
        """How a sender begins that was not seen yet, where this is the pace of all: its first claim may be larger.

        A thousand tenants with a thousand messages each thus take two turns and not three; each turn costs a look at
        the sender and mostly a connection.
        """
        return Pace(first=max(_FIRST_BATCH, int(self.rate * WORK_S)))

    def limit(self, most: int) -> int:
        """Messages of the next claim: half a second of work; one as a probe while the server is away."""
        if self.failures:
            return 1
        paced = int(self.rate * WORK_S) if self.rate else self.first
        return max(1, int(min(most, max(self.least, paced), self.left)))

    def learn_of(self, batch: Batch, took_s: float) -> None:
        """Take into account what was tried of a batch.

        What was handed back untried, since its gates could not be asked again in time, proves no pace: as many would be
        claimed and handed back again and again.
        """
        self.learn(max(len(batch.begun), 1), took_s)

    def learn(self, count: int, took_s: float) -> None:
        """Take the pace of a batch into account."""
        seen = count / max(took_s, 0.001)
        weight = _RISING if seen > self.rate else _FALLING
        self.rate = seen if not self.rate else (1 - weight) * self.rate + weight * seen

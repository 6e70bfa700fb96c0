"""The directory of lanes: which have something ready, when that is read, and in the way that costs less.

Owns the choice between a walk along the index of what is ready, where lanes that have nothing cost nothing, and asking
one open lane after the other, where what has been sent costs nothing. The first is right nearly always; the second
while somebody holds a snapshot (a report, a dump), since the index keeps everything until nobody can see it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from outrider.contracts.gate import Lane
from outrider.data.db import Database
from outrider.domain.messages import lanes

_SHARE = 20.0
"""Looking round for lanes takes at most a twentieth of a worker's time …"""
_LONGEST_REST_S = 1.0
"""… but what is new waits no longer than this."""
_DEAR_S = 0.01
"""A walk that takes longer goes over what has been sent …"""
_LANES_FOR_S = 10.0
"""… and lanes are asked instead for so long, …"""
_WALKS_FOR_S = 60.0
"""… unless there are so many of them that this takes longer still: then it is not tried again for so long."""


class Directory:
    """The reading of one worker. `clock` gives seconds; `poll_s`: it is read so often though nobody told of news."""

    def __init__(self, database: Database, clock: Callable[[], float], poll_s: float) -> None:
        self._database = database
        self._clock = clock
        self._poll_s = poll_s
        self._lock = asyncio.Lock()
        self._read_s = self._rest_s = 0.0
        self._walk_s = 0.0
        self._lanes_until_s = self._walks_until_s = 0.0

    @property
    def is_read_now(self) -> bool:
        """Whether somebody reads it at this moment."""
        return self._lock.locked()

    @property
    def rests_for_s(self) -> float:
        """How long it is not read again, whatever is new."""
        return max(0.0, self._read_s + self._rest_s - self._clock())

    def is_due(self, *, is_woken: bool) -> bool:
        """Whether it is to be read: it is old, or something is new; never so often that it costs much."""
        age_s = self._clock() - self._read_s
        return age_s >= self._rest_s and (is_woken or age_s >= self._poll_s)

    async def read(self, known: Sequence[int]) -> list[Lane]:
        """Every open lane that has something ready.

        Takes:   known: lanes of the last directory that were not emptied since; they may be taken for having something.
        """
        async with self._lock, self._database.statements() as raw:
            began_s = self._clock()  # a wait for a connection says nothing about what reading costs
            is_by_lane = began_s < self._lanes_until_s
            found = await (lanes.with_work(raw, known) if is_by_lane else lanes.directory(raw))
            self._read_s = self._clock()
            self._learn(self._read_s - began_s, is_by_lane=is_by_lane)
        return found

    def _learn(self, took_s: float, *, is_by_lane: bool) -> None:
        """Choose the way of the next readings, and when they are due, by what this one took."""
        self._rest_s = min(_SHARE * took_s, _LONGEST_REST_S)
        if not is_by_lane:
            self._walk_s = took_s
            if took_s > _DEAR_S and self._read_s >= self._walks_until_s:
                self._lanes_until_s = self._read_s + _LANES_FOR_S
        elif took_s > self._walk_s:
            self._lanes_until_s, self._walks_until_s = 0.0, self._read_s + _WALKS_FOR_S

"""Whose turn it is: round robin over tenants, transactional before bulk, resting lanes left out.

Owns the order in memory; a tenant with ten million messages waiting has one place in the ring like everybody else.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from uuid import UUID

from outrider.contracts.gate import Lane

_MOST_LATELY = 4
"""So many emptied lanes are asked again when something became ready."""

_BULK_EVERY = 4
"""Every fourth turn goes to bulk even while transactional lanes are busy, so that none starves."""


class Ring:
    """The lanes that may have work, in turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: dict[UUID, dict[str, deque[Lane]]] = {}
        self._turns: dict[str, deque[UUID]] = {"transactional": deque(), "bulk": deque()}
        self._rests: dict[int, float] = {}
        self._drained: set[int] = set()
        self._lately: dict[int, Lane] = {}
        self._turn_count = 0
        self.reading = 0
        """Which directory this is, and what was revived since: what was found before may not be so any more."""

    def renew(self, lanes: Iterable[Lane]) -> None:
        """Take a new directory; tenants keep their place, newcomers come first."""
        named: dict[UUID, list[Lane]] = {}
        for lane in lanes:
            named.setdefault(lane.tenant_id, []).append(lane)
        fresh = {tenant_id: _classes(part, self._lanes.get(tenant_id)) for tenant_id, part in named.items()}
        for name, turns in self._turns.items():
            there = {tenant_id for tenant_id, classes in fresh.items() if classes[name]}
            kept = [tenant_id for tenant_id in turns if tenant_id in there]
            new = list(there.difference(kept))
            random.shuffle(new)  # workers that begin together must not ask the same lanes in the same order
            self._turns[name] = deque([*new, *kept])
        self.reading += 1
        self._lanes = fresh
        self._drained.clear()
        now_s = self._clock()
        self._rests = {lane_id: until_s for lane_id, until_s in self._rests.items() if until_s > now_s}

    def with_work(self) -> list[int]:
        """The lanes of this directory that nobody has emptied since."""
        return [
            lane.id
            for classes in self._lanes.values()
            for part in classes.values()
            for lane in part
            if lane.id not in self._drained
        ]

    def rest(self, lane: Lane, seconds: float) -> None:
        """Leave a lane out for a while: empty, throttled, paused or its server away. The longer of two rests holds."""
        self._rests[lane.id] = max(self._rests.get(lane.id, 0.0), self._clock() + seconds)

    def rests_for_s(self) -> float:
        """In how many seconds the first lane has rested enough; infinity: none rests."""
        now_s = self._clock()
        return min((until_s - now_s for until_s in self._rests.values() if until_s > now_s), default=math.inf)

    def wake(self, lane: Lane) -> None:
        """End a lane's rest: what it rested for is over."""
        self._rests.pop(lane.id, None)

    def drop(self, lane: Lane, *, reading: int) -> None:
        """Leave a lane out until a new directory names it: it has nothing more.

        Takes:   reading: as it was before somebody looked; a directory that was read since may name it for good reason.
        """
        if reading == self.reading:
            self._drained.add(lane.id)
        if lane.message_class == "transactional":
            self._lately.pop(lane.id, None)
            self._lately[lane.id] = lane
            if len(self._lately) > _MOST_LATELY:
                del self._lately[next(iter(self._lately))]

    def revive(self) -> None:
        """Take in again the few transactional lanes that were emptied last: something became ready, nobody said where.

        Single messages come to them one by one, and the next directory may be far away; asking them costs less.
        """
        self.reading += 1
        for lane in self._lately.values():
            classes = self._lanes.setdefault(lane.tenant_id, {"transactional": deque(), "bulk": deque()})
            if lane not in classes[lane.message_class]:
                classes[lane.message_class].append(lane)
            if lane.tenant_id not in self._turns[lane.message_class]:
                self._turns[lane.message_class].appendleft(lane.tenant_id)
            self._drained.discard(lane.id)
        self._lately.clear()

    def next(
        self, is_stopped: Callable[[Lane], bool], is_crowded: Callable[[str], bool] = lambda _class: False
    ) -> Lane | None:
        """The lane whose turn it is, or None when every lane rests or is stopped.

        Takes:   is_crowded: whether nothing more of a message class is wanted for now; its lanes are not gone through.
        """
        self._turn_count += 1
        order = ("transactional", "bulk") if self._turn_count % _BULK_EVERY else ("bulk", "transactional")
        now_s = self._clock()
        for name in order:
            turns = self._turns[name]
            if not turns or is_crowded(name):
                continue
            for _ in range(len(turns)):
                tenant_id = turns[0]
                turns.rotate(-1)
                lanes = self._lanes[tenant_id][name]
                for _ in range(len(lanes)):
                    lane = lanes[0]
                    lanes.rotate(-1)
                    is_there = lane.id not in self._drained and self._rests.get(lane.id, 0.0) <= now_s
                    if is_there and not is_stopped(lane):
                        return lane
        return None


def _classes(fresh: list[Lane], known: dict[str, deque[Lane]] | None) -> dict[str, deque[Lane]]:
    """The lanes of a tenant by class; nearly always there is one, and it is known."""
    if known is not None and len(fresh) == 1 and [*known["transactional"], *known["bulk"]] == fresh:
        return known
    classes: dict[str, deque[Lane]] = {"transactional": deque(), "bulk": deque()}
    for lane in fresh:
        classes[lane.message_class].append(lane)
    if known is not None:
        classes = {name: _in_turn(part, known[name]) for name, part in classes.items()}
    return classes


def _in_turn(fresh: Iterable[Lane], known: Iterable[Lane]) -> deque[Lane]:
    """Lanes in the order in which their turn comes; newcomers first."""
    place = {lane.id: at for at, lane in enumerate(known)}
    return deque(sorted(fresh, key=lambda lane: place.get(lane.id, -1)))

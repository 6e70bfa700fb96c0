"""Marks: up to where a worker has claimed a lane, so that it need not walk over all that was sent from there.

Owns what one worker remembers of its lanes; nothing is shared. What lies before a mark is claimed, or came back since
(released by another worker, or of a higher priority): it waits until the lane is looked at from the start again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from outrider.base.ids import NIL

LIFE_S = 1.0
"""So often a lane is looked at from the start …"""
LONGEST_LIFE_S = 5.0
_SHARE = 50.0
"""… but looking takes a fiftieth of the lane's time at most, while the wait stays within `LONGEST_LIFE_S`: as long as
somebody holds a snapshot, a report or a dump, such a look walks over everything that has been sent since."""
Mark = tuple[int, datetime, UUID]
"""Priority, when it was due and the id: the order of a lane."""
FIRST: Mark = (-1, datetime.fromisoformat("2000-01-01T00:00:00+00:00"), NIL)


@dataclass(slots=True)
class _Known:
    mark: Mark
    set_s: float
    life_s: float


@dataclass(slots=True)
class Marks:
    """Per lane, the last key this worker claimed (hotpath.md 4), and what its last look from the start cost."""

    _by_lane: dict[int, _Known] = field(default_factory=dict)

    def get(self, lane_id: int, now_s: float) -> Mark:
        """The least key worth looking at."""
        known = self._by_lane.get(lane_id)
        return known.mark if known is not None and now_s - known.set_s < known.life_s else FIRST

    def put(self, lane_id: int, mark: Mark, now_s: float, *, looked_s: float | None = None) -> None:
        """Remember the last key; its life counts from the first claim of a run.

        Takes:   looked_s: how long the look took, by the server's clock; None: it was not one from the start.
        """
        known = self._by_lane.get(lane_id)
        if looked_s is None and known is not None:
            known.mark = mark
        else:
            life_s = min(max(LIFE_S, _SHARE * (looked_s or 0.0)), LONGEST_LIFE_S)
            self._by_lane[lane_id] = _Known(mark, now_s, life_s)

    def drop(self, lane_id: int) -> bool:
        """Forget; tells whether there was one, so that an empty claim looks once more from the start."""
        return self._by_lane.pop(lane_id, None) is not None

"""How fast an import goes: at full speed while nobody else is at work, else on one core at a time and with rests.

Owns the judgement; never reads a file or stores a row. What others notice of an import is processor time and what it
writes: reading ahead takes a second core, and without rests both make single requests wait. Others are known by what
they write: messages accepted or sent, reports of providers, openings, clicks, audited changes. Who only reads is not.
"""

from __future__ import annotations

import time
from collections import deque

LOOK_BACK_S = 2.0
"""The database's counters are a second behind: over less than this they say nothing."""

OTHERS_PER_S = 5.0
"""Rows of others a second beyond which somebody is at work; an idle installation writes none of them."""

REST_SHARE = 1.0
"""How long to rest, as a share of the time a batch took."""

LONGEST_REST_S = 5.0
"""A batch that waited for the database, or for who held its contacts, did no work all that time to rest from."""


class Pace:
    """The pace of one import. It begins considerately and goes fast once it has seen that it is alone."""

    def __init__(self) -> None:
        self.is_alone = False
        self._marks: deque[tuple[float, int]] = deque()

    def look(self, written: int, *, at_s: float | None = None) -> None:
        """Judge, before the first batch and after each.

        Takes:   written: the database's counter of rows that others write; at_s: now, by a clock that only rises.
        """
        now_s = time.monotonic() if at_s is None else at_s
        if self._marks and written < self._marks[-1][1]:
            self._marks.clear()  # the server lost its counters: begin anew
            self.is_alone = False
        self._marks.append((now_s, written))
        while len(self._marks) > 1 and self._marks[1][0] <= now_s - LOOK_BACK_S:
            self._marks.popleft()
        since_s, before = self._marks[0]
        if now_s - since_s >= LOOK_BACK_S:
            self.is_alone = written - before <= OTHERS_PER_S * (now_s - since_s)

    def rest_s(self, took_s: float) -> float:
        """How long to rest after a batch that took so long to be read and stored."""
        return 0.0 if self.is_alone else min(REST_SHARE * took_s, LONGEST_REST_S)

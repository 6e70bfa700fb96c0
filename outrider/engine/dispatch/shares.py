"""Shares: how many batches of a worker each sender and each pool has open.

Owns the counting; how many they may have is the pipeline's, and so is what happens when one is closed.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar
from uuid import UUID

_T = TypeVar("_T")
Pool = tuple[UUID, str]
"""Who shares a worker's batches: a tenant with one provider; with none while its sender was not read yet."""
Class = tuple[UUID, UUID, str]
"""A tenant's sender, and which class of its messages."""


class Shares:
    """The open batches of one worker."""

    def __init__(self) -> None:
        self._by_class: Counter[Class] = Counter()
        self._by_pool: Counter[Pool] = Counter()

    def of_class(self, one: Class) -> int:
        """How many a class of a sender's messages has."""
        return self._by_class[one]

    def of_pool(self, pool: Pool) -> int:
        """How many a pool has."""
        return self._by_pool[pool]

    def add(self, one: Class, pool: Pool) -> None:
        """A batch is about to be claimed."""
        self._by_class[one] += 1
        self._by_pool[pool] += 1

    def close(self, one: Class, pool: Pool) -> None:
        """A batch is over, or there was none."""
        _count_off(self._by_class, one)
        _count_off(self._by_pool, pool)

    def move(self, pool: Pool, known: Pool) -> None:
        """Count a batch with its provider as soon as its sender was read.

        One that hangs and stayed among the unread would take the room of whoever is to be read next [F60].
        """
        self._by_pool[known] += 1
        _count_off(self._by_pool, pool)


def _count_off(counts: Counter[_T], one: _T) -> None:
    counts[one] -= 1
    if not counts[one]:
        del counts[one]

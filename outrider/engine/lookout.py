"""One look for all loops of a process that wait for something to do: those that would find it are woken.

Owns asking, and how often; what there may be to do is said by the loops themselves. Ten loops that ask by themselves,
some four times a second, each in a transaction of its own, are most of what a worker does that has nothing to do: two
workers and their database took a tenth of a small machine (docs/decisions/0038-one-look-for-all-loops.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider.base.clock import boottime_s
from outrider.data.db import Database
from outrider.engine.loop import Asking, Loop


@dataclass(slots=True)
class _Question:
    """One statement, and whom its answer concerns: the column that tells, and the bell."""

    asking: Asking
    bells: list[tuple[str, asyncio.Event]] = field(default_factory=list)
    due_s: float = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether to ask: it is time, and somebody it concerns is not woken already."""
        return now_s >= self.due_s and not all(bell.is_set() for _column, bell in self.bells)


class Lookout:
    """Asks for loops that have an `asking`; a statement that several of them have is asked once.

    Takes:   database: a pool with a role that may read every tenant's rows
    """

    def __init__(self, database: Database, loops: Iterable[Loop]) -> None:
        self._database = database
        questions: dict[tuple[str, tuple[object, ...]], _Question] = {}
        for loop in loops:
            if loop.asking is None or loop.wake is None:
                continue
            key = loop.asking.statement.sql, loop.asking.values
            question = questions.setdefault(key, _Question(loop.asking))
            question.bells.append((loop.asking.column, loop.wake))
        self._questions = list(questions.values())

    async def step(self) -> bool:
        """Ask what is due, each with one statement and all on one connection, and wake whom it concerns.

        Raises:  Unavailable; then every loop still looks for itself, every `UNASKED_S`.
        """
        now_s = boottime_s()
        due = [question for question in self._questions if question.is_due(now_s)]
        if not due:
            return False
        async with self._database.statements() as raw:
            for question in due:
                rows = await question.asking.statement.many(raw, *question.asking.values)
                question.due_s = now_s + question.asking.every_s
                for column, bell in question.bells:
                    if rows and (not column or rows[0][column]):
                        bell.set()
        return False

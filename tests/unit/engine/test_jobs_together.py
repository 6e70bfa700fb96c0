"""Writes of many jobs in few transactions: grouped while one commits, and each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from outrider.base.errors import Broken, Unavailable
from outrider.data.db import Database, Role
from outrider.engine.jobs.together import MOST, Together


class Glass:
    """A database that remembers its transactions; each commit waits for the test."""

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []
        self.may_commit = asyncio.Event()
        self.away = False

    @asynccontextmanager
    async def uow(self, role: Role) -> AsyncIterator[list[Any]]:
        """One transaction: a list of what was done in it."""
        assert role is Role.ENGINE
        done: list[Any] = []
        yield done
        await self.may_commit.wait()
        if self.away:
            raise Unavailable("away", "come again")
        self.commits.append(done)


def act(n: int, error: Exception | None = None) -> Any:
    async def write(uow: Any) -> int:
        if error is not None:
            raise error
        uow.append(n)
        return n

    return write


async def test_what_comes_while_one_commits_goes_together_into_the_next() -> None:
    glass = Glass()
    together = Together(cast("Database", glass))
    first = asyncio.create_task(together.do(act(0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(together.do(act(n))) for n in range(1, MOST + 2)]
    await asyncio.sleep(0)
    glass.may_commit.set()
    assert await asyncio.gather(first, *others) == list(range(MOST + 2))
    assert [len(commit) for commit in glass.commits] == [1, MOST, 1]


async def test_one_that_breaks_does_not_take_the_others_with_it() -> None:
    glass = Glass()
    glass.may_commit.set()
    together = Together(cast("Database", glass))
    found = await asyncio.gather(
        together.do(act(1)), together.do(act(2, Broken("bug", "it broke"))), together.do(act(3)), return_exceptions=True
    )
    assert (found[0], found[2]) == (1, 3)
    assert isinstance(found[1], Broken)
    assert glass.commits == [[1], [3]]


async def test_a_commit_that_did_not_come_is_told_to_all_of_it_and_the_next_goes_on() -> None:
    glass = Glass()
    glass.away = True
    glass.may_commit.set()
    together = Together(cast("Database", glass))
    found = await asyncio.gather(together.do(act(1)), together.do(act(2)), return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable, Unavailable]
    glass.away = False
    assert await together.do(act(3)) == 3
    assert glass.commits == [[3]]


async def test_who_asked_first_may_have_gone() -> None:
    glass = Glass()
    together = Together(cast("Database", glass))
    asked = asyncio.create_task(together.do(act(1)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    glass.may_commit.set()
    assert await together.do(act(2)) == 2

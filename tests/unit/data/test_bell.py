"""A bell: rings within a moment become one action, and what was rung for can be waited for."""

from __future__ import annotations

import asyncio

from outrider.base.errors import Unavailable
from outrider.data.bell import Bell


async def test_rings_of_a_moment_are_one_action_and_one_during_it_is_another() -> None:
    bell, done = Bell(), 0
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        nonlocal done
        inside.set()
        await go_on.wait()
        done += 1

    for _ in range(5):
        bell.ring("a", act)
    await inside.wait()
    bell.ring("a", act)
    go_on.set()
    await bell.quiet()
    assert done == 2


async def test_it_is_quiet_when_everything_rung_for_was_done_also_what_was_rung_for_meanwhile() -> None:
    bell, done = Bell(), []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        bell.ring("b", second)
        done.append("first")

    bell.ring("a", first)
    assert done == []
    await bell.quiet()
    assert done == ["first", "second"]
    await bell.quiet()


async def test_a_fault_of_the_action_ends_nothing() -> None:
    bell, done = Bell(), 0

    async def act() -> None:
        nonlocal done
        done += 1
        raise Unavailable("database_unavailable", "away")

    for _ in range(2):
        bell.ring("a", act)
        await bell.quiet()
    assert done == 2

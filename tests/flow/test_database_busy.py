"""A database that is there but lets others' work go first is called busy, never unreachable, and nothing is changed.

Source:  F42, F43
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from outrider.base.errors import Unavailable
from outrider.data.db import Role
from tests.kit.api import api_of
from tests.kit.two_rows import two_rows

_BOUND_S = 60


def _is_busy(error: Unavailable) -> bool:
    told = str(error)
    return (error.code, error.retry_after_s) == ("database_busy", 1) and "nothing was changed, try again" in told


async def test_of_two_that_wait_for_each_other_one_is_told_that_it_lost_and_the_other_is_kept(
    new_database: Callable[..., str],
) -> None:
    async with two_rows(new_database("migrated"), "as it was") as (db, beside):
        both = asyncio.Barrier(2)

        async def change(first: int, second: int) -> None:
            async with db.uow(Role.ENGINE) as uow:
                await uow.raw.execute("UPDATE two_rows SET text = $2 WHERE id = $1", first, f"first {first}")
                await both.wait()
                await uow.raw.execute("UPDATE two_rows SET text = $2 WHERE id = $1", second, f"first {first}")

        async with asyncio.timeout(_BOUND_S):
            ends = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)
        lost = [end for end in ends if end is not None]
        assert len(lost) == 1
        assert isinstance(lost[0], Unavailable)
        assert _is_busy(lost[0]), lost[0]
        winner = 1 + ends.index(None)
        texts = await beside.fetch("SELECT text FROM two_rows")
        assert {row["text"] for row in texts} == {f"first {winner}"}, "nothing of the one that lost"


async def test_a_change_that_others_overtook_is_told_so(new_database: Callable[..., str]) -> None:
    async with two_rows(new_database("migrated"), "as it was") as (db, beside):

        async def overtaken() -> None:
            async with db.statements() as raw, raw.transaction(isolation="repeatable_read"):
                await raw.fetch("SELECT * FROM two_rows")
                await beside.execute("UPDATE two_rows SET text = 'of others' WHERE id = 1")
                await raw.execute("UPDATE two_rows SET text = 'ours' WHERE id = 1")

        with pytest.raises(Unavailable) as found:
            await overtaken()
        assert _is_busy(found.value), found.value
        assert await beside.fetchval("SELECT text FROM two_rows WHERE id = 1") == "of others"


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
async def test_what_somebody_else_holds_is_called_busy(limit: str, new_database: Callable[..., str]) -> None:
    async with two_rows(new_database("migrated"), "as it was") as (db, beside):

        async def wait() -> None:
            async with db.uow(Role.ENGINE) as uow:
                await uow.raw.execute("UPDATE two_rows SET text = 'ours' WHERE id = 2")
                await uow.raw.execute(f"SET LOCAL {limit} = '50ms'")
                await uow.raw.execute("UPDATE two_rows SET text = 'ours' WHERE id = 1")

        async with beside.transaction():
            await beside.execute("SELECT FROM two_rows WHERE id = 1 FOR UPDATE")
            with pytest.raises(Unavailable) as found:
                await wait()
        assert _is_busy(found.value), found.value
        assert await beside.fetchval("SELECT count(*) FROM two_rows WHERE text = 'as it was'") == 2


async def test_a_request_that_waits_for_others_too_long_is_answered_when_to_come_again(
    new_database: Callable[..., str],
) -> None:
    url = new_database("migrated")
    beside = await asyncpg.connect(url)
    try:
        name = await beside.fetchval("SELECT current_database()")
        await beside.execute(f'ALTER DATABASE "{name}" SET lock_timeout = 500')
        async with api_of(url) as api:
            caller = api.caller(await api.key("contacts:read", "contacts:write"))
            async with api.app() as uow:
                await uow.raw.execute("LOCK TABLE lists IN EXCLUSIVE MODE")
                late = await caller.post("/api/v1/lists", {"name": "too late"})
            again = await caller.post("/api/v1/lists", {"name": "too late"})
    finally:
        await beside.close()
    assert (late.status, late.code, late.headers["Retry-After"]) == (503, "database_busy", "1"), late.text
    assert "nothing was changed" in late.json["detail"]
    assert again.status == 201, again.text

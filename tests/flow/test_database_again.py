"""A unit of work that a deadlock or an overtaking change undid is done again as a whole; its caller hears nothing.

Source:  F42
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import asyncpg
import pytest

from outrider.base.errors import Broken, Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data import again
from outrider.data.again import TRIES, again_if_undone
from outrider.data.db import Role
from tests.kit.api import api_of
from tests.kit.two_rows import two_rows

_BOUND_S = 60
_SENDER = """
WITH made AS (INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id)
INSERT INTO senders (tenant_id, name, channel, connection_id, from_address)
SELECT $1, 'news', 'email', id, 'news@example.org' FROM made
"""
_FAIL = "DO $$ BEGIN RAISE EXCEPTION 'drill' USING ERRCODE = '{code}'; END $$"


@pytest.mark.parametrize("way", ["uow", "transaction"])
async def test_of_two_that_wait_for_each_other_both_are_done_and_each_once(
    way: str, new_database: Callable[..., str]
) -> None:
    async with two_rows(new_database("migrated")) as (db, beside):
        both, tries = asyncio.Barrier(2), 0

        async def written(raw: asyncpg.Connection, first: int, second: int) -> None:
            nonlocal tries
            tries += 1
            await raw.execute("UPDATE two_rows SET text = text || $2 WHERE id = $1", first, str(first))
            if tries <= 2:
                await both.wait()
            await raw.execute("UPDATE two_rows SET text = text || $2 WHERE id = $1", second, str(first))

        async def change(first: int, second: int) -> None:
            if way == "uow":
                async with db.uow(Role.ENGINE) as uow:
                    await written(uow.raw, first, second)
            else:
                async with db.transaction() as raw:
                    await written(raw, first, second)

        async with asyncio.timeout(_BOUND_S):
            await asyncio.gather(again_if_undone(partial(change, 1, 2)), again_if_undone(partial(change, 2, 1)))
        assert tries >= 3, "one of them lost"
        texts = await beside.fetch("SELECT text FROM two_rows")
        assert {"".join(sorted(row["text"])) for row in texts} == {"12"}


@pytest.mark.parametrize("code", ["40P01", "40001"])
async def test_what_is_undone_every_time_is_given_up_and_says_so(
    code: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "_FIRST_PAUSE_S", 0.0)
    tries = 0
    async with two_rows(new_database("migrated")) as (db, _):

        async def work() -> None:
            nonlocal tries
            async with db.uow(Role.ENGINE) as uow:
                tries += 1
                await uow.raw.execute(_FAIL.format(code=code))

        with pytest.raises(Unavailable) as found:
            await again_if_undone(work)
    assert (found.value.code, tries) == ("database_busy", TRIES)


@pytest.mark.parametrize("code", ["57014", "55P03", "57P01", "08006"])
async def test_what_is_not_known_to_be_undone_for_others_is_left_to_the_caller(
    code: str, new_database: Callable[..., str]
) -> None:
    tries = 0
    async with two_rows(new_database("migrated")) as (db, _):

        async def work() -> None:
            nonlocal tries
            async with db.uow(Role.ENGINE) as uow:
                tries += 1
                await uow.raw.execute(_FAIL.format(code=code))

        with pytest.raises(Unavailable):
            await again_if_undone(work)
    assert tries == 1


async def test_a_bug_is_not_repeated() -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        raise Broken("bug", "a bug")

    with pytest.raises(Broken):
        await again_if_undone(work)
    assert tries == 1


@pytest.mark.parametrize("people", [1, 3])
async def test_a_submission_whose_first_try_lost_a_deadlock_is_answered_as_if_nothing_had_been(
    people: int, new_database: Callable[..., str]
) -> None:
    url = new_database("migrated")
    beside = await asyncpg.connect(url)
    try:
        await beside.execute(
            "SET ROLE outrider_owner; CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC;"
            "CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') <= 2 THEN"
            " RAISE EXCEPTION 'drill' USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$;"
            "CREATE TRIGGER trip AFTER INSERT ON queue FOR EACH STATEMENT EXECUTE FUNCTION trip()"
        )
        async with api_of(url) as api:
            caller = api.caller(await api.key("messages:write"))
            async with api.engine() as uow:
                await uow.raw.execute(_SENDER, DEFAULT_TENANT)
            body = {"subject": "Hello", "text": "Hello."}
            each = [{"to": f"p{n}@example.com"} for n in range(people)]
            to = {"messages": each} if people > 1 else each[0]
            answer = await caller.post("/api/v1/messages", body | to)
        assert answer.status == 202, answer.text
        assert await beside.fetchval("SELECT last_value FROM tries") == 3
        await beside.execute("RESET ROLE; SET ROLE outrider_engine")
        assert await beside.fetchval("SELECT count(*) FROM messages") == people
    finally:
        await beside.close()

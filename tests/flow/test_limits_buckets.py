"""Shared send rates on a real database: never more than allowed, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from outrider.base.errors import Refused
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role
from outrider.domain.audit.listing import listed as audited
from outrider.domain.limits import buckets
from outrider.domain.limits.rows import give_back, take

ANN = Actor("user", "ann@example.org")


@pytest.fixture
async def db(new_database: Callable[..., str]) -> AsyncIterator[Database]:
    made = Database(new_database("migrated"), pool_size=8, wait_s=60, role=Role.ENGINE)
    yield made
    await made.close()


async def limit(db: Database, rate_per_s: float, burst: float | None = None) -> buckets.Rate:
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        return await buckets.set_rate(uow, ANN, "tenant", DEFAULT_TENANT, rate_per_s, burst)


async def taken(db: Database, asked: int) -> int | None:
    async with db.transaction() as raw:
        return await take(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, asked)


async def test_without_a_bucket_nothing_is_limited(db: Database) -> None:
    assert await taken(db, 500) is None


async def test_a_bucket_gives_what_it_holds_then_nothing(db: Database) -> None:
    await limit(db, 0.001, 100)
    assert [await taken(db, 60), await taken(db, 60), await taken(db, 60)] == [60, 40, 0]


async def test_what_is_given_back_can_be_taken_again(db: Database) -> None:
    await limit(db, 0.001, 100)
    async with db.transaction() as raw:
        assert await take(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 100) == 100
        await give_back(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 30)
        await give_back(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 0)
    assert await taken(db, 100) == 30


async def test_a_bucket_never_holds_more_than_its_burst(db: Database) -> None:
    await limit(db, 1_000_000, 50)
    async with db.transaction() as raw:
        await give_back(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 1000)
        assert await take(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 1000) == 50


async def test_tokens_of_a_transaction_that_fails_are_not_spent(db: Database) -> None:
    async def fail() -> None:
        async with db.transaction() as raw:
            assert await take(raw, DEFAULT_TENANT, "tenant", DEFAULT_TENANT, 10) == 10
            raise RuntimeError

    await limit(db, 0.001, 10)
    with pytest.raises(RuntimeError):
        await fail()
    assert await taken(db, 10) == 10


async def test_many_takers_together_get_no_more_than_burst_and_rate_allow(db: Database) -> None:
    await limit(db, 200, 100)
    async with db.uow(Role.ENGINE) as uow:
        begun = await uow.raw.fetchval("SELECT at_s FROM buckets")
    total = sum(filter(None, await asyncio.gather(*(taken(db, 7) for _ in range(200)))))
    async with db.uow(Role.ENGINE) as uow:
        ended = await uow.raw.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    assert 100 <= total <= 100 + 200 * (ended - begun)


async def test_changing_a_rate_keeps_what_was_spent(db: Database) -> None:
    await limit(db, 0.001, 100)
    await taken(db, 90)
    assert (await limit(db, 0.002, 50)).burst == 50
    assert await taken(db, 100) == 10


async def test_a_burst_is_one_seconds_worth_unless_given(db: Database) -> None:
    assert (await limit(db, 25)).burst == 25
    assert (await limit(db, 0.1)).burst == 1


async def test_clearing_lifts_the_limit_and_both_are_audited(db: Database) -> None:
    await limit(db, 5)
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        assert [rate.rate_per_s for rate in await buckets.listed(uow)] == [5.0]
        assert await buckets.clear(uow, ANN, "tenant", DEFAULT_TENANT) is not None
        assert await buckets.clear(uow, ANN, "tenant", DEFAULT_TENANT) is None
        assert await buckets.listed(uow) == []
        assert [entry.action for entry in await audited(uow)] == ["rate.clear", "rate.clear", "rate.set"]
    assert await taken(db, 1000) is None


@pytest.mark.parametrize(
    ("scope", "rate_per_s", "burst", "code"),
    [
        ("tenant", 0, None, "invalid_rate"),
        ("tenant", -1, None, "invalid_rate"),
        ("tenant", float("nan"), None, "invalid_rate"),
        ("tenant", float("inf"), None, "invalid_rate"),
        ("tenant", 1e12, None, "invalid_rate"),
        ("tenant", 5, 0.5, "invalid_rate"),
        ("tenant", 5, float("nan"), "invalid_rate"),
        ("campaign", 5, None, "unknown_scope"),
    ],
)
async def test_rates_that_make_no_sense_are_refused(
    db: Database, scope: str, rate_per_s: float, burst: float | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await buckets.set_rate(uow, ANN, scope, DEFAULT_TENANT, rate_per_s, burst)
    assert caught.value.code == code


@pytest.mark.parametrize("scope", ["tenant", "sender"])
async def test_a_rate_for_what_does_not_exist_is_refused(db: Database, scope: str) -> None:
    with pytest.raises(Refused) as caught:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await buckets.set_rate(uow, ANN, scope, uuid4(), 5)
    assert caught.value.code == "not_found"

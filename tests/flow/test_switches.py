"""The kill switch on a real database: what it writes, whom it tells, and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Broken, Refused
from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.listing import listed as audited
from outrider.domain.limits import maintenance, switches
from outrider.domain.limits.rows import SQL

ANN = Actor("user", "ann@example.org", "127.0.0.1")
SENDER, CAMPAIGN = uuid4(), uuid4()


@pytest.fixture
async def db(new_database: Callable[..., str]) -> AsyncIterator[Database]:
    made = Database(new_database("migrated"), pool_size=6)
    yield made
    await made.close()


async def sender(uow: UnitOfWork) -> UUID:
    connection = await uow.raw.fetchval(
        "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id", DEFAULT_TENANT
    )
    made: UUID = await uow.raw.fetchval(
        "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
        "VALUES ($1, 's', 'email', $2, 'a@example.org') RETURNING id",
        DEFAULT_TENANT,
        connection,
    )
    return made


async def lane(uow: UnitOfWork, sender_id: UUID, channel: str = "email", tenant_id: UUID = DEFAULT_TENANT) -> int:
    made: int = await uow.raw.fetchval(
        "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, $2, $3, 'bulk') RETURNING id",
        tenant_id,
        channel,
        sender_id,
    )
    return made


async def epoch(db: Database) -> int:
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        row = await SQL.epoch_read.one(uow.raw)
    assert row is not None
    return int(row["switch_epoch"])


async def test_pausing_twice_is_no_error_keeps_the_first_reason_and_is_audited_each_time(db: Database) -> None:
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        first = await switches.pause(uow, ANN, "tenant", None, "complaints")
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        second = await switches.pause(uow, Actor("cli", "cli:bob"), "tenant", "ignored", "again")
    assert (first.changed, second.changed) == (True, False)
    assert (second.reason, second.actor, second.scope_id) == ("complaints", ANN.name, str(DEFAULT_TENANT))
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        assert [one.scope for one in await switches.listed(uow)] == ["tenant"]
        entries = await audited(uow)
    assert [(entry.action, entry.reason, entry.details["changed"]) for entry in entries] == [
        ("sending.pause", "again", False),
        ("sending.pause", "complaints", True),
    ]


async def test_resuming_takes_the_switch_away_and_says_what_had_paused_it(db: Database) -> None:
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        await switches.pause(uow, ANN, "channel", "email", "spam report")
        done = await switches.resume(uow, ANN, "channel", "email", "solved")
        again = await switches.resume(uow, ANN, "channel", "email", "")
        assert await switches.listed(uow) == []
        last, middle, _ = await audited(uow)
    assert (done.is_paused, done.changed, again.changed) == (False, True, False)
    assert middle.details["paused_reason"] == "spam report"
    assert (last.reason, last.details) == ("not given", {"changed": False})


async def test_every_change_is_counted_and_told_at_the_commit(db: Database) -> None:
    async def fail() -> None:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await switches.pause(uow, ANN, "tenant", None, "")
            raise RuntimeError

    listener = await db.connect()
    told: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("outrider_switch", lambda *arguments: told.put_nowait(arguments[3]))
    try:
        before = await epoch(db)
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await switches.pause(uow, ANN, "tenant", None, "")
        assert await asyncio.wait_for(told.get(), 90) == str(before + 1)
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await switches.resume(uow, ANN, "tenant", None, "")
        assert await asyncio.wait_for(told.get(), 90) == str(before + 2)
        with pytest.raises(RuntimeError):
            await fail()
        async with db.uow(Role.ENGINE) as uow:
            await maintenance.maintenance_on(uow, ANN, "")
        assert await asyncio.wait_for(told.get(), 90) == str(before + 3)
    finally:
        await listener.close()


async def test_the_installations_switch_is_seen_by_every_tenant_and_audited_in_its_own_chain(db: Database) -> None:
    async with db.uow(Role.APP, NIL) as uow:
        paused = await switches.pause(uow, ANN, "installation", None, "breach")
        await switches.pause(uow, ANN, "channel", "email", "everywhere")
        assert [entry.action for entry in await audited(uow)] == ["sending.pause"] * 2
    assert (paused.tenant_id, paused.scope_id) == (NIL, str(NIL))
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        assert [(one.tenant_id, one.scope) for one in await switches.listed(uow)] == [
            (NIL, "channel"),
            (NIL, "installation"),
        ]
        assert await audited(uow) == []


async def test_one_tenants_switches_are_not_anothers(db: Database) -> None:
    async with db.uow(Role.ENGINE) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    async with db.uow(Role.APP, other) as uow:
        await switches.pause(uow, ANN, "tenant", None, "")
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        assert await switches.listed(uow) == []
        assert not (await switches.resume(uow, ANN, "tenant", str(other), "")).changed
    async with db.uow(Role.ENGINE) as uow:
        assert [one.tenant_id for one in await switches.listed(uow)] == [other]


@pytest.mark.parametrize(
    ("scope", "scope_id", "code"),
    [
        ("world", None, "unknown_scope"),
        ("sender", None, "required"),
        ("sender", "no-id", "not_found"),
        ("sender", str(SENDER), "not_found"),
        ("campaign", str(CAMPAIGN), "not_found"),
        ("channel", "e mail", "not_found"),
        ("channel", "x" * 50, "not_found"),
    ],
)
async def test_pausing_what_does_not_exist_is_refused(
    db: Database, scope: str, scope_id: str | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await switches.pause(uow, ANN, scope, scope_id, "")
    assert caught.value.code == code


async def test_a_tenants_switch_needs_a_tenant(db: Database) -> None:
    for tenant in (None, NIL):
        with pytest.raises(Broken):
            async with db.uow(Role.ENGINE, tenant) as uow:
                await switches.pause(uow, ANN, "tenant", None, "")


async def test_settling_waits_until_a_claim_that_began_before_has_ended(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switches, "_SETTLE_MS", "60000")  # however slow this machine is
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        sender_id = await sender(uow)
        lane_id = await lane(uow, sender_id)
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as claim:
        await claim.raw.execute(
            "SELECT FROM lanes WHERE tenant_id = $1 AND id = $2 FOR UPDATE", DEFAULT_TENANT, lane_id
        )
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            paused = await switches.pause(uow, ANN, "sender", str(sender_id), "")
        settling = asyncio.create_task(switches.settle(db, paused.scope, paused.tenant_id, paused.scope_id))
        await waiting_for_a_lock(db)
        assert not settling.done()
    assert await asyncio.wait_for(settling, 90) is True


@pytest.mark.parametrize("scope", ["installation", "tenant", "channel", "sender"])
async def test_settling_gives_up_on_a_claim_that_does_not_end(db: Database, scope: str) -> None:
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        sender_id = await sender(uow)
        await lane(uow, sender_id)
    places = {
        "installation": (NIL, str(NIL)),
        "tenant": (DEFAULT_TENANT, str(DEFAULT_TENANT)),
        "channel": (DEFAULT_TENANT, "email"),
        "sender": (DEFAULT_TENANT, str(sender_id)),
    }
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as claim:
        await claim.raw.execute("SELECT FROM lanes FOR UPDATE")
        assert await switches.settle(db, scope, *places[scope]) is False


async def test_settling_does_not_wait_for_lanes_that_are_not_concerned(db: Database) -> None:
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
        sender_id = await sender(uow)
        await lane(uow, sender_id)
        await lane(uow, uuid4(), channel="sms")
        await lane(uow, uuid4(), tenant_id=other)
    async with db.uow(Role.ENGINE, DEFAULT_TENANT) as claim:
        await claim.raw.execute("SELECT FROM lanes WHERE channel = 'sms' OR tenant_id = $1 FOR UPDATE", other)
        assert await switches.settle(db, "sender", DEFAULT_TENANT, str(sender_id)) is True
        assert await switches.settle(db, "channel", DEFAULT_TENANT, "email") is True
        assert await switches.settle(db, "campaign", DEFAULT_TENANT, str(CAMPAIGN)) is True


async def test_maintenance_is_on_once_and_off_once_and_audited_each_time(db: Database) -> None:
    async with db.uow(Role.ENGINE) as uow:
        on = await maintenance.maintenance_on(uow, ANN, "upgrade")
        again = await maintenance.maintenance_on(uow, Actor("cli", "cli:bob"), "")
    assert (on.is_on, on.changed, on.reason, on.actor) == (True, True, "upgrade", ANN.name)
    assert (again.is_on, again.changed, again.reason) == (True, False, "upgrade")
    async with db.uow(Role.ENGINE) as uow:
        off = await maintenance.maintenance_off(uow, ANN, "done")
        nothing = await maintenance.maintenance_off(uow, ANN, "done")
    assert (off.is_on, off.changed, off.since, nothing.changed) == (False, True, None, False)
    async with db.uow(Role.APP, NIL) as uow:
        assert [entry.action for entry in await audited(uow)] == ["maintenance.off"] * 2 + ["maintenance.on"] * 2


async def waiting_for_a_lock(db: Database) -> None:
    """Return when some session waits for a row lock."""
    async with asyncio.timeout(90):
        while True:
            async with db.uow(Role.ENGINE) as uow:
                if await uow.raw.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    return
            await asyncio.sleep(0.01)

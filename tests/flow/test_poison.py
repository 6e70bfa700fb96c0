"""Messages over which workers died: on a list, queued again by people alone, one at a time, and audited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.messages import people, poison, validate
from outrider.domain.messages.rows import POISON, SQL
from outrider.engine.dispatch import recovery
from outrider.engine.dispatch.record import Row
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.campaigns import Campaign, launched
from tests.kit.command import Command, migrated_command
from tests.kit.dispatch import Desk, Post
from tests.kit.postgres import run_apart

WHO = Actor("user", "ops@example.org", "127.0.0.1")
_LEASE = "UPDATE queue SET state = 1, token = $2, attempt = attempt + 1, lease_until = now() WHERE message_id = ANY($1)"


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def set_aside(uow: UnitOfWork, ids: list[UUID]) -> None:
    """What recovery writes about messages over which the third worker died."""
    await uow.raw.execute(_LEASE, ids, 77)
    rows = [Row("finish", each, 77, "failed", None, poison.CODE, "its worker died 3 times") for each in ids]
    await recovery._write(uow.raw, uow.tenant, rows)


async def poisoned(desk: Desk, count: int) -> list[UUID]:
    ids = await desk.admit(count)
    async with desk.engine() as uow:
        await set_aside(uow, ids)
    return ids


async def poisoned_of(desk: Desk, campaign: Campaign) -> UUID:
    """A message of a campaign that is set aside; its lane is closed."""
    lane = await desk.lane("bulk", campaign_id=campaign.id)
    (message_id,) = await desk.admit()
    await desk.post.execute(
        "WITH m AS (UPDATE messages SET campaign_id = $2, lane_id = $3 WHERE id = $1) "
        "UPDATE queue SET lane_id = $3 WHERE message_id = $1",
        message_id, campaign.id, lane.id,
    )  # fmt: skip
    async with desk.engine() as uow:
        await set_aside(uow, [message_id])
    await desk.post.execute("UPDATE lanes SET is_open = false WHERE id = $1", lane.id)
    return message_id


async def listed(desk: Desk, **more: Any) -> list[UUID]:
    async with desk.engine() as uow:
        return [row["message_id"] for row in await poison.listed(uow.raw, desk.tenant_id, limit=100, **more)]


async def standing(desk: Desk) -> int:
    """How many are set aside in the whole installation, as the alarm says."""
    async with desk.engine() as uow:
        return (await poison.standing(uow.raw)).count


async def requeue(desk: Desk, ids: list[UUID]) -> list[UUID]:
    async with desk.engine() as uow:
        return await poison.requeue(uow, WHO, desk.tenant_id, ids, reason="mended")


async def findings(desk: Desk) -> list[validate.Finding]:
    async with desk.post.runtime.db.uow(Role.ENGINE) as uow:
        return [each async for each in validate.validate(uow.raw) if each.tenant_id == desk.tenant_id]


async def test_what_is_set_aside_is_listed_oldest_first_for_its_tenant_alone(post: Post, desk: Desk) -> None:
    ids = await poisoned(desk, 3)
    await desk.admit(2)
    other = await post.desk()
    theirs = await poisoned(other, 1)
    assert await listed(desk) == sorted(ids)
    assert await listed(desk, after=min(ids)) == sorted(ids)[1:]
    assert await listed(other) == theirs
    async with desk.engine() as uow:
        (row, *_) = await poison.listed(uow.raw, desk.tenant_id, limit=1)
        assert (row["address"], row["attempts"], row["channel"]) == ("p0@example.org", 1, "email")
        assert row["detail"] == "its worker died 3 times"
        assert (await poison.standing(uow.raw)).count >= 4


async def test_what_is_queued_again_goes_alone_and_is_set_aside_by_one_more_death(desk: Desk) -> None:
    ids = await poisoned(desk, 3)
    assert sorted(await requeue(desk, ids[:2])) == sorted(ids[:2])
    assert await desk.states(ids) == ["queued", "queued", "failed"]
    assert await listed(desk) == [ids[2]]
    claim = await desk.claim()
    assert claim.batch is not None
    assert (list(claim.batch.messages), claim.batch.is_suspect) == ([ids[0]], True)
    async with desk.post.engine.transaction() as raw:
        (leased,) = await SQL.leased_by.many(raw, desk.tenant_id, [claim.batch.token])
        row = recovery._poison(leased)
        assert row is not None, "one more death"
        await recovery._write(raw, desk.tenant_id, [row])
    assert await listed(desk) == sorted([ids[0], ids[2]])
    assert await desk.events(ids[0]) == ["failed", "resent", "failed"]
    assert await findings(desk) == []


async def test_queueing_again_is_audited_once_with_the_ids_and_repeating_it_does_nothing(desk: Desk) -> None:
    ids = await poisoned(desk, 2)
    assert len(await requeue(desk, ids)) == 2
    assert await requeue(desk, ids) == []
    rows = await desk.post.fetch(
        "SELECT reason, details::text AS details FROM audit_log WHERE tenant_id = $1 AND action = 'poison.requeue'",
        desk.tenant_id,
    )
    assert len(rows) == 1
    assert rows[0]["reason"] == "mended"
    assert all(str(each) in rows[0]["details"] for each in ids)


async def test_only_what_is_poison_and_the_tenants_own_is_queued_again(post: Post, desk: Desk) -> None:
    (mine,) = await poisoned(desk, 1)
    (waiting,) = await desk.admit()
    other = await post.desk()
    (theirs,) = await poisoned(other, 1)
    assert await requeue(desk, [theirs, waiting, uuid4(), mine]) == [mine]
    assert await other.states([theirs]) == ["failed"]


async def test_what_a_provider_has_delivered_after_all_is_neither_listed_nor_sent_again(desk: Desk) -> None:
    (message_id,) = await poisoned(desk, 1)
    await desk.post.execute("UPDATE messages SET state = 'delivered', code = NULL WHERE id = $1", message_id)
    assert await listed(desk) == []
    assert await requeue(desk, [message_id]) == []


async def test_those_of_a_campaign_are_found_and_reopen_its_lane(desk: Desk) -> None:
    campaign = await launched(desk, 0)
    (others,) = await poisoned(desk, 1)
    message_id = await poisoned_of(desk, campaign)
    assert await listed(desk, campaign_id=campaign.id) == [message_id]
    async with desk.engine() as uow:
        assert await poison.ids(uow.raw, desk.tenant_id, campaign_id=campaign.id) == [message_id]
        assert len(await poison.ids(uow.raw, desk.tenant_id, campaign_id=None)) == 2
    await requeue(desk, [message_id, others])
    assert await desk.post.value("SELECT is_open FROM lanes WHERE campaign_id = $1", campaign.id)


async def test_what_was_cancelled_with_its_campaign_stays_failed_and_is_no_alarm(desk: Desk) -> None:
    before = await standing(desk)
    campaign = await launched(desk, 0)
    message_id = await poisoned_of(desk, campaign)
    assert await standing(desk) == before + 1
    await desk.post.execute("UPDATE campaigns SET state = 'cancelled', finished_at = now() WHERE id = $1", campaign.id)
    assert await listed(desk) == []
    async with desk.engine() as uow:
        assert await poison.ids(uow.raw, desk.tenant_id, campaign_id=None) == []
    assert await requeue(desk, [message_id]) == [], "a cancelled campaign is cancelled"
    assert await desk.states([message_id]) == ["failed"]
    assert await standing(desk) == before


async def test_the_message_of_an_erased_person_never_goes_again(desk: Desk) -> None:
    ids = await poisoned(desk, 1)
    async with desk.engine() as uow:
        await people.blank(uow, ids)
    assert await listed(desk) == []
    assert await requeue(desk, ids) == []
    assert await desk.states(ids) == ["failed"]


async def test_the_list_is_kept_as_long_as_messages_are(desk: Desk) -> None:
    old, new = await poisoned(desk, 2)
    keep_days = desk.post.runtime.settings.keep_messages_days
    await desk.post.execute(
        "UPDATE poison_messages SET since = now() - $2 * interval '1 day' WHERE message_id = $1", old, keep_days + 1
    )
    await Upkeep(desk.post.runtime).retention()
    assert await listed(desk) == [new]
    async with desk.post.engine.transaction() as raw:
        assert await POISON.poison_purge.run(raw, keep_days, 1000) == 0


def test_by_the_command_line_they_are_listed_told_as_an_alarm_and_queued_again(
    new_database: Callable[..., str], tmp_path: Any
) -> None:
    outrider: Command = migrated_command(new_database, tmp_path)
    made = outrider.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("messages", "send", "ann@example.org", "--subject", "s", "--text", "t", "--json"),
        ]
    )
    message_id = made[2].json()["id"]
    run_apart(_set_aside_in(outrider, UUID(message_id)))
    (row,) = outrider.run("poison", "list", "--json").json()
    assert (row["message_id"], row["address"]) == (message_id, "ann@example.org")
    alarms = outrider.run("status", "--json").json()["alarms"]
    assert [each for each in alarms if "1 message(s) over which workers died are set aside" in each], alarms
    assert outrider.run("poison", "requeue").code == 2
    tried = outrider.run("poison", "requeue", "--all", "--dry-run")
    assert (tried.code, "dry run" in tried.out) == (0, True)
    assert len(outrider.run("poison", "list", "--json").json()) == 1
    unconfirmed = outrider.run("poison", "requeue", "--all")
    assert unconfirmed.code != 0, "nobody was there to confirm"
    done = outrider.run("poison", "requeue", "--all", "--yes", "--reason", "mended", "--json")
    assert done.json() == {"requeued": [message_id], "not_poison": []}
    assert outrider.run("messages", "show", message_id, "--json").json()["state"] == "queued"
    assert outrider.run("audit", "list", "--action", "poison.requeue", "--json").json()[0]["reason"] == "mended"


async def _set_aside_in(outrider: Command, message_id: UUID) -> None:
    db = Database(outrider.environment["OUTRIDER_DATABASE_URL"], pool_size=1, name="test")
    try:
        async with db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            await set_aside(uow, [message_id])
    finally:
        await db.close()

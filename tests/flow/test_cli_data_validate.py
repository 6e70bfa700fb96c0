"""`data validate`: each invariant of audience, campaigns and limits broken once; exactly it and its id are reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.domain.campaigns import validate as campaigns
from outrider.domain.contacts import validate as contacts
from outrider.domain.limits import validate as limits
from tests.kit.command import command

T = DEFAULT_TENANT
OTHER = UUID(int=77)


@pytest.fixture
async def engine(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the engine, in a tenant's world of one of everything."""
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("SET ROLE outrider_engine")
    yield connection
    await connection.close()


async def _found(url: str) -> list[tuple[str, str]]:
    db = Database(url, pool_size=2)
    try:
        async with db.uow(Role.ENGINE) as uow:
            return [
                (finding.invariant, finding.id)
                for noun in (contacts, limits, campaigns)
                async for finding in noun.validate(uow.raw)
            ]
    finally:
        await db.close()


async def _campaign(engine: asyncpg.Connection, **columns: object) -> UUID:
    """A campaign with what it needs, launched into a lane of its own."""
    connection, sender, content, list_, campaign = (uuid4() for _ in range(5))
    await engine.execute(
        "INSERT INTO connections (tenant_id, id, name, provider) VALUES ($1, $2, 'c', 'smtp')", T, connection
    )
    await engine.execute(
        "INSERT INTO senders (tenant_id, id, name, channel, connection_id, from_address)"
        " VALUES ($1, $2, 's', 'email', $3, 'a@example.org')",
        T, sender, connection,
    )  # fmt: skip
    await engine.execute(
        "INSERT INTO contents (tenant_id, id, channel, hash, is_template) VALUES ($1, $2, 'email', '\\x00', true)",
        T, content,
    )  # fmt: skip
    await engine.execute("INSERT INTO lists (tenant_id, id, name) VALUES ($1, $2, 'l')", T, list_)
    await engine.execute(
        "INSERT INTO campaigns (tenant_id, id, name, channel, sender_id, content_id, list_id, state, created_by)"
        " VALUES ($1, $2, 'n', 'email', $3, $4, $5, 'draft', 'test')",
        T, campaign, sender, content, list_,
    )  # fmt: skip
    lane = await engine.fetchval(
        "INSERT INTO lanes (tenant_id, channel, sender_id, campaign_id, message_class)"
        " VALUES ($1, 'email', $2, $3, 'bulk') RETURNING id",
        T, sender, campaign,
    )  # fmt: skip
    await engine.execute(
        "UPDATE campaigns SET state = 'sending', lane_id = $3, launched_at = now() WHERE tenant_id = $1 AND id = $2",
        T, campaign, lane,
    )  # fmt: skip
    for name, value in columns.items():
        await engine.execute(f"UPDATE campaigns SET {name} = $3 WHERE tenant_id = $1 AND id = $2", T, campaign, value)
    return campaign


async def test_a_sound_database_has_no_findings(engine: asyncpg.Connection, migrated_url: str) -> None:
    await _campaign(engine)
    assert await _found(migrated_url) == []


async def test_consent_that_its_proof_contradicts(engine: asyncpg.Connection, migrated_url: str) -> None:
    contact = await engine.fetchval("INSERT INTO contacts (tenant_id) VALUES ($1) RETURNING id", T)
    await engine.execute(
        "INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)"
        " VALUES ($1, $2, 'email', 'marketing', 'granted', 'x')",
        T, contact,
    )  # fmt: skip
    await engine.execute(
        "INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source)"
        " VALUES ($1, $2, 'email', 'marketing', 'withdrawn', 'x')",
        T, contact,
    )  # fmt: skip
    assert await _found(migrated_url) == [("i5_consent_without_proof", str(contact))]


async def test_an_import_into_somebody_elses_list(engine: asyncpg.Connection, migrated_url: str) -> None:
    await engine.execute("INSERT INTO tenants (id, name) VALUES ($1, 'other')", OTHER)
    theirs = await engine.fetchval("INSERT INTO lists (tenant_id, name) VALUES ($1, 'l') RETURNING id", OTHER)
    broken = await engine.fetchval(
        "INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, list_id, created_by)"
        " VALUES ($1, 'f', '\\x00', 1, $2, 'x') RETURNING id",
        T, theirs,
    )  # fmt: skip
    assert await _found(migrated_url) == [("i6_list_of_another_tenant", str(broken))]


async def test_counts_of_an_import_that_do_not_add_up(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await engine.fetchval(
        "INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, created_by, row_count, created_count)"
        " VALUES ($1, 'f', '\\x00', 1, 'x', 5, 4) RETURNING id",
        T,
    )
    assert await _found(migrated_url) == [("i8_import_counts", str(broken))]


async def test_what_a_dry_run_left_behind(engine: asyncpg.Connection, migrated_url: str) -> None:
    import_id = await engine.fetchval(
        "INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, created_by, state, is_dry_run)"
        " VALUES ($1, 'f', '\\x00', 1, 'x', 'completed', true) RETURNING id",
        T,
    )
    await engine.execute("INSERT INTO import_keys VALUES ($1, $2, 'a:a@example.org', $2)", T, import_id)
    assert await _found(migrated_url) == [("i8_dry_run_left_keys", str(import_id))]


async def test_somebody_on_a_list_that_they_turned_off(engine: asyncpg.Connection, migrated_url: str) -> None:
    contact = await engine.fetchval("INSERT INTO contacts (tenant_id) VALUES ($1) RETURNING id", T)
    list_id = await engine.fetchval("INSERT INTO lists (tenant_id, name) VALUES ($1, 'l') RETURNING id", T)
    for table, more in (("list_members", ""), ("list_refusals", ", source")):
        value = ", 'test'" if more else ""
        await engine.execute(
            f"INSERT INTO {table} (tenant_id, list_id, contact_id{more}) VALUES ($1, $2, $3{value})",
            T,
            list_id,
            contact,
        )
    assert await _found(migrated_url) == [("i5_member_of_refused_list", str(contact))]


async def test_a_switch_that_pauses_nothing(engine: asyncpg.Connection, migrated_url: str) -> None:
    nothing = str(uuid4())
    await engine.execute(
        "INSERT INTO switches (tenant_id, scope, scope_id, actor) VALUES ($1, 'sender', $2, 'x')", T, nothing
    )
    assert await _found(migrated_url) == [("i5_switch_of_nothing", f"sender {nothing}")]


async def test_a_bucket_that_holds_more_than_its_cap(engine: asyncpg.Connection, migrated_url: str) -> None:
    await engine.execute(
        "INSERT INTO buckets (tenant_id, scope, scope_id, rate, cap, tokens) VALUES ($1, 'tenant', $1, 1, 2, 9)", T
    )
    assert await _found(migrated_url) == [("i8_tokens_within_cap", f"tenant {T}")]


async def test_a_warm_up_that_counts_more_than_is_noted(engine: asyncpg.Connection, migrated_url: str) -> None:
    sender = await engine.fetchval(
        "WITH c AS (INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id) "
        "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
        "SELECT $1, 's', 'email', id, 'a@example.org' FROM c RETURNING id",
        T,
    )
    await engine.execute(
        "INSERT INTO warm_ups (tenant_id, sender_id, plan, steps, starts_on, day_on, day_began_at, day_ends_at, "
        "hour_ends_at, day_sent) VALUES ($1, $2, 'own', '[{\"per_day\": 9}]', current_date, current_date, now(), "
        "now() + interval '1 hour', now(), 1)",
        T, sender,
    )  # fmt: skip
    assert await _found(migrated_url) == [("i8_warm_up_within_its_plan", str(sender))]
    await engine.execute("UPDATE warm_ups SET day_sent = 0, step = 2")
    assert await _found(migrated_url) == [("i8_warm_up_within_its_plan", str(sender))]


async def test_a_campaign_finished_with_open_messages(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _campaign(engine, state="finished")
    await engine.execute(
        "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state)"
        " SELECT tenant_id, gen_random_uuid(), lane_id, now(), 5, 0 FROM campaigns WHERE id = $1",
        broken,
    )
    assert await _found(migrated_url) == [("i2_finished_with_open_messages", str(broken))]


async def test_a_launched_campaign_without_a_lane(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _campaign(engine, lane_id=None)
    assert await _found(migrated_url) == [("i2_launched_without_lane", str(broken))]


async def test_a_campaign_in_a_lane_that_is_not_its_own(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _campaign(engine, lane_id=987654)
    assert await _found(migrated_url) == [("i6_lane_of_another_tenant", str(broken))]


async def test_a_campaign_that_counts_recipients_it_has_not(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _campaign(engine, expanded_count=3)
    assert await _found(migrated_url) == [("i8_expanded_count", str(broken))]


async def _waved(engine: asyncpg.Connection, *waves: tuple[int, int], **columns: object) -> UUID:
    """A campaign that is at its first wave; the waves are ranges of buckets."""
    campaign_id = await _campaign(engine, wave=1, **columns)
    for n, (begin, end) in enumerate(waves, 1):
        await engine.execute(
            "INSERT INTO campaign_waves (tenant_id, campaign_id, n, kind, bucket_from, bucket_to, member_count)"
            " VALUES ($1, $2, $3, 'canary', $4, $5, 0)",
            T, campaign_id, n, begin, end,
        )  # fmt: skip
    return campaign_id


async def _received(engine: asyncpg.Connection, campaign_id: UUID, begin: int) -> UUID:
    """A recipient from bucket `begin` on; gives the message."""
    message_id: UUID = await engine.fetchval(
        "WITH one AS (SELECT id FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 1000)) x"
        "  WHERE outrider_bucket($2, id, 0) >= $3 LIMIT 1)"
        " INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, message_id)"
        " SELECT $1, $2, id, 'a@b.example', outrider_id() FROM one RETURNING message_id",
        T, campaign_id, begin,
    )  # fmt: skip
    await engine.execute("UPDATE campaigns SET expanded_count = 1 WHERE id = $1", campaign_id)
    return message_id


async def test_a_recipient_whose_wave_has_not_come(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _waved(engine, (0, 500), (500, 10_000))
    await _received(engine, broken, 500)
    assert ("i7_recipient_of_a_later_wave", str(broken)) in await _found(migrated_url)
    await engine.execute(
        "WITH people AS (INSERT INTO contacts (tenant_id, id) SELECT tenant_id, contact_id FROM campaign_recipients"
        " RETURNING tenant_id, id)"
        " INSERT INTO contact_merges (tenant_id, merged_id, contact_id, merged_by)"
        " SELECT tenant_id, gen_random_uuid(), id, 'x' FROM people"
    )
    assert not [name for name, _ in await _found(migrated_url) if name.startswith("i7_recipient_of")]


async def test_waves_with_a_gap_between_them(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _waved(engine, (0, 500), (501, 10_000))
    assert await _found(migrated_url) == [("i8_waves_cover_everybody", str(broken))]


async def test_a_wave_that_was_queued_without_a_verdict_before_it(
    engine: asyncpg.Connection, migrated_url: str
) -> None:
    broken = await _waved(engine, (0, 500), (500, 10_000))
    await engine.execute("UPDATE campaign_waves SET expanded_at = now() WHERE campaign_id = $1 AND n = 2", broken)
    assert await _found(migrated_url) == [("i8_waves_cover_everybody", str(broken))]


async def test_a_rest_that_got_something_else_than_the_winner(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _waved(engine, (0, 1), (1, 10_000))
    await engine.execute("UPDATE campaigns SET wave = 2 WHERE id = $1", broken)
    decided = "UPDATE campaign_waves SET winner = 1, verdict = 'go_on' WHERE campaign_id = $1 AND n = 1"
    await engine.execute(decided, broken)
    content_id = await engine.fetchval(
        "INSERT INTO contents (tenant_id, channel, hash, is_template, subject)"
        " VALUES ($1, 'email', '\\x07', false, 'w') RETURNING id",
        T,
    )
    await engine.execute(
        "INSERT INTO campaign_variants (tenant_id, campaign_id, n, name, width, content_id, template_id,"
        " template_version) VALUES ($1, $2, 1, 'a', 10000, $3, $3, 1)",
        T, broken, content_id,
    )  # fmt: skip
    message_id = await _received(engine, broken, 1)
    await engine.execute(
        "INSERT INTO messages (tenant_id, id, lane_id, campaign_id, contact_id, content_id, address, purpose, due_at,"
        " state) SELECT c.tenant_id, r.message_id, c.lane_id, c.id, r.contact_id, c.content_id, r.address, 'x', now(),"
        " 'sent'"
        " FROM campaigns c JOIN campaign_recipients r ON r.campaign_id = c.id WHERE r.message_id = $1",
        message_id,
    )
    assert ("i8_rest_gets_the_winner", str(broken)) in await _found(migrated_url)


async def test_a_campaign_launched_before_it_was_made(engine: asyncpg.Connection, migrated_url: str) -> None:
    broken = await _campaign(engine)
    await engine.execute("UPDATE campaigns SET launched_at = created_at - interval '1 hour' WHERE id = $1", broken)
    assert await _found(migrated_url) == [("i9_order_of_moments", str(broken))]


async def test_the_command_exits_1_and_names_a_changed_audit_entry(
    engine: asyncpg.Connection, migrated_url: str, tmp_path: Path
) -> None:
    outrider = command(tmp_path, url=migrated_url)
    assert outrider.run("pause", "channel", "email").code == 0
    assert outrider.run("data", "validate").code == 0
    await engine.execute("RESET ROLE; SET ROLE outrider_owner; UPDATE audit_log SET reason = 'forged' WHERE seq = 1")
    done = outrider.run("data", "validate", "--json")
    assert done.code == 1
    [finding] = done.json()["findings"]
    assert (finding["invariant"], finding["ids"], finding["detail"]) == ("audit", [1], "it was changed")

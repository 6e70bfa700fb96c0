"""A database of the release before: what workers died over is found, and no writer waits for others' sake."""

from __future__ import annotations

import asyncio

import asyncpg

from outrider.base.ids import DEFAULT_TENANT
from outrider.data import migrate

_BEFORE = "0039"
_FAILED = """
WITH lane AS (
  INSERT INTO lanes (tenant_id, channel, sender_id, message_class)
  VALUES ($1, 'email', gen_random_uuid(), 'transactional') RETURNING id
), told AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, id, now(), 'failed', 'poison', 1 FROM lane
)
INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, due_at, state, code, finished_at)
SELECT $1, outrider_id(), lane.id, gen_random_uuid(), t.address, 'test', now(), 'failed', t.code,
       now() - interval '1 day'
FROM lane, (VALUES ('ann@example.org', 'poison'), ('bob@example.org', 'render_failed'), ('erased', 'poison'))
  t(address, code)
"""
_HOLDS_THE_QUEUE = """
SELECT bool_or(relation = 'queue'::regclass AND granted AND mode <> 'AccessShareLock') FROM pg_locks
WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY pid HAVING bool_or(relation = 'workers'::regclass AND NOT granted)
"""
"""Of who waits for the table of heartbeats: whether it keeps writers of the queue waiting meanwhile."""


async def test_what_workers_died_over_before_there_was_a_list_is_on_it(database_url: str) -> None:
    await migrate.upgrade(database_url, to=_BEFORE)
    connection = await asyncpg.connect(database_url, server_settings={"role": "outrider_engine"})
    try:
        await connection.execute(_FAILED, DEFAULT_TENANT)
        await migrate.upgrade(database_url)
        rows = await connection.fetch(
            "SELECT m.address, p.since = m.finished_at AS is_then FROM poison_messages p "
            "JOIN messages m ON m.tenant_id = p.tenant_id AND m.id = p.message_id"
        )
    finally:
        await connection.close()
    assert [(row["address"], row["is_then"]) for row in rows] == [("ann@example.org", True)]


async def test_whoever_reads_heartbeats_keeps_no_writer_of_the_queue_waiting(database_url: str) -> None:
    await migrate.upgrade(database_url, to=_BEFORE)
    reader = await asyncpg.connect(database_url, server_settings={"role": "outrider_engine"})
    watcher = await asyncpg.connect(database_url)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM workers")
        running = asyncio.create_task(migrate.upgrade(database_url))
        async with asyncio.timeout(60):
            while (holds := await watcher.fetchval(_HOLDS_THE_QUEUE)) is None:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0.01)
        await reader.execute("COMMIT")
        await running
    finally:
        await reader.close()
        await watcher.close()
    assert not holds

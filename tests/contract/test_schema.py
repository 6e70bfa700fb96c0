"""The migrated schema: what the models declare is what is there, and finishing a message stays cheap."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from tests.kit.schema import declared

WRITTEN_BY_FINISH = {"state", "provider_id", "code", "detail", "attempts", "attempted_at", "finished_at"}
MADE_BY_HAND = {
    # the data plane: partitioned, written by named statements, never through models
    "lanes", "messages", "queue", "message_events", "campaign_recipients", "uncertain_messages", "idempotency_keys",
    "keyed_requests", "poison_messages",
    "jobs", "job_states", "job_queues", "job_workers",
    "rollup_deltas", "rollups", "open_counts", "workers", "installation", "login_attempts",
    "event_clocks", "campaign_events",
    "tracked_links", "tracking_hits", "message_responses", "response_counts",
    "alembic_version",
}  # fmt: skip


async def test_the_declared_tables_equal_the_migrated_schema(contract_url: str) -> None:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(contract_url, server_settings={"role": "outrider_owner"})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()
    assert differences == []


async def test_every_table_is_declared_or_belongs_to_the_data_plane(contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind IN ('r', 'p') AND NOT relispartition"
        )
    finally:
        await connection.close()
    undeclared = {row["relname"] for row in rows} - set(declared().tables)
    assert undeclared <= MADE_BY_HAND, "declare it in domain/<noun>/tables.py"
    assert {"tenants", "campaigns", "suppressions"} <= set(declared().tables)


async def test_no_index_of_the_ledger_names_what_a_finish_changes(contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        indexes = await connection.fetch(
            """
            SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
            FROM pg_index i WHERE i.indrelid IN ('messages'::regclass, 'message_events'::regclass)
               OR i.indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'messages'::regclass)
            """
        )
    finally:
        await connection.close()
    assert len(indexes) > 10
    for index in indexes:
        columns = set(re.findall(r"\w+", index["definition"].partition(" USING ")[2]))
        assert not columns & WRITTEN_BY_FINISH, f"{index['name']} would end HOT updates: {index['definition']}"


async def test_current_partitions_leave_room_for_the_one_update_of_each_message(contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        rows = await connection.fetch(
            """
            SELECT c.relname, c.reloptions::text AS options FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'messages'::regclass AND c.relname <> 'messages_default'
            """
        )
    finally:
        await connection.close()
    assert len(rows) >= 4
    for row in rows:
        assert "fillfactor=50" in row["options"], row["relname"]


@pytest.mark.parametrize("parent", ["messages", "message_events"])
async def test_every_partitioned_table_has_a_default_partition(parent: str, contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = $1::text::regclass AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'",
            parent,
        )
    finally:
        await connection.close()
    assert found == 1, "a clock far off must not stop the acceptance of messages"


def _differences(connection: Connection) -> list[Any]:
    def is_declared(_object: Any, name: str | None, kind: str, *_more: Any) -> bool:
        return kind != "table" or name in declared().tables

    options = {"include_object": is_declared, "compare_type": True}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), declared())
    return found

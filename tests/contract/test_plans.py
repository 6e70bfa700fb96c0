"""Plans of the data plane on a full installation with fresh statistics: by index, by partition, never over everything.

One tenant has nearly everything, five hundred have nothing: that is when a planner believes that any row will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.messages.rows import SQL
from tests.kit.postgres import run_sql, shared_server
from tests.kit.statements import Named, every_statement

MESSAGES = 60_000
LARGE = {"messages", "message_events", "queue", "contacts", "addresses", "suppressions", "campaign_recipients"}
READS_EVERYTHING = {
    # statement -> why it may read a whole large table
    "queue_stats": "aggregates of the whole queue; asked by metrics, at most every few seconds",
    "queue_unworkable": "aggregates of the whole queue; asked by people, for `outrider status`",
    "held_by_gate": "aggregates of what gates hold; asked by metrics, at most every 15 seconds",
    "queue_of_lanes": "counts the lanes it is asked about, and one lane of this installation has everything",
    "audience_of_rules": "asks a segment's rules about everybody of a tenant, once per launch",
    "settle_audience": "asks a segment's rules about everybody of a tenant, once per launch",
    "count_contacts": "counts whom a segment's rules fit; people ask, and the answer has a time limit",
    "count_with_address": "counts whom a segment's rules fit; people ask, and the answer has a time limit",
    "zones_of_rules": "asks an audience's rules about everybody of a tenant, per preflight of a local time",
    "complained": "asks about every recipient of a canary, once per look; one campaign here has everything",
    "values_of_attribute": "the values in use of one attribute, for whoever changes its type",
    "recount": "counts the whole queue anew, once an hour in the whole installation",
    "contents_of_others": "an erasure's job asks once whether a text of one person went to others as well",
}
FILL = f"""
INSERT INTO tenants (name) SELECT 'idle ' || n FROM generate_series(1, 500) n;
INSERT INTO lanes (tenant_id, channel, sender_id, message_class)
  SELECT id, 'email', gen_random_uuid(), 'bulk' FROM tenants;
CREATE TEMP TABLE given AS
  SELECT '{DEFAULT_TENANT}'::uuid AS tenant_id, outrider_id() AS id, n, n || '@example.org' AS address,
         (SELECT id FROM lanes WHERE tenant_id = '{DEFAULT_TENANT}') AS lane_id
  FROM generate_series(1, {MESSAGES}) n;
INSERT INTO messages (tenant_id, id, lane_id, contact_id, content_id, address, purpose, due_at)
  SELECT tenant_id, id, lane_id, id, id, address, 'marketing', now() FROM given;
INSERT INTO message_events (tenant_id, message_id, kind) SELECT tenant_id, id, 'sent' FROM given;
INSERT INTO queue (tenant_id, message_id, lane_id, due_at, lease_until, token, priority, state)
  SELECT tenant_id, id, lane_id, now() + interval '1 hour', now() + interval '1 hour', n, 5,
         (ARRAY[0, 1, 4, 5])[1 + n % 4] FROM given;
INSERT INTO contacts (tenant_id, id) SELECT tenant_id, id FROM given;
INSERT INTO addresses (tenant_id, channel, address, contact_id) SELECT tenant_id, 'email', address, id FROM given;
INSERT INTO lists (tenant_id, name) SELECT id, 'everybody' FROM tenants WHERE name = 'default';
INSERT INTO list_members (tenant_id, list_id, contact_id)
  SELECT g.tenant_id, l.id, g.id FROM given g JOIN lists l USING (tenant_id);
INSERT INTO suppressions (tenant_id, channel, address_hash, reason, source, created_by)
  SELECT tenant_id, 'email', sha256(convert_to(address, 'UTF8')), 'asked', 'test', 'test' FROM given;
INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, message_id)
  SELECT tenant_id, tenant_id, id, address, id FROM given;
ANALYZE;
"""
NOT_ON_THE_WAY = re.compile(r"_purge$|drop_month$|make_partitions$|/validate\.sql:|/segments/rules\.sql:")
"""Upkeep takes small bites of what is old; validation is asked to look at everything; a segment's rules are conditions
of the statements that ask them."""
STATEMENTS = [named for named in every_statement() if not NOT_ON_THE_WAY.search(named.where)]


@pytest.fixture(scope="module")
def full_url(new_database: Callable[..., str]) -> str:
    url = new_database("migrated")
    name = url.rpartition("@/")[2].partition("?")[0]
    superuser = shared_server().url_of(name, superuser=True)
    run_sql(superuser, FILL)
    return superuser


@pytest.fixture
async def connection(full_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        full_url, server_settings={"plan_cache_mode": "force_generic_plan", "jit": "off"}
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.where)
async def test_a_statement_never_reads_a_large_table_from_end_to_end(
    statement: Named, connection: asyncpg.Connection
) -> None:
    if statement.where.rpartition(" ")[2] in READS_EVERYTHING:
        return
    count = len((await connection.prepare(statement.sql)).get_parameters())
    plan = await _plan(connection, statement.sql, ["NULL"] * count, prunes=False)
    filled = {row["relname"] for row in await connection.fetch("SELECT relname FROM pg_class WHERE reltuples > 1000")}
    scanned = {node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"}
    read = sorted({_table(name) for name in scanned & filled} & LARGE)
    assert not read, f"reads all of {read}; give the planner an order or a condition that has an index"


@pytest.mark.parametrize("name", ["claim_read", "claim_close", "cancel_close", "finish"])
async def test_what_names_ids_opens_only_their_partitions(name: str, connection: asyncpg.Connection) -> None:
    statement = getattr(SQL, name)
    rows = await connection.fetch("SELECT message_id FROM queue WHERE state = 1 ORDER BY message_id LIMIT 500")
    ids = [row["message_id"] for row in rows]
    kinds = [kind.name for kind in (await connection.prepare(statement.sql)).get_parameters()]
    plan = await _plan(connection, statement.sql, _arguments(kinds, ids), prunes=True)
    removed = sum(node.get("Subplans Removed", 0) for node in _nodes(plan))
    partitions = await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass")
    assert removed >= partitions - 2, f"{removed} of {partitions} partitions were left out"


async def test_the_check_notices_a_plan_that_reads_everything(connection: asyncpg.Connection) -> None:
    for order, is_read in (("", True), ("ORDER BY q.priority, q.due_at, q.message_id", False)):
        sql = (
            "SELECT 1 FROM lanes l CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id "
            f"AND q.lane_id = l.id AND q.state = 0 {order} LIMIT 1) ready"
        )
        nodes = list(_nodes(await _plan(connection, sql, [], prunes=False)))
        assert any(node["Node Type"] == "Seq Scan" and node["Relation Name"] == "queue" for node in nodes) == is_read


async def _plan(connection: asyncpg.Connection, sql: str, arguments: list[str], *, prunes: bool) -> dict[str, Any]:
    """The generic plan, as the data plane's connections get it."""
    given = f"({', '.join(arguments)})" if arguments else ""
    await connection.execute(f"SET enable_partition_pruning = {'on' if prunes else 'off'}")
    await connection.execute(f"PREPARE contract AS {sql}")
    try:
        answer = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE contract{given}")
    finally:
        await connection.execute("DEALLOCATE contract")
    found: dict[str, Any] = json.loads(answer)[0]["Plan"]
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _table(relation: str) -> str:
    """The table a partition belongs to."""
    return re.sub(r"_(?:\d{6}|default)$", "", relation)


def _arguments(kinds: list[str], ids: list[UUID]) -> list[str]:
    """Arguments of their types: the tenant first, ids where ids are wanted, their bounds at the end, else nothing."""
    bounds = iter((DEFAULT_TENANT, ids[0], ids[-1]))
    array = "ARRAY[" + ", ".join(f"'{one}'" for one in ids) + "]::uuid[]"
    return [array if kind == "uuid[]" else f"'{next(bounds)}'" if kind == "uuid" else f"NULL::{kind}" for kind in kinds]

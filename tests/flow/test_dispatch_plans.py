"""Plans of the data plane over many rows and months, with fresh statistics and with none; what a claim reads.

The rows are made by SQL, `PLAN_ROWS` of them (200,000 unless the environment says otherwise): three quarters ended,
spread over eight months, a quarter open in this one. Plans are made with the settings of the engine's own connections.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.registry import discover
from outrider.contracts.gate import Lane
from outrider.data.db import Database, Role
from outrider.domain.messages import lanes
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import marks, record
from outrider.engine.dispatch.claim import Claimer
from tests.kit.postgres import run_sql, shared_server

ROWS = int(os.environ.get("PLAN_ROWS", "200000"))
OPEN = ROWS // 4
TENANT, SENDER, CAMPAIGN = (UUID(int=(0x0190 << 112) | (0x7 << 76) | (0x2 << 62) | n) for n in (1, 2, 3))
CHANGED_BY_FINISH = {
    "state", "provider_id", "code", "detail", "attempts", "attempted_at", "finished_at",
}  # fmt: skip
MONTHS = """
DO $$ DECLARE month timestamptz; parent text; low text; high text; BEGIN
  FOR month IN SELECT generate_series(date_trunc('month', now()) - interval '9 months',
                                      date_trunc('month', now()) - interval '2 months', interval '1 month') LOOP
    low := to_hex((extract(epoch FROM month) * 1000)::bigint);
    high := to_hex((extract(epoch FROM month + interval '1 month') * 1000)::bigint);
    FOREACH parent IN ARRAY ARRAY['messages', 'message_events'] LOOP
      EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                     parent || '_' || to_char(month, 'YYYYMM'), parent,
                     rpad(lpad(low, 12, '0'), 32, '0')::uuid, rpad(lpad(high, 12, '0'), 32, '0')::uuid);
    END LOOP;
  END LOOP;
END $$
"""
ID = """(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
        || 'a000' || lpad(to_hex(n), 12, '0'))::uuid"""
ENDED_AT = f"now() - interval '8 months' * (n / {ROWS}::float8)"
LANE = "(SELECT max(id) FROM lanes)"
FILL = f"""
SET timezone = 'UTC';
{MONTHS};
INSERT INTO tenants (id, name) VALUES ('{TENANT}', 'great');
INSERT INTO lanes (tenant_id, channel, sender_id, message_class)
  VALUES ('{TENANT}', 'email', '{SENDER}', 'transactional');
CREATE TEMP TABLE ended AS SELECT {ID.format(at=ENDED_AT)} AS id, n FROM generate_series(1, {ROWS - OPEN}) n;
CREATE TEMP TABLE waiting AS
  SELECT {ID.format(at="now() - interval '1 minute'")} AS id, n FROM generate_series(1, {OPEN}) n;
INSERT INTO messages (tenant_id, id, lane_id, content_id, contact_id, address, purpose, state, due_at, finished_at)
  SELECT '{TENANT}', id, {LANE}, id, id, n || '@example.org', 'x', 'sent', now(), now() FROM ended;
INSERT INTO messages (tenant_id, id, lane_id, content_id, contact_id, address, purpose, due_at)
  SELECT '{TENANT}', id, {LANE}, id, id, n || '@example.org', 'x', now() FROM waiting;
INSERT INTO message_events (tenant_id, message_id, kind) SELECT '{TENANT}', id, 'sent' FROM ended;
INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, token, lease_until)
  SELECT '{TENANT}', id, {LANE}, now() - interval '1 minute' + n * interval '1 microsecond', 5,
         CASE WHEN n <= {OPEN} / 2 THEN 0 ELSE (ARRAY[1, 4, 5])[1 + n % 3] END, n, now() + interval '1 hour'
  FROM waiting;
INSERT INTO suppressions (tenant_id, channel, address_hash, reason, source, created_by)
  SELECT '{TENANT}', 'email', sha256(convert_to(n::text, 'UTF8')), 'stop', 'x', 'x' FROM waiting;
INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT '{TENANT}', id, 'email', 'x', 'granted', 'x' FROM waiting;
"""
_WITHOUT_STATISTICS = """
DELETE FROM pg_statistic;
UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0 WHERE relnamespace = 'public'::regnamespace
"""


@dataclass(frozen=True)
class Full:
    """A full installation, with or without statistics."""

    url: str
    lane_id: int
    with_rows: frozenset[str]
    """Tables of the data plane and their partitions that hold anything; a look into an empty one costs nothing."""


async def filled(new_database: Callable[..., str], last: str) -> Full:
    url = new_database("migrated")
    name = url.rpartition("@/")[2].partition("?")[0]
    superuser = shared_server().url_of(name, superuser=True)
    run_sql(superuser, "SET synchronous_commit = off; SET allow_system_table_mods = on;" + FILL + last)
    database = Database(url, pool_size=1, role=Role.ENGINE)
    try:
        async with database.transaction() as raw:
            held = [row[0] for row in await raw.fetch("SELECT DISTINCT tableoid::regclass::text FROM messages")]
            held += [row[0] for row in await raw.fetch("SELECT DISTINCT tableoid::regclass::text FROM message_events")]
            lane_id = await raw.fetchval("SELECT max(id) FROM lanes")
            return Full(url, lane_id, frozenset([*held, "queue", "suppressions", "consents"]))
    finally:
        await database.close()


@pytest.fixture(scope="module")
async def analysed(new_database: Callable[..., str]) -> Full:
    """Fresh statistics."""
    return await filled(new_database, "ANALYZE")


@pytest.fixture(scope="module")
async def unknown(new_database: Callable[..., str]) -> Full:
    """None: as after a restore, a failover or an upgrade."""
    return await filled(new_database, _WITHOUT_STATISTICS)


@pytest.fixture(params=["fresh statistics", "no statistics"])
async def full(request: pytest.FixtureRequest, analysed: Full, unknown: Full) -> Full:
    return analysed if request.param == "fresh statistics" else unknown


@pytest.fixture
async def engine(full: Full) -> AsyncIterator[Database]:
    database = Database(full.url, pool_size=2, role=Role.ENGINE)
    yield database
    await database.close()


LEDGER = re.compile(r"^(messages|message_events)(_\d{6}|_default)?$|^queue$")
TOKEN = 5


def arguments(full: Full, name: str, ids: Sequence[UUID]) -> Sequence[Any] | None:
    """What a statement of the hot path is called with, for 500 messages."""
    n = len(ids)
    low, high = min(ids), max(ids)
    known: Mapping[str, Sequence[Any]] = {
        "claim_pick": (TENANT, full.lane_id, 500, -1, "2000-01-01", UUID(int=0)),
        "claim_read": (TENANT, ids, low, high),
        "claim_take": (TENANT, ids, TOKEN, 30.0),
        "claim_hold": (TENANT, ids, ["2030-01-01"] * n, ["x"] * n),
        "claim_close": (TENANT, ids, ["blocked"] * n, ["x"] * n, ["x"] * n, low, high),
        "finish": (TENANT, ids, [TOKEN] * n, ["sent"] * n, ["p"] * n, ["x"] * n, ["x"] * n, low, high),
        "finish_sent": ([TENANT] * n, ids, [TOKEN] * n, ["p"] * n, low, high),
        "defer": (TENANT, ids, [TOKEN] * n, [1.0] * n, ["x"] * n, ["x"] * n),
        "hand_back": (TENANT, ids, [TOKEN] * n, [0] * n),
        "try_again": (TENANT, ids, [TOKEN] * n),
        "renew": (TENANT, ids, 30.0, [TOKEN] * n),
        "leased_by": (TENANT, [TOKEN]),
        "expired_leases": (TENANT, 1000),
        "promote": (TENANT, 5000),
        "lane_directory": (),
        "lanes_with_work": ([],),
        "tenants_with_due": (),
        "tenants_with_expired_leases": (30.0,),
        "cancel_pick": (TENANT, full.lane_id, 5000),
        "cancel_close": (TENANT, ids, low, high),
        "events_of": (TENANT, ids[0]),
        "message_get": (TENANT, ids[0]),
        "uncertain_resend": (TENANT, ids, "a", "r"),
        "uncertain_mark": (TENANT, ids, "sent", "a", "r"),
        "lanes_close": (TENANT, CAMPAIGN),
        "message_search_address": (TENANT, high, 100, "7@example.org", None),
        "message_search": (TENANT, high, 100, None, None, None, None),
    }
    return known.get(name)


BY_INDEX = (
    "claim_pick", "claim_read", "claim_take", "claim_hold", "claim_close", "finish", "finish_sent", "defer",
    "hand_back", "try_again", "renew", "leased_by", "expired_leases", "promote", "lane_directory", "lanes_with_work",
    "tenants_with_due", "tenants_with_expired_leases", "cancel_pick", "cancel_close", "events_of", "message_get",
    "uncertain_resend", "uncertain_mark", "lanes_close", "message_search_address", "message_search",
)  # fmt: skip
BY_BOUNDS = ("claim_read", "claim_close", "finish", "finish_sent", "cancel_close")


@pytest.mark.parametrize("name", BY_INDEX)
async def test_the_hot_path_walks_by_index_and_hashes_no_ledger(engine: Database, full: Full, name: str) -> None:
    plan = await explained(engine, full, name)
    bad = [
        f"{node['Node Type']} of {node.get('Relation Name', 'a join')}"
        for node in nodes(plan)
        if (node["Node Type"] == "Seq Scan" and node["Relation Name"] in full.with_rows) or _joins_ledger(node)
    ]
    assert not bad, bad


@pytest.mark.parametrize("name", BY_BOUNDS)
async def test_a_read_by_ids_opens_their_month_alone(engine: Database, full: Full, name: str) -> None:
    plan = await explained(engine, full, name)
    removed = sum(node.get("Subplans Removed", 0) for node in nodes(plan))
    read = {node["Relation Name"] for node in nodes(plan) if node.get("Relation Name", "").startswith("messages_")}
    async with engine.transaction() as raw:
        months = await raw.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass")
    assert months > 10
    assert removed >= months - 2, f"{removed} of {months} removed: {sorted(read)}"


async def test_no_index_names_what_a_finish_changes(engine: Database) -> None:
    async with engine.transaction() as raw:
        rows = await raw.fetch(
            """
            SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition,
                   ARRAY(SELECT a.attname FROM pg_attribute a
                         WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) AS columns,
                   coalesce(pg_get_expr(i.indpred, i.indrelid), '') || coalesce(pg_get_expr(i.indexprs, i.indrelid), '')
                     AS more
            FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
            WHERE c.relname ~ '^messages(_[0-9]{6}|_default)?$'
            """
        )
    assert len(rows) > 20
    for row in rows:
        named = CHANGED_BY_FINISH & set(row["columns"])
        named |= {column for column in CHANGED_BY_FINISH if re.search(rf"\b{column}\b", row["more"])}
        assert not named, f"{row['name']} would end HOT updates by {named}: {row['definition']}"


async def test_gates_look_up_by_index_however_long_their_lists_are(engine: Database, full: Full) -> None:
    async with engine.transaction() as raw:
        for key, gate in discover("outrider.plugins.gates", "GATE").items():
            if gate.facts:
                plan = await _generic(raw, gate.facts, (TENANT, [uuid4()], [uuid4()], ["a"], "email", "bulk", ["x"]))
                scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
                assert not scanned & full.with_rows, key


# what a claim reads


async def test_a_claim_reads_its_own_rows_and_not_what_lies_around(engine: Database, full: Full) -> None:
    async with engine.transaction() as raw:
        sql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {bound(SQL.claim_pick.sql, await _picks(full, 500))}"
        plan = json.loads(await raw.fetchval(sql))[0]["Plan"]
        read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        removed = sum(node.get("Rows Removed by Filter", 0) for node in nodes(plan))
    assert plan["Actual Rows"] == 500
    assert removed <= 500
    assert read <= 500 * 8, f"{read} pages for 500 messages of {OPEN:,} open ones"


async def test_the_last_claims_under_a_long_snapshot_read_at_most_twice_the_first(
    analysed: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report holds its snapshot while messages drain: nothing that is finished can be cleaned away meanwhile."""
    for name in ("LIFE_S", "LONGEST_LIFE_S"):  # a slow machine must not look like a mark that does not work
        monkeypatch.setattr(marks, name, 600.0)
    reader = await asyncpg.connect(analysed.url)
    engine = Database(analysed.url, pool_size=2, role=Role.ENGINE)
    lane = Lane(TENANT, analysed.lane_id, "email", SENDER, None, "transactional")
    claimer, reads = Claimer(engine, (), lease_s=60), []
    try:
        snapshot = reader.transaction(isolation="repeatable_read", readonly=True)
        await snapshot.start()
        await reader.execute("SET LOCAL ROLE outrider_engine")
        assert await reader.fetchval("SELECT count(*) FROM queue WHERE state = 0") == OPEN // 2
        for round_ in range(OPEN // 2 // 500):
            before = await _entries_read(engine)
            claim = await claimer.claim(lane, 1_000_000 + round_, limit=500)
            reads.append(await _entries_read(engine) - before)
            assert claim.batch is not None
            rows = [record.Row("sent", each, claim.batch.token, "sent", "p") for each in claim.batch.messages]
            async with engine.transaction() as raw:
                assert len(await record.write(raw, TENANT, rows)) == 500
        looked, swept = await _read_by_loops(engine, analysed.lane_id)
        await snapshot.rollback()
    finally:
        await reader.close()
        await engine.close()
    assert min(reads) >= 500, "the counter counts"
    first, last = median(reads[:10]), median(reads[-10:])
    assert last <= 2 * first, f"entries of the ready index read per claim of 500: {reads}"
    assert looked == 0, "a lane that is known to have something is not looked at"
    assert swept <= 10, f"the sweep of leases walked over {swept} entries, all sent or leased for long"


async def _read_by_loops(engine: Database, lane_id: int) -> tuple[int, int]:
    """Entries that a look from lane to lane and a sweep of leases walk over."""
    before = await _entries_read(engine), await _entries_read(engine, "queue_lease")
    async with engine.transaction() as raw:
        assert lane_id in [lane.id for lane in await lanes.with_work(raw, [lane_id])]
        assert await SQL.tenants_with_expired_leases.many(raw, -1.0) == []
    after = await _entries_read(engine), await _entries_read(engine, "queue_lease")
    return after[0] - before[0], after[1] - before[1]


async def _entries_read(engine: Database, index: str = "queue_ready") -> int:
    """Entries of an index that scans have walked so far, dead ones included, as this database counts them."""
    async with engine.transaction() as raw:
        await raw.execute("SELECT pg_stat_force_next_flush()")
    async with engine.transaction() as raw:
        return int(await raw.fetchval("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1", index))


async def _picks(full: Full, count: int) -> Sequence[Any]:
    return (TENANT, full.lane_id, count, -1, "2000-01-01", UUID(int=0))


def bound(sql: str, values: Sequence[Any]) -> str:
    """A statement with its parameters written in, for EXPLAIN ANALYZE."""
    return re.sub(r"\$(\d+)", lambda match: literal(values[int(match[1]) - 1]), sql)


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return "ARRAY[" + ", ".join(literal(each) for each in value) + "]"
    return str(value) if isinstance(value, (int, float)) else f"'{value}'"


async def explained(engine: Database, full: Full, name: str) -> dict[str, Any]:
    """The generic plan of a statement of the hot path for 500 messages."""
    async with engine.transaction() as raw:
        picked = await raw.fetch("SELECT message_id FROM queue WHERE state = 1 ORDER BY message_id LIMIT 500")
        given = arguments(full, name, [row["message_id"] for row in picked])
        assert given is not None
        return await _generic(raw, getattr(SQL, name).sql, given)


async def _generic(raw: asyncpg.Connection, sql: str, given: Sequence[Any]) -> dict[str, Any]:
    """The generic plan on this very connection, with its settings."""
    assert await raw.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
    kinds = [kind.name for kind in (await raw.prepare(sql)).get_parameters()]
    values = ", ".join(f"{literal(value)}::{kind}" for value, kind in zip(given, kinds, strict=True))
    await raw.execute(f"PREPARE looked_at AS {sql}")
    answer = await raw.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE looked_at{f'({values})' if values else ''}")
    await raw.execute("DEALLOCATE looked_at")
    found: dict[str, Any] = json.loads(answer)[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def _joins_ledger(node: dict[str, Any]) -> bool:
    """Whether a hash or merge join reads a table of the data plane whole; one over an index is bounded by it."""
    if node["Node Type"] not in {"Hash Join", "Merge Join"}:
        return False
    sides = [inner for side in node["Plans"] for inner in nodes(side)]
    return any(
        LEDGER.match(inner.get("Relation Name", ""))
        and not inner.get("Index Cond")
        and inner["Node Type"] != "ModifyTable"
        for inner in sides
    )

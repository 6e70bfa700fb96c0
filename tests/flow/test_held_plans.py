"""What one gate holds is found by an index of its own, however much others hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.data.sql import Statements
from outrider.domain.limits.rows import PACES
from outrider.domain.messages.rows import HOLDS

_WAYS: dict[str, tuple[Statements, str]] = {
    "gate_holds_release": (HOLDS, "(NULL, NULL, NULL, NULL)"),
    "sender_holds_release": (HOLDS, "(NULL, NULL, NULL, NULL, NULL)"),
    "senders_holds_release": (HOLDS, "(NULL, NULL, NULL, NULL, NULL)"),
    "tenants_held": (HOLDS, "(NULL)"),
    "warm_ups_with_room": (PACES, "(NULL, NULL, NULL, NULL)"),
}
_LANE = "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $1, 'bulk') RETURNING id"
_FILL = (
    "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, reason) "
    "SELECT $1, gen_random_uuid(), $2, now() + interval '1 hour', 5, 5, 'quiet_hours: until 09:00' "
    "FROM generate_series(1, 20000) n"
)


@pytest.mark.parametrize("name", _WAYS)
async def test_what_others_hold_is_not_read(new_database: Any, name: str) -> None:
    url = new_database("migrated")
    statements, arguments = _WAYS[name]
    db = Database(url, pool_size=1, name="test", role=Role.ENGINE)
    try:
        async with db.transaction() as raw:
            await raw.execute(_FILL, DEFAULT_TENANT, await raw.fetchval(_LANE, DEFAULT_TENANT))
        await _analyze(url)
        async with db.transaction() as raw:
            assert await raw.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
            await raw.execute(f"PREPARE asked AS {getattr(statements, name).sql}")
            answer = await raw.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}")
    finally:
        await db.close()
    ways = [each for each in _nodes(json.loads(answer)[0]["Plan"]) if each.get("Relation Name") == "queue"]
    scans = [each for each in ways if "Scan" in each["Node Type"] and each.get("Index Name") != "queue_ready"]
    assert scans
    found = {each.get("Index Name") for each in scans}
    assert found <= {"queue_held", "queue_pkey"}, scans
    assert all("split_part" in each["Index Cond"] for each in scans if each["Index Name"] == "queue_held"), scans


async def _analyze(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE outrider_owner")
        await connection.execute("VACUUM ANALYZE queue")
        await connection.execute("VACUUM ANALYZE lanes")
    finally:
        await connection.close()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)

"""The look-up of the frequency cap goes by its index, also by a plan that was made while there was nothing to find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.domain.limits import contacted
from outrider.domain.limits.rows import SPENDING
from outrider.domain.messages.rows import HOLDS
from outrider.plugins.gates.frequency_cap import GATE

_FILL = """
INSERT INTO contact_sends (tenant_id, message_id, token, contact_id, purpose, at)
SELECT $1, gen_random_uuid(), 1, gen_random_uuid(), 'marketing', now() - n * interval '1 second'
FROM generate_series(1, 20000) n
"""
_ASKED = f"'{DEFAULT_TENANT}', '{{}}', '{{}}', '{{}}', 'email', 'bulk', '{{}}'"


async def test_a_plan_made_while_the_table_was_empty_looks_contacts_up_by_their_index(migrated_url: str) -> None:
    db = Database(migrated_url, pool_size=1, name="test", role=Role.ENGINE)
    try:
        async with db.transaction() as raw:
            await raw.execute(_FILL, DEFAULT_TENANT)
        await _as_owner(migrated_url, "ANALYZE contact_sends", "DELETE FROM contact_sends", "VACUUM contact_sends")
        async with db.transaction() as raw:
            assert await raw.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
            await contacted.lock(raw, DEFAULT_TENANT)
            await raw.execute(f"PREPARE asked (uuid, uuid[], uuid[], text[], text, text, text[]) AS {GATE.facts}")
            answer = await raw.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked ({_ASKED})")
    finally:
        await db.close()
    ways = [each for each in _nodes(json.loads(answer)[0]["Plan"]) if each.get("Relation Name") == "contact_sends"]
    assert [each.get("Index Name") for each in ways] == ["contact_sends_contact"], ways
    assert "contact_id" in ways[0]["Index Cond"]


_WAYS = {
    "contacted_freed_tenants": (SPENDING, "", {"contact_sends": {"contact_sends_at"}}),
    "contacted_freed": (
        SPENDING, "(NULL, NULL)", {"contact_sends": {"contact_sends_at", "contact_sends_pkey"}},
    ),
    "contact_holds_release": (HOLDS, "(NULL, NULL, NULL, NULL, NULL)", {"queue": {"queue_pkey"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", _WAYS)
async def test_what_is_asked_again_is_found_by_its_index_also_by_a_plan_for_empty_tables(
    migrated_url: str, name: str
) -> None:
    statements, arguments, wanted = _WAYS[name]
    db = Database(migrated_url, pool_size=1, name="test", role=Role.ENGINE)
    try:
        await _as_owner(migrated_url, "VACUUM ANALYZE contact_sends", "VACUUM ANALYZE queue")
        async with db.transaction() as raw:
            await contacted.lock(raw, DEFAULT_TENANT)
            await raw.execute(f"PREPARE asked AS {getattr(statements, name).sql}")
            answer = await raw.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}")
    finally:
        await db.close()
    ways = [
        each
        for each in _nodes(json.loads(answer)[0]["Plan"])
        if "Scan" in each["Node Type"] and each.get("Relation Name") in wanted
    ]
    assert ways
    for way in ways:
        assert "Seq Scan" not in way["Node Type"], way
        assert way.get("Index Name") in wanted[way["Relation Name"]], way
        assert "message_id" in way["Index Cond"] or way["Index Name"] == "contact_sends_at", way


async def _as_owner(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE outrider_owner")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)

"""How long it takes to count a segment over a million contacts, and to find its audience at a launch.

The peer is listmonk's way: one table of subscribers with JSON attributes, its own query for counting
(`queries/subscribers.sql`, query-subscribers-count) with the condition typed as SQL, run on the same server in the same
minute without row-level security. Ours goes through the product: rules checked, compiled, counted as the role of the
application, under its policies, with the addresses counted as well.

    .venv/bin/python bench/segments.py [--contacts 1000000] [--runs 3]

Wanted: each count within 3 s; no count slower than half the peer's speed where the peer can say the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from bench.kit import ours
from bench.kit.figures import machine, median, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, run
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import audience
from outrider.domain.segments import check, rules, segments

COUNT_WITHIN_S = 3.0
LEAST_RATIO = 0.5

_FILL = """
UPDATE contacts SET attributes = attributes || jsonb_build_object(
  'plan', (ARRAY['free', 'gold', 'trial'])[1 + (hashtext(id::text) & 2147483647) % 3],
  'age', 18 + (hashtext(id::text) & 2147483647) % 60,
  'joined', to_char(date '2020-01-01' + (hashtext(id::text) & 2147483647) % 2000, 'YYYY-MM-DD'))
WHERE tenant_id = $1
"""
_TAGS = """
INSERT INTO contact_tags (tenant_id, contact_id, tag)
SELECT $1, id, 'vip' FROM contacts WHERE tenant_id = $1 AND (hashtext(id::text) & 2147483647) % 20 = 0
UNION ALL SELECT $1, id, 'old' FROM contacts WHERE tenant_id = $1 AND (hashtext(id::text) & 2147483647) % 3 = 0
"""
_PEER = """
CREATE TABLE peer_subscribers (id serial PRIMARY KEY, uuid uuid NOT NULL, email text NOT NULL UNIQUE,
                               name text NOT NULL, attribs jsonb NOT NULL, status text NOT NULL DEFAULT 'enabled');
CREATE TABLE peer_subscriber_lists (subscriber_id int, list_id int, PRIMARY KEY (subscriber_id, list_id));
INSERT INTO peer_subscribers (uuid, email, name, attribs)
SELECT c.id, a.address, c.name, c.attributes || jsonb_build_object(
         'tags', ARRAY(SELECT tag FROM contact_tags t WHERE t.tenant_id = c.tenant_id AND t.contact_id = c.id))
FROM contacts c JOIN addresses a ON a.tenant_id = c.tenant_id AND a.contact_id = c.id;
INSERT INTO peer_subscriber_lists SELECT id, 1 FROM peer_subscribers WHERE id % 2 = 0
"""
_HALF = """
INSERT INTO list_members (tenant_id, list_id, contact_id)
SELECT $1, $2, s.uuid FROM peer_subscribers s WHERE s.id % 2 = 0
"""
_LAUNCHED = """
INSERT INTO campaigns
  (tenant_id, name, channel, sender_id, content_id, list_id, created_by, launched_at, state, audience)
VALUES ($1, $2, 'email', $3, $4, $5, 'bench', now(), 'sending', $6::text::jsonb) RETURNING id
"""
_PEER_COUNT = """
SELECT COUNT(*) AS total FROM peer_subscribers subscribers
LEFT JOIN peer_subscriber_lists subscriber_lists ON (CASE WHEN CARDINALITY($1::int[]) > 0 THEN true ELSE false END
  AND subscriber_lists.subscriber_id = subscribers.id)
WHERE (CARDINALITY($1) = 0 OR subscriber_lists.list_id = ANY($1)) AND (%s)
"""


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"machine: {machine()}")
    with postgres() as database, ours.installation(database):
        return run(_measure(database, options))


async def _measure(database: Postgres, options: argparse.Namespace) -> int:
    made = await ours.make_audience(database, options.contacts)
    half = await _fill(database, made.list_id)
    rows = [["question", "contacts", "ours, s", "listmonk's way, s", "ratio"]]
    is_met = True
    async with ours.runtime() as runtime:
        for name, told, peer_sql, peer_lists in _questions(half):
            found, times = await _ours(runtime, told, options.runs)
            peer = await _theirs(database, peer_sql, peer_lists, found, options.runs) if peer_sql else []
            ratio = median(peer) / median(times) if peer else 0.0
            shown = f"{ratio:.2f} x" if peer else "cannot say it"
            rows.append([name, f"{found:,}", runs(times, 2), runs(peer, 2) if peer else "", shown])
            is_met &= verdict(f"{name}: count", median(times), COUNT_WITHIN_S, at_most=True, unit="s")
            is_met &= not peer or verdict(f"{name}: ratio", ratio, LEAST_RATIO)
        settled, count = await _settle(runtime, database, half)
    table(rows)
    print(f"audience of a campaign found and kept: {count:,} of {options.contacts:,} in {settled:.1f} s")
    return 0 if is_met else 1


def _questions(half: UUID) -> Sequence[tuple[str, dict[str, Any], str, list[int]]]:
    gold = {"kind": "attribute", "key": "plan", "value": "gold"}
    grown = {"kind": "attribute", "key": "age", "op": "at_least", "value": 40}
    vip = {"kind": "tag", "tags": ["vip"]}
    listed = {"kind": "list", "list_ids": [str(half)]}
    stopped = {"kind": "suppressed"}
    joined = {"kind": "attribute", "key": "joined", "op": "since", "value": "2024-01-01"}
    is_gold = "subscribers.attribs->>'plan' = 'gold'"
    is_grown = "(subscribers.attribs->>'age')::int >= 40"
    has_joined = "subscribers.attribs->>'joined' >= '2024-01-01'"
    is_vip = "subscribers.attribs->'tags' ? 'vip'"
    all_three = {"kind": "all", "rules": [listed, gold, grown]}
    any_of_three = {"kind": "any", "rules": [gold, grown, joined]}
    not_vip = {"kind": "all", "rules": [any_of_three, {"kind": "not", "rule": vip}]}
    may_get = {"kind": "all", "rules": [{"kind": "consent", "status": "granted"}, {"kind": "not", "rule": stopped}]}
    return (
        ("everybody", {"kind": "all", "rules": []}, "true", []),
        ("an attribute", gold, is_gold, []),
        ("a number", grown, is_grown, []),
        ("a tag", vip, is_vip, []),
        ("on a list, attribute, number", all_three, f"{is_gold} AND {is_grown}", [1]),
        ("any of three, not a tag", not_vip, f"({is_gold} OR {is_grown} OR {has_joined}) AND NOT {is_vip}", []),
        ("consented and not suppressed", may_get, "", []),
        ("with an address", {"kind": "address", "channel": "email"}, "", []),
        ("a text anywhere", {"kind": "text", "contains": "recipient 99999"}, "", []),
    )


async def _fill(database: Postgres, list_id: UUID) -> UUID:
    """Attributes, tags, half a list, and the same people for the peer."""
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await raw.execute(_FILL, DEFAULT_TENANT, timeout=None)
        await raw.execute(_TAGS, DEFAULT_TENANT, timeout=None)
        await raw.execute(_PEER, timeout=None)
        half: UUID = await raw.fetchval(
            "INSERT INTO lists (tenant_id, name) VALUES ($1, 'half') RETURNING id", DEFAULT_TENANT
        )
        await raw.execute(_HALF, DEFAULT_TENANT, half, timeout=None)
        await raw.execute("DELETE FROM list_members WHERE list_id = $1", list_id, timeout=None)
        await raw.execute("VACUUM (ANALYZE)", timeout=None)
    finally:
        await raw.close()
    say("filled")
    return half


async def _ours(runtime: Runtime, told: dict[str, Any], times: int) -> tuple[int, list[float]]:
    rule: rules.Rule = msgspec.convert(told, type=rules.Rule)
    taken, found = [], 0
    for _ in range(times + 1):  # the first warms up and is not counted
        async with runtime.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            begun = time.perf_counter()
            found = (await segments.count(uow, rule)).contact_count
            taken.append(time.perf_counter() - begun)
    return found, taken[1:]


async def _theirs(database: Postgres, sql: str, lists: list[int], wanted: int, times: int) -> list[float]:
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await raw.execute("SET jit = off")
        taken = []
        for _ in range(times + 1):
            begun = time.perf_counter()
            found = await raw.fetchval(_PEER_COUNT % sql, lists)
            taken.append(time.perf_counter() - begun)
            if found != wanted:
                raise RuntimeError(f"the peer counts {found}, we count {wanted}: not the same question")
        return taken[1:]
    finally:
        await raw.close()


async def _settle(runtime: Runtime, database: Postgres, half: UUID) -> tuple[float, int]:
    """Find and keep the audience of a launched campaign to half of everybody, less a tag."""
    rule = rules.AllOf([rules.OnList([half]), rules.Not(rules.Tag(["vip"]))])
    sender = await ours.make_sender(runtime, database, 1)
    raw = await asyncpg.connect(database.superuser_url)
    try:
        values = (f"bench {uuid4()}", sender.id, sender.content_id, half, check.encode(rule))
        campaign_id: UUID = await raw.fetchval(_LAUNCHED, DEFAULT_TENANT, *values)
    finally:
        await raw.close()
    begun = time.perf_counter()
    count = await audience.settle(runtime.db, DEFAULT_TENANT, campaign_id)
    return time.perf_counter() - begun, count or 0


if __name__ == "__main__":
    sys.exit(main())

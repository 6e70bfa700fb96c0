"""Drills about waves: nobody twice, nobody missed and one winner, wherever a worker is killed between canary and rest.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec

from outrider.data.db import Role
from outrider.domain.campaigns.delivery import BUCKETS, AbTest, Canary, Delivery, NewVariant, Pacing
from outrider.domain.campaigns.validate import validate
from outrider.domain.campaigns.variants import LOT, WAVE, bucket
from outrider.domain.limits import buckets
from outrider.domain.messages.lanes import lane_for
from outrider.domain.segments import check, rules
from outrider.domain.templates import contents
from outrider.plugins.channels.email import CHANNEL
from tests.kit.drill import Drill, Sender
from tests.kit.rendering import InProcessRenderer

PAGE = 100
_DELIVERY = Delivery(
    canary=Canary(share_percent=5, minimum_count=1, wait_minutes=0),
    ab_test=AbTest([NewVariant("a", 50), NewVariant("b", 50)], audience_percent=30, wait_minutes=0, minimum_count=1),
)
_KILLS_BEFORE_THE_WINNER = (
    "fan_out.before_checkpoint", "fan_out.committed", "waves.look", "waves.before_commit", "waves.committed",
    "fan_out.before_checkpoint", "fan_out.committed", "waves.look", "waves.before_commit",
)  # fmt: skip
"""Each at its first pass: the canary's page, look and verdict; the test's page, look and the winner's choice."""
_CLICKED = (
    "INSERT INTO response_counts AS r (tenant_id, lane_id, facet, key, kind, is_machine, hits, messages) "
    "SELECT $1, l.id, 'content', $3::uuid::text, 2, false, $4, $4 FROM lanes l WHERE l.campaign_id = $2 "
    "ON CONFLICT (tenant_id, lane_id, facet, key, kind, is_machine) DO UPDATE SET messages = r.messages + $4"
)


async def killed_in_every_wave(drill: Drill, *, count: int) -> list[str]:
    """F22: workers are killed in each wave, at each look and at the winner's choice; later figures change nothing."""
    sender = await drill.sender("at_most_once", connections=8)
    campaign_id, (a, b) = await _campaign(drill, sender, count)
    await drill.execute(_CLICKED, sender.tenant_id, campaign_id, b, 5)
    for point in _KILLS_BEFORE_THE_WINNER:
        await drill.start_worker(at=f"{point}:1:kill", expand_batch=str(PAGE)).killed(point)
    found = []
    if await _winner(drill, campaign_id) is not None:
        found.append("I7: a winner was kept by a transaction that was killed")
    await drill.start_worker(at="waves.committed:1:kill", expand_batch=str(PAGE)).killed("waves.committed")
    await drill.execute(_CLICKED, sender.tenant_id, campaign_id, a, 5_000)
    await drill.pause("campaign", str(campaign_id))
    for point in ("fan_out.before_checkpoint:2", "fan_out.committed:3"):
        at = f"{point}:kill"
        await drill.start_worker(at=at, expand_batch=str(PAGE)).killed(point.partition(":")[0])
    await drill.resume("campaign", str(campaign_id))
    await drill.worker(expand_batch=str(PAGE))
    await drill.worker(expand_batch=str(PAGE))
    await drill.drained(bound_s=300)
    if await _winner(drill, campaign_id) != 2:
        found.append("I7: the winner changed")
    return found + await _complete(drill, campaign_id, count, [a, b]) + await drill.violations()


async def _campaign(drill: Drill, sender: Sender, count: int) -> tuple[UUID, list[UUID]]:
    """A launched campaign with a canary and a test of two contents; no worker runs yet."""
    campaign_id = await drill.campaign(sender, count)
    ids = []
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        await lane_for(
            uow, tenant_id=sender.tenant_id, channel="email", sender_id=sender.id, campaign_id=campaign_id,
            message_class="bulk",
        )  # fmt: skip
        for n, name in enumerate("ab", 1):
            content_id = await contents.save(
                uow, CHANNEL, InProcessRenderer(), subject=name, html=None, text="Hello.", is_template=False
            )
            ids.append(content_id)
            await uow.raw.execute(
                "INSERT INTO campaign_variants (tenant_id, campaign_id, n, name, width, content_id, template_id, "
                "template_version) VALUES ($1, $2, $3, $4, 5000, $5, $1, 1)",
                sender.tenant_id, campaign_id, n, name, content_id,
            )  # fmt: skip
        list_id = await uow.raw.fetchval("SELECT list_id FROM campaigns WHERE id = $1", campaign_id)
        await uow.raw.execute(
            "UPDATE campaigns SET delivery = $2::text::jsonb, audience = $3::text::jsonb WHERE id = $1",
            campaign_id, msgspec.json.encode(_DELIVERY).decode(), check.encode(rules.OnList([list_id])),
        )  # fmt: skip
    return campaign_id, ids


async def _winner(drill: Drill, campaign_id: UUID) -> int | None:
    winner: int | None = await drill.value("SELECT max(winner) FROM campaign_waves WHERE campaign_id = $1", campaign_id)
    return winner


async def _complete(drill: Drill, campaign_id: UUID, count: int, ids: list[UUID]) -> list[str]:
    """Everybody once, each with the content that their bucket and the winner say."""
    found = []
    rows = await drill.rows("SELECT contact_id, content_id FROM messages WHERE campaign_id = $1", campaign_id)
    if len(rows) != count or len({row["contact_id"] for row in rows}) != count:
        found.append(f"I7: {len(rows)} messages for {count} contacts")
    waves = await drill.rows("SELECT * FROM campaign_waves WHERE campaign_id = $1 ORDER BY n", campaign_id)
    rest = waves[-1]["bucket_from"]
    for row in rows:
        is_rest = bucket(campaign_id, row["contact_id"], WAVE) >= rest
        wanted = ids[1] if is_rest or bucket(campaign_id, row["contact_id"], LOT) >= BUCKETS // 2 else ids[0]
        if row["content_id"] != wanted:
            found.append(f"I7: {row['contact_id']} got another content than their lot says")
    if sum(wave["queued_count"] for wave in waves) != count:
        found.append(f"I8: the waves say {[wave['queued_count'] for wave in waves]} for {count} contacts")
    async with drill.db.uow(Role.ENGINE) as uow:
        found += [f"{each.invariant}: {each.detail}" async for each in validate(uow.raw)]
    return found[:5]


async def paced(drill: Drill, *, count: int, per_minute: int) -> list[str]:
    """A pace holds for all workers together, over the death of one and a pause, by the database's clock."""
    sender = await drill.sender("at_most_once")
    campaign_id = await drill.campaign(sender, count)
    text = msgspec.json.encode(Delivery(pacing=Pacing(per_minute=per_minute))).decode()
    rate_per_s = per_minute / 60
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        await uow.raw.execute("UPDATE campaigns SET delivery = $2::text::jsonb WHERE id = $1", campaign_id, text)
        await buckets.pace(uow, campaign_id, rate_per_s)
    victim = await drill.worker()
    await drill.worker()
    await drill.accepted(count // 4)
    victim.kill()
    await drill.pause("campaign", str(campaign_id))
    await drill.resume("campaign", str(campaign_id))
    await drill.worker()
    await drill.drained(bound_s=300)
    claims = Counter(
        row["at"]
        for row in await drill.rows(
            "SELECT m.attempted_at AS at FROM messages m WHERE m.campaign_id = $1 AND m.attempted_at IS NOT NULL",
            campaign_id,
        )
    )
    # the instants at which messages were claimed: over every pair of claims no more than was saved up and came since
    found, moments = [], sorted(claims)
    for first, begin in enumerate(moments):
        taken = 0
        for end in moments[first:]:
            taken += claims[end]
            most = max(1.0, rate_per_s) + rate_per_s * ((end - begin).total_seconds() + _CLAIM_S)
            if taken > most:
                found.append(f"{taken} claimed within {end - begin}, at most {most:.1f} were allowed")
    return found[:5] + await drill.violations(uncertain=count // 4 + 1)


_CLAIM_S = 1.0
"""A claim's instant is its begin; the bucket is asked later in it, by a bound."""

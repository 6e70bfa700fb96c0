"""Campaigns that go out in waves, variants and at local hours, for tests of what follows from it.

API
    waved(desk, count, delivery, …) -> Campaign    launched; with a content per variant of its A/B test
    settle(post) / look(post)                      one round of the loop of that name
    through(post)                                  audiences found and every page queued that may be
    went(campaign, outcome, limit=…)               claim messages and settle them alike
    due(campaign)                                  the look that was set has come
    responded(campaign, content_id, count, kind)   so many people opened (1) or clicked (2) what said this
    seen(campaign) -> DeliveryView                 as the API shows it
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from outrider.contracts.outcome import Outcome
from outrider.domain.campaigns import shown
from outrider.domain.campaigns.delivery import Delivery, shares
from outrider.domain.segments import check, rules
from outrider.engine.dispatch import record
from tests.kit.campaigns import Campaign, fanned_out, launched, loop
from tests.kit.dispatch import Desk, Post


async def waved(desk: Desk, count: int, delivery: Delivery, **columns: Any) -> Campaign:
    """A launched campaign that goes out like this."""
    text = msgspec.json.encode(delivery).decode()
    campaign = await launched(desk, count, delivery=text, **columns)
    if delivery.has_waves:
        await desk.post.execute(
            "UPDATE campaigns SET audience = $2::text::jsonb WHERE id = $1",
            campaign.id, check.encode(rules.OnList([campaign.list_id])),
        )  # fmt: skip
    test = delivery.ab_test
    for n, (variant, width) in enumerate(zip(test.variants, shares(test.variants), strict=True) if test else (), 1):
        await desk.post.execute(
            "WITH c AS (INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text) "
            "VALUES ($1, 'email', sha256(convert_to($2::uuid::text || $3, 'UTF8')), false, $3, 'hello') RETURNING id) "
            "INSERT INTO campaign_variants (tenant_id, campaign_id, n, name, width, content_id, template_id, "
            "template_version) SELECT $1, $2, $4, $3, $5, c.id, $1, 1 FROM c",
            desk.tenant_id, campaign.id, variant.name, n, width,
        )  # fmt: skip
    return campaign


async def settle(post: Post) -> None:
    """Find the audiences that are to be found."""
    await loop(post, "settle_audiences")


async def look(post: Post) -> None:
    """Look at the waves that are to be looked at."""
    await loop(post, "look_at_waves")


async def through(post: Post) -> None:
    """Queue everything that may be queued now."""
    await settle(post)
    await fanned_out(post)


async def went(campaign: Campaign, outcome: Outcome, *, limit: int = 1000) -> int:
    """Claim messages of a campaign and settle them alike; gives how many."""
    desk = campaign.desk
    claim = await desk.claim(limit, lane=await campaign.lane())
    if claim.batch is None:
        return 0
    settings = desk.post.runtime.settings
    rows = [
        record.row_for(each, claim.batch.token, outcome, attempt=1, may_repeat=False, settings=settings)
        for each in claim.batch.messages
    ]
    async with desk.post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, rows)
    return len(rows)


async def due(campaign: Campaign) -> None:
    """Let the moment of the look have come."""
    await campaign.desk.post.execute(
        "UPDATE campaign_waves SET look_at = now() - interval '1 s' WHERE campaign_id = $1 AND look_at IS NOT NULL",
        campaign.id,
    )


async def responded(campaign: Campaign, content_id: UUID, count: int, kind: int, *, is_machine: bool = False) -> None:
    """So many opened or clicked, as the tracking's sums say."""
    lane = await campaign.lane()
    await campaign.desk.post.execute(
        "INSERT INTO response_counts (tenant_id, lane_id, facet, key, kind, is_machine, hits, messages) "
        "VALUES ($1, $2, 'content', $3::uuid::text, $4, $5, $6, $6)",
        campaign.desk.tenant_id, lane.id, content_id, kind, is_machine, count,
    )  # fmt: skip


async def seen(campaign: Campaign) -> shown.DeliveryView:
    """How it goes out, as it is shown."""
    async with campaign.desk.engine() as uow:
        return await shown.shown(uow, campaign.id)

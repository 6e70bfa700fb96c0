"""What is kept of openings and clicks goes when its time has come, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from outrider.domain.tracking.rows import SQL
from tests.kit.api import Api, api_of
from tests.kit.tracking import Mail


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Api]:
    async with api_of(migrated_url, tracking_flush_s=0.01) as running:
        yield running


async def test_responses_go_with_the_age_of_their_message_and_results_of_campaigns_stay(api: Api) -> None:
    mail = await Mail.open(api)
    await mail.click(0, 0)
    await mail.opened(1)
    await mail.hits(2)
    await mail.judge()
    old = UUID(int=(1_500_000_000_000 << 80) | (7 << 76) | (2 << 62))
    async with api.engine() as uow:
        count = await uow.raw.fetchval("SELECT count(*) FROM message_responses")
        await uow.raw.execute("UPDATE message_responses SET message_id = $1 WHERE message_id = $2", old, mail.ids[0])
        await uow.raw.execute(
            "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $2, 'bulk')",
            mail.tenant_id,
            mail.sender_id,
        )
        await uow.raw.execute(
            "INSERT INTO response_counts SELECT tenant_id, id, 'hour', '2020-01-01T00:00:00+00:00', 1, false, 1, 1 "
            "FROM lanes WHERE sender_id = $1",
            mail.sender_id,
        )
    async with api.engine(None) as uow:
        assert await SQL.responses_purge.run(uow.raw, 400, 1) == 1
        assert await SQL.responses_purge.run(uow.raw, 400, 100) == 1, "the click of any link and of its own"
        assert await SQL.responses_purge.run(uow.raw, 400, 100) == 0
        assert await SQL.counts_purge.run(uow.raw, 400, 100) == 1, "the lane without campaign"
        assert await SQL.counts_purge.run(uow.raw, 400, 100) == 0
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM message_responses") == count - 2
    found = await mail.results()
    assert (found.clicks.people, found.opens.people) == (1, 2)

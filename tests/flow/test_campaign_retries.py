"""What failed by a passing cause is sent again, once per retry and person; nothing else is; every number adds up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.domain.campaigns import launch, pacing, read, retries, schedule, sheet
from outrider.domain.campaigns.delivery import Delivery, Pacing
from outrider.domain.campaigns.pacing import PaceChange
from outrider.domain.campaigns.retries import Due, Retry
from outrider.domain.campaigns.schedule import Schedule
from outrider.domain.campaigns.sheet import Sheet
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.messages.rows import SQL as MESSAGES
from outrider.domain.segments import rules, segments
from outrider.engine.fanout import expand
from tests.flow.test_campaign_schedule import ahead
from tests.kit.api import runtime_for
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

Step = Callable[[], Awaitable[bool]]
_END = """
WITH chosen AS (
  SELECT m.id FROM messages m JOIN queue q ON q.tenant_id = m.tenant_id AND q.message_id = m.id
  WHERE m.campaign_id = $1 ORDER BY m.id LIMIT $2
), gone AS (
  DELETE FROM queue q USING chosen c WHERE q.message_id = c.id RETURNING q.tenant_id, q.message_id, q.lane_id
), ledger AS (
  UPDATE messages m SET state = $3, code = nullif($4, ''), finished_at = now() FROM gone g WHERE m.id = g.message_id
)
INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
SELECT tenant_id, lane_id, date_trunc('hour', now()), $3, $4, count(*) FROM gone GROUP BY 1, 2
"""


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


@pytest.fixture
async def steps(office: Office, migrated_url: str) -> AsyncIterator[dict[str, Step]]:
    runtime = runtime_for(migrated_url, expand_batch=100)
    mine = replace(runtime, db=office.db, channels=office.channels)
    yield {loop.name: loop.step for loop in expand.loops(mine)}
    await runtime.db.close()


async def end(office: Office, campaign_id: UUID, count: int, state: str, code: str = "") -> None:
    """Let that many of its open messages end so."""
    await office.fetch(_END, campaign_id, count, state, code)


async def queued(office: Office, steps: dict[str, Step], count: int = 10, **fields: Any) -> CampaignView:
    """A launched campaign whose messages wait."""
    campaign = await office.campaign(list_id=await office.newsletter_list(count), **fields)
    async with office.engine() as uow:
        await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
    while await steps["fan_out"]():
        pass
    return campaign


async def due(office: Office, campaign_id: UUID) -> Due:
    async with office.app() as uow:
        return await retries.due(uow, campaign_id)


async def retried(office: Office, campaign_id: UUID, count: int) -> CampaignView:
    async with office.engine() as uow:
        return await retries.retry(uow, office.settings, ACTOR, campaign_id, Retry(count, "the server is back"))


async def through(steps: dict[str, Step]) -> None:
    while await steps["retry_failed"]():
        pass


async def refusal(office: Office, campaign_id: UUID, count: int = 1) -> str:
    with pytest.raises(Refused) as refused:
        await retried(office, campaign_id, count)
    return refused.value.code


async def told(office: Office, campaign_id: UUID) -> Sheet:
    async with office.app() as uow:
        return await sheet.of_campaign(uow, campaign_id)


async def test_only_what_failed_by_a_passing_cause_is_sent_again_and_the_original_stays(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps)
    await end(office, campaign.id, 3, "sent")
    await end(office, campaign.id, 2, "failed", "connection_timeout")
    await end(office, campaign.id, 1, "failed", "server_busy")
    await end(office, campaign.id, 1, "failed", "mailbox_unavailable")
    await end(office, campaign.id, 1, "blocked", "consent")
    await end(office, campaign.id, 1, "uncertain", "answer_lost")
    await end(office, campaign.id, 1, "expired")
    await steps["finish_campaigns"]()
    before = await office.fetch("SELECT id, state, code, finished_at FROM messages ORDER BY id")
    found = await due(office, campaign.id)
    assert (found.count, found.permanent_count, found.uncertain_count, found.retried_count) == (3, 1, 1, 0)
    retry = await retried(office, campaign.id, 3)
    assert (retry.retry_of, retry.state, retry.name) == (campaign.id, "sending", "November (retry 1)")
    await through(steps)
    again = await office.fetch(
        "SELECT o.code, n.state FROM messages n JOIN messages o ON o.address = n.address AND o.campaign_id = $1 "
        "AND o.contact_id = n.contact_id AND o.content_id = n.content_id AND o.variables = n.variables "
        "WHERE n.campaign_id = $2 ORDER BY 1",
        campaign.id, retry.id,
    )  # fmt: skip
    assert again == [("connection_timeout", "queued"), ("connection_timeout", "queued"), ("server_busy", "queued")]
    after = await office.fetch(
        "SELECT id, state, code, finished_at FROM messages WHERE campaign_id = $1 ORDER BY id", campaign.id
    )
    assert after == before
    async with office.app() as uow:
        progress = await read.progress(uow, retry.id)
    assert (progress.total_count, progress.expanded_count, progress.expansion.state) == (3, 3, "complete")
    actions = await office.fetch(
        "SELECT action, reason, details ->> 'count' FROM audit_log WHERE action = 'campaign.retry'"
    )
    assert actions == [("campaign.retry", "the server is back", "3")]


async def test_gates_and_pace_of_a_campaign_hold_for_its_retry(office: Office, steps: dict[str, Step]) -> None:
    campaign = await queued(office, steps)
    await end(office, campaign.id, 3, "failed", "connection_timeout")
    await office.fetch(
        """INSERT INTO campaign_gates (tenant_id, campaign_id, settings) VALUES ($1, $2, '{"quiet_from": "20:00"}')""",
        office.tenant, campaign.id,
    )  # fmt: skip
    await office.fetch("""UPDATE campaigns SET delivery = '{"pacing": {"per_minute": 6}}'""")
    retry = await retried(office, campaign.id, 3)
    own = await office.fetch("SELECT settings ->> 'quiet_from' FROM campaign_gates WHERE campaign_id = $1", retry.id)
    paces = await office.fetch("SELECT rate FROM buckets WHERE scope = 'campaign' AND scope_id = $1", retry.id)
    assert (own, paces) == ([("20:00",)], [(0.1,)])


async def test_a_pace_changed_after_the_launch_is_the_retrys_also_when_its_bucket_is_gone(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps)
    paces: list[list[tuple[Any, ...]]] = []
    for pace in (Pacing(per_minute=12), None):
        async with office.engine() as uow:
            await pacing.change(uow, ACTOR, campaign.id, PaceChange(pace))
        await office.fetch("DELETE FROM buckets WHERE scope_id = $1", campaign.id)
        await end(office, campaign.id, 3, "failed", "connection_timeout")
        retry = await retried(office, campaign.id, 3)
        await through(steps)
        paces.append(await office.fetch("SELECT rate FROM buckets WHERE scope_id = $1", retry.id))
    assert paces == [[(0.2,)], []]
    async with office.app() as uow:
        assert (await read.get(uow, campaign.id)).delivery == Delivery()


async def test_who_failed_again_is_due_again_and_who_got_it_is_not(office: Office, steps: dict[str, Step]) -> None:
    campaign = await queued(office, steps)
    await end(office, campaign.id, 10, "failed", "connection_failed")
    await steps["finish_campaigns"]()
    first = await retried(office, campaign.id, 10)
    await through(steps)
    assert (await due(office, campaign.id)).count == 0
    assert await refusal(office, campaign.id) == "nothing_to_retry"
    await end(office, first.id, 6, "sent")
    await end(office, first.id, 4, "failed", "connection_timeout")
    await steps["finish_campaigns"]()
    by_retry = await due(office, first.id)
    assert (by_retry.campaign_id, by_retry.count, by_retry.retried_count) == (campaign.id, 4, 10)
    second = await retried(office, first.id, 4)
    assert (second.retry_of, second.name) == (campaign.id, "November (retry 2)")
    await through(steps)
    failed_twice = await office.fetch(
        "SELECT count(*) FROM messages n JOIN messages o ON o.contact_id = n.contact_id "
        "WHERE n.campaign_id = $1 AND o.campaign_id = $2 AND o.state = 'failed'",
        second.id, first.id,
    )  # fmt: skip
    assert failed_twice == [(4,)]
    assert await office.fetch("SELECT count(*) FROM messages WHERE campaign_id = $1", second.id) == [(4,)]
    assert (await told(office, campaign.id)).retried_count == 6


async def test_the_number_is_confirmed_and_two_at_the_same_moment_are_one(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps)
    await end(office, campaign.id, 4, "failed", "connection_failed")
    assert await refusal(office, campaign.id, 3) == "count_differs"
    results = await asyncio.gather(*(retried(office, campaign.id, 4) for _ in range(3)), return_exceptions=True)
    refused = [each.code for each in results if isinstance(each, Refused)]
    assert refused == ["retry_under_way"] * 2
    await asyncio.gather(*(steps["retry_failed"]() for _ in range(3)))
    await through(steps)
    assert await office.fetch("SELECT count(*) FROM campaign_recipients r JOIN campaigns c ON c.id = r.campaign_id "
                              "WHERE c.retry_of IS NOT NULL") == [(4,)]  # fmt: skip


async def test_an_address_that_went_to_somebody_else_or_away_is_left_out(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps, 3)
    await end(office, campaign.id, 3, "failed", "connection_failed")
    rows = await office.fetch("SELECT contact_id, address FROM messages ORDER BY id")
    await office.fetch("DELETE FROM addresses WHERE contact_id = $1", rows[0][0])
    await office.fetch("UPDATE addresses SET contact_id = $1 WHERE contact_id = $2", rows[2][0], rows[1][0])
    retry = await retried(office, campaign.id, 3)
    await through(steps)
    async with office.app() as uow:
        found = await read.get(uow, retry.id)
    assert (found.expanded_count, found.no_address_count) == (1, 2)
    assert await office.fetch("SELECT address FROM messages WHERE campaign_id = $1", retry.id) == [(rows[2][1],)]


async def test_it_is_queued_page_by_page_pauses_and_is_cancelled_like_any_other(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps, 250)
    await end(office, campaign.id, 250, "failed", "connection_failed")
    retry = await retried(office, campaign.id, 250)
    assert await steps["retry_failed"]() is True
    async with office.app() as uow:
        await launch.pause(uow, ACTOR, retry.id, reason="wait")
    assert await steps["retry_failed"]() is False
    async with office.app() as uow:
        assert (await read.get(uow, retry.id)).expanded_count == 100
        await launch.resume(uow, ACTOR, retry.id, reason="go")
    await steps["retry_failed"]()
    async with office.engine() as uow:
        await launch.cancel(uow, ACTOR, retry.id, reason="enough")
    await launch.cancel_rest(office.db, office.tenant, ACTOR, retry.id)
    await through(steps)
    left = await due(office, campaign.id)
    assert (left.count, left.is_under_way) == (50, False)
    rest = await retried(office, campaign.id, 50)
    await through(steps)
    rows = await office.fetch(
        "SELECT count(*), count(DISTINCT contact_id) FROM messages WHERE campaign_id = ANY ($1)", [retry.id, rest.id]
    )
    assert rows == [(250, 250)], "nobody twice"


async def test_what_cannot_be_sent_any_more_is_refused(office: Office, steps: dict[str, Step]) -> None:
    campaign = await queued(office, steps, expires_at=ahead(hours=1))
    await end(office, campaign.id, 2, "failed", "connection_failed")
    await office.fetch("UPDATE campaigns SET expires_at = now()")
    assert await refusal(office, campaign.id, 2) == "expired"
    await office.fetch(
        "UPDATE campaigns SET expires_at = NULL, launched_at = now() - interval '400 days', "
        "created_at = now() - interval '401 days'"
    )
    assert await refusal(office, campaign.id, 2) == "too_old"
    await office.fetch("UPDATE campaigns SET launched_at = now()")
    await office.fetch("UPDATE senders SET archived_at = now()")
    assert await refusal(office, campaign.id, 2) == "sender_archived"
    draft = await office.campaign("draft")
    assert await refusal(office, draft.id) == "not_running"
    assert await refusal(office, UUID(int=5)) == "not_found"


async def test_who_got_a_retry_got_the_campaign_for_those_who_exclude_it(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await queued(office, steps, 4)
    await end(office, campaign.id, 4, "failed", "connection_failed")
    rule = rules.OfCampaign([campaign.id], outcome="got")
    async with office.app() as uow:
        assert (await segments.count(uow, rule)).contact_count == 0
    retry = await retried(office, campaign.id, 4)
    await through(steps)
    await end(office, retry.id, 3, "sent")
    async with office.app() as uow:
        assert (await segments.count(uow, rule)).contact_count == 3


async def test_the_sheet_of_a_campaign_of_one_price_looks_at_no_message(office: Office) -> None:
    campaign = await office.campaign(list_id=await office.newsletter_list(3))
    await office.fetch("UPDATE tenants SET settings = '{\"email_price_micros\": 500}'")
    async with office.engine() as uow:
        await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
    asked: list[str] = []
    async with office.app() as uow:
        with uow.raw.query_logger(lambda record: asked.append(record.query)):
            found = await sheet.of_campaign(uow, campaign.id)
    assert found.rows[-1].name == "cost_micros"
    assert asked
    assert not [each for each in asked if "FROM messages" in each]


async def test_the_sheet_explains_every_difference_and_says_the_same_again(
    office: Office, steps: dict[str, Step]
) -> None:
    people = await office.newsletter_list(20, without_consent=2, without_address=1)
    campaign = await office.campaign(list_id=people)
    await office.fetch("UPDATE tenants SET settings = '{\"email_price_micros\": 500}'")
    async with office.engine() as uow:
        await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
    before = await told(office, campaign.id)
    assert (before.rows[0].promised, before.rows[0].actual, before.is_final) == (20, 0, False)
    assert all(row.is_explained for row in before.rows), before.rows
    new = await office.newsletter_list(3)
    await office.fetch(
        "INSERT INTO list_members (tenant_id, list_id, contact_id, added_at) "
        "SELECT tenant_id, $1, contact_id, clock_timestamp() FROM list_members WHERE list_id = $2", people, new,
    )  # fmt: skip
    await office.fetch(
        "DELETE FROM list_members WHERE list_id = $1 AND contact_id = (SELECT contact_id FROM list_members "
        "JOIN addresses USING (tenant_id, contact_id) JOIN consents USING (tenant_id, contact_id) "
        "WHERE list_id = $1 ORDER BY contact_id LIMIT 1)", people,
    )  # fmt: skip
    while await steps["fan_out"]():
        pass
    await end(office, campaign.id, 3, "blocked", "consent")
    await end(office, campaign.id, 1, "blocked", "do_not_contact")
    await end(office, campaign.id, 2, "failed", "server_busy")
    await end(office, campaign.id, 1, "uncertain", "answer_lost")
    await end(office, campaign.id, 100, "sent")
    await steps["finish_campaigns"]()
    found = await told(office, campaign.id)
    assert found.is_final
    rows = {row.name: row for row in found.rows}
    assert all(row.is_explained for row in found.rows), found.rows
    assert {name: (row.promised, row.actual) for name, row in rows.items()} == {
        "members": (20, 22),
        "no_address": (1, 1),
        "suppressed": (0, 1),
        "without_consent": (2, 3),
        "will_go": (17, 14),
        "cost_micros": (8500, 7000),
    }
    assert {why.code: why.count for why in rows["will_go"].why} == {
        "joined": 3,
        "left": -1,
        "suppressed": -1,
        "without_consent": -1,
        "failed:server_busy": -2,
        "uncertain": -1,
    }
    await office.fetch("DELETE FROM list_members")
    async with office.engine() as uow:
        await MESSAGES.fold_rollups.value(uow.raw)
    assert await told(office, campaign.id) == found, "asked again, whatever became of the list"


async def test_a_drafts_sheet_has_promises_only_and_without_preflight_none(office: Office) -> None:
    campaign = await office.campaign()
    assert (await told(office, campaign.id)).rows == []
    async with office.app() as uow:
        await schedule.schedule(
            uow, office.settings, office.vault, ACTOR, campaign.id, Schedule(ahead(hours=1)), channels=office.channels
        )
    found = await told(office, campaign.id)
    assert [(row.name, row.promised, row.actual) for row in found.rows][-2:] == [
        ("will_go", 3, None),
        ("cost_micros", 0, None),
    ]

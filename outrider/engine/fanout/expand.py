"""The fan-out loops of a worker: queue the next page of each launched campaign; finish what is through.

Owns the campaign's checkpoint and its end; several workers may run it, each takes another campaign's next page.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import OutriderError, Unavailable
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import audience, schedule, waves
from outrider.domain.campaigns.rows import DELIVERY
from outrider.domain.campaigns.rows import SQL as CAMPAIGNS
from outrider.domain.campaigns.told import tell
from outrider.domain.campaigns.turn import turn_of
from outrider.domain.messages import counts, quota
from outrider.domain.messages.cancel import cancel_campaign
from outrider.domain.messages.fan_out import Hours, Plan, fan_out
from outrider.domain.messages.lanes import lane_for
from outrider.domain.messages.rows import SQL
from outrider.domain.senders.connections import Vault
from outrider.engine.fanout import retries
from outrider.engine.loop import Asking, Loop, woken

_log = structlog.get_logger(__name__)
_LOOP = Actor("system", "fan-out")
_BROKEN_REST_S = 30.0
NO_ROOM_REST_S = 1.0
"""A full queue is looked at again about as often as it is counted."""
_LONGEST_TROUBLE = 500
_FINISH_S = 0.5
_EMPTY_S = 2.0


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    fan, work = _FanOut(runtime), CAMPAIGNS.work_due
    return [
        woken("launch_scheduled", fan.launch_scheduled, Asking(work, "launches")),
        woken("settle_audiences", fan.settle, Asking(work, "audiences")),
        woken("fan_out", fan.expand, Asking(work, "pages")),
        woken("look_at_waves", fan.look, Asking(work, "looks")),
        woken("retry_failed", retries.Retries(runtime).step, Asking(work, "retries")),
        woken("finish_campaigns", fan.finish, Asking(CAMPAIGNS.campaigns_to_finish, every_s=_FINISH_S)),
        woken("empty_cancelled", fan.empty_cancelled, Asking(CAMPAIGNS.campaigns_to_empty, every_s=_EMPTY_S)),
    ]


class _FanOut:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._rests: dict[UUID, float] = {}
        """Campaigns that failed, and until when they are left out."""
        self._hours: dict[UUID, Hours] = {}
        """When the hour of campaigns with a local time comes, zone by zone."""

    async def launch_scheduled(self) -> bool:
        """Launch the campaigns whose moment has come."""
        runtime = self._runtime
        async with runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.launches_due.many(uow.raw)]
        vault = Vault(runtime.providers, runtime.keyring, runtime.egress)
        for tenant_id, campaign_id in due:
            if self._rests.get(campaign_id, 0.0) > boottime_s():
                continue
            try:
                came = await schedule.launch_due(
                    runtime.db, runtime.settings, vault, tenant_id, campaign_id, channels=runtime.channels
                )
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - one campaign that cannot be launched must not stop everybody's
                _log.exception("scheduled_launch_failed", tenant=str(tenant_id), campaign=str(campaign_id))
                self._rests[campaign_id] = boottime_s() + _BROKEN_REST_S
            else:
                if came is not None:
                    _log.info("scheduled_launch", tenant=str(tenant_id), campaign=str(campaign_id), came=came)
        return False

    async def settle(self) -> bool:
        """Find who belongs to launched campaigns that go to more than a plain list.

        In a loop of its own: it may take a while, and what is known already goes on meanwhile.
        """
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.audiences_due.many(uow.raw)]
        for tenant_id, campaign_id in due:
            if self._rests.get(campaign_id, 0.0) > boottime_s():
                continue
            try:
                count = await audience.settle(self._runtime.db, tenant_id, campaign_id)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one campaign whose audience cannot be found must not stop everybody's
                _log.exception("audience_failed", tenant=str(tenant_id), campaign=str(campaign_id))
                await self._rest(tenant_id, campaign_id, error)
            else:
                if count is not None:
                    _log.info("audience_found", tenant=str(tenant_id), campaign=str(campaign_id), count=count)
        return False

    async def expand(self) -> bool:
        """One page of every campaign that waits. Tells whether there is more."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.fan_out_due.many(uow.raw)]
        more = False
        for tenant_id, campaign_id in due:
            if self._rests.get(campaign_id, 0.0) > boottime_s():
                continue
            try:
                more |= await self._page(tenant_id, campaign_id)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one campaign that cannot be fanned out must not stop everybody's
                _log.exception("fan_out_failed", tenant=str(tenant_id), campaign=str(campaign_id))
                await self._rest(tenant_id, campaign_id, error)
        return more

    async def _rest(self, tenant_id: UUID, campaign_id: UUID, error: Exception) -> None:
        """Leave a campaign out for a while, and let people see why it does not go on."""
        self._rests[campaign_id] = boottime_s() + _BROKEN_REST_S
        why = str(error) if isinstance(error, OutriderError) else f"an internal error ({type(error).__name__})"
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await CAMPAIGNS.fan_out_trouble.run(uow.raw, tenant_id, campaign_id, why[:_LONGEST_TROUBLE])

    async def _page(self, tenant_id: UUID, campaign_id: UUID) -> bool:
        """One page and its checkpoint in one transaction; a kill between leaves neither."""
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            row = await CAMPAIGNS.fan_out_lock.one(uow.raw, tenant_id, campaign_id)
            if row is None:
                return False
            lane_id = row["lane_id"] or await lane_for(
                uow,
                tenant_id=tenant_id,
                channel=row["channel"],
                sender_id=row["sender_id"],
                campaign_id=campaign_id,
                message_class="bulk",
            )
            most, wait = (await quota.room_of(uow.raw, tenant_id)).page(self._runtime.settings.expand_batch)
            if not most:
                await CAMPAIGNS.fan_out_waits.run(uow.raw, tenant_id, campaign_id, wait)
                self._rests[campaign_id] = boottime_s() + NO_ROOM_REST_S
                return False
            turn = await turn_of(uow.raw, tenant_id, row, self._hours)
            plan = Plan(
                campaign_id, row["list_id"], lane_id, row["channel"], row["content_id"], row["purpose"],
                row["priority"], row["expires_at"], turn.part, turn.lots, turn.hours, row["is_counted"],
            )  # fmt: skip
            await SQL.index_plans.run(uow.raw)
            limit = turn.limit(most)
            page = await fan_out(uow.raw, tenant_id, plan, after=turn.after, limit=limit)
            if failpoint.ARMED:
                failpoint.hit("fan_out.before_checkpoint")
            await CAMPAIGNS.fan_out_keep.run(
                uow.raw, tenant_id, campaign_id, lane_id, page.last, page.queued, page.without_address,
                page.late, turn.has_more_waves, page.joined,
            )  # fmt: skip
            await waves.keep(uow.raw, tenant_id, campaign_id, turn, page)
        if failpoint.ARMED:
            failpoint.hit("fan_out.committed")
        if page.queued:
            self._runtime.bell.ring("ready", self._tell)
        if page.last is None:
            self._hours.pop(campaign_id, None)
            came = "wave_fanned_out" if turn.has_more_waves else "campaign_fanned_out"
            _log.info(came, tenant=str(tenant_id), campaign=str(campaign_id))
        return page.last is not None

    async def _tell(self) -> None:
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await SQL.tell_ready.run(uow.raw)

    async def look(self) -> bool:
        """Look at canaries and tests whose time has come, and let what follows from them happen."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await DELIVERY.looks_due.many(uow.raw)]
        for tenant_id, campaign_id in due:
            if self._rests.get(campaign_id, 0.0) > boottime_s():
                continue
            try:
                came = await waves.look(self._runtime.db, tenant_id, campaign_id)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one wave that cannot be judged must not stop everybody's
                _log.exception("look_failed", tenant=str(tenant_id), campaign=str(campaign_id))
                await self._rest(tenant_id, campaign_id, error)
            else:
                if came is not None:
                    _log.info("looked_at_wave", tenant=str(tenant_id), campaign=str(campaign_id), came=came)
        return False

    async def finish(self) -> bool:
        """Finish campaigns of which nothing is open any more."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.campaigns_to_finish.many(uow.raw)]
        for tenant_id, campaign_id in due:
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                if await CAMPAIGNS.campaign_finish.value(uow.raw, tenant_id, campaign_id):
                    for lane in await SQL.lanes_of_campaign.many(uow.raw, tenant_id, campaign_id):
                        await SQL.lane_lock.value(uow.raw, tenant_id, lane["id"])
                    await SQL.lanes_close.run(uow.raw, tenant_id, campaign_id)
                    ended = {"counts": await counts.of_campaign(uow, tenant_id, campaign_id)}
                    await tell(uow, _LOOP, campaign_id, "campaign_finished", data=ended)
                    _log.info("campaign_finished", tenant=str(tenant_id), campaign=str(campaign_id))
        return False

    async def empty_cancelled(self) -> bool:
        """Withdraw what came back from the wire after its campaign was cancelled; then its lanes are closed."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.campaigns_to_empty.many(uow.raw)]
        for tenant_id, campaign_id in due:
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                await cancel_campaign(uow, tenant_id, campaign_id)
                lane_ids = [lane["id"] for lane in await SQL.lanes_of_campaign.many(uow.raw, tenant_id, campaign_id)]
                if not await SQL.queue_of_lanes.many(uow.raw, tenant_id, lane_ids):
                    await SQL.lanes_close.run(uow.raw, tenant_id, campaign_id)
        return False

"""Queueing retries: the next page of failed messages, with its checkpoint, in one transaction.

Owns nothing but the turn; which messages are due is `messages.again`, when a retry is made `campaigns.retries`.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import OutriderError, Unavailable
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns.rows import SQL as CAMPAIGNS
from outrider.domain.messages import quota
from outrider.domain.messages.again import Again, again
from outrider.domain.messages.rows import SQL

_log = structlog.get_logger(__name__)
_BROKEN_REST_S = 30.0
NO_ROOM_REST_S = 1.0
_LONGEST_TROUBLE = 500


class Retries:
    """The retries of one worker process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._rests: dict[UUID, float] = {}

    async def step(self) -> bool:
        """One page of every retry that is not through. Tells whether there is more."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            due = [(row["tenant_id"], row["id"]) for row in await CAMPAIGNS.retries_due.many(uow.raw)]
        more = False
        for tenant_id, campaign_id in due:
            if self._rests.get(campaign_id, 0.0) > boottime_s():
                continue
            try:
                more |= await self._page(tenant_id, campaign_id)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one retry that cannot be queued must not stop everybody's
                _log.exception("retry_failed", tenant=str(tenant_id), campaign=str(campaign_id))
                self._rests[campaign_id] = boottime_s() + _BROKEN_REST_S
                why = str(error) if isinstance(error, OutriderError) else f"an internal error ({type(error).__name__})"
                async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                    await CAMPAIGNS.fan_out_trouble.run(uow.raw, tenant_id, campaign_id, why[:_LONGEST_TROUBLE])
        return more

    async def _page(self, tenant_id: UUID, campaign_id: UUID) -> bool:
        """One page and its checkpoint in one transaction; a kill between leaves neither."""
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            row = await CAMPAIGNS.retry_turn.one(uow.raw, tenant_id, campaign_id)
            if row is None:
                return False
            most, wait = (await quota.room_of(uow.raw, tenant_id)).page(self._runtime.settings.expand_batch)
            if not most:
                await CAMPAIGNS.fan_out_waits.run(uow.raw, tenant_id, campaign_id, wait)
                self._rests[campaign_id] = boottime_s() + NO_ROOM_REST_S
                return False
            members = await CAMPAIGNS.family_of.many(uow.raw, tenant_id, row["retry_of"])
            family = [member["id"] for member in members if member["id"] != campaign_id]
            plan = Again(
                campaign_id, family, row["lane_id"], row["channel"], row["launched_at"], row["priority"],
                row["expires_at"],
            )  # fmt: skip
            await SQL.index_plans.run(uow.raw)
            page = await again(uow.raw, tenant_id, plan, after=row["expanded_to"], limit=most)
            if failpoint.ARMED:
                failpoint.hit("retry.before_checkpoint")
            await CAMPAIGNS.retry_keep.run(uow.raw, tenant_id, campaign_id, page.last, page.queued, page.not_theirs)
        if failpoint.ARMED:
            failpoint.hit("retry.committed")
        if page.queued:
            self._runtime.bell.ring("ready", self._tell)
        if page.last is None:
            _log.info("campaign_retried", tenant=str(tenant_id), campaign=str(campaign_id))
        return page.last is not None

    async def _tell(self) -> None:
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await SQL.tell_ready.run(uow.raw)

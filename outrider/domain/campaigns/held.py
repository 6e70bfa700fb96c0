"""Holding a campaign that must still be a draft, for a change."""

from __future__ import annotations

from uuid import UUID

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.rows import SQL


async def held_draft(uow: UnitOfWork, campaign_id: UUID) -> None:
    """Hold a campaign that must be a draft.

    Raises:  Refused(not_found; not_draft, 409) with its state.
    """
    state = await SQL.lock_campaign.value(uow.raw, uow.tenant, campaign_id)
    if state is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if state != "draft":
        raise Refused("not_draft", f"the campaign is {state} already", field="/id", status=409, state=state)

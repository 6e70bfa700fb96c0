"""Decisions of people about messages on the command line: which ones are meant, by id or all of them."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.options import Common
from outrider.interfaces.cli.work import Work, looking


class Find(Protocol):
    """Gives all messages of a tenant, or of a campaign, that wait for a decision."""

    async def __call__(self, raw: asyncpg.Connection, tenant_id: UUID, *, campaign_id: UUID | None) -> list[UUID]:
        """Their ids."""
        ...


async def wanted(
    options: Common, messages: tuple[str, ...], campaign: str | None, find: Find, *, everything: bool
) -> list[UUID]:
    """The ids that a decision concerns, in a transaction of its own: nobody is asked while one is open.

    Raises:  Refused `invalid_choice`: both ids and everything, or neither; a campaign beside ids.
    """
    if everything == bool(messages):
        raise Refused("invalid_choice", "name messages by id, or give --all", field="messages")
    if everything:
        async with looking(options, role=Role.ENGINE) as work:
            return await find(work.uow.raw, work.tenant_id, campaign_id=await campaign_of(work, campaign))
    if campaign is not None:
        raise Refused("invalid_choice", "give --campaign with --all, or messages by id", field="--campaign")
    return [parse_id(each, "messages") for each in messages]


async def campaign_of(work: Work, which: str | None) -> UUID | None:
    """The id of a campaign named or given; None: none was."""
    return None if which is None else (await campaigns.find(work.uow, which)).id

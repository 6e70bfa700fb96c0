"""A command's work on the database: who does it, for which tenant, and whether it is only tried.

Owns opening units of work for commands; the verbs of the domain do the rest.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from outrider.base.errors import Refused
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.tenants import tenants
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing, Common


@dataclass(frozen=True, slots=True)
class Work:
    """What a command works with: one transaction, for one tenant, in one person's name."""

    db: Database
    uow: UnitOfWork
    tenant_id: UUID
    actor: Actor


def actor(reason: str = NOT_GIVEN) -> Actor:
    """Who runs this command, as the system knows it; `sudo` does not hide the person. And why.

    Raises:  Refused(invalid_reason).
    """
    why = clean_reason(reason, field="--reason")
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    person = os.environ.get("SUDO_USER") if uid == 0 else None
    return Actor("cli", f"cli:{name}" + (f" ({person[:60]})" if person and person.isprintable() else ""), reason=why)


async def tenant_of(db: Database, given: str | None, *, field: str = "--tenant") -> UUID:
    """The tenant a person named: its exact name (upper and lower case count) or its id; the default one when absent.

    Raises:  Refused(not_found, 404).
    """
    if given is None:
        return DEFAULT_TENANT
    async with db.uow(Role.ENGINE) as uow:
        try:
            return (await tenants.find(uow, given)).id
        except Refused as error:
            raise Refused("not_found", f"no tenant named {given[:100]!r}", field=field, status=404) from error


@asynccontextmanager
async def looking(common: Common, *, role: Role = Role.APP) -> AsyncIterator[Work]:
    """A unit of work for a command that only looks."""
    async with doors().database() as db:
        tenant_id = await tenant_of(db, common.tenant)
        async with db.uow(role, tenant_id) as uow:
            yield Work(db, uow, tenant_id, actor())


@asynccontextmanager
async def changing(options: Changing, *, role: Role = Role.APP) -> AsyncIterator[Work]:
    """A unit of work for a command that changes something; a dry run is rolled back at its end."""
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            yield work


@asynccontextmanager
async def wired(options: Common, *, role: Role = Role.APP) -> AsyncIterator[tuple[Runtime, Work]]:
    """A unit of work for a command that needs plugins, the key or the renderer; `Changing` may be a dry run."""
    async with doors().runtime() as runtime:
        tenant_id = await tenant_of(runtime.db, options.tenant)
        is_tried, why = (options.dry_run, options.reason) if isinstance(options, Changing) else (False, NOT_GIVEN)
        async with within(runtime.db, tenant_id, role=role, dry_run=is_tried, reason=why) as work:
            yield runtime, work


@asynccontextmanager
async def within(
    db: Database, tenant_id: UUID | None, *, role: Role = Role.APP, dry_run: bool = False, reason: str = NOT_GIVEN
) -> AsyncIterator[Work]:
    """A unit of work on a pool that is open already; `reason` goes with whatever is done in it."""
    who = actor(reason)
    async with db.uow(role, tenant_id) as uow:
        if dry_run:
            uow.undo_at_end()
        yield Work(db, uow, tenant_id or DEFAULT_TENANT, who)


def note(text: str, *, dry_run: bool) -> str:
    """What was done, or what would have been."""
    return f"dry run, nothing was changed; it would say: {text}" if dry_run else text

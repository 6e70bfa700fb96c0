"""What gates hold, made ready again when what they go by has changed.

Owns when a hold ends before its time; never decides whether a message may go: the next claim asks the gates anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from outrider.contracts.gate import Gate, MessageClass
from outrider.data.db import UnitOfWork
from outrider.domain.limits import budgets
from outrider.domain.messages.rows import HOLDS as SQL

_SLICE = 5000
_PRICE = "email_price_micros"
"""The one setting that says what messages cost."""


async def tenant_changed(
    uow: UnitOfWork, gates: Iterable[Gate], given: Mapping[str, Any] | None, *, is_zone: bool
) -> int:
    """Ask again about what is held, after settings or the zone of a tenant were changed (engine role)."""
    listed = tuple(gates)
    count = await release(uow, budgets.GATE) if _PRICE in (given or ()) else 0
    return count + await ask_again(
        uow, listed, (field.name for gate in listed for field in gate.fields) if is_zone else given or ()
    )


async def ask_again(
    uow: UnitOfWork, gates: Iterable[Gate], changed: Iterable[str], campaign_id: UUID | None = None
) -> int:
    """Make what is held by gates whose settings have changed ready, so that it is judged by the new ones.

    Takes:   a unit of work of the engine role with a tenant; changed: names of settings; campaign_id None: everything
             of the tenant.
    Gives:   how many messages; they are asked about within the second.
    """
    names = set(changed)
    count = 0
    for gate in gates:
        if names.isdisjoint(field.name for field in gate.fields):
            continue
        count += await release(uow, gate.key, campaign_id)
    return count


class Held(msgspec.Struct, frozen=True):
    """How many messages of a channel a gate holds now."""

    channel: str
    gate: str
    count: int


async def by_gate(uow: UnitOfWork) -> list[Held]:
    """What gates hold in the whole installation (engine role). Reads everything held once: cache the answer."""
    return [Held(row["channel"], row["gate"], row["n"]) for row in await SQL.held_by_gate.many(uow.raw)]


async def release_some(uow: UnitOfWork, gate_key: str, campaign_id: UUID | None, most: int) -> int:
    """Make the next few that a gate holds ready (engine role)."""
    return await SQL.gate_holds_release.run(uow.raw, uow.tenant, campaign_id, gate_key, most)


async def release(uow: UnitOfWork, gate_key: str, campaign_id: UUID | None = None) -> int:
    """Make everything a gate holds ready (engine role); what it still holds is held again."""
    count = 0
    while released := await SQL.gate_holds_release.run(uow.raw, uow.tenant, campaign_id, gate_key, _SLICE):
        count += released
    return count


async def tenants(uow: UnitOfWork, gate_key: str) -> list[UUID]:
    """Tenants of whose messages a gate holds one (engine role, no tenant)."""
    return [row["tenant_id"] for row in await SQL.tenants_held.many(uow.raw, gate_key)]


async def release_sender(uow: UnitOfWork, gate_key: str, sender_id: UUID) -> int:
    """Make everything a gate holds of a sender ready (engine role); what it still holds is held again."""
    count = 0
    while released := await SQL.sender_holds_release.run(uow.raw, uow.tenant, sender_id, None, gate_key, _SLICE):
        count += released
    return count


async def release_many(uow: UnitOfWork, gate_key: str, freed: Sequence[tuple[UUID, UUID, MessageClass, int]]) -> int:
    """Make some of what a gate holds ready, of several senders at once (engine role, no tenant).

    Takes:   freed: tenant, sender, class, and how many.
    """
    if not freed:
        return 0
    tenants, senders, classes, counts = (list(each) for each in zip(*freed, strict=True))
    return await SQL.senders_holds_release.run(uow.raw, gate_key, tenants, senders, classes, counts)


async def release_contacts(
    uow: UnitOfWork, gate_key: str, contacts: Sequence[UUID], purposes: Sequence[str], *, most: int
) -> int:
    """Make what a gate holds to contacts ready (engine role); what it still holds is held again.

    Takes:   contacts and, side by side, the purposes concerned; most: so many to each of their addresses.
    """
    return await SQL.contact_holds_release.run(uow.raw, uow.tenant, gate_key, list(contacts), list(purposes), most)

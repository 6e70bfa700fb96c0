"""Two contacts that are one person: what the contacts' own tables hold becomes one. Never touches messages.

Owns what wins: the kept contact's own words; of consent the withdrawal and of lists the refusal,
whoever said it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import values, write
from outrider.domain.contacts.rows import AUDIENCE, OFFERS, SQL


async def combine(uow: UnitOfWork, actor: Actor, keep_id: UUID, other_id: UUID) -> list[asyncpg.Record]:
    """Make `other_id` a part of `keep_id` and delete it (engine role: the proof of consent moves as well).

    Gives:   the addresses that moved, as rows of channel and address.
    Raises:  Refused(not_found; same_contact; too_many, too_large); nothing was changed.
    """
    if keep_id == other_id:
        raise Refused("same_contact", "a contact cannot be merged with itself", field="/contact_id")
    rows = {row["id"]: row for row in await AUDIENCE.lock_both.many(uow.raw, uow.tenant, [keep_id, other_id])}
    for wanted, field in ((keep_id, "/id"), (other_id, "/contact_id")):
        if wanted not in rows:
            raise Refused("not_found", "no such contact", field=field, status=404)
    tenant = uow.tenant
    moved = await AUDIENCE.move_addresses.many(uow.raw, tenant, keep_id, other_id)
    if moved and len(await AUDIENCE.addresses_of.many(uow.raw, tenant, keep_id)) > write.MOST_ADDRESSES:
        raise Refused("too_many", f"together they have more than {write.MOST_ADDRESSES} addresses", field="/contact_id")
    await AUDIENCE.move_memberships.run(uow.raw, tenant, keep_id, other_id)
    await OFFERS.move_refusals.run(uow.raw, tenant, keep_id, other_id)
    await OFFERS.leave_refused.run(uow.raw, tenant, keep_id)
    await AUDIENCE.move_tags.run(uow.raw, tenant, keep_id, other_id)
    await _consents(uow, keep_id, other_id)
    await AUDIENCE.keep_merge.run(uow.raw, tenant, keep_id, other_id, actor.name)
    await AUDIENCE.delete_contact.value(uow.raw, tenant, other_id)
    await SQL.update_contact.value(uow.raw, tenant, keep_id, *_columns(rows[keep_id], rows[other_id]))
    return moved


def _columns(keep: asyncpg.Record, other: asyncpg.Record) -> tuple[Any, ...]:
    """The kept contact's own words; where it says nothing, the other's."""
    attributes = orjson.loads(other["attributes"]) | {
        key: value for key, value in orjson.loads(keep["attributes"]).items() if value is not None
    }
    return (
        keep["external_id"] or other["external_id"],
        keep["name"] or other["name"],
        orjson.dumps(values.check_attributes(attributes)).decode(),
        keep["timezone"] or other["timezone"],
        keep["locale"] or other["locale"],
    )


async def _consents(uow: UnitOfWork, keep_id: UUID, other_id: UUID) -> None:
    """One consent per channel and purpose, the withdrawal if there is one; the proof of both speaks for it."""
    held: dict[tuple[str, str], asyncpg.Record] = {}
    for row in await AUDIENCE.consents_of_two.many(uow.raw, uow.tenant, [keep_id, other_id]):
        key = (row["channel"], row["purpose"])
        before = held.get(key)
        if before is None or (row["status"], row["at"]) > (before["status"], before["at"]):
            held[key] = row  # 'withdrawn' sorts after 'granted'
    await AUDIENCE.move_proof.run(uow.raw, uow.tenant, keep_id, other_id)
    for (channel, purpose), row in held.items():
        told = (channel, purpose, row["status"])
        await AUDIENCE.write_consent.run(uow.raw, uow.tenant, keep_id, *told, row["at"], row["source"])
        # what holds must be the latest entry of the proof, also when the other contact's word was later
        source = f"merge:{other_id}"
        await SQL.add_consent_event.run(uow.raw, uow.tenant, keep_id, *told, source, None, None, None)
    await AUDIENCE.drop_consents.run(uow.raw, uow.tenant, other_id)

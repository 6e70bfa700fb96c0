"""Forgetting a person as far as contacts go: everything is deleted but the promise not to write, kept by hash alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.rows import AUDIENCE, IMPORTS, SQL


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Who was forgotten: every contact they were; every address with its channel, for this transaction only."""

    contact_ids: list[UUID]
    addresses: list[tuple[str, str]]

    @property
    def hashes(self) -> list[tuple[str, bytes]]:
        """What may be kept: channel and SHA-256 of each address."""
        return [(channel, hashlib.sha256(address.encode()).digest()) for channel, address in self.addresses]


async def forget(uow: UnitOfWork, actor: Actor, contact_id: UUID, *, source: str) -> Forgotten:
    """Delete a contact with everything that hangs on it; each address is suppressed by its hash (engine role).

    Raises:  Refused(not_found).
    """
    if await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id) is None:
        raise Refused("not_found", "no such contact", field="/id", status=404)
    merged = [row["merged_id"] for row in await AUDIENCE.merges_of.many(uow.raw, uow.tenant, contact_id)]
    rows = await AUDIENCE.addresses_of.many(uow.raw, uow.tenant, contact_id)
    gone = Forgotten([contact_id, *merged], [(row["channel"], row["address"]) for row in rows])
    for channel, digest in sorted(gone.hashes):  # in the order in which everybody locks entries
        await AUDIENCE.suppress_hash.run(uow.raw, uow.tenant, channel, digest, source, actor.name)
    if rows:
        await SQL.tell_suppression.run(uow.raw, str(uow.tenant))
    await AUDIENCE.drop_consents.run(uow.raw, uow.tenant, contact_id)
    await AUDIENCE.drop_proof.run(uow.raw, uow.tenant, gone.contact_ids)
    addresses = [address for _, address in gone.addresses]
    await AUDIENCE.blank_import_errors.run(uow.raw, uow.tenant, addresses)
    await IMPORTS.changes_forget.run(uow.raw, uow.tenant, gone.contact_ids, addresses)
    await AUDIENCE.delete_contact.value(uow.raw, uow.tenant, contact_id)
    return gone

"""A sender as the dispatcher uses it: identity, provider account, unsealed secrets.

Owns opening the seals; what it gives lives in memory only and is never logged (secrets do not show in `repr`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.base.errors import Refused
from outrider.base.secret import Keyring
from outrider.contracts.channel import Dkim, Identity
from outrider.contracts.gate import MessageClass
from outrider.domain.senders.rows import FAILOVER, SQL


@dataclass(frozen=True, slots=True)
class Versions:
    """While these are the same, a loaded sender is fresh."""

    sender: int
    connection_id: UUID
    connection: int


@dataclass(frozen=True, slots=True)
class ConnectionInUse:
    """One connection of a sender, ready to send; `circuit` and what follows say whether it can be reached.

    is_due    it is known not to be reachable and may be tried again
    is_noted  something is known against it
    named_by  by what its account is known, as it was written down last
    """

    id: UUID
    version: int
    provider: str
    settings: dict[str, Any]
    secrets: dict[str, str] = field(repr=False)
    circuit: str
    passed: int
    is_due: bool
    is_noted: bool
    named_by: str | None


@dataclass(frozen=True, slots=True)
class SenderInUse:
    """A sender, ready to send. `guarantees` says per message class what a lost answer means."""

    identity: Identity = field(repr=False)
    channel: str
    connections: tuple[ConnectionInUse, ...]
    """Its own, then those that take over, in their order."""
    versions: Versions
    guarantees: dict[MessageClass, str]
    is_archived: bool
    numbers: tuple[str, ...] = ()
    """The pool in use, in a fixed order; empty: everything comes from the identity's address."""


def connection_purpose(connection_id: UUID) -> str:
    """What a connection's secrets are sealed for."""
    return f"connection:{connection_id}"


def dkim_purpose(sender_id: UUID) -> str:
    """What a sender's signing keys are sealed for."""
    return f"sender:{sender_id}"


async def load(raw: asyncpg.Connection, keyring: Keyring, tenant_id: UUID, sender_id: UUID) -> SenderInUse:
    """Read a sender with its connection and open its secrets.

    Gives:   archived senders too: what was accepted before is still sent.
    Raises:  Refused(not_found); Misconfigured when another key sealed the secrets.
    """
    row = await SQL.load_identity.one(raw, tenant_id, sender_id)
    if row is None:
        raise Refused("not_found", f"no such sender: {sender_id}", field="sender_id", status=404)
    others = await FAILOVER.fallbacks_load.many(raw, tenant_id, sender_id) if row["has_fallbacks"] else []
    keys = _unsealed(keyring, row["sealed_dkim"], tenant_id, dkim_purpose(sender_id), empty=b"[]")
    signing = tuple(
        Dkim(named["domain"], named["selector"], pem)
        for named, pem in zip(orjson.loads(row["dkim"]), keys, strict=True)
    )
    return SenderInUse(
        identity=Identity(
            sender_id=sender_id,
            from_address=row["from_address"],
            from_name=row["from_name"],
            reply_to=row["reply_to"],
            return_path=row["return_path"],
            postal_address=row["postal_address"],
            dkim=signing,
            public_url=row["public_url"],
            tracking_url=row["tracking_url"],
            opt_out_line=row["opt_out_line"],
            has_preferences_footer=row["has_preferences_footer"],
        ),
        channel=row["channel"],
        connections=tuple(_connection(keyring, tenant_id, each) for each in (row, *others)),
        versions=Versions(row["sender_version"], row["connection_id"], row["connection_version"]),
        guarantees={"transactional": row["transactional_guarantee"], "bulk": row["bulk_guarantee"]},
        is_archived=row["is_archived"],
        numbers=tuple(row["numbers"]),
    )


def _connection(keyring: Keyring, tenant_id: UUID, row: asyncpg.Record) -> ConnectionInUse:
    connection_id: UUID = row["connection_id"]
    return ConnectionInUse(
        id=connection_id,
        version=row["connection_version"],
        provider=row["provider"],
        settings=orjson.loads(row["settings"]),
        secrets=_unsealed(keyring, row["sealed_secrets"], tenant_id, connection_purpose(connection_id), empty=b"{}"),
        circuit=row["circuit"] or "closed",
        passed=row["passed"] or 0,
        is_due=bool(row["is_due"]),
        is_noted=row["circuit"] is not None,
        named_by=row["account"],
    )


def _unsealed(keyring: Keyring, sealed: str, tenant_id: UUID, purpose: str, *, empty: bytes) -> Any:
    return orjson.loads(keyring.unseal(sealed, tenant_id=tenant_id, purpose=purpose) if sealed else empty)

"""Senders: who a message comes from, through which connection, signed with which keys, with which guarantee.

Owns saving and archiving. Signing keys are sealed at once and never given back; `identity.load` opens them for sending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec
import orjson
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import UNSET, UnsetType

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.base.web import base_url
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel, Dkim, Identity
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.values import check_label
from outrider.domain.senders import connections
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.identity import dkim_purpose
from outrider.domain.senders.rows import SQL

Guarantee = Literal["at_least_once", "at_most_once"]
GUARANTEES: tuple[Guarantee, ...] = ("at_least_once", "at_most_once")
MOST_KEYS = 4
_IDENTITY = (
    "from_address", "from_name", "reply_to", "return_path", "postal_address", "public_url", "tracking_url",
    "opt_out_line",
)  # fmt: skip


class DkimIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signing key. Without its private key it must be one the sender has: it stays."""

    domain: str
    selector: str
    private_key_pem: str | None = None


class DkimView(msgspec.Struct, frozen=True):
    """A signing key without the key; its record belongs to `<selector>._domainkey.<domain>`."""

    domain: str
    selector: str
    algorithm: str


class NewSender(msgspec.Struct, forbid_unknown_fields=True):
    """A sender to be made. `from_address` may be `Name <a@b.example>`; return_path is empty for the from address.

    `public_url` and `tracking_url` are bases of its links, such as https://mail.example.org; empty: the installation's.
    `opt_out_line` ends bulk texts of channels where people answer; null: the channel's words; empty: nothing. Without
    `transactional_guarantee` the channel's holds: an email may come twice, a text may not.
    """

    name: str
    connection_id: UUID
    from_address: str
    from_name: str = ""
    reply_to: str = ""
    return_path: str = ""
    postal_address: str = ""
    public_url: str = ""
    tracking_url: str = ""
    opt_out_line: str | None = None
    dkim: list[DkimIn] = []
    transactional_guarantee: Guarantee | None = None
    bulk_guarantee: Guarantee = "at_most_once"


class SenderChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays. `dkim` replaces the whole list."""

    name: str | UnsetType = UNSET
    connection_id: UUID | UnsetType = UNSET
    from_address: str | UnsetType = UNSET
    from_name: str | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    return_path: str | UnsetType = UNSET
    postal_address: str | UnsetType = UNSET
    public_url: str | UnsetType = UNSET
    tracking_url: str | UnsetType = UNSET
    opt_out_line: str | UnsetType = UNSET
    dkim: list[DkimIn] | UnsetType = UNSET
    transactional_guarantee: Guarantee | UnsetType = UNSET
    bulk_guarantee: Guarantee | UnsetType = UNSET


class SenderView(msgspec.Struct, frozen=True):
    """A sender. `warnings` are what its channel found worth saying when it was saved; empty when it is read."""

    id: UUID
    name: str
    channel: str
    connection_id: UUID
    from_address: str
    from_name: str
    reply_to: str
    return_path: str
    postal_address: str
    public_url: str
    tracking_url: str
    opt_out_line: str
    dkim: list[DkimView]
    transactional_guarantee: str
    bulk_guarantee: str
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    warnings: list[str] = []


async def create(
    uow: UnitOfWork, channels: Mapping[str, Channel], vault: Vault, actor: Actor, new: NewSender
) -> SenderView:
    """Make a sender.

    Raises:  Refused(name_taken, 409; not_found naming the connection); RefusedMany naming each wrong field.
    """
    channel = await _channel(uow, channels, vault, new.connection_id)
    sender_id: UUID = await SQL.mint_id.value(uow.raw)
    identity = Identity(sender_id, **{name: getattr(new, name) for name in _IDENTITY}, dkim=_keys(new.dkim, ()))
    identity, warnings = channel.check_identity(_with_bases(identity))
    made = await SQL.insert_sender.value(
        uow.raw,
        uow.tenant,
        sender_id,
        check_label(new.name),
        channel.key,
        new.connection_id,
        *_stored(identity, vault, uow.tenant),
        new.transactional_guarantee or ("at_least_once" if channel.is_repeatable else "at_most_once"),
        new.bulk_guarantee,
    )
    if made is None:
        raise _name_taken()
    details = {"name": new.name, "from": identity.from_address}
    await append(uow, actor, action="sender.create", target=("sender", str(sender_id)), details=details)
    return msgspec.structs.replace(await get(uow, sender_id), warnings=warnings)


async def update(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    vault: Vault,
    actor: Actor,
    sender_id: UUID,
    change: SenderChange,
    *,
    reason: str = "not given",
) -> SenderView:
    """Change a sender; messages sent from now on, queued ones too, come from what it says then.

    Raises:  Refused(not_found; name_taken, 409; other_channel); RefusedMany naming each wrong field.
    """
    row = await SQL.lock_sender.one(uow.raw, uow.tenant, sender_id)
    if row is None:
        raise _not_found()
    connection_id = row["connection_id"] if change.connection_id is UNSET else change.connection_id
    channel = await _channel(uow, channels, vault, connection_id)
    if channel.key != row["channel"]:
        raise Refused("other_channel", f"the sender is of channel {row['channel']}", field="/connection_id")
    identity, warnings = channel.check_identity(_with_bases(_changed(row, change, _unsealed(row, vault, uow.tenant))))
    given = {name: getattr(change, name) for name in ("name", "transactional_guarantee", "bulk_guarantee")}
    kept = {name: row[name] if value is UNSET else value for name, value in given.items()}
    try:
        await SQL.update_sender.value(
            uow.raw,
            uow.tenant,
            sender_id,
            check_label(kept["name"]),
            connection_id,
            *_stored(identity, vault, uow.tenant),
            kept["transactional_guarantee"],
            kept["bulk_guarantee"],
        )
    except asyncpg.UniqueViolationError:
        raise _name_taken() from None
    changed = [name for name in change.__struct_fields__ if getattr(change, name) is not UNSET]
    await append(
        uow,
        actor,
        action="sender.update",
        target=("sender", str(sender_id)),
        reason=reason,
        details={"fields": changed},
    )
    return msgspec.structs.replace(await get(uow, sender_id), warnings=warnings)


async def archive(uow: UnitOfWork, actor: Actor, sender_id: UUID, *, is_archived: bool) -> SenderView:
    """Take a sender out of use for what is new, or back into it; what was accepted before is still sent.

    Raises:  Refused(not_found).
    """
    if await SQL.archive_sender.value(uow.raw, uow.tenant, sender_id, is_archived) is None:
        raise _not_found()
    action = "sender.archive" if is_archived else "sender.restore"
    await append(uow, actor, action=action, target=("sender", str(sender_id)))
    return await get(uow, sender_id)


async def get(uow: UnitOfWork, sender_id: UUID, *, field: str = "/id") -> SenderView:
    """One sender.

    Raises:  Refused(not_found).
    """
    row = await SQL.sender_get.one(uow.raw, uow.tenant, sender_id)
    if row is None:
        raise _not_found(field)
    return _view(row)


async def listed(
    uow: UnitOfWork, *, limit: int, after: UUID | None = None, with_archived: bool = False
) -> list[SenderView]:
    """Senders in the order they were made, `limit` (1..1000) of those after `after`."""
    rows = await SQL.senders_page.many(uow.raw, uow.tenant, after or NIL, limit, with_archived)
    return [_view(row) for row in rows]


async def _channel(uow: UnitOfWork, channels: Mapping[str, Channel], vault: Vault, connection_id: UUID) -> Channel:
    """The channel that the connection's provider carries."""
    row = await SQL.connection_get.one(uow.raw, uow.tenant, connection_id)
    if row is None:
        raise Refused("not_found", "no such connection", field="/connection_id", status=404)
    return channel_of(channels, connections.provider_of(vault, row["provider"]).channel)


def _changed(row: asyncpg.Record, change: SenderChange, keys: tuple[Dkim, ...]) -> Identity:
    identity = Identity(row["id"], **{name: row[name] for name in _IDENTITY}, dkim=keys)
    given: dict[str, Any] = {name: getattr(change, name) for name in _IDENTITY if getattr(change, name) is not UNSET}
    if change.dkim is not UNSET:
        given["dkim"] = _keys(change.dkim, keys)
    return replace(identity, **given)


def _with_bases(identity: Identity) -> Identity:
    """The identity with its bases of links in their stored form.

    Raises:  Refused(invalid_url).
    """
    return replace(
        identity,
        public_url=base_url(identity.public_url, field="public_url"),
        tracking_url=base_url(identity.tracking_url, field="tracking_url"),
    )


def _keys(given: list[DkimIn], known: tuple[Dkim, ...]) -> tuple[Dkim, ...]:
    """The signing keys meant: those given whole, and those named that the sender has."""
    if len(given) > MOST_KEYS:
        raise Refused("too_many", f"at most {MOST_KEYS} keys", field="/dkim")
    has = {(key.domain, key.selector): key.private_key_pem for key in known}
    keys = []
    for position, key in enumerate(given):
        domain = key.domain.lower()
        pem = key.private_key_pem or has.get((domain, key.selector))
        if pem is None:
            raise Refused("required", "the private key is required", field=f"/dkim/{position}/private_key_pem")
        keys.append(Dkim(domain, key.selector, pem))
    if len({(key.domain, key.selector) for key in keys}) != len(keys):
        raise Refused("duplicate_key", "two keys have the same domain and selector", field="/dkim")
    return tuple(keys)


def _stored(identity: Identity, vault: Vault, tenant_id: UUID) -> tuple[str, ...]:
    """The identity as columns: addresses, then the keys' names as JSON, then the keys sealed."""
    names = [
        {"domain": key.domain, "selector": key.selector, "algorithm": _algorithm(key.private_key_pem)}
        for key in identity.dkim
    ]
    text = orjson.dumps([key.private_key_pem for key in identity.dkim]).decode()
    purpose = dkim_purpose(identity.sender_id)
    sealed = vault.keyring.seal(text, tenant_id=tenant_id, purpose=purpose) if names else ""
    return (*(getattr(identity, name) or "" for name in _IDENTITY), orjson.dumps(names).decode(), sealed)


def _algorithm(pem: str) -> str:
    """`rsa` or `ed25519`; the channel has checked the key."""
    kind = type(load_pem_private_key(pem.encode(), password=None)).__name__.lower()
    return "ed25519" if "ed25519" in kind else "rsa"


def _unsealed(row: asyncpg.Record, vault: Vault, tenant_id: UUID) -> tuple[Dkim, ...]:
    if not row["sealed_dkim"]:
        return ()
    text = vault.keyring.unseal(row["sealed_dkim"], tenant_id=tenant_id, purpose=dkim_purpose(row["id"]))
    named = orjson.loads(row["dkim"])
    return tuple(Dkim(key["domain"], key["selector"], pem) for key, pem in zip(named, orjson.loads(text), strict=True))


def _view(row: asyncpg.Record) -> SenderView:
    facts: dict[str, Any] = dict(row)
    return SenderView(dkim=msgspec.json.decode(facts.pop("dkim"), type=list[DkimView]), **facts)


def _name_taken() -> Refused:
    return Refused("name_taken", "another sender has this name", field="/name", status=409)


def _not_found(field: str = "/id") -> Refused:
    return Refused("not_found", "no such sender", field=field, status=404)

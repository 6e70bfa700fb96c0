"""Connections: accounts at providers. Settings are checked by the provider's own fields; secrets are sealed at once.

Owns saving and examining; never gives a secret back, only says which there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import orjson

from outrider.base import fields
from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.base.secret import Keyring
from outrider.contracts.actor import Actor
from outrider.contracts.provider import Egress, Provider
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.values import check_label
from outrider.domain.senders import circuits
from outrider.domain.senders.identity import connection_purpose
from outrider.domain.senders.rows import SQL

EXAMINED_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Vault:
    """What saving and examining a connection needs of the process."""

    providers: Mapping[str, Provider]
    keyring: Keyring
    egress: Egress


class ConnectionView(msgspec.Struct, frozen=True):
    """A connection; `has_secret` says for each secret setting whether one is stored."""

    id: UUID
    name: str
    provider: str
    settings: dict[str, Any]
    has_secret: dict[str, bool]
    version: int
    created_at: datetime
    updated_at: datetime


class StageView(msgspec.Struct, frozen=True):
    """One step of an examination: dns, tcp, tls, auth, as the provider names them."""

    name: str
    is_ok: bool
    detail: str


async def create(
    uow: UnitOfWork, vault: Vault, actor: Actor, *, name: str, provider: str, settings: Mapping[str, Any]
) -> ConnectionView:
    """Make a connection.

    Takes:   settings by the provider's fields, secret ones among them.
    Raises:  Refused(unknown_provider; name_taken, 409); RefusedMany naming each wrong setting.
    """
    found = provider_of(vault, provider)
    plain = check_label(name)
    public, secrets = await _checked(vault, found, settings)
    connection_id: UUID = await SQL.mint_id.value(uow.raw)
    sealed = _seal(vault, uow.tenant, connection_id, secrets)
    made = await SQL.insert_connection.value(
        uow.raw, uow.tenant, connection_id, plain, provider, orjson.dumps(public).decode(), sealed
    )
    if made is None:
        raise _name_taken()
    details = {"name": plain, "provider": provider, "secrets": sorted(secrets)}
    await append(uow, actor, action="connection.create", target=("connection", str(connection_id)), details=details)
    return await get(uow, vault, connection_id)


async def id_of(uow: UnitOfWork, which: str, *, field: str) -> UUID:
    """A connection by its exact name or its id. Raises Refused(not_found), naming `field`."""
    found: UUID | None = await SQL.connection_named.value(uow.raw, uow.tenant, which)
    if found is None:
        raise Refused("not_found", f"no connection named {which[:100]!r}", field=field, status=404)
    return found


async def update(
    uow: UnitOfWork,
    vault: Vault,
    actor: Actor,
    connection_id: UUID,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ConnectionView:
    """Change a connection; settings and secrets that are not named stay, null means the preset, or no secret.

    With other settings it is tried at once: what is known against it was the old one's.

    Raises:  Refused(not_found; name_taken, 409); RefusedMany naming each wrong setting.
    """
    row = await SQL.lock_connection.one(uow.raw, uow.tenant, connection_id)
    if row is None:
        raise _not_found()
    provider = provider_of(vault, row["provider"])
    before = orjson.loads(row["settings"]) | _unseal(vault, uow.tenant, connection_id, row["sealed_secrets"])
    public, secrets = await _checked(vault, provider, before | dict(settings or {}))
    plain = row["name"] if name is None else check_label(name)
    sealed = _seal(vault, uow.tenant, connection_id, secrets)
    try:
        await SQL.update_connection.value(
            uow.raw, uow.tenant, connection_id, plain, orjson.dumps(public).decode(), sealed, bool(settings)
        )
    except asyncpg.UniqueViolationError:
        raise _name_taken() from None
    if settings:
        await circuits.forget(uow, connection_id)
    details = {"name": plain, "changed": sorted(settings or {})}
    await append(uow, actor, action="connection.update", target=("connection", str(connection_id)), details=details)
    return await get(uow, vault, connection_id)


async def delete(uow: UnitOfWork, actor: Actor, connection_id: UUID) -> None:
    """Delete a connection with its secrets.

    Raises:  Refused(not_found; connection_in_use, 409) while a sender uses it, an archived one too.
    """
    try:
        name = await SQL.delete_connection.value(uow.raw, uow.tenant, connection_id)
    except asyncpg.ForeignKeyViolationError:
        raise Refused("connection_in_use", "a sender uses this connection", field="/id", status=409) from None
    if name is None:
        raise _not_found()
    target = ("connection", str(connection_id))
    await append(uow, actor, action="connection.delete", target=target, details={"name": name})


async def get(uow: UnitOfWork, vault: Vault, connection_id: UUID) -> ConnectionView:
    """One connection.

    Raises:  Refused(not_found).
    """
    row = await SQL.connection_get.one(uow.raw, uow.tenant, connection_id)
    if row is None:
        raise _not_found()
    return _view(row, vault, uow.tenant)


async def listed(uow: UnitOfWork, vault: Vault, *, limit: int, after: UUID | None = None) -> list[ConnectionView]:
    """Connections in the order they were made, `limit` (1..1000) of those after `after`."""
    rows = await SQL.connections_page.many(uow.raw, uow.tenant, after or NIL, limit)
    return [_view(row, vault, uow.tenant) for row in rows]


@dataclass(frozen=True, slots=True)
class Account:
    """A connection opened for an examination; its secrets are in memory only."""

    provider: Provider
    settings: dict[str, Any]
    secrets: dict[str, str] = field(repr=False)


async def opened(uow: UnitOfWork, vault: Vault, connection_id: UUID) -> Account:
    """Read a connection for `examined`, which runs without a transaction.

    Raises:  Refused(not_found); Misconfigured when another key sealed the secrets.
    """
    row = await SQL.connection_get.one(uow.raw, uow.tenant, connection_id)
    if row is None:
        raise _not_found()
    secrets = _unseal(vault, uow.tenant, connection_id, row["sealed_secrets"])
    return Account(provider_of(vault, row["provider"]), orjson.loads(row["settings"]), secrets)


async def examined(account: Account, egress: Egress) -> list[StageView]:
    """Try each stage of a connection, up to the first that fails; sends nothing and ends within 20 s."""
    stages: list[StageView] = []
    try:
        async with asyncio.timeout(EXAMINED_WITHIN_S):
            async for stage in account.provider.examine(account.settings, account.secrets, egress):
                stages.append(StageView(stage.name, stage.is_ok, stage.detail))  # noqa: PERF401 - kept when time runs out
    except TimeoutError:
        stages.append(StageView("time", is_ok=False, detail=f"no answer within {EXAMINED_WITHIN_S:g} s"))
    return stages


def provider_of(vault: Vault, key: str) -> Provider:
    """The provider with this key.

    Raises:  Refused(unknown_provider) naming those there are.
    """
    found = vault.providers.get(key)
    if found is None:
        raise Refused("unknown_provider", f"must be one of {', '.join(vault.providers)}", field="/provider")
    return found


async def _checked(vault: Vault, provider: Provider, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and secrets, complete and accepted by the provider itself."""
    complete = fields.check(provider.fields, given)
    secret_names = {one.name for one in provider.fields if one.kind == "secret"}
    secrets = {name: value for name, value in complete.items() if name in secret_names and value is not None}
    public = {name: value for name, value in complete.items() if name not in secret_names}
    await provider.open(public, secrets, vault.egress).close()  # connects lazily: only what does not fit is refused
    return public, secrets


def _seal(vault: Vault, tenant_id: UUID, connection_id: UUID, secrets: dict[str, str]) -> str:
    if not secrets:
        return ""
    text = orjson.dumps(secrets).decode()
    return vault.keyring.seal(text, tenant_id=tenant_id, purpose=connection_purpose(connection_id))


def _unseal(vault: Vault, tenant_id: UUID, connection_id: UUID, sealed: str) -> dict[str, str]:
    if not sealed:
        return {}
    text = vault.keyring.unseal(sealed, tenant_id=tenant_id, purpose=connection_purpose(connection_id))
    secrets: dict[str, str] = orjson.loads(text)
    return secrets


def _view(row: asyncpg.Record, vault: Vault, tenant_id: UUID) -> ConnectionView:
    facts = dict(row)
    provider = vault.providers.get(facts["provider"])
    if provider is None:
        raise Broken("provider_missing", f"connection {facts['id']}: there is no provider {facts['provider']!r}")
    secrets = _unseal(vault, tenant_id, facts["id"], facts.pop("sealed_secrets"))
    names = [one.name for one in provider.fields if one.kind == "secret"]
    return ConnectionView(
        settings=orjson.loads(facts.pop("settings")), has_secret={name: name in secrets for name in names}, **facts
    )


def _name_taken() -> Refused:
    return Refused("name_taken", "another connection has this name", field="/name", status=409)


def _not_found() -> Refused:
    return Refused("not_found", "no such connection", field="/id", status=404)

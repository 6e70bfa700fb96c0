"""Connections to providers. Secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import examine
from outrider.domain.limits import first_rates
from outrider.domain.senders import connections
from outrider.domain.senders.connections import ConnectionView, StageView, Vault
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Name = Annotated[str, msgspec.Meta(max_length=200)]


class ConnectionIn(msgspec.Struct, forbid_unknown_fields=True):
    """A new connection; `settings` by the provider's fields, secret ones among them."""

    name: Name
    provider: str
    settings: dict[str, Any] = {}


class ConnectionChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; settings and secrets that are not named stay, null means the preset or no secret."""

    name: Name | None = None
    settings: dict[str, Any] = {}


class FieldOut(msgspec.Struct):
    """One setting of a provider, from which a form can be drawn."""

    name: str
    help: str
    kind: str
    default: Any
    is_required: bool
    choices: list[str]
    least: float | None
    most: float | None
    longest: int


class ProviderOut(msgspec.Struct):
    """A kind of account, the channel it carries and its settings."""

    key: str
    channel: str
    help: str
    fields: list[FieldOut]


class ProvidersOut(msgspec.Struct):
    """All of them."""

    items: list[ProviderOut]


class ExaminationOut(msgspec.Struct):
    """What became of each stage, up to the first that failed."""

    is_ok: bool
    stages: list[StageView]


def vault_of(runtime: Runtime) -> Vault:
    """What saving connections and senders needs of the process."""
    return Vault(runtime.providers, runtime.keyring, runtime.egress)


@get("/providers", guards=[needs("viewer", "senders:read")])
async def providers(runtime: NamedDependency[Runtime]) -> ProvidersOut:
    """List the kinds of account there are, with their settings."""
    return ProvidersOut(
        [
            ProviderOut(
                one.key,
                one.channel,
                one.help,
                [
                    FieldOut(
                        name=field.name,
                        help=field.help,
                        kind=field.kind,
                        default=field.default,
                        is_required=field.is_required,
                        choices=list(field.choices),
                        least=field.least,
                        most=field.most,
                        longest=field.longest,
                    )
                    for field in one.fields
                ],
            )
            for one in runtime.providers.values()
        ]
    )


@post("/connections", status_code=201, guards=[needs("admin", "senders:write")])
async def create(
    data: JSONBody[ConnectionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ConnectionView:
    """Make a connection; its secrets are sealed at once."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        made = await connections.create(
            uow,
            vault_of(runtime),
            principal.actor,
            name=data.name,
            provider=data.provider,
            settings=data.settings,
        )
        await first_rates.give(uow, principal.actor, made.id, runtime.providers[made.provider])
        return made


@get("/connections", guards=[needs("viewer", "senders:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ConnectionView]:
    """List connections in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await connections.listed(uow, vault_of(runtime), limit=limit, after=after[0] if after else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/connections/{connection_id:str}", guards=[needs("viewer", "senders:read")])
async def shown(
    connection_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ConnectionView:
    """Show one connection, never its secrets."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await connections.get(uow, vault_of(runtime), parse_id(connection_id, "connection_id"))


@patch("/connections/{connection_id:str}", guards=[needs("admin", "senders:write")])
async def changed(
    connection_id: FromPath[str],
    data: JSONBody[ConnectionChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ConnectionView:
    """Change a connection; workers use what it says within seconds."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await connections.update(
            uow,
            vault_of(runtime),
            principal.actor,
            parse_id(connection_id, "connection_id"),
            name=data.name,
            settings=data.settings,
        )


@delete("/connections/{connection_id:str}", status_code=204, guards=[needs("admin", "senders:write")])
async def deleted(
    connection_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Delete a connection that no sender uses, with its secrets."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await connections.delete(uow, principal.actor, parse_id(connection_id, "connection_id"))


@post("/connections/{connection_id:str}/examine", status_code=200, guards=[needs("admin", "senders:write")])
async def examined(
    connection_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ExaminationOut:
    """Try each stage of a connection and name the first that fails; sends nothing."""
    identifier = parse_id(connection_id, "connection_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        account = await connections.opened(uow, vault_of(runtime), identifier)
    stages = await examine.examined(runtime, account, principal.tenant_id, identifier)
    return ExaminationOut(all(stage.is_ok for stage in stages), stages)


ROUTES = [providers, create, listed, shown, changed, deleted, examined]

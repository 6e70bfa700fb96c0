"""Tenants: creating, renaming, settings. Never deletes one: its messages and proofs outlive it."""

from __future__ import annotations

import json
import re
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.base.fields import Field, check
from outrider.contracts.actor import Actor
from outrider.contracts.gate import Gate
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants.policies import BOUNCE_FIELDS, CAMPAIGN_FIELDS
from outrider.domain.tenants.regions import check_region
from outrider.domain.tenants.rows import SQL

_NAME = re.compile(r"[\w][\w .&'()-]{0,79}")
_LONGEST_ZONE = 64

FIELDS: tuple[Field, ...] = (
    Field("consent_required", "Bulk messages need recorded consent (tenant setting).", "boolean", default=True),
    Field(
        "default_region",
        "Country (ISO 3166, such as US) in which telephone numbers without + are read; empty: they are refused.",
        default="",
        longest=2,
    ),
    Field(
        "opt_out_words",
        "Further words that opt out, with commas between, beside STOP, UNSUBSCRIBE, CANCEL, END, QUIT …",
        default="",
        longest=500,
    ),
    Field(
        "opt_out_reply",
        "What whoever opts out by an answer is told, once; {name} is the sender's name; empty: nothing.",
        default="You will get no more messages from {name}. Reply START to get them again.",
        longest=300,
    ),
    Field(
        "opt_in_reply",
        "What whoever opts in again by an answer is told; empty: nothing.",
        default="You will get messages from {name} again. Reply STOP to opt out.",
        longest=300,
    ),
    Field(
        "help_reply",
        "What whoever answers HELP or INFO is told, once an hour; empty: nothing.",
        default="Messages from {name}. Reply STOP to opt out.",
        longest=300,
    ),
    Field(
        "private_purposes",
        "Purposes of messages whose texts conversations do not show, with commas between: codes to sign in and alike.",
        default="otp,one_time_code,sign_in,password",
        longest=500,
        pattern=r"([a-z0-9_-]+(,[a-z0-9_-]+)*)?",
    ),
    Field(
        "preferences_footer",
        "The footer of marketing emails shows the way to the preference centre too, as soon as a list is on offer.",
        "boolean",
        default=True,
    ),
    *BOUNCE_FIELDS,
    *CAMPAIGN_FIELDS,
)
"""The settings every tenant has whatever gates are installed."""


def known_fields(gates: Iterable[Gate]) -> tuple[Field, ...]:
    """Every setting of a tenant: its own and those its gates declare."""
    named = {field.name: field for gate in gates for field in gate.fields}
    return (*FIELDS, *(field for name, field in named.items() if name not in {own.name for own in FIELDS}))


class Tenant(msgspec.Struct, frozen=True):
    """A tenant; `settings` holds every known setting, given or preset."""

    id: UUID
    name: str
    timezone: str
    settings: dict[str, Any]
    created_at: datetime


def check_timezone(name: str, *, field: str = "/timezone") -> str:
    """A time zone by its IANA name, exactly as written there; looked up in the list, never as a path.

    Raises:  Refused(unknown_timezone).
    """
    if len(name) > _LONGEST_ZONE or name not in _zones():
        raise Refused("unknown_timezone", "must be an IANA time zone such as Europe/Berlin or UTC", field=field)
    return name


async def create(uow: UnitOfWork, actor: Actor, name: str, timezone: str = "UTC") -> Tenant:
    """Make a tenant without users (engine role). Audited in the installation's chain and the tenant's own.

    Raises:  Refused(invalid_name, unknown_timezone, name_taken).
    """
    row = await SQL.tenant_add.one(uow.raw, check_name(name), check_timezone(timezone))
    if row is None:
        raise Refused("name_taken", "another tenant has this name", field="/name", status=409)
    tenant = _tenant(row, FIELDS)
    await append(
        uow,
        actor,
        action="tenant.create",
        target=("tenant", str(tenant.id)),
        details={"name": name, "timezone": timezone},
        tenant_id=tenant.id,
    )
    return tenant


async def change(
    uow: UnitOfWork,
    actor: Actor,
    tenant_id: UUID,
    *,
    name: str | None = None,
    timezone: str | None = None,
    settings: Mapping[str, Any] | None = None,
    fields: Sequence[Field] = FIELDS,
    reason: str = "not given",
) -> Tenant:
    """Change what is given of a tenant; settings that are not named stay, None takes one back to its preset.

    Takes:   a unit of work of the engine role (names are unique across tenants); `fields` every known setting.
    Raises:  Refused(not_found, invalid_name, name_taken, unknown_timezone), RefusedMany for settings.
    """
    row = await SQL.tenant_lock.one(uow.raw, tenant_id)
    if row is None:
        raise _unknown()
    before = _tenant(row, fields)
    given = dict(settings or {})
    check(fields, {key: value for key, value in given.items() if value is not None}, where="settings")
    _refuse_unknown(fields, given)
    if given.get("default_region") is not None:
        given["default_region"] = check_region(given["default_region"], field="settings.default_region")
    kept = {key: value for key, value in {**json.loads(row["settings"]), **given}.items() if value is not None}
    new_name = before.name if name is None else check_name(name)
    if new_name != before.name and await SQL.tenant_name_taken.value(uow.raw, tenant_id, new_name):
        raise Refused("name_taken", "another tenant has this name", field="/name", status=409)
    zone = before.timezone if timezone is None else check_timezone(timezone)
    changed = await SQL.tenant_change.one(uow.raw, tenant_id, new_name, zone, json.dumps(kept))
    if changed is None:
        raise Broken("tenant_lost", "a locked row vanished")
    after = _tenant(changed, fields)
    await append(
        uow,
        actor,
        action="tenant.change",
        target=("tenant", str(tenant_id)),
        reason=reason,
        details=_difference(before, after),
        tenant_id=tenant_id,
    )
    return after


async def get(uow: UnitOfWork, tenant_id: UUID, *, fields: Sequence[Field] = FIELDS) -> Tenant:
    """One tenant. Raises Refused(not_found)."""
    row = await SQL.tenant_get.one(uow.raw, tenant_id)
    if row is None:
        raise _unknown()
    return _tenant(row, fields)


async def find(uow: UnitOfWork, name_or_id: str) -> Tenant:
    """A tenant by its name or id (engine role). Raises Refused(not_found)."""
    row = await SQL.tenant_named.one(uow.raw, name_or_id) if "\0" not in name_or_id else None
    if row is None:
        raise _unknown()
    return _tenant(row, FIELDS)


async def listed(uow: UnitOfWork, *, after_name: str = "", limit: int = 50) -> list[Tenant]:
    """A page of tenants by name: all of them as the engine role, only the unit of work's as the app role."""
    return [_tenant(row, FIELDS) for row in await SQL.tenants_after.many(uow.raw, after_name, limit)]


def check_name(name: str, *, field: str = "/name") -> str:
    """A tenant's name: 1 to 80 letters, digits, spaces and a little punctuation. Raises Refused(invalid_name)."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise Refused(
            "invalid_name",
            "must have 1 to 80 letters, digits, spaces or . & ' ( ) - and begin with a letter or digit",
            field=field,
        )
    return name


def _unknown() -> Refused:
    return Refused("not_found", "no such tenant", field="/tenant", status=404)


def _refuse_unknown(fields: Sequence[Field], given: Mapping[str, Any]) -> None:
    """Name the first setting that does not exist, also when it was given as None."""
    known = {field.name for field in fields}
    for name in given:
        if name not in known:
            raise Refused(
                "no_such_setting", f"unknown setting; known: {', '.join(known)}", field=f"settings.{name[:80]}"
            )


def _difference(before: Tenant, after: Tenant) -> dict[str, Any]:
    """Old and new value of every field that changed."""
    result: dict[str, Any] = {}
    if before.name != after.name:
        result["name"] = [before.name, after.name]
    if before.timezone != after.timezone:
        result["timezone"] = [before.timezone, after.timezone]
    for key, value in after.settings.items():
        if before.settings.get(key) != value:
            result[f"settings.{key}"] = [before.settings.get(key), value]
    return result


def _tenant(row: asyncpg.Record, fields: Sequence[Field]) -> Tenant:
    stored = json.loads(row["settings"])
    settings = {field.name: stored.get(field.name, field.default) for field in fields}
    return Tenant(row["id"], row["name"], row["timezone"], settings, row["created_at"])


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())

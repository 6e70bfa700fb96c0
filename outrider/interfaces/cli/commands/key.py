"""API keys: make, list, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
from cyclopts import App

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.domain.tenants import keys
from outrider.domain.tenants.roles import SCOPES, includes
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="key")

_COLUMNS = ("id", "name", "prefix", "role", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at")


@APP.command
async def create(
    name: str,
    *,
    role: Literal["viewer", "support", "operator", "admin", "owner"] = "operator",
    scope: list[str] | None = None,
    expires: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Make a key; it is shown this once and never again.

    Example: `outrider key create mailer --role operator --scope messages:write`

    Parameters
    ----------
    name
        What it is for.
    role
        The most it may do.
    scope
        What it may do; may be given several times. All that the role allows when absent.
    expires
        When it ends: an RFC 3339 moment with its offset, such as 2027-01-31T00:00:00Z.
    """
    scopes = scope or [each.name for each in SCOPES.values() if includes(role, each.role)]
    async with changing(options) as work:
        made, secret = await keys.create(
            work.uow, work.actor, name=name, role=role, scopes=scopes, expires_at=_moment(expires)
        )
    if options.dry_run:
        return Answer(msgspec.to_builtins(made), note(f"would make key {made.name}", dry_run=True))
    return Answer(
        {**msgspec.to_builtins(made), "key": secret}, f"made key {made.name} ({made.id}), shown this once:\n{secret}"
    )


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List keys, newest first, revoked ones included; never the keys themselves.

    Example: `outrider key list`
    """
    async with looking(options) as work:
        found = await keys.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no keys"))


@APP.command
async def revoke(key: str, *, options: Changing = CHANGING) -> Answer:
    """Revoke a key, by its id; refused everywhere within a second.

    Example: `outrider key revoke ID --reason "lost"`

    Parameters
    ----------
    key
        Its id, as listed.
    """
    async with changing(options) as work:
        gone = await keys.revoke(work.uow, work.actor, parse_id(key, "key"), reason=options.reason)
    return Answer(msgspec.to_builtins(gone), note(f"revoked key {gone.name}", dry_run=options.dry_run))


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Refused("invalid_expiry", "must be a moment such as 2027-01-31T00:00:00Z", field="--expires")
    return moment.astimezone(UTC)

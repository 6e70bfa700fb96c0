"""The audit log: list it, and verify that its hash chains are whole."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.domain.audit import listing
from outrider.domain.audit import verify as chains
from outrider.interfaces.cli import exits
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import COMMON, JSON, Common, Json, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import tenant_of

APP = App(name="audit")

_COLUMNS = ("seq", "at", "actor", "action", "target_kind", "target_id", "reason")


@APP.command(name="list")
async def list_(
    *,
    limit: Limit = 50,
    action: str = "",
    actor: str = "",
    target: str = "",
    installation: Annotated[bool, Parameter(negative="")] = False,
    options: Common = COMMON,
) -> Answer:
    """List entries, newest first.

    Example: `outrider audit list --action campaign.launch --limit 20`

    Parameters
    ----------
    action
        Only this action, such as sending.pause.
    actor
        Only what this person, key or command did.
    target
        Only what concerns this id.
    installation
        The installation's own chain instead of a tenant's.
    """
    async with doors().database() as db:
        tenant_id = NIL if installation else await tenant_of(db, options.tenant)
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            found = await listing.listed(uow, limit=limit, action=action, actor=actor, target=target)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no entries"))


@APP.command(name="verify")
async def verify(*, options: Json = JSON) -> Answer:
    """Walk every chain from its first entry to its tip; exit 1 when one was changed, cut or has gaps.

    Example: `outrider audit verify`
    """
    del options
    rows: list[dict[str, Any]] = []
    async with doors().database() as db:
        async with db.uow(Role.ENGINE) as uow:
            heads = await chains.heads(uow)
        for head in heads:
            async with db.uow(Role.ENGINE) as uow:
                found = await chains.verify(uow, head.tenant_id)
            rows.append({**msgspec.to_builtins(found), "is_whole": found.is_whole, "head": head.hash[:16]})
    columns = ("tenant_id", "count", "last_seq", "head", "is_whole", "problem", "at_seq")
    is_good = all(row["is_whole"] for row in rows)
    return Answer(rows, table(rows, columns, empty="no chains yet"), exits.OK if is_good else exits.CHECK_FAILED)

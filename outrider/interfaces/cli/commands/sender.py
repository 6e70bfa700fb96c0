"""Senders: who messages come from, through which connection, and how doubtful attempts are treated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.domain.senders import senders
from outrider.domain.senders.senders import DkimIn, NewSender
from outrider.interfaces.cli.commands.connection import find, vault_of
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, readable_file
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import looking, note, wired

APP = App(name="sender")

_COLUMNS = ("id", "name", "channel", "from_address", "from_name", "transactional_guarantee", "bulk_guarantee")
Guarantee = Literal["at_least_once", "at_most_once"]


@APP.command
async def create(
    name: str,
    *,
    connection: str,
    from_: Annotated[str, Parameter(name="--from")],
    from_name: str = "",
    reply_to: str = "",
    return_path: str = "",
    postal_address: str = "",
    dkim: list[str] | None = None,
    transactional: Guarantee = "at_least_once",
    bulk: Guarantee = "at_most_once",
    options: Changing = CHANGING,
) -> Answer:
    """Make a sender.

    Parameters
    ----------
    name
        What you call it.
    connection
        Name or id of the connection it sends through.
    from_
        The From address, also as `Name <address>`.
    from_name
        The name beside it.
    reply_to
        Where answers go, if not to the From address.
    return_path
        Where bounces go, if not to the From address.
    postal_address
        The postal address that bulk messages must show.
    dkim
        A signing key as domain:selector:file.pem, several times.
    transactional
        What happens to a transactional message whose answer was lost: sent again with the same Message-ID, or kept.
    bulk
        The same for bulk messages.
    """
    keys = [_dkim(each) for each in dkim or ()]
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        found = await find(work, vault, connection)
        made = await senders.create(
            work.uow,
            runtime.channels,
            vault,
            work.actor,
            NewSender(
                name=name,
                connection_id=found.id,
                from_address=from_,
                from_name=from_name,
                reply_to=reply_to,
                return_path=return_path,
                postal_address=postal_address,
                dkim=keys,
                transactional_guarantee=transactional,
                bulk_guarantee=bulk,
            ),
        )
    data: dict[str, Any] = msgspec.to_builtins(made)
    lines = [note(f"made sender {made.name} ({made.id})", dry_run=options.dry_run)]
    lines += [f"warning: {each}" for each in data.get("warnings") or ()]
    return Answer(data, "\n".join(lines))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List senders."""
    async with looking(options) as work:
        found = await senders.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no senders"))


def _dkim(text: str) -> DkimIn:
    parts = text.split(":", 2)
    if len(parts) != 3:  # noqa: PLR2004 - domain, selector, file
        raise Refused("invalid_dkim", f"{text[:80]!r} is not domain:selector:file.pem", field="--dkim")
    pem = readable_file(Path(parts[2]), "--dkim").read_text(encoding="ascii", errors="replace")
    return DkimIn(domain=parts[0], selector=parts[1], private_key_pem=pem)

"""Consents: import what another system knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from outrider.domain.contacts.imports.options import Options
from outrider.interfaces.cli import importing
from outrider.interfaces.cli.options import Changing
from outrider.interfaces.cli.output import Answer

APP = App(name="consents")


@APP.command(name="import")
async def import_(
    file: Path,
    *,
    source: str,
    purpose: str = "marketing",
    channel: str = "email",
    status: Literal["granted", "withdrawn"] | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    errors: Path | None = None,
    options: Changing | None = None,
) -> Answer:
    """Import another system's consents of contacts that are here. Nobody who withdrew is subscribed again.

    A withdrawal of somebody unknown is kept as a hash on the do-not-contact list. The earlier time holds.

    Parameters
    ----------
    file
        The CSV file: an address, a status, and where known when, source and ip; others are not looked at.
    source
        Where this is known from, such as mailchimp; kept as proof for rows that name none.
    purpose
        What the consent is for.
    channel
        Which channel the addresses belong to.
    status
        What holds for rows that say nothing.
    map_
        header=field, several times: address, status, at, source, ip, ignore.
    errors
        Write every refused row to this CSV file (mode 0600).
    """
    asked = Options(
        kind="consents", channel=channel, consent=status, consent_source=source, purpose=purpose,
        mapping=importing.mapping_of(map_),
    )  # fmt: skip
    return await importing.take(file, asked, options or Changing(), errors=errors)

"""Finding the channel that a caller names, and reading an address as a tenant's people type it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.domain.tenants.regions import region_of


def channel_of(channels: Mapping[str, Channel], key: str, *, field: str = "/channel") -> Channel:
    """The channel with this key.

    Raises:  Refused(unknown_channel) naming those there are.
    """
    found = channels.get(key)
    if found is None:
        raise Refused("unknown_channel", f"must be one of {', '.join(channels)}", field=field)
    return found


def needs_region(channel: Channel, typed: str) -> bool:
    """Whether an address can only be read by whoever knows the country it was typed in."""
    return channel.is_regional and not typed.lstrip().startswith("+")


async def stored_form(
    raw: asyncpg.Connection, tenant_id: UUID | None, channel: Channel, typed: str, *, field: str
) -> str:
    """The one stored form of an address, typed in any form that is usual in the tenant's country.

    Takes:   tenant_id None: the installation's own lists, where telephone numbers need their country code.
    Raises:  Refused naming `field`.
    """
    region = await region_of(raw, tenant_id) if needs_region(channel, typed) else ""
    return channel.normalise(typed, field=field, region=region)

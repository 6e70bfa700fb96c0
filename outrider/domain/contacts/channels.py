"""Finding the channel that a caller names."""

from __future__ import annotations

from collections.abc import Mapping

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel


def channel_of(channels: Mapping[str, Channel], key: str, *, field: str = "/channel") -> Channel:
    """The channel with this key.

    Raises:  Refused(unknown_channel) naming those there are.
    """
    found = channels.get(key)
    if found is None:
        raise Refused("unknown_channel", f"must be one of {', '.join(channels)}", field=field)
    return found

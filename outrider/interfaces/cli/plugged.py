"""The channels and gates that commands need without a whole runtime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from outrider.base.registry import discover
from outrider.contracts.channel import Channel
from outrider.contracts.gate import Gate


@cache
def channels() -> Mapping[str, Channel]:
    """Every channel of this installation, by key."""
    return discover("outrider.plugins.channels", "CHANNEL")


@cache
def gates() -> tuple[Gate, ...]:
    """Every gate of this installation."""
    return tuple(discover("outrider.plugins.gates", "GATE").values())

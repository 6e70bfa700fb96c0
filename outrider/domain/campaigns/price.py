"""What messages of a channel cost: the place where price tables are put in.

Owns nothing but the prices that are settings of the tenant; a channel without one has no known price, which is not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from outrider.domain.campaigns.views import Cost

PriceOf = Callable[[Mapping[str, Any]], int]
"""Millionths of the tenant's currency for one message, from the tenant's settings."""


def _email(settings: Mapping[str, Any]) -> int:
    return int(settings["email_price_micros"])


PRICES: Final[Mapping[str, PriceOf]] = {"email": _email}


class Price(msgspec.Struct, frozen=True):
    """What one message costs."""

    currency: str
    per_message_micros: int

    def of(self, count: int) -> Cost:
        """What so many messages cost."""
        return Cost(self.currency, self.per_message_micros, count * self.per_message_micros)


def price_of(channel: str, settings: Mapping[str, Any]) -> Price | None:
    """The price of a channel's messages; None where none is known.

    Takes:   settings   of the tenant, presets included.
    """
    price = PRICES.get(channel)
    return Price(settings["currency"], price(settings)) if price is not None else None

"""The tenant's settings about campaigns and about soft bounces.

How long a launch can be taken back, who must approve, what messages cost; when an address comes onto the do-not-contact
list. Owns their names, bounds and presets; what they do is the campaigns' (domain/campaigns) and the messages'.
"""

from __future__ import annotations

from typing import Final

from outrider.base.fields import Field

MOST_UNDO_S: Final = 3600
CURRENCIES: Final = (
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HUF", "INR", "JPY", "MXN", "NOK", "NZD", "PLN",
    "SEK", "TRY", "USD", "ZAR",
)  # fmt: skip

BOUNCE_FIELDS: Final[tuple[Field, ...]] = (
    Field(
        "soft_bounce_limit",
        "So many soft bounces without a delivery in between put an address on the do-not-contact list; 0: never.",
        "integer",
        default=5,
        least=0,
        most=100,
    ),
    Field("soft_bounce_days", "Within how many days they are counted.", "integer", default=30, least=1, most=365),
    Field(
        "soft_bounce_least_days",
        "On how many different days (UTC) they must have happened at least.",
        "integer",
        default=3,
        least=1,
        most=100,
    ),
    Field(
        "soft_bounce_hold_days",
        "After how many days the address comes off the list by itself; 0: when somebody takes it off.",
        "integer",
        default=90,
        least=0,
        most=3650,
    ),
    Field(
        "soft_bounce_scope",
        "What is not sent to it meanwhile: `all`, or `bulk`, which lets transactional messages through.",
        "choice",
        default="all",
        choices=("all", "bulk"),
    ),
)
"""When what comes back for now puts an address on the do-not-contact list; counted in domain/messages/bounces.py."""

CAMPAIGN_FIELDS: tuple[Field, ...] = (
    Field(
        "undo_window_s",
        "For how many seconds a launched campaign can be taken back; nothing of it is queued before. 0: not at all.",
        "integer",
        default=0,
        least=0,
        most=MOST_UNDO_S,
    ),
    Field(
        "approval_above_count",
        "A campaign to more members than this needs the approval of a second person; unset: none does.",
        "integer",
        least=0,
        most=10**9,
    ),
    Field(
        "approval_valid_h",
        "For how many hours a request for approval, and the approval itself, can be used.",
        "integer",
        default=168,
        least=1,
        most=8760,
    ),
    Field("currency", "In which currency prices are given (ISO 4217).", "choice", default="EUR", choices=CURRENCIES),
    Field(
        "optout_pause_percent",
        "A campaign is paused when more of 100 recipients one after another opt out; 100: never.",
        "number",
        default=3.0,
        least=0,
        most=100,
    ),
    Field(
        "bounce_pause_percent",
        "A campaign is paused when more of 100 messages one after another bounce; 100: never.",
        "number",
        default=10.0,
        least=0,
        most=100,
    ),
    Field(
        "complaint_pause_percent",
        "A campaign is paused when more of 1,000 recipients one after another complain; 100: never.",
        "number",
        default=0.3,
        least=0,
        most=100,
    ),
    Field(
        "email_price_micros",
        "What one email costs, in millionths of the currency, for the preflight of campaigns.",
        "integer",
        default=0,
        least=0,
        most=10**9,
    ),
)

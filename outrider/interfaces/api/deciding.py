"""Decisions of people about messages, some or all at once: which ones are meant, and that it is what they looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.domain.limits.reasons import clean_reason


class DecisionIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages: by `ids`, or all of a campaign (or of the tenant) with the `count` they have now."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=10_000)] | None = None
    campaign_id: UUID | None = None
    count: int | None = None

    @property
    def why(self) -> str:
        """The reason as it is kept and audited; Refused(invalid_reason) for control characters."""
        return clean_reason(self.reason)


async def wanted(data: DecisionIn, find: Callable[[], Awaitable[list[UUID]]], *, are: str) -> list[UUID]:
    """The messages meant; without ids the caller must name how many it saw, so that it decides what it looked at.

    Takes:   find: all that wait for such a decision, of the campaign if one is named; are: what they are, for an error.
    Raises:  Refused `invalid_choice`: ids and a campaign or count beside them; `count_differs`: 409.
    """
    if data.ids is not None:
        for name in ("campaign_id", "count"):
            if getattr(data, name) is not None:
                raise Refused("invalid_choice", f"give ids, or {name} without ids", field=f"/{name}")
        return data.ids
    found = await find()
    if data.count != len(found):
        raise Refused(
            "count_differs", f"{len(found)} messages are {are} now: repeat with count={len(found)} to confirm",
            field="/count", status=409,
        )  # fmt: skip
    return found

"""What a campaign says, as plain dataclasses: seen before it is sent, and published on a page of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Preview:
    """What a recipient would get; `variant` says which of `variants` it is, None where nothing is compared."""

    version: int
    subject: str
    sender: str
    html: str | None
    text: str | None
    size_bytes: int
    variant: str | None
    variants: list[str]
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TestSend:
    """The messages that were queued, in the order of the addresses, and which variant they are."""

    __test__ = False

    ids: list[str]
    variant: str | None


@dataclass(frozen=True, slots=True)
class WebVersion:
    """A campaign's public page: whoever has its address may read it, nobody finds it."""

    url: str
    variables: dict[str, Any]
    created_by: str
    created_at: datetime

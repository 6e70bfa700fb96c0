"""Where tracked links lead: kept before the first message with them leaves, and read back when somebody clicks.

Owns the parts of a destination as stored, and putting one together. An address outside the database never gets in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import asyncpg
import orjson

from outrider.contracts.channel import Link
from outrider.domain.tracking.rows import SQL

_AS_IT_IS = "%/:=&?~#+!$,;'@()*[]"
_IGNORED = re.compile("[\x00-\x1f\x7f]")
LONGEST_BYTES = 8_000


@dataclass(frozen=True)
class Destination:
    """Where a link leads. With variables it differs per message."""

    parts: tuple[str | tuple[tuple[str, ...], str | None], ...]

    @cached_property
    def constant(self) -> str | None:
        """The address of a link without variables."""
        return self.url()

    @cached_property
    def has_variables(self) -> bool:
        """Whether the message's variables are needed."""
        return any(not isinstance(part, str) for part in self.parts)

    def url(self, variables: str | None = None) -> str | None:
        """The address as it goes into a Location header: ASCII, without control characters.

        Takes:   variables: the JSON object text of the message.
        Gives:   None when a variable is missing or what comes out is no address.
        """
        values = orjson.loads(variables) if variables else {}
        texts = []
        for part in self.parts:
            text = part if isinstance(part, str) else _value(part, values)
            if text is None:
                return None
            texts.append(text)
        return safe("".join(texts))


def safe(address: str) -> str | None:
    """An http address as it may stand in a header, or None."""
    url = quote(_IGNORED.sub("", address), safe=_AS_IT_IS, errors="replace")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return None
    return url if is_good and len(url) <= LONGEST_BYTES else None


async def keep(raw: asyncpg.Connection, tenant_id: UUID, links: Sequence[Link]) -> None:
    """Keep where links lead (engine role), so that no message leaves with one that leads nowhere."""
    if links:
        await SQL.links_keep.run(
            raw,
            tenant_id,
            [link.key for link in links],
            [link.url for link in links],
            [orjson.dumps(link.parts).decode() for link in links],
        )


async def find(raw: asyncpg.Connection, tenant_id: UUID, key: int) -> Destination | None:
    """The destination of a link, or None when there is no such link."""
    stored = await SQL.link_get.value(raw, tenant_id, key)
    if stored is None:
        return None
    parts = orjson.loads(stored)
    return Destination(tuple(part if isinstance(part, str) else (tuple(part[0]), part[1]) for part in parts))


async def variables_of(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID) -> str | None:
    """The variables of a message; None when it is no longer kept."""
    row = await SQL.variables_of.one(raw, tenant_id, message_id)
    return None if row is None else row["variables"] or "{}"


def _value(part: tuple[tuple[str, ...], str | None], values: Any) -> str | None:
    path, default = part
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    if values is None:
        return default
    return str(values)

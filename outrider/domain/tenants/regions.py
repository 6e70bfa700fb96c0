"""The country in which a tenant's people write telephone numbers without + and country code."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import phonenumbers

from outrider.base.errors import Refused
from outrider.domain.tenants.rows import SQL


def check_region(region: str, *, field: str) -> str:
    """A country by its ISO 3166 code; empty stays empty.

    Raises:  Refused(unknown_region) naming `field`.
    """
    plain = region.strip().upper()
    if plain and plain not in phonenumbers.SUPPORTED_REGIONS:
        raise Refused("unknown_region", "must be an ISO 3166 code of two letters such as US or DE", field=field)
    return plain


async def region_of(raw: asyncpg.Connection, tenant_id: UUID | None) -> str:
    """A tenant's `default_region`; empty when it has none: the + is required then."""
    return "" if tenant_id is None else (await SQL.tenant_region.value(raw, tenant_id) or "")

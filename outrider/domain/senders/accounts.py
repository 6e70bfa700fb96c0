"""Accounts: which connections are the same account at a provider, by a digest that says nobody's name.

Owns that column of `connections`; the digest, and what follows from it, is domain/limits/shared_accounts.py's.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

from outrider.domain.senders.rows import SQL


async def note(
    raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID, version: int, account: str | None
) -> None:
    """Write down which account a connection of this version is (engine role)."""
    await SQL.connection_account.run(raw, tenant_id, connection_id, version, account)

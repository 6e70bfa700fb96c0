"""Buckets of rates as tests want them: filled to a number, and giving nothing back."""

from __future__ import annotations

from uuid import UUID

from tests.kit.dispatch import Desk

ENDLESS = 1e-9
"""A rate that gives nothing back while a test runs: what is granted comes from the bucket alone."""


async def fill(
    desk: Desk,
    scope: str,
    tokens: float,
    *,
    scope_id: UUID | None = None,
    rate: float = ENDLESS,
    cap: float | None = None,
) -> None:
    """A bucket that holds so many tokens now, of the desk's own tenant, sender or connection, or `scope_id`'s."""
    own = {"tenant": desk.tenant_id, "sender": desk.sender_id, "connection": desk.connection_id}
    await desk.post.execute(
        "INSERT INTO buckets (tenant_id, scope, scope_id, rate, cap, tokens, at_s) "
        "VALUES ($1, $2, $3, $4, $5, $6, extract(epoch FROM clock_timestamp())) "
        "ON CONFLICT (tenant_id, scope, scope_id) DO UPDATE SET rate = $4, cap = $5, tokens = $6, at_s = excluded.at_s",
        desk.tenant_id, scope, scope_id or own[scope], rate, cap or max(tokens, 1.0), float(tokens),
    )  # fmt: skip

"""Campaigns for tests of fan-out and dispatch: contacts, a list and a launched campaign in a few statements.

API
    launched(desk, count, **columns) -> Campaign    state `sending`, to `count` new contacts with consent; all but the
                                                    first `without` have an address
    fan_out(post) / finish(post)                    one round of the loop of that name
    loop(post, name)                                one round of any other loop
    IN_A_CANCELLED_CAMPAIGN                         moves a message ($2) of a tenant ($1) into one
    fanned_out(post)                                rounds until nothing more is to be queued
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from outrider.contracts.gate import Lane
from outrider.engine.fanout import expand
from tests.kit.dispatch import Desk, Post

_PEOPLE = """
WITH people AS (
  INSERT INTO contacts (tenant_id, name, external_id, attributes)
  SELECT $1, 'P' || n, $2 || n, jsonb_build_object('n', n) FROM generate_series(1, $3::int) n
  RETURNING id, external_id
), members AS (
  INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, $4, id FROM people
), consented AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, id, 'email', 'marketing', 'granted', 'test' FROM people
)
INSERT INTO addresses (tenant_id, channel, address, contact_id)
SELECT $1, 'email', external_id || '@example.org', id FROM people WHERE substr(external_id, length($2) + 1)::int > $5
"""

IN_A_CANCELLED_CAMPAIGN = """
    WITH listed AS (
      INSERT INTO lists (tenant_id, name) VALUES ($1, 'of the cancelled') RETURNING id
    ), made AS (
      INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, state, created_by)
      SELECT $1, 'cancelled', l.channel, l.sender_id, m.content_id, listed.id, 'cancelled', 'test'
      FROM listed, messages m JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id
      WHERE m.tenant_id = $1 AND m.id = $2
      RETURNING id
    )
    UPDATE messages m SET campaign_id = made.id FROM made WHERE m.tenant_id = $1 AND m.id = $2 RETURNING m.id
"""
"""Make a message (`$2`, of tenant `$1`) one of a campaign that was cancelled."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A launched campaign and its list."""

    desk: Desk
    id: UUID
    list_id: UUID

    async def row(self) -> dict[str, Any]:
        """Its row as it stands."""
        rows = await self.desk.post.fetch(
            "SELECT * FROM campaigns WHERE tenant_id = $1 AND id = $2", self.desk.tenant_id, self.id
        )
        return dict(rows[0])

    async def lane(self) -> Lane:
        """The lane its messages wait in."""
        return await self.desk.lane("bulk", campaign_id=self.id)

    async def messages(self) -> list[UUID]:
        """The ids of its messages."""
        rows = await self.desk.post.fetch(
            "SELECT id FROM messages WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY id",
            self.desk.tenant_id,
            self.id,
        )
        return [row["id"] for row in rows]


async def launched(desk: Desk, count: int, *, without: int = 0, **columns: Any) -> Campaign:
    """A campaign in state `sending` to new contacts; `columns` are further columns of its row."""
    post, name = desk.post, f"campaign {uuid4()}"
    list_id: UUID = await post.value(
        "INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id", desk.tenant_id, name
    )
    await post.execute(_PEOPLE, desk.tenant_id, f"x{uuid4().hex[:8]}-", count, list_id, without)
    values = {"state": "sending", **columns}
    names = "".join(f", {column}" for column in values)
    marks = "".join(f", ${at + 6}" for at in range(len(values)))
    campaign_id: UUID = await post.value(
        "INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, launched_at"
        f"{names}) VALUES ($1, $2, 'email', $3, $4, $5, 'test', now(){marks}) RETURNING id",
        desk.tenant_id, name, desk.sender_id, desk.content_id, list_id, *values.values(),
    )  # fmt: skip
    return Campaign(desk, campaign_id, list_id)


async def fan_out(post: Post) -> bool:
    """One page of every campaign that waits; tells whether there is more."""
    return await loop(post, "fan_out")


async def finish(post: Post) -> None:
    """Finish what is through."""
    await loop(post, "finish_campaigns")


async def fanned_out(post: Post) -> None:
    """Queue every page."""
    while await fan_out(post):
        pass


async def loop(post: Post, name: str) -> bool:
    """One round of a loop by its name."""
    steps = {loop.name: loop.step for loop in expand.loops(post.runtime)}
    return await steps[name]()


async def empty_cancelled(post: Post) -> None:
    """Withdraw what came back after a cancellation."""
    await loop(post, "empty_cancelled")

"""People with messages for tests of what is kept of a person, and a search over every table there is.

API
    person(audience, name, **fields) -> ContactView       with the address name@example.org
    message(audience, contact, state=, text=, address=)   a message to them, with its content and the event `sent`
    residue(audience, *words)                             every table whose rows hold one of the words
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from outrider.domain.contacts import write
from outrider.domain.contacts.views import AddressView, ContactView
from outrider.domain.contacts.write import NewContact
from tests.kit.audience import ACTOR, Audience

_MESSAGES = """
WITH lane AS (
  INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $1, 'transactional')
  ON CONFLICT (tenant_id, channel, sender_id, campaign_id, message_class) DO UPDATE SET is_open = true RETURNING id
), content AS (
  INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text)
  VALUES ($1, 'email', sha256(convert_to($5, 'UTF8')), false, $5, $5)
  ON CONFLICT (tenant_id, hash) DO UPDATE SET subject = excluded.subject RETURNING id
), made AS (
  INSERT INTO messages (tenant_id, id, lane_id, contact_id, content_id, address, purpose, variables, state, due_at,
                        detail, provider_id)
  SELECT $1, outrider_id(), lane.id, $2, content.id, $3, 'x', jsonb_build_object('email', $3::text), $4, now(),
         '250 ok <' || $3 || '>', 'p'
  FROM lane, content RETURNING id, lane_id
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, id, 'sent', jsonb_build_object('detail', $3::text) FROM made
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state)
  SELECT $1, id, lane_id, now(), 5, 0 FROM made WHERE $4 = 'queued'
)
SELECT id FROM made
"""


async def person(audience: Audience, name: str, **fields: Any) -> ContactView:
    given = {"addresses": [AddressView("email", f"{name}@example.org")], "name": name, **fields}
    async with audience.app() as uow:
        return await write.create(uow, audience.channels, ACTOR, NewContact(**given))


async def message(
    audience: Audience, contact: ContactView, *, state: str = "sent", text: str = "Dear", address: str = ""
) -> UUID:
    to = address or contact.addresses[0].address
    ((made,),) = await audience.fetch(_MESSAGES, audience.tenant, contact.id, to, state, text)
    found: UUID = made
    return found


async def residue(audience: Audience, *needles: str) -> list[tuple[str, str]]:
    """Every table whose rows, as text, hold one of the words: over everything there is."""
    found = []
    tables = await audience.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND has_table_privilege('outrider_engine', oid, 'SELECT')"
    )
    assert len(tables) > 35
    for (table,) in tables:
        for needle in needles:
            rows = await audience.fetch(
                f"SELECT 1 FROM {table} t WHERE strpos(lower(t::text), lower($1)) > 0 LIMIT 1", needle
            )
            if rows:
                found.append((table, needle))
    return found

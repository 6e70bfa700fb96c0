"""Letters with tracked links for tests, and whoever follows them.

API
    Mail.open(api, …) -> Mail                     a campaign with messages handed over an hour ago
        .click(n, link, **headers) / .opened(n)   one request of a person, or of whoever the headers say
        .hits(count)                              what is stored and not judged, once so many rows are there
        .judge()                                  judge what is stored
        .results() -> Results
    PERSON                                        a browser's headers
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.signing import TrackingSigner
from outrider.contracts.channel import Link
from outrider.domain.tracking import destinations, judge, results
from tests.kit.api import Answer, Api, raw

PERSON = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
RULES = judge.Rules(soon_s=2.0, burst_s=2.0)
_CAMPAIGN = """
WITH connection AS (INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, 'smtp') RETURNING id),
sender AS (INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, postal_address)
           SELECT $1, $2, 'email', id, 'news@example.org', 'Way 1' FROM connection RETURNING id),
content AS (INSERT INTO contents (tenant_id, channel, hash, is_template, subject, html)
            VALUES ($1, 'email', $2::text::bytea, true, 's', $3) RETURNING id),
list AS (INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id)
INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, state)
SELECT $1, $2, 'email', sender.id, content.id, list.id, 'test', 'sending' FROM sender, content, list
RETURNING id, sender_id, content_id
"""
_LANE = """
INSERT INTO lanes (tenant_id, channel, sender_id, campaign_id, message_class)
VALUES ($1, 'email', $2, $3, $4) RETURNING id
"""
_MESSAGE = """
INSERT INTO messages (tenant_id, id, lane_id, campaign_id, content_id, address, purpose, variables, state, due_at,
                      finished_at)
SELECT $1, outrider_id(), $2, $3, $4, 'p' || n || '@' || (ARRAY['a.example', 'b.example'])[1 + n % 2], 'marketing',
       jsonb_build_object('name', 'P' || n, 'code', 'c/' || n), 'sent', now() - interval '1 hour',
       now() - interval '1 hour'
FROM generate_series(0, $5::int - 1) n RETURNING id
"""


@dataclass
class Mail:
    """A campaign whose messages were handed over an hour ago."""

    api: Api
    tenant_id: UUID
    campaign_id: UUID
    sender_id: UUID
    content_id: UUID
    lane_id: int
    ids: list[UUID]
    links: list[Link]

    @classmethod
    async def open(
        cls, api: Api, count: int = 2, *, tenant: UUID = DEFAULT_TENANT, links: int = 4, html: str = "<p>{{ name }}</p>"
    ) -> Mail:
        """A new campaign, or with `message_class` transactional a lane without one."""
        made = [Link(n + 1, f"https://shop.example/{n}", (f"https://shop.example/{n}",)) for n in range(links)]
        made.append(Link(99, "https://shop.example/{{ code }}", ("https://shop.example/", (("code",), None), "?a=ä b")))
        async with api.engine(tenant) as uow:
            row = await uow.raw.fetchrow(_CAMPAIGN, tenant, f"c {uuid4()}", html)
            lane = await uow.raw.fetchval(_LANE, tenant, row["sender_id"], row["id"], "bulk")
            ids = await uow.raw.fetch(_MESSAGE, tenant, lane, row["id"], row["content_id"], count)
            await destinations.keep(uow.raw, tenant, made)
        return cls(
            api, tenant, row["id"], row["sender_id"], row["content_id"], lane, [each["id"] for each in ids], made
        )

    def click_path(self, number: int, link: Link | int, *, message: UUID | None = None) -> str:
        key = link.key if isinstance(link, Link) else link
        signer = TrackingSigner(self.api.runtime.keyring.derive("tracking"))
        (token,) = signer.signed(TrackingSigner.CLICK, self.tenant_id, message or self.ids[number], (key,))
        return f"/t/c/{token}"

    def open_path(self, number: int) -> str:
        signer = TrackingSigner(self.api.runtime.keyring.derive("tracking"))
        (token,) = signer.signed(TrackingSigner.OPEN, self.tenant_id, self.ids[number])
        return f"/t/o/{token}.gif"

    async def click(self, number: int, link: int = 0, *, method: str = "GET", **headers: str) -> Answer:
        given = {**PERSON, **headers}
        path = self.click_path(number, self.links[link])
        return await self.api.caller().ask(method, path, headers=given, allow_redirects=False)

    async def opened(self, number: int, *, method: str = "GET", path: str = "", **headers: str) -> bytes:
        """The whole answer as it comes over the wire."""
        given = {**PERSON, **headers, "Host": "t.example", "Connection": "close"}
        lines = [f"{method} {path or self.open_path(number)} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items())]
        return await raw(self.api.url, ("\r\n".join(lines) + "\r\n\r\n").encode())

    async def judge(self, *, wait_s: float = 0.0, rules: judge.Rules = RULES) -> int:
        """Everything that is stored, judged."""
        async with self.api.engine(self.tenant_id) as uow:
            return await judge.fold(uow, rules, wait_s=wait_s, limit=10_000)

    async def results(self) -> results.Results:
        async with self.api.app(self.tenant_id) as uow:
            return await results.of_campaign(uow, self.campaign_id)

    async def hits(self, count: int) -> list[Any]:
        """What is stored and not judged: kind, link, machine, n; waits until `count` requests are in it."""
        async with asyncio.timeout(60):
            while True:
                async with self.api.engine() as uow:
                    rows = await uow.raw.fetch(
                        "SELECT kind, link, machine, sum(n) AS n FROM tracking_hits WHERE message_id = ANY($1) "
                        "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                        self.ids,
                    )
                if sum(row["n"] for row in rows) >= count:
                    return [tuple(row) for row in rows]
                await asyncio.sleep(0.01)

    async def events(self, number: int) -> list[tuple[str, Any]]:
        """Kind and data of what happened to a message, in order."""
        async with self.api.engine() as uow:
            rows = await uow.raw.fetch(
                "SELECT kind, data::text AS data FROM message_events WHERE message_id = $1 ORDER BY at, kind",
                self.ids[number],
            )
            return [(row["kind"], row["data"]) for row in rows]

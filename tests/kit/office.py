"""A tenant that can write newsletters: real email channel, real SMTP settings, templates, senders, lists, campaigns.

API
    open_office(url, **settings) -> async context manager of Office
        .app() / .engine()                            units of work of the tenant
        .connection(…) / .sender(…) / .template(…)    made through the product's own verbs
        .newsletter_list(count, …) -> UUID            a list of that many contacts with consent
        .campaign(…) -> CampaignView                  a draft
        .fetch(sql, *args)                            rows as the engine sees them
    key_pair(kind) -> str                             a private signing key as PEM: rsa, ed25519, small
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.secret import Keyring, new_key
from outrider.base.settings import Settings, load
from outrider.contracts.channel import Channel
from outrider.data.db import Database, Role, UnitOfWork
from outrider.data.egress import Egress
from outrider.domain.campaigns import draft
from outrider.domain.campaigns.draft import NewCampaign
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.contacts import lists, suppressions
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import ConnectionView, Vault
from outrider.domain.senders.senders import NewSender, SenderView
from outrider.domain.templates import templates
from outrider.domain.templates.templates import Source, TemplateView
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit.audience import ACTOR
from tests.kit.rendering import InProcessRenderer

_PEOPLE = """
WITH people AS (
  INSERT INTO contacts (tenant_id, name) SELECT $1, 'P' || n FROM generate_series(1, $3::int) n RETURNING id
), numbered AS (
  SELECT id, row_number() OVER (ORDER BY id) AS n FROM people
), members AS (
  INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, $2, id FROM people
), consented AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, id, 'email', 'marketing', 'granted', 'test' FROM numbered WHERE n > $4
)
INSERT INTO addresses (tenant_id, channel, address, contact_id)
SELECT $1, 'email', 'p' || n || '-' || $5 || '@example.org', id FROM numbered WHERE n <= $3 - $6
"""


@dataclass
class Office:
    """One tenant of one database."""

    db: Database
    settings: Settings
    vault: Vault
    tenant: UUID = DEFAULT_TENANT
    channels: dict[str, Channel] = field(default_factory=lambda: {"email": CHANNEL})
    renderer: InProcessRenderer = field(default_factory=InProcessRenderer)

    def app(self, tenant: UUID | None = None) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.APP, tenant or self.tenant)

    def engine(self, tenant: UUID | None = None) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.ENGINE, tenant or self.tenant)

    async def protected(self, tenant: UUID | None = None) -> None:
        """Put somebody on the do-not-contact list, as after moving here: a first campaign without any asks."""
        async with self.app(tenant) as uow:
            await suppressions.record(
                uow, ACTOR, "email", "gone@former.example", scope="all", reason="manual", source="test"
            )

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        async with self.engine() as uow:
            return [tuple(row) for row in await uow.raw.fetch(sql, *args)]

    async def other_tenant(self, name: str = "other") -> UUID:
        ((made,),) = await self.fetch("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name)
        tenant: UUID = made
        return tenant

    async def connection(self, name: str = "relay", **settings: Any) -> ConnectionView:
        given = {"host": "mail.example.org", "username": "ann", "password": "s3cret-word", **settings}
        async with self.app() as uow:
            return await connections.create(uow, self.vault, ACTOR, name=name, provider="smtp", settings=given)

    async def sender(self, name: str = "news", **fields: Any) -> SenderView:
        if "connection_id" not in fields:
            fields["connection_id"] = (await self.connection(f"for {name}")).id
        new = NewSender(name=name, from_address=fields.pop("from_address", "news@example.org"), **fields)
        async with self.app() as uow:
            return await senders.create(uow, self.channels, self.vault, ACTOR, new)

    async def template(self, name: str = "letter", **parts: Any) -> TemplateView:
        source = Source(**{"subject": "Hello {{ name }}", "text": "Dear {{ name }}", **parts})
        async with self.app() as uow:
            return await templates.create(
                uow, self.channels, self.renderer, ACTOR, name=name, channel="email", source=source
            )

    async def newsletter_list(self, count: int, *, without_consent: int = 0, without_address: int = 0) -> UUID:
        mark = uuid4().hex[:6]
        async with self.app() as uow:
            made = await lists.create(uow, ACTOR, f"people {mark}")
            await uow.raw.execute(_PEOPLE, self.tenant, made.id, count, without_consent, mark, without_address)
        return made.id

    async def campaign(self, name: str = "November", **fields: Any) -> CampaignView:
        if "sender_id" not in fields:
            fields["sender_id"] = (await self.sender(f"sender of {name}", postal_address="Example, 1 Road")).id
        if "template_id" not in fields:
            fields["template_id"] = (await self.template(f"template of {name}")).id
        if "list_id" not in fields:
            fields["list_id"] = await self.newsletter_list(3)
        async with self.app() as uow:
            return await draft.create(uow, ACTOR, NewCampaign(name=name, **fields))


@asynccontextmanager
async def open_office(url: str, **settings: Any) -> AsyncIterator[Office]:
    """A pool on a migrated database, closed at the end; links lead to news.example.org unless said otherwise."""
    found = load(**{"public_url": "https://news.example.org", **settings})
    db = Database(url, pool_size=6, name="tests")
    egress = Egress([ip_network("127.0.0.0/8")])
    office = Office(db, found, Vault({"smtp": PROVIDER}, Keyring(new_key()), egress))
    try:
        await office.protected()
        yield office
    finally:
        await db.close()


@cache
def key_pair(kind: str) -> str:
    """A private key as PEM, made once per run."""
    key: Any = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else None
    if key is None:
        key = rsa.generate_private_key(65537, 2048 if kind == "rsa" else 1024)
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())

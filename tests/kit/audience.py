"""Contacts, lists and files for tests of audience and campaigns, on a migrated database.

API
    opened(url) -> async context manager of Audience      db (no role), tenant (the default one), channels (email alone)
        .app() / .engine()                                units of work of the tenant
        .other_tenant(name) -> UUID                       makes a second tenant
    ACTOR                                                 who does it
    PlainEmail                                            the email channel's addresses with content taken as it is
    write_csv(path, header, rows) -> Path                 a file to import
    import_file(audience, path, **options) -> ImportView  examine, begin and run
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.contracts.channel import (
    AddressNotes,
    Channel,
    Composer,
    Content,
    Identity,
    Item,
    Link,
    LinkNote,
    Manuscript,
    Measure,
    Renderer,
    Unrenderable,
    Written,
)
from outrider.contracts.provider import Outgoing
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.contacts import attributes
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.options import Options
from outrider.domain.contacts.imports.run import run
from outrider.plugins.channels.email.address import normalise

ACTOR = Actor("user", "ann@example.org", "127.0.0.1")


class PlainEmail:
    """The email channel as far as addresses go; what is composed is nobody's business here."""

    key = "email"
    help = "email without bytes"
    is_regional = False
    is_repeatable = True

    def __init__(self) -> None:
        self.compiled: list[Content] = []

    def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
        del region
        return normalise(address, field=field)

    def notes(self, address: str) -> AddressNotes:
        del address
        return AddressNotes()

    def check_identity(self, identity: Identity) -> tuple[Identity, list[str]]:
        return identity, []

    async def write(self, manuscript: Manuscript, renderer: Renderer) -> Written:
        del renderer
        return Written(manuscript.html, manuscript.text)

    def links(self, content: Content) -> list[str]:
        return [word for word in (content.text or "").split() if word.startswith(("http://", "https://"))]

    def review(self, content: Content, *, is_bulk: bool) -> list[LinkNote]:
        del content, is_bulk
        return []

    def measure(self, body: bytes) -> Measure | None:
        del body
        return None

    async def compile(self, content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
        del renderer
        self.compiled.append(content)
        return {"subject": content.subject}

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        del renderer
        return PlainComposer(content, identity)


@dataclass(frozen=True)
class PlainComposer:
    """A message that says what its content says, word for word."""

    content: Content
    identity: Identity
    links: tuple[Link, ...] = ()
    has_pixel: bool = False
    has_web_version: bool = False
    has_preferences: bool = False
    has_preferences_footer: bool = False

    async def page(self, item: Item) -> str:
        return f"<p>{item.address}: {self.content.text}</p>"

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        head = f"Subject: {self.content.subject}\r\nFrom: {self.identity.from_address}\r\n\r\n"
        body = f"{head}{self.content.text}".encode()
        return [Outgoing(each.id, each.address, "", body, str(each.id)) for each in items]


@dataclass
class Audience:
    """One tenant of one database."""

    db: Database
    tenant: UUID = DEFAULT_TENANT
    channels: dict[str, Channel] = field(default_factory=lambda: {"email": PlainEmail()})

    def app(self, tenant: UUID | None = None) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.APP, tenant or self.tenant)

    def engine(self) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.ENGINE, self.tenant)

    async def other_tenant(self, name: str = "other") -> UUID:
        async with self.db.uow(Role.ENGINE) as uow:
            made: UUID = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name)
            return made

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Rows as the engine sees them."""
        async with self.engine() as uow:
            return [tuple(row) for row in await uow.raw.fetch(sql, *args)]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Audience]:
    """A pool on a database, closed at the end."""
    db = Database(url, pool_size=6, name="tests")
    try:
        yield Audience(db)
    finally:
        await db.close()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A file as a spreadsheet writes it."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


async def import_file(audience: Audience, path: Path, **options: Any) -> ImportView:
    """The whole way of a file."""
    begun = await begin_file(audience, path, Options(**options))
    return await run(audience.db, audience.channels, audience.tenant, begun.id, path)


async def begin_file(audience: Audience, path: Path, chosen: Options) -> ImportView:
    """A file examined and its import begun."""
    async with audience.app() as uow:
        definitions = await attributes.listed(uow)
        facts = examine(path, chosen, audience.channels[chosen.channel], definitions)
        return await control.begin(uow, ACTOR, facts, chosen, path.name)

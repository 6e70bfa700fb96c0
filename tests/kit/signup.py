"""Public pages for tests: a tenant with a sender, lists on offer and a form, and visitors who fill it in.

API
    opened(api, titles=, tenant=, **form) -> Shop     a sender, lists on offer, an open form
        .path, .token(age_s=)                         the form's path; what its page carries, so many seconds old
        .fill(address, lists=, **fields) -> Answer    as a visitor with a browser does, after some seconds
        .links() -> list[str]                         paths of the confirmations mailed so far, oldest first
        .confirm(path) -> Answer                      as somebody who opens a link and presses the button
        .contact(address) -> dict | None              the contact behind an address: lists, consent, refusals
        .letter(address, …) -> str                    path of the preference centre of a bulk message to an address
        .press(path, **fields) -> Answer              a form posted to a page
        .digest() -> str                              of everything that signing up or choosing could change
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.contacts import lists, offers
from outrider.domain.contacts.offers import OfferIn
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.signup import forms
from outrider.domain.signup.forms import Form, NewForm
from outrider.domain.signup.links import Links
from outrider.interfaces.api.signup import stamp
from tests.kit.api import TESTER, Answer, Api

FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}
CONSENT = "I want to get mail from Gardens about the lists I ticked."
_TABLES = (
    "suppressions", "consents", "consent_events", "message_events", "audit_log", "queue", "messages", "contacts",
    "addresses", "list_members", "list_refusals", "signups",
)  # fmt: skip


@dataclass
class Shop:
    """One tenant with a form."""

    api: Api
    tenant_id: UUID
    sender_id: UUID
    form: Form
    lists: dict[str, UUID]

    @property
    def links_of(self) -> Links:
        return Links(self.api.runtime.keyring)

    @property
    def path(self) -> str:
        return self.links_of.path("form", self.tenant_id, self.form.id)

    def token(self, *, age_s: float = 10.0) -> str:
        return stamp(self.api.runtime, self.form.id, time.time() - age_s)

    async def press(self, path: str, fields: Sequence[tuple[str, str]] | dict[str, str]) -> Answer:
        return await self.api.caller().post(path, data=urlencode(fields).encode(), headers=FORM_TYPE)

    async def fill(self, address: str, *titles: str, **fields: str) -> Answer:
        given = {"address": address, "agree": "yes", "t": self.token(), **fields}
        ticked = [("list", str(self.lists[each])) for each in titles or [next(iter(self.lists))]]
        return await self.press(self.path, [*given.items(), *ticked])

    async def confirm(self, path: str) -> Answer:
        """Look at the page, then press its button."""
        shown = await self.api.caller().get(path)
        found = re.search(r'name="seen" value="([0-9a-f]*)"', shown.text)
        return await self.press(path, {"do": "confirm", "seen": found.group(1) if found else ""})

    async def links(self) -> list[str]:
        async with self.api.engine(self.tenant_id) as uow:
            rows = await uow.raw.fetch(
                "SELECT variables ->> 'confirm_url' FROM messages "
                "WHERE tenant_id = $1 AND purpose = 'confirmation' ORDER BY id",
                self.tenant_id,
            )
        return ["/" + row[0].split("/", 3)[3] for row in rows]

    async def contact(self, address: str) -> dict[str, Any] | None:
        async with self.api.engine(self.tenant_id) as uow:
            contact_id = await uow.raw.fetchval(
                "SELECT contact_id FROM addresses WHERE tenant_id = $1 AND address = $2", self.tenant_id, address
            )
            if contact_id is None:
                return None
            names = {list_id: title for title, list_id in self.lists.items()}
            found = {"id": contact_id}
            for table, key in (("list_members", "on"), ("list_refusals", "off")):
                rows = await uow.raw.fetch(f"SELECT list_id FROM {table} WHERE contact_id = $1", contact_id)
                found[key] = {names.get(row[0], str(row[0])) for row in rows}
            found["consent"] = await uow.raw.fetchval("SELECT status FROM consents WHERE contact_id = $1", contact_id)
            found["name"] = await uow.raw.fetchval("SELECT name FROM contacts WHERE id = $1", contact_id)
            return found

    async def letter(self, address: str, kind: str = "preferences") -> str:
        """A bulk message to an address; gives the path of one of its pages."""
        async with self.api.engine(self.tenant_id) as uow:
            content_id = await uow.raw.fetchval(
                "INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text) "
                "VALUES ($1, 'email', $2, false, 's', 't') RETURNING id",
                self.tenant_id,
                uuid4().bytes,
            )
            contact_id = await uow.raw.fetchval(
                "SELECT contact_id FROM addresses WHERE tenant_id = $1 AND address = $2", self.tenant_id, address
            )
            key = LaneKey("email", self.sender_id, "bulk", "marketing", 5)
            new = NewMessage(address, content_id, contact_id=contact_id)
            (message_id,) = await admit(uow, self.tenant_id, key, [new])
        if kind == "unsubscribe":
            return f"/u/{self.api.runtime.unsubscribe_links.sign(self.tenant_id, message_id)}"
        return self.links_of.path("preferences", self.tenant_id, message_id)

    async def suppress(self, address: str, reason: str, scope: str = "all", *, tenant: UUID | None = None) -> None:
        async with self.api.engine(self.tenant_id) as uow:
            await uow.raw.execute(
                "INSERT INTO suppressions (tenant_id, channel, address_hash, address, scope, reason, source,"
                " created_by) VALUES ($1, 'email', $2, $3, $4, $5, 'test', 'test')",
                tenant or self.tenant_id,
                hashlib.sha256(address.encode()).digest(),
                address,
                scope,
                reason,
            )

    async def suppressed(self) -> list[tuple[str, str]]:
        async with self.api.engine(self.tenant_id) as uow:
            rows = await uow.raw.fetch("SELECT scope, reason FROM suppressions ORDER BY created_at")
        return [tuple(row) for row in rows]

    async def proof(self, address: str) -> list[dict[str, Any]]:
        async with self.api.engine(self.tenant_id) as uow:
            rows = await uow.raw.fetch(
                "SELECT e.status, e.purpose, e.source, e.ip, e.text_shown, e.form_version FROM consent_events e "
                "JOIN addresses a USING (tenant_id, contact_id) WHERE a.address = $1 ORDER BY e.id",
                address,
            )
        return [dict(row) for row in rows]

    async def execute(self, sql: str, *args: Any) -> None:
        async with self.api.engine(self.tenant_id) as uow:
            await uow.raw.execute(sql, *args)

    async def digest(self, *, without: Sequence[str] = ()) -> str:
        async with self.api.engine(self.tenant_id) as uow:
            found = {
                table: [row[0] for row in await uow.raw.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]
                for table in _TABLES
                if table not in without
            }
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


async def opened(api: Api, *titles: str, tenant: UUID = DEFAULT_TENANT, name: str = "Gardens", **form: Any) -> Shop:
    """A tenant's sender, lists on offer, and a form that offers them."""
    async with api.engine(tenant) as uow:
        await uow.raw.execute("UPDATE tenants SET name = $1 WHERE id = $2", name, tenant)
        connection_id = await uow.raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, 'glass') RETURNING id",
            tenant,
            f"connection {uuid4()}",
        )
        sender_id = await uow.raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
            "VALUES ($1, $2, 'email', $3, 'news@sender.example') RETURNING id",
            tenant,
            f"sender {uuid4()}",
            connection_id,
        )
    made: dict[str, UUID] = {}
    async with api.app(tenant) as uow:
        for place, title in enumerate(titles or ("News", "Offers")):
            list_id = (await lists.create(uow, TESTER, f"{title} {uuid4()}")).id
            await offers.offer(uow, TESTER, list_id, OfferIn(title, f"All about {title}.", place))
            made[title] = list_id
        values = {"title": "Garden letters", "consent_text": CONSENT, "sender": str(sender_id), **form}
        found = await forms.create(uow, TESTER, NewForm(f"form {uuid4()}", list_ids=list(made.values()), **values))
    return Shop(api, tenant, sender_id, found, made)

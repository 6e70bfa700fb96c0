"""Texts in a drill: a Twilio-shaped server that reports and writes, a sender of texts, and callbacks by hand.

    async with Phones.open(drill, base) as phones:      base: where the API is to be found; the account reports there
        phones.sandbox                                  its ledger, its rules; reports nothing unless told (`statuses`)
        ids = await phones.admit([…numbers])            texts that wait for workers
        request = await phones.report(message_id, "undelivered", error=30005)
        status, body = await phones.post(api.where, request)          signed for `base`, posted to whichever node
        replies = await phones.write(api.where, "+1415…", "STOP")
        assert await phones.violations() == []          the drill's checker, with this ledger too

Callbacks are signed as the sandbox does it: written from Twilio's description, not from our verifier.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import aiohttp

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.secret import Keyring
from outrider.contracts.gate import MessageClass
from outrider.data.db import Role
from outrider.data.egress import Egress
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.senders import NewSender
from outrider.domain.templates import contents
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from outrider.interfaces.sandbox.twilio.callbacks import signature, status_form
from outrider.interfaces.sandbox.twilio.ledger import TAKEN, Entry
from outrider.interfaces.sandbox.twilio.options import Rule
from outrider.plugins.channels.sms import CHANNEL
from outrider.plugins.providers.twilio import PROVIDER
from tests.kit import ledgers
from tests.kit.drill import OPERATOR, Drill, Sender, boot_ns
from tests.kit.ledgers import Acceptance
from tests.kit.rendering import InProcessRenderer

NUMBER = "+14155550100"
_REPLIED = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """A callback as its sender makes it."""

    target: str
    form: Mapping[str, str]
    signature: str

    def forged(self) -> Request:
        """The same, signed by somebody who does not know the token."""
        return replace(self, signature=signature("another", "https://elsewhere.example.org", self.form))

    def unsigned(self) -> Request:
        """The same without a signature."""
        return replace(self, signature="")


@dataclass(slots=True)
class Phones:
    """One account of texts of a tenant."""

    drill: Drill
    sandbox: TwilioSandbox
    sender: Sender
    connection_id: UUID
    callback_url: str
    http: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        drill: Drill,
        base: str,
        *,
        statuses: tuple[str, ...] = (),
        tenant_id: UUID = DEFAULT_TENANT,
        at: Phones | None = None,
        **settings: Any,
    ) -> AsyncIterator[Phones]:
        """An account, its sender and its server, until the block ends.

        Takes:   base: under which the account reports; statuses: what it reports of each text by itself
                 at: another tenant's, whose account and server this is as well; its ledger is one with theirs
        """
        ledger = drill.folder / f"texts-{uuid4().hex[:8]}"
        mine = TwilioOptions(ledger_path=ledger, port=0, statuses=statuses, callback_tries=60, checks_numbers=False)
        sandbox = at.sandbox if at is not None else TwilioSandbox(mine)
        options = sandbox.options
        keyring = Keyring(drill.command.environment["OUTRIDER_SECRET_KEY"])
        vault = Vault({PROVIDER.key: PROVIDER}, keyring, Egress(()))
        if at is None:
            await sandbox.start()
        given = {
            "account_sid": options.account_sid, "auth_token": options.auth_token, "base_url": sandbox.url,
            "callback_base": base, **settings,
        }  # fmt: skip
        async with drill.db.uow(Role.APP, tenant_id) as uow:
            name = f"texts {uuid4()}"
            made = await connections.create(uow, vault, OPERATOR, name=name, provider=PROVIDER.key, settings=given)
            new = NewSender(name=name, connection_id=made.id, from_address=NUMBER, from_name="Acme")
            sender = await senders.create(uow, {CHANNEL.key: CHANNEL}, vault, OPERATOR, new)
            content_id = await contents.save(
                uow, CHANNEL, InProcessRenderer(), subject="", html=None, text="Hello.", is_template=False
            )
        url = callback_url(signer_of(keyring), "", PROVIDER.key, given, tenant_id, made.id)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            try:
                yield cls(drill, sandbox, Sender(tenant_id, sender.id, content_id), made.id, url, http)
            finally:
                if at is None:
                    await sandbox.close()

    async def admit(
        self, numbers: Sequence[str], *, message_class: MessageClass = "transactional", purpose: str = "transactional"
    ) -> list[UUID]:
        """Texts to numbers, in one transaction; wakes the workers."""
        key = LaneKey(CHANNEL.key, self.sender.id, message_class, purpose, 5)
        new = [NewMessage(number, self.sender.content_id) for number in numbers]
        async with self.drill.db.uow(Role.ENGINE, self.sender.tenant_id) as uow:
            ids = await admit(uow, self.sender.tenant_id, key, new)
            await uow.raw.execute("SELECT pg_notify('outrider_ready', '')")
        self.drill.client.add(ids)
        return ids

    async def sent(self, numbers: Sequence[str]) -> list[UUID]:
        """Texts that workers have handed over and recorded."""
        ids = await self.admit(numbers)
        await self.drill.drained()
        return ids

    def acceptances(self) -> list[Acceptance]:
        """Every text that the server took, on the clock of the capture server's ledger."""
        since_boot_ns = boot_ns() - time.time_ns()
        return [
            Acceptance(_message_of(entry), entry.to, entry.at_ns + since_boot_ns, entry.outcome == "accepted")
            for entry in self.sandbox.ledger.entries
            if entry.outcome in TAKEN
        ]

    def texts(self) -> dict[UUID, str]:
        """What the texts that the server took say, by message."""
        return {_message_of(entry): entry.text for entry in self.sandbox.ledger.entries if entry.outcome in TAKEN}

    def rules(self, **rule: Any) -> None:
        """What happens to every text from now on."""
        self.sandbox.rules = [Rule(**rule)]

    def times_of(self, outcome: str) -> list[int]:
        """When texts came to something, on the clock of the capture server's ledger."""
        since_boot_ns = boot_ns() - time.time_ns()
        return [entry.at_ns + since_boot_ns for entry in self.sandbox.ledger.entries if entry.outcome == outcome]

    async def violations(self, *, duplicates: int = 0, uncertain: int = 0) -> list[str]:
        """What the checker of the drill finds now, this account's ledger among its own."""
        evidence = await self.drill.evidence()
        evidence.acceptances += self.acceptances()
        return ledgers.violations(evidence, duplicates=duplicates, uncertain=uncertain)

    async def sid_of(self, message_id: UUID) -> str:
        """The server's id of a text that was recorded."""
        return str(await self.drill.value("SELECT provider_id FROM messages WHERE id = $1", message_id))

    async def report(self, message_id: UUID, status: str, *, sid: str = "", error: int | None = None) -> Request:
        """What the account would say of a text."""
        message = {"sid": sid or await self.sid_of(message_id), "from": NUMBER, "to": "+14155552671"}
        form = status_form(message, self.sandbox.options.account_sid, status, error)
        return self.signed(form, f"?m={message_id}")

    def text(self, person: str, words: str, *, sid: str = "") -> Request:
        """What the account would say when somebody writes."""
        sid = sid or f"SM{uuid4().hex}"
        form = {
            "AccountSid": self.sandbox.options.account_sid, "Body": words, "From": person, "MessageSid": sid,
            "NumMedia": "0", "SmsSid": sid, "SmsStatus": "received", "To": NUMBER,
        }  # fmt: skip
        return self.signed(form)

    def signed(self, form: Mapping[str, str], query: str = "") -> Request:
        """A form, signed with the account's token for the address it is configured with."""
        url = f"{self.callback_url}{query}"
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return Request(target, form, signature(self.sandbox.options.auth_token, url, form))

    async def post(self, where: str, request: Request) -> tuple[int, str]:
        """Bring a callback to a node; gives status and body of its answer."""
        headers = {"X-Twilio-Signature": request.signature} if request.signature else {}
        async with self.http.post(where + request.target, data=dict(request.form), headers=headers) as answer:
            return answer.status, await answer.text()

    async def write(self, where: str, person: str, words: str) -> list[str]:
        """Somebody writes; gives what they are answered."""
        status, body = await self.post(where, self.text(person, words))
        assert status == 200, body
        return _REPLIED.findall(body)


def _message_of(entry: Entry) -> UUID:
    """Our message, by the address under which its reports are asked for."""
    return UUID(parse_qs(urlsplit(entry.status_callback).query)["m"][0])


def people(count: int, *, first: int = 2000) -> list[str]:
    """Numbers of so many people, none of them the sender's."""
    return [f"+1415555{number:04}" for number in range(first, first + count)]

"""Email by Resend in a drill: a Resend-shaped server, a sender that goes by it, and the checker with its ledger too.

async with Mailers.open(drill, "at_most_once") as mailers:
    mailers.sandbox                               its ledger, its rules; reports nothing
    ids = await mailers.admit(150)                emails that wait for workers
    await mailers.through()                       nothing waits, nothing is in doubt
    assert await mailers.violations() == []
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.secret import Keyring
from outrider.data.db import Role
from outrider.data.egress import Egress
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.senders import NewSender
from outrider.domain.templates import contents
from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.resend import PROVIDER
from outrider.plugins.providers.resend.finding import message_of
from tests.kit import ledgers
from tests.kit.drill import OPERATOR, Drill, Guarantee, Sender, boot_ns
from tests.kit.ledgers import Acceptance
from tests.kit.processes import until
from tests.kit.rendering import InProcessRenderer


@dataclass(slots=True)
class Mailers:
    """One account of a tenant."""

    drill: Drill
    sandbox: ResendSandbox
    sender: Sender

    @classmethod
    @asynccontextmanager
    async def open(cls, drill: Drill, guarantee: Guarantee, **settings: Any) -> AsyncIterator[Mailers]:
        """An account, its sender and its server, until the block ends."""
        sandbox = ResendSandbox(ResendOptions(ledger_path=drill.folder / f"emails-{uuid4().hex[:8]}", port=0))
        given = {
            "api_key": sandbox.options.api_key, "base_url": await sandbox.start(), "requests_per_s": 50,
            "answer_timeout_s": 10, **settings,
        }  # fmt: skip
        vault = Vault({PROVIDER.key: PROVIDER}, Keyring(drill.command.environment["OUTRIDER_SECRET_KEY"]), Egress(()))
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            made = await connections.create(uow, vault, OPERATOR, name="r", provider=PROVIDER.key, settings=given)
            new = NewSender(
                name="r", connection_id=made.id, from_address="a@example.org", transactional_guarantee=guarantee,
                bulk_guarantee=guarantee,
            )  # fmt: skip
            sender = await senders.create(uow, {CHANNEL.key: CHANNEL}, vault, OPERATOR, new)
            content_id = await contents.save(
                uow, CHANNEL, InProcessRenderer(), subject="Hello", html=None, text="Hello.", is_template=False
            )
        try:
            yield cls(drill, sandbox, Sender(DEFAULT_TENANT, sender.id, content_id))
        finally:
            await sandbox.close()

    async def admit(self, count: int) -> list[UUID]:
        """Emails to so many people, in one transaction; wakes the workers."""
        return await self.drill.admit(self.sender, count)

    async def through(self) -> None:
        """Wait until nothing waits and nothing is in doubt."""
        await self.drill.drained()

        async def is_clear() -> bool:
            return not await self.drill.value("SELECT count(*) FROM uncertain_messages")

        await until(is_clear, what="nothing is in doubt", poll_s=0.1)

    async def due(self) -> None:
        """Whatever is to be repeated, is to be repeated now."""
        await self.drill.execute("UPDATE keyed_requests SET due_at = now()")

    def acceptances(self) -> list[Acceptance]:
        """Every email that the server took, on the clock of the capture server's ledger."""
        since_boot_ns = boot_ns() - time.time_ns()
        found = []
        for entry in self.sandbox.taken:
            message_id = message_of(entry.email.get("tags"))
            assert message_id is not None, entry
            found.append(Acceptance(message_id, entry.to, entry.at_ns + since_boot_ns, entry.outcome == "accepted"))
        return found

    def keys(self, outcome: str) -> set[str]:
        """Under which keys something came to an end."""
        return {entry.key for entry in self.sandbox.ledger.entries if entry.outcome == outcome}

    async def violations(self) -> list[str]:
        """What the checker of the drill finds now, this account's ledger among its own: not one email twice."""
        evidence = await self.drill.evidence()
        evidence.acceptances += self.acceptances()
        return ledgers.violations(evidence, duplicates=0, uncertain=0)

"""A drill: one installation under fire, with the three ledgers that tell afterwards what became of every message.

    async with Drill.open(tmp_path, url=…, defect=…, lease_s="2") as drill:
        sender = await drill.sender("at_most_once", connections=4)
        await drill.admit(sender, 200)
        victim = await drill.worker(at="send.before_bytes:40:kill")
        await victim.killed("send.before_bytes")
        await drill.worker()
        await drill.drained()
        assert await drill.violations(duplicates=0, uncertain=4) == []

Workers are real processes (`python -m outrider worker`), the capture server is another (`outrider sandbox`, its ledger
fsynced before it answers), the client is this process. With `defect` the workers run with one part broken
(tests/kit/defects.py): the same drill must then find violations.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.base.secret import new_key
from outrider.contracts.actor import Actor
from outrider.contracts.gate import MessageClass
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.contacts import suppressions
from outrider.domain.limits import switches
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.templates import contents
from outrider.interfaces.sandbox import LedgerReader
from outrider.plugins.channels.email import CHANNEL
from tests.kit import defects, ledgers, standstills
from tests.kit.command import Command, command
from tests.kit.ledgers import Acceptance, ClientLedger, Evidence
from tests.kit.postgres import MIGRATED, drop_database, fresh_database
from tests.kit.processes import BOUND_S, Process, until
from tests.kit.rendering import InProcessRenderer

Guarantee = Literal["at_least_once", "at_most_once"]
GUARANTEES: tuple[Guarantee, ...] = ("at_least_once", "at_most_once")
OPERATOR = Actor("user", "drill@example.org", "127.0.0.1")
SCALE = int(os.environ.get("DRILL_SCALE", "1"))
"""How much larger and how much more often than in CI; release runs set it to 20."""
LEASE_S = 300.0
"""So long that whatever comes back earlier came back by the journal."""
_QUICK = {
    "OUTRIDER_LEASE_S": str(LEASE_S),
    "OUTRIDER_SWEEP_S": "0.3",
    "OUTRIDER_HEARTBEAT_S": "0.3",
    "OUTRIDER_POLL_S": "0.05",
    "OUTRIDER_RETRY_FIRST_S": "0.2",
    "OUTRIDER_RETRY_MOST_S": "1",
    "OUTRIDER_CLAIM_BATCH": "100",
    "OUTRIDER_LANES_IN_FLIGHT": "2",
    "OUTRIDER_RENDER_CHILDREN": "1",
    "OUTRIDER_DB_POOL_SIZE": "4",
    "OUTRIDER_WORKER_HEALTH_PORT": "0",
    "OUTRIDER_SCHEDULER_HEALTH_PORT": "0",
    "OUTRIDER_EGRESS_ALLOW": '["127.0.0.0/8"]',
    "OUTRIDER_LOG_FORMAT": "json",
    "OUTRIDER_API_PORT": "0",
}


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender with an account of its own at the capture server."""

    tenant_id: UUID
    id: UUID
    content_id: UUID


@dataclass(slots=True)
class Drill:
    """One installation: database, client, capture server, workers. `db` is the client's own pool."""

    folder: Path
    url: str
    db: Database
    command: Command
    client: ClientLedger
    provider: LedgerReader
    defect: str | None
    processes: list[Process] = field(default_factory=list)
    _made: int = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        url: str | None = None,
        defect: str | None = None,
        **settings: str,
    ) -> AsyncIterator[Drill]:
        """Make an installation and end every process of it.

        Takes:   url      a migrated database to use and keep; None: a new one
                 settings OUTRIDER_… variables of every process, without the prefix
        """
        standstills.watch()
        database_url = url or fresh_database(MIGRATED)
        client_url = database_url + (defects.DEFECTS[defect].client if defect else "")
        db = Database(client_url, pool_size=6, wait_s=BOUND_S, name="drill")
        base = command(folder / "data", url=database_url, key=new_key())
        base = base.with_(**_QUICK).with_(**{f"OUTRIDER_{name.upper()}": value for name, value in settings.items()})
        client, provider = ClientLedger(folder / "client"), LedgerReader(folder / "ledger")
        drill = cls(folder, database_url, db, base, client, provider, defect)
        try:
            drill.faults()
            drill._start_capture_server()
            if defect is not None:
                await defects.break_database(defect, database_url)
            yield drill
        finally:
            for process in drill.processes:
                process.end()
            drill.client.close()
            await db.close()
            if url is None:
                drop_database(database_url)

    def _start_capture_server(self) -> None:
        """The provider's side: takes everything, writes it down with fsync before it answers."""
        sandbox = Process.start(
            self.command, "sandbox", "--ledger", str(self.folder / "ledger"), "--smtp-port", "0", "--no-http",
            "--faults", str(self.folder / "faults.json"), "--fsync", "flush", folder=self.folder, name="sandbox",
        )  # fmt: skip
        self.processes.append(sandbox)

    async def smtp_port(self) -> int:
        """Where the capture server listens, as soon as it does."""
        sandbox = self.processes[0]
        if not sandbox.where:
            await sandbox.ready()
        return int(sandbox.where.split()[0].rpartition(":")[2])

    def faults(self, *rules: Mapping[str, Any]) -> None:
        """Give the capture server other faults from now on."""
        draft = self.folder / "faults.new"
        draft.write_text(json.dumps({"rules": rules}))
        draft.rename(self.folder / "faults.json")

    @property
    def emergency_file(self) -> Path:
        """The file that stops the workers which share the drill's data directory."""
        return self.folder / "data" / "EMERGENCY_STOP"

    # processes

    def start(
        self,
        role: Literal["worker", "api", "scheduler", "submission", "returns"],
        *,
        at: str = "",
        own_data: bool = False,
        **settings: str,
    ) -> Process:
        """Start a process of the product without waiting for it.

        Takes:   at        OR_FAILPOINT
                 own_data  a data directory of its own, as on another machine: it sees no sibling's journal
                 settings  OUTRIDER_… variables of this process, without the prefix
        """
        name = f"{role}-{self._next()}"
        own: dict[str, str | None] = {f"OUTRIDER_{key.upper()}": value for key, value in settings.items()}
        if own_data:
            own["OUTRIDER_DATA_DIR"] = str(self.folder / f"data-of-{name}")
        chosen = self.command.with_(**own)
        if self.defect is not None:
            chosen = defects.broken(chosen, self.defect)
        process = Process.start(chosen, role, folder=self.folder, name=name, at=at)
        self.processes.append(process)
        return process

    def start_worker(self, *, at: str = "", own_data: bool = False, **settings: str) -> Process:
        """Start a worker without waiting for it; see `start`."""
        return self.start("worker", at=at, own_data=own_data, **settings)

    async def worker(self, *, at: str = "", own_data: bool = False, **settings: str) -> Process:
        """Start a worker and wait until it works."""
        return await self.start_worker(at=at, own_data=own_data, **settings).ready()

    async def scheduler(self, *, at: str = "", **settings: str) -> Process:
        """Start a scheduler and wait until it runs jobs."""
        return await self.start("scheduler", at=at, own_data=False, **settings).ready()

    # the client's side

    async def tenant(self, name: str) -> UUID:
        """Another tenant."""
        made: UUID = await self.value("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name)
        return made

    async def sender(
        self,
        guarantee: Guarantee,
        *,
        connections: int = 4,
        tenant_id: UUID = DEFAULT_TENANT,
        port: int | None = None,
    ) -> Sender:
        """A sender that promises the same for both classes, with a connection of its own, and something to say."""
        name = f"sender {self._next()}"
        port = port or await self.smtp_port()
        settings = {"host": "127.0.0.1", "port": port, "tls": "off", "connections": connections}
        async with self.db.uow(Role.ENGINE, tenant_id) as uow:
            connection_id = await uow.raw.fetchval(
                "INSERT INTO connections (tenant_id, name, provider, settings) VALUES ($1, $2, 'smtp', $3::text::jsonb)"
                " RETURNING id",
                tenant_id, name, json.dumps(settings),
            )  # fmt: skip
            sender_id = await uow.raw.fetchval(
                "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, postal_address,"
                " transactional_guarantee, bulk_guarantee) VALUES ($1, $2, 'email', $3, $4, 'Street 1', $5, $5)"
                " RETURNING id",
                tenant_id, name, connection_id, f"s{self._made}@example.org", guarantee,
            )  # fmt: skip
            content_id = await contents.save(
                uow, CHANNEL, InProcessRenderer(), subject=name, html=None, text="Hello.", is_template=False
            )
        return Sender(tenant_id, sender_id, content_id)

    async def admit(
        self, sender: Sender, count: int, *, message_class: MessageClass = "transactional", name: str = "p"
    ) -> list[UUID]:
        """Submit messages in one transaction and write down what was acknowledged; wakes the workers."""
        first = self._made
        self._made += count
        addresses = [f"{name}{first + n}@example.com" for n in range(count)]
        return await self.admit_to(sender, addresses, message_class=message_class)

    async def admit_to(
        self, sender: Sender, addresses: Sequence[str], *, message_class: MessageClass = "transactional"
    ) -> list[UUID]:
        """`admit` to addresses of one's own choice."""
        key = LaneKey("email", sender.id, message_class, "transactional", 5)
        new = [NewMessage(address, sender.content_id) for address in addresses]
        async with self.db.uow(Role.ENGINE, sender.tenant_id) as uow:
            ids = await admit(uow, sender.tenant_id, key, new)
            await uow.raw.execute("SELECT pg_notify('outrider_ready', '')")
        self.client.add(ids)
        return ids

    async def campaign(self, sender: Sender, count: int, *, name: str = "c") -> UUID:
        """Launch a campaign to `count` new contacts with consent; its fan-out is the workers' work."""
        name = f"{name}{self._next()}"
        async with self.db.uow(Role.ENGINE, sender.tenant_id) as uow:
            campaign_id: UUID = await uow.raw.fetchval(_CAMPAIGN, sender.tenant_id, name, count, sender.id,
                                                       sender.content_id)  # fmt: skip
        return campaign_id

    async def pause(self, scope: str, scope_id: str | None, tenant_id: UUID = DEFAULT_TENANT) -> bool:
        """The kill switch as an operator pulls it: returns when the command would. Gives what the barrier said."""
        async with self._switching(scope, tenant_id) as uow:
            switch = await switches.pause(uow, OPERATOR, scope, scope_id, "drill")
        return await switches.settle(self.db, scope, switch.tenant_id, switch.scope_id)

    async def resume(self, scope: str, scope_id: str | None, tenant_id: UUID = DEFAULT_TENANT) -> None:
        """Let it go on."""
        async with self._switching(scope, tenant_id) as uow:
            await switches.resume(uow, OPERATOR, scope, scope_id, "drill")

    @asynccontextmanager
    async def _switching(self, scope: str, tenant_id: UUID) -> AsyncIterator[UnitOfWork]:
        is_global = scope == "installation"
        async with self.db.uow(Role.ENGINE if is_global else Role.APP, NIL if is_global else tenant_id) as uow:
            yield uow

    async def suppress(self, address: str, tenant_id: UUID = DEFAULT_TENANT) -> None:
        """Somebody says stop."""
        async with self.db.uow(Role.APP, tenant_id) as uow:
            await suppressions.suppress(
                uow, {"email": CHANNEL}, OPERATOR, "email", address, reason="stop", source="drill"
            )

    async def end_sessions(self) -> None:
        """End every database session of the workers, whatever it is doing [F28]."""
        connection = await self.db.connect()
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'outrider worker%'"
            )
        finally:
            await connection.close()

    async def reconnect(self) -> None:
        """Wait until the client's pool has got rid of connections to a database that was away."""

        async def answers() -> bool:
            try:
                return bool(await self.value("SELECT true"))
            except Unavailable:
                return False

        await until(answers, what="the database answers the client")

    # looking

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows as the engine sees them."""
        async with self.db.uow(Role.ENGINE) as uow:
            found: list[asyncpg.Record] = await uow.raw.fetch(sql, *arguments)
            return found

    async def execute(self, sql: str, *arguments: Any) -> None:
        """Change something as the engine may, in a transaction of its own."""
        async with self.db.uow(Role.ENGINE) as uow:
            await uow.raw.execute(sql, *arguments)

    async def execute_as_login(self, sql: str) -> None:
        """Change something as the owner of the database."""
        connection = await self.db.connect()
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def value(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        found = await self.rows(sql, *arguments)
        return found[0][0] if found else None

    async def open_count(self, *states: int) -> int:
        """Messages in the queue, of all states or of some."""
        wanted = list(states) or [0, 1, 4, 5]
        return int(await self.value("SELECT count(*) FROM queue WHERE state = ANY($1::smallint[])", wanted))

    async def drained(self, *, bound_s: float = BOUND_S) -> None:
        """Wait until nothing is open any more: every message has ended, every launched campaign is finished."""

        async def is_over() -> bool:
            return not await self.value(
                "SELECT EXISTS (SELECT FROM queue) OR EXISTS (SELECT FROM campaigns WHERE state = 'sending')"
            )

        await until(is_over, what="the queue is empty", bound_s=bound_s, poll_s=0.1)

    async def accepted(self, count: int, *, bound_s: float = BOUND_S) -> None:
        """Wait until the capture server has taken so many more messages than the last call saw."""
        seen = 0

        def is_there() -> bool:
            nonlocal seen
            seen += sum(record.is_taken for record in self.provider.read_new())
            return seen >= count

        await until(is_there, what=f"{count} acceptances", bound_s=bound_s, poll_s=0.005)

    def acceptances(self, *, since_ns: int = 0) -> list[Acceptance]:
        """What the capture server has taken."""
        return ledgers.accepted_of(self.provider, since_ns=since_ns)

    async def evidence(self) -> Evidence:
        """All three ledgers as they stand."""
        connection = await self.db.connect()
        try:
            await connection.execute("SET ROLE outrider_engine")
            return await Evidence.read(connection, self.client, self.provider)
        finally:
            await connection.close()

    async def violations(self, *, duplicates: int = 0, uncertain: int = 0) -> list[str]:
        """What the checker finds now; empty when the run was clean."""
        return ledgers.violations(await self.evidence(), duplicates=duplicates, uncertain=uncertain)

    def _next(self) -> int:
        self._made += 1
        return self._made


def boot_ns() -> int:
    """Now, on the clock of the capture server's ledger."""
    return int(boottime_s() * 1_000_000_000)


_CAMPAIGN = """
WITH list AS (
  INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id
), people AS (
  INSERT INTO contacts (tenant_id, name) SELECT $1, $2 || n FROM generate_series(1, $3::int) n RETURNING id, name
), addressed AS (
  INSERT INTO addresses (tenant_id, channel, address, contact_id)
  SELECT $1, 'email', name || '@example.com', id FROM people
), agreed AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, id, 'email', 'marketing', 'granted', 'drill' FROM people
), members AS (
  INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, list.id, people.id FROM list, people
)
INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, state, launched_at, created_by)
SELECT $1, $2, 'email', $4, $5, list.id, 'sending', now(), 'drill' FROM list RETURNING id
"""

"""Outrider as whole processes on the benchmark's PostgreSQL: installed, filled with a mailing, paused and resumed.

Owns how an installation of a benchmark is made. Data is written the quick way (SQL for contacts), what is measured
runs the way people run it: `outrider worker` processes, the kill switch, campaigns fanned out by the product itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.kit import letter
from bench.kit.servers import Postgres, process
from outrider.app import wiring
from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.base.secret import new_key
from outrider.contracts.actor import Actor
from outrider.data import migrate
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.limits import switches
from outrider.domain.messages.fan_out import Plan, fan_out
from outrider.domain.messages.lanes import lane_for
from outrider.domain.senders import connections as connections_
from outrider.domain.senders import senders
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.identity import dkim_purpose
from outrider.domain.senders.senders import NewSender
from outrider.domain.templates import contents
from outrider.domain.tracking import choices

BENCH = Actor("cli", "cli:bench")
TEXT_ACCOUNT, TEXT_TOKEN = "AC" + "0" * 32, "bench-token"
PROGRAM = Path(sys.executable).parent / "outrider"
_CONTACTS = """
WITH made AS (
  INSERT INTO contacts (tenant_id, external_id, name, attributes)
  SELECT $1, $6 || n, 'Recipient ' || n,
         jsonb_build_object('order', 'A-' || lpad(n::text, 7, '0'),
                            'city', ($4::text[])[1 + n % cardinality($4::text[])])
  FROM generate_series($2::int, $3::int) n
  RETURNING id, substr(external_id, length($6) + 1)::int AS n
), addressed AS (
  INSERT INTO addresses (tenant_id, channel, address, contact_id)
  SELECT $1, $7, CASE $7 WHEN 'sms' THEN '+1415' || lpad(n::text, 7, '0')
                         ELSE 'user' || n || '@' || $6 || 'recipient.example' END, id FROM made
), consented AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, id, $7, 'marketing', 'granted', 'bench' FROM made
)
INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, $5, id FROM made
"""


@dataclass(frozen=True, slots=True)
class Sender:
    """One sender of a tenant and what it says, through a connection to the benchmark's own server."""

    tenant_id: UUID
    id: UUID
    content_id: UUID


@dataclass(frozen=True, slots=True)
class TextSender(Sender):
    """A sender of texts; `callback_url`: where its provider reports to."""

    connection_id: UUID
    callback_url: str


@dataclass(frozen=True, slots=True)
class Audience:
    """One list of a tenant, everybody on it with an address and granted consent."""

    tenant_id: UUID
    list_id: UUID
    count: int


@dataclass(slots=True)
class Mailing:
    """One campaign, fanned out."""

    tenant_id: UUID
    campaign_id: UUID
    lane_id: int
    count: int


@dataclass(frozen=True, slots=True)
class Running:
    """A process of Outrider that said it is ready, and where it is to be found."""

    pid: int
    where: str


@dataclass(slots=True)
class Installation:
    """One Outrider on one PostgreSQL. `environment` is what its processes get."""

    database: Postgres
    data_dir: Path
    environment: dict[str, str] = field(repr=False)
    processes: int = 0

    def use(self) -> None:
        """Let what this process does itself (filling, waiting) concern this installation, where there are several."""
        os.environ.update({name: value for name, value in self.environment.items() if name.startswith("OUTRIDER_")})
        wiring.settings.cache_clear()

    @contextmanager
    def workers(
        self, count: int, *, program: Sequence[str | Path] = (PROGRAM,), **settings: str
    ) -> Iterator[list[Running]]:
        """Worker processes, up when the block begins."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.role("worker", program=program, **settings)) for _ in range(count)]

    @contextmanager
    def role(self, role: str, *, program: Sequence[str | Path] = (PROGRAM,), **settings: str) -> Iterator[Running]:
        """One process of a role, ready."""
        self.processes += 1
        environment = self.environment | {f"OUTRIDER_{name.upper()}": value for name, value in settings.items()}
        log = self.data_dir / f"{role}-{self.processes}.log"
        with (
            log.open("wb") as errors,
            process(
                [*program, role], name=role, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as child,
        ):
            yield Running(child.pid, wait_ready(child, log))


def wait_ready(child: subprocess.Popen[str], log: Path | None = None) -> str:
    """Wait for a process's `ready:` line; gives where it is to be found."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("ready:"):
            return line.removeprefix("ready:").strip()
    raise RuntimeError("it did not start:\n" + (log.read_text()[-3000:] if log else ""))


def complaints(made: Installation) -> str:
    """What its processes wrote to their logs; empty after a clean run."""
    return "\n".join(text[-3000:] for path in sorted(made.data_dir.glob("*.log")) if (text := path.read_text()))


@contextmanager
def data_dir() -> Iterator[Path]:
    """A throw-away data directory that other accounts may pass through, as PostgreSQL's must."""
    home = Path(tempfile.mkdtemp(prefix="outrider-bench-data-", dir="/var/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def environment_for(home: Path) -> dict[str, str]:
    """The environment of an installation's processes: loopback may be sent to, every port is a free one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    return environment | {
        "OUTRIDER_DATA_DIR": str(home),
        "OUTRIDER_SECRET_KEY": new_key(),
        "OUTRIDER_EGRESS_ALLOW": '["127.0.0.0/8"]',
        "OUTRIDER_WORKER_HEALTH_PORT": "0",
        "OUTRIDER_SCHEDULER_HEALTH_PORT": "0",
        "OUTRIDER_API_PORT": "0",
        "OUTRIDER_LOG_FORMAT": "json",
        "OUTRIDER_LOG_LEVEL": "warning",
        "OUTRIDER_ALLOW_LOCALHOST_LINKS": "true",
    }


@contextmanager
def installation(database: Postgres) -> Iterator[Installation]:
    """Migrate the database and make a data directory with a key of its own."""
    with data_dir() as home:
        environment = environment_for(home) | {"OUTRIDER_DATABASE_URL": database.url}
        made = Installation(database, home, environment)
        made.use()
        asyncio.run(migrate.upgrade(database.url))
        yield made


@asynccontextmanager
async def runtime(pool_size: int = 4) -> AsyncIterator[Runtime]:
    """The product's own runtime in the benchmark's process, for filling and for the kill switch."""
    async with wiring.runtime("bench", pool_size=pool_size) as made:
        yield made


async def make_tenant(database: Postgres, name: str) -> UUID:
    """One more tenant."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        tenant_id: UUID = await connection.fetchval("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name)
        return tenant_id
    finally:
        await connection.close()


async def make_sender(
    made: Runtime,
    database: Postgres,
    smtp_port: int,
    *,
    tenant_id: UUID = DEFAULT_TENANT,
    connections: int = 8,
    dkim: str = "",
    is_tracked: bool = False,
) -> Sender:
    """A connection to the sink, a sender, and the letter as a template's content; `dkim` is "", "rsa" or "ed25519".

    Openings and clicks are switched off unless `is_tracked`: the peers know nothing of them.
    """
    raw = await asyncpg.connect(database.superuser_url)
    settings = {
        "host": "127.0.0.1", "port": smtp_port, "tls": "off", "connections": connections,
        "messages_per_connection": 1_000_000,
    }  # fmt: skip
    name = f"bench {uuid4()}"
    try:
        connection_id = await raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider, settings) VALUES ($1, $2, 'smtp', $3) RETURNING id",
            tenant_id, name, json.dumps(settings),
        )  # fmt: skip
        sender_id = await raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, from_name, postal_address) "
            "VALUES ($1, $2, 'email', $3, $4, 'Shop', 'Shop, Main Street 1, Lisbon') RETURNING id",
            tenant_id, name, connection_id, letter.SENDER,
        )  # fmt: skip
        if dkim:
            domain = letter.SENDER.partition("@")[2]
            names = json.dumps([{"domain": domain, "selector": "bench", "algorithm": dkim}])
            sealed = made.keyring.seal(
                json.dumps([_private_key(dkim)]), tenant_id=tenant_id, purpose=dkim_purpose(sender_id)
            )
            await raw.execute(
                "UPDATE senders SET dkim = $3, sealed_dkim = $4 WHERE tenant_id = $1 AND id = $2",
                tenant_id, sender_id, names, sealed,
            )  # fmt: skip
    finally:
        await raw.close()
    async with made.db.uow(Role.APP, tenant_id) as uow:
        content_id = await contents.save(
            uow, made.channels["email"], made.renderer,
            subject=letter.SUBJECT, html=letter.HTML, text=letter.TEXT, is_template=True,
        )  # fmt: skip
        wanted = choices.ChoiceChange(opens=is_tracked, clicks=is_tracked)
        await choices.choose(uow, BENCH, "sender", sender_id, wanted)
    return Sender(tenant_id, sender_id, content_id)


async def make_text_sender(made: Runtime, text: str, *, connections: int = 8, **settings: str) -> TextSender:
    """An account of provider twilio with a sender of texts, and something to say."""
    vault = Vault(made.providers, made.keyring, made.egress)
    name = f"bench {uuid4()}"
    given = {"account_sid": TEXT_ACCOUNT, "auth_token": TEXT_TOKEN, "connections": connections, **settings}
    async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        account = await connections_.create(uow, vault, BENCH, name=name, provider="twilio", settings=given)
        wanted = NewSender(name=name, connection_id=account.id, from_address="+14155550100", from_name="Shop")
        sender = await senders.create(uow, made.channels, vault, BENCH, wanted)
        content_id = await contents.save(
            uow, made.channels["sms"], made.renderer, subject="", html=None, text=text, is_template=True
        )
    url = callback_url(
        signer_of(made.keyring), made.settings.public_url, "twilio", account.settings, DEFAULT_TENANT, account.id
    )
    return TextSender(DEFAULT_TENANT, sender.id, content_id, account.id, url)


def _private_key(kind: str) -> str:
    key: RSAPrivateKey | Ed25519PrivateKey = (
        generate_private_key(public_exponent=65537, key_size=2048) if kind == "rsa" else Ed25519PrivateKey.generate()
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def name_template(database: Postgres, sender: Sender) -> str:
    """A template whose first version is the sender's content, as callers of the API name it."""
    raw = await asyncpg.connect(database.superuser_url)
    name = f"letter-{uuid4()}"
    try:
        template_id = await raw.fetchval(
            "INSERT INTO templates (tenant_id, name, channel) VALUES ($1, $2, 'email') RETURNING id",
            sender.tenant_id,
            name,
        )
        await raw.execute(
            "INSERT INTO template_versions (tenant_id, template_id, version, content_id, created_by) "
            "VALUES ($1, $2, 1, $3, 'bench')",
            sender.tenant_id, template_id, sender.content_id,
        )  # fmt: skip
    finally:
        await raw.close()
    return name


async def make_audience(
    database: Postgres, count: int, *, tenant_id: UUID = DEFAULT_TENANT, channel: str = "email"
) -> Audience:
    """A list of so many contacts, in slices; one of a tenant for channel sms, whose numbers have no prefix."""
    prefix = f"l{uuid4().hex[:8]}."
    raw = await asyncpg.connect(database.superuser_url)
    try:
        list_id = await raw.fetchval(
            "INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id", tenant_id, f"bench {uuid4()}"
        )
        for first in range(1, count + 1, 50_000):
            last = min(first + 49_999, count)
            await raw.execute(_CONTACTS, tenant_id, first, last, list(letter.CITIES), list_id, prefix, channel,
                              timeout=None)  # fmt: skip
    finally:
        await raw.close()
    await analyze(database)
    return Audience(tenant_id, list_id, count)


async def fan_campaign_out(
    made: Runtime, database: Postgres, sender: Sender, audience: Audience, *, channel: str = "email"
) -> Mailing:
    """A campaign to everybody of the audience, queued by the product's own fan-out; nobody sends it yet."""
    tenant_id = sender.tenant_id
    raw = await asyncpg.connect(database.superuser_url)
    try:
        campaign_id = await raw.fetchval(
            "INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, launched_at) "
            "VALUES ($1, $2, $6, $3, $4, $5, 'bench', now()) RETURNING id",
            tenant_id, f"bench {uuid4()}", sender.id, sender.content_id, audience.list_id, channel,
        )  # fmt: skip
    finally:
        await raw.close()
    async with made.db.uow(Role.ENGINE, tenant_id) as uow:
        lane_id = await lane_for(
            uow,
            tenant_id=tenant_id,
            channel=channel,
            sender_id=sender.id,
            campaign_id=campaign_id,
            message_class="bulk",
        )
    plan = Plan(campaign_id, audience.list_id, lane_id, channel, sender.content_id, "marketing", 5, None)
    after, queued = None, 0
    while True:
        async with made.db.uow(Role.ENGINE, tenant_id) as uow:
            page = await fan_out(uow.raw, tenant_id, plan, after=after, limit=10_000)
        if page.last is None:
            break
        after, queued = page.last, queued + page.queued
    return Mailing(tenant_id, campaign_id, lane_id, queued)


def text_of(variables: dict[str, str]) -> str:
    """Variables as the JSON object text of the ledger."""
    return json.dumps(variables)


async def analyze(database: Postgres) -> None:
    """Fresh statistics after a great load, as autovacuum would make them."""
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await raw.execute("ANALYZE", timeout=None)
    finally:
        await raw.close()


async def pause(made: Runtime) -> None:
    """The kill switch of the whole installation."""
    async with made.db.uow(Role.ENGINE, NIL) as uow:
        await switches.pause(uow, BENCH, "installation", None, "benchmark")


async def resume(made: Runtime) -> None:
    """Let everything go."""
    async with made.db.uow(Role.ENGINE, NIL) as uow:
        await switches.resume(uow, BENCH, "installation", None, "benchmark")


async def drain(made: Runtime, database: Postgres, mailings: list[Mailing], *, bound_s: float = 600.0) -> float:
    """Resume and wait until every message of the mailings is recorded as sent; gives the seconds it took.

    Workers must be up and everything paused. Counted from the rollups, which are written with each outcome.
    """
    total = sum(mailing.count for mailing in mailings)
    lanes = [mailing.lane_id for mailing in mailings]
    watcher = await asyncpg.connect(database.superuser_url)
    try:
        await asyncio.sleep(1.0)  # the workers have seen that they are paused
        began_s = time.perf_counter()
        await resume(made)
        while True:
            asked_s = time.perf_counter()
            counts = await _states(watcher, lanes)
            if counts.get("sent", 0) >= total:
                break
            ended = sum(n for state, n in counts.items() if state not in {"accepted", "sent"})
            if ended or time.perf_counter() - began_s > bound_s:
                raise RuntimeError(f"not everything was sent: {counts} of {total}")
            # looking takes longer the more lanes there are: it must not cost what is measured
            await asyncio.sleep(max(0.1, 20 * (time.perf_counter() - asked_s)))
        return time.perf_counter() - began_s
    finally:
        await watcher.close()


async def _states(raw: asyncpg.Connection, lanes: list[int]) -> dict[str, int]:
    rows = await raw.fetch(
        "SELECT state, sum(n)::bigint AS n FROM (SELECT state, n FROM rollups WHERE lane_id = ANY($1) "
        "UNION ALL SELECT state, n FROM rollup_deltas WHERE lane_id = ANY($1)) t GROUP BY state",
        lanes,
    )
    return {row["state"]: row["n"] for row in rows}

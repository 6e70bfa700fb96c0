"""What `doctor` looks at, one function per subject; each gives findings, none raises for what it was asked to judge.

Owns the judgement (ok, warn, fail) and the remedy; changes nothing and sends nothing.
"""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from outrider.base.errors import Misconfigured, OutriderError
from outrider.base.settings import Settings
from outrider.data import revision
from outrider.data.db import Database, Role
from outrider.data.durability import refuse_unsafe
from outrider.data.names import NameSystem
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import examine
from outrider.domain.jobs import stats as job_stats
from outrider.domain.limits import maintenance, switches
from outrider.domain.messages import fills, workers
from outrider.domain.schedules import watch
from outrider.domain.senders import connections, dns_check, records, senders
from outrider.domain.senders.connections import ConnectionView, StageView, Vault
from outrider.domain.senders.dns_check import Check
from outrider.domain.tenants import tenants
from outrider.interfaces.cli import quotas

Verdict = Literal["ok", "warn", "fail"]
_PAGE: Final = 1000
_SOUND_EMAIL_PACKAGE: Final = (3, 11, 10)
_FEW_FILES: Final = 1024
_LITTLE_DISK_BYTES: Final = 1 << 30
_DRIFT_WARN_S, _DRIFT_FAIL_S = 2.0, 60.0
_SILENT_BEATS: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do; empty when it is ok, or when the detail says it."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def interpreter() -> Iterator[Finding]:
    """Python's version. Before 3.11.10 its email package lets a header be injected: ours does not use that part."""
    version = ".".join(map(str, sys.version_info[:3]))
    detail = version
    if sys.version_info[:3] < _SOUND_EMAIL_PACKAGE:
        detail += "; its email package lets a line feed add headers, which Outrider does not use for what it sends"
    yield Finding("python", "ok", detail)


def unusable(subject: str, error: OutriderError) -> Finding:
    """What could not be opened at all, with the way out apart from what is wrong."""
    if error.code == "no_database":
        remedy = "outrider up (embedded database), or set OUTRIDER_DATABASE_URL"
        return Finding(subject, "fail", "there is no database yet", remedy)
    return Finding(subject, "fail", error.message)


def machine(settings: Settings) -> Iterator[Finding]:
    """Open files, room on the disk of the data directory, and what the settings say about who can reach us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < _FEW_FILES
    yield Finding(
        "open files", "warn" if few else "ok", f"{soft} (at most {hard})", "raise `ulimit -n` to 4096" if few else ""
    )
    folder = next((each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists()), None)
    if folder is not None:
        free = shutil.disk_usage(folder).free
        little = free < _LITTLE_DISK_BYTES
        detail = f"{free // (1 << 20)} MiB free for {settings.data_dir}"
        yield Finding("disk", "warn" if little else "ok", detail, "free some room" if little else "")
    is_production = settings.environment == "production"
    if settings.public_host_is_local:
        yield Finding(
            "public url",
            "warn" if is_production else "ok",
            f"{settings.public_url} leads to this machine only: campaigns with such links do not launch",
            "set OUTRIDER_PUBLIC_URL to the address recipients can reach",
        )
    else:
        yield Finding("public url", "ok", settings.public_url)
    if settings.emergency_path.exists():
        yield Finding(
            "emergency stop",
            "warn",
            f"{settings.emergency_path} is there: workers of this machine send nothing",
            "outrider resume --emergency",
        )


async def reachable(url: str) -> Finding:
    """Sign in, and name the server."""
    began = datetime.now(UTC)
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return Finding("database", "fail", "it refuses the user or password", "correct OUTRIDER_DATABASE_URL")
    except asyncpg.InvalidCatalogNameError:
        return Finding("database", "fail", "there is no database of this name", "correct OUTRIDER_DATABASE_URL")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Finding("database", "fail", f"not reachable: {why}", "start it, or correct OUTRIDER_DATABASE_URL")
    try:
        version = connection.get_settings().server_version.split()[0]
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1000
        detail = f"PostgreSQL {version}, signed in after {took_ms:.0f} ms"
        is_old = connection.get_server_version().major * 10000 < revision.OLDEST_SERVER
        return Finding("database", "fail" if is_old else "ok", detail, "use PostgreSQL 16 to 18" if is_old else "")
    finally:
        await connection.close()


async def durable(url: str) -> Finding:
    """Whether what is committed stays committed."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await refuse_unsafe(connection)
    except Misconfigured as error:
        return Finding("durability", "fail", error.message, "set fsync, full_page_writes and synchronous_commit to on")
    finally:
        await connection.close()
    return Finding("durability", "ok", "fsync, full_page_writes and synchronous_commit are on")


async def schema(url: str) -> Finding:
    """Whether the migrations of this release are applied."""
    try:
        await revision.require_current(url)
    except Misconfigured as error:
        return Finding("schema", "fail", error.message, "outrider db migrate")
    return Finding("schema", "ok", f"at {(await revision.status(url)).current}, nothing pending")


async def clock(db: Database) -> Finding:
    """How far this machine's clock is from the database's, which alone decides when something is due."""
    async with db.uow(Role.ENGINE) as uow:
        before = datetime.now(UTC)
        theirs = await watch.clock(uow)
        after = datetime.now(UTC)
    drift_s = 0.0
    if not before <= theirs <= after:
        drift_s = ((before if theirs < before else after) - theirs).total_seconds()
    detail = f"{theirs:%Y-%m-%d %H:%M:%S} UTC; this machine is {drift_s:+.1f} s from the database, whose clock decides"
    if abs(drift_s) < _DRIFT_WARN_S:
        return Finding("clock", "ok", detail)
    verdict: Verdict = "fail" if abs(drift_s) >= _DRIFT_FAIL_S else "warn"
    return Finding("clock", verdict, detail, "run a time service (chrony, systemd-timesyncd) on both machines")


async def running(runtime: Runtime) -> AsyncIterator[Finding]:
    """Which processes live, and whether sending is stopped as a whole."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        seen = await workers.listed(uow.raw)
        paused = [each for each in await switches.listed(uow) if each.scope == "installation"]
        upkeep = await maintenance.read(uow)
        runners = [each for each in await job_stats.workers(uow) if each.is_alive]
        stranded = await job_stats.stranded(uow)
        fill = (await fills.installation(uow.raw)).fill
        full = list(quotas.alarms(fill, await fills.fullest(uow.raw)))
    bound_s = _SILENT_BEATS * runtime.settings.heartbeat_s
    here = [each for each in seen if each.process.role == "worker" and each.state != "stopped"]
    alive = [each for each in here if each.silent_s <= bound_s]
    if alive:
        yield Finding("workers", "ok", f"{len(alive)} running: " + ", ".join(_named(each) for each in alive))
    else:
        yield Finding("workers", "warn", "no worker is running: nothing is sent", "outrider up, or outrider worker")
    for each in here:
        if each.silent_s > bound_s:
            detail = f"{_named(each)} has been silent for {each.silent_s:.0f} s"
            yield Finding("workers", "warn", detail, "it died or hangs: its messages go back when their leases end")
    if runners:
        yield Finding(
            "schedulers",
            "ok",
            f"{len(runners)} running: " + ", ".join(f"{each.host} process {each.pid}" for each in runners),
        )
    else:
        detail = "no scheduler is running: jobs wait, schedules do not fire"
        yield Finding("schedulers", "warn", detail, "outrider up, or outrider scheduler")
    for waiting in stranded if runners else ():
        detail = f"{waiting.count} {waiting.type} job(s) wait in queue {waiting.queue}: {waiting.cause}"
        yield Finding("jobs", "warn", detail, "run a scheduler of the release that knows this type")
    if not full:
        yield Finding("queue", "ok", quotas.line(fill))
    for alarm in full:
        remedy = "outrider quota shows what fills it; see docs/how-to/queue-full.md"
        yield Finding("queue", "warn", alarm, remedy)
    for switch in paused:
        detail = f"sending is paused by {switch.actor}: {switch.reason}"
        yield Finding("kill switch", "warn", detail, "outrider resume installation")
    if upkeep.is_on:
        yield Finding("maintenance", "warn", f"on since {upkeep.since}: {upkeep.reason}", "outrider maintenance off")


async def connection_stages(runtime: Runtime) -> AsyncIterator[tuple[str, ConnectionView, list[StageView]]]:
    """Every connection of every tenant, tried stage by stage; sends nothing."""
    vault = Vault(runtime.providers, runtime.keyring, runtime.egress)
    async with runtime.db.uow(Role.ENGINE) as uow:
        everybody = await tenants.listed(uow, limit=_PAGE)
    for tenant in everybody:
        last: UUID | None = None
        while True:
            async with runtime.db.uow(Role.APP, tenant.id) as uow:
                page = await connections.listed(uow, vault, limit=_PAGE, after=last)
                accounts = [(view, await connections.opened(uow, vault, view.id)) for view in page]
            for view, account in accounts:
                yield tenant.name, view, await examine.examined(runtime, account, tenant.id, view.id)
            if len(page) < _PAGE:
                break
            last = page[-1].id


async def sender_domains(runtime: Runtime) -> AsyncIterator[Finding]:
    """The DNS of every sender in use; asks name servers, sends nothing."""
    names = NameSystem(runtime.settings.dns_servers)
    vault = Vault(runtime.providers, runtime.keyring, runtime.egress)
    async with runtime.db.uow(Role.ENGINE) as uow:
        everybody = await tenants.listed(uow, limit=_PAGE)
    for tenant in everybody:
        async with runtime.db.uow(Role.APP, tenant.id) as uow:
            page = [each for each in await senders.listed(uow, limit=_PAGE) if "@" in each.from_address]
            domains = [await records.domains_of(uow, vault, runtime.settings, each.id) for each in page]
        for each in domains:
            yield judged_domains(tenant.name, each.name, await dns_check.checked(each, names))


def judged_domains(tenant: str, sender: str, checks: list[Check]) -> Finding:
    """One sender's DNS as a finding. A domain that is not proven is a warning: messages leave, receivers decide."""
    subject = f"dns {tenant} / {sender}"
    bad = [each for each in checks if each.verdict != "ok"]
    if not bad:
        return Finding(subject, "ok", "DKIM, SPF, DMARC, bounces and links are as they should be")
    detail = "; ".join(f"{each.subject}: {each.detail}" for each in bad)
    return Finding(subject, "warn", detail, f"outrider sender dns {sender!r} shows what to set")


def judged(tenant: str, view: ConnectionView, stages: list[StageView]) -> Finding:
    """One connection's stages as a finding that names the first that failed."""
    subject = f"connection {tenant} / {view.name}"
    failed = next((stage for stage in stages if not stage.is_ok), None)
    if failed is None:
        return Finding(subject, "ok", "; ".join(f"{stage.name}: {stage.detail}" for stage in stages))
    remedy = f"correct it with `outrider connection update {view.name}`, or mend the server"
    return Finding(subject, "fail", f"stage {failed.name} fails: {failed.detail}", remedy)


def _named(seen: workers.Seen) -> str:
    return f"{seen.process.host} process {seen.process.pid}"

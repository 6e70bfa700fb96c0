"""Building what a process works with: settings, a running database of the right schema, the key, the plugins.

Owns the order of these steps and their refusals; every process, long or short, goes through them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from outrider import plugins
from outrider.app.key import recorded_key
from outrider.base import settings as settings_file
from outrider.base.errors import Misconfigured
from outrider.base.registry import discover
from outrider.base.settings import Settings
from outrider.base.signing import LinkSigner
from outrider.contracts.provider import outdated
from outrider.data import embedded_postgres, revision
from outrider.data.db import Database, Role
from outrider.data.durability import refuse_unsafe
from outrider.data.egress import Egress
from outrider.data.render_pool import RenderPool
from outrider.data.runtime import Runtime
from outrider.domain.messages import feed
from outrider.engine.jobs.port import JobPort

_CLI_POOL_SIZE: Final = 2
_SCHEMES: Final = ("postgresql", "postgres")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return settings_file.load()


@asynccontextmanager
async def address() -> AsyncIterator[str]:
    """The URL of a running database: the one of the settings, else the embedded one, started when nobody runs it.

    Raises:  Misconfigured when there is none yet; what starting the embedded server raises.
    """
    found = settings()
    if found.database_url is not None:
        yield checked_url(found.database_url)
        return
    folder = found.data_dir / "postgresql"
    if embedded_postgres.status(folder).state == "absent":
        raise Misconfigured(
            "no_database",
            f"there is no database yet: start with `outrider up` (embedded, in {found.data_dir}) or set "
            "OUTRIDER_DATABASE_URL",
        )
    async with embedded() as server:
        yield server.url


@asynccontextmanager
async def embedded() -> AsyncIterator[embedded_postgres.Server]:
    """Hold the embedded server of the data directory: made, started or attached to.

    Whoever started it stops it again, unless others hold it; one that was found running is left running.
    """
    found = settings()
    server = await asyncio.to_thread(
        embedded_postgres.ensure, found.data_dir / "postgresql", bin_dir=found.postgres_bin
    )
    try:
        yield server
    finally:
        await asyncio.to_thread(server.release, keep=not server.is_owner)


def checked_url(url: SecretStr) -> str:
    """A database URL that can be parsed; the error never shows it, because it holds a password."""
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in _SCHEMES and bool(parts.path.strip("/") or parts.query) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise Misconfigured(
            "database_url",
            "is malformed; it must be postgresql://user:password@host/name",
            field="OUTRIDER_DATABASE_URL",
        )
    return text


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """A small pool for one command, on a database of this release's schema."""
    async with address() as url:
        await revision.require_current(url)
        async with _pool(url, "cli", _CLI_POOL_SIZE) as db:
            yield db


@asynccontextmanager
async def runtime(role: str, *, pool_size: int | None = None, is_warm: bool = True) -> AsyncIterator[Runtime]:
    """Everything a process works with; closed in reverse at the end.

    Takes:   role     `api`, `worker`, `cli` …; names the database connections
             is_warm  start a renderer at once; commands, and the API when a template is saved, start one when needed
    Raises:  Misconfigured for schema, durability, key, plugins or rights; Unavailable when the database is away.
    """
    found = settings()
    async with address() as url:
        await revision.require_current(url)
        async with _pool(url, role, pool_size or found.db_pool_size) as db:
            keyring = await recorded_key(db, found)
            await feed.settle_clock(db)
            gates = discover(f"{plugins.__name__}.gates", "GATE").values()
            renderer = RenderPool(found.render_children)
            try:
                if is_warm:
                    await renderer.start()
                yield Runtime(
                    settings=found,
                    database_url=url,
                    db=db,
                    keyring=keyring,
                    unsubscribe_links=LinkSigner(keyring.derive("unsubscribe")),
                    egress=Egress(found.egress_networks),
                    renderer=renderer,
                    channels=discover(f"{plugins.__name__}.channels", "CHANNEL"),
                    providers=discover(f"{plugins.__name__}.providers", "PROVIDER", outdated),
                    gates=tuple(sorted(gates, key=lambda gate: (gate.order, gate.key))),
                    jobs=JobPort(discover(f"{plugins.__name__}.jobs", "JOB")),
                )
            finally:
                await renderer.close()


def cli_runtime() -> AbstractAsyncContextManager[Runtime]:
    """The runtime of one command."""
    return runtime("cli", pool_size=_CLI_POOL_SIZE, is_warm=False)


@asynccontextmanager
async def _pool(url: str, role: str, size: int) -> AsyncIterator[Database]:
    """A pool that was tried: the login may take our roles, and what is committed stays committed."""
    found = settings()
    db = Database(
        url,
        pool_size=size,
        wait_s=found.db_pool_wait_s,
        statement_timeout_s=found.statement_timeout_s,
        name=f"outrider {role}",
    )
    try:
        with revision.rights_are_named():
            for each in (Role.APP, Role.ENGINE):
                async with db.uow(each) as uow:
                    await refuse_unsafe(uow.raw)
        yield db
    finally:
        await db.close()

"""Run everything on this machine: database, migrations, API and workers as one supervised family of processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Final

import structlog
from cyclopts import App, Parameter
from sqlalchemy import exists, select

from outrider.app import wiring
from outrider.app.family import Child, Family
from outrider.app.key import recorded_key
from outrider.app.signals import ready, stopping
from outrider.base.errors import OutriderError, Refused
from outrider.base.settings import Settings
from outrider.data import embedded_postgres, log, migrate, revision, secret_file
from outrider.data.db import Database, Role
from outrider.domain.tenants.tables import User
from outrider.interfaces.cli import exits, output
from outrider.interfaces.cli.options import between, whole_number

APP = App(name="up")

_HEALTH_POLL_S: Final = 2.0
_log = structlog.get_logger(__name__)


@APP.default
def up(
    *,
    workers: Annotated[int, Parameter(converter=whole_number, validator=between(1, 64), n_tokens=1)] = 1,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run everything until told to stop; SIGTERM or Ctrl-C stops all of it in order.

    Parameters
    ----------
    workers
        How many worker processes.
    lifeline
        Also stop when stdin ends; used by programs that start this one.
    """
    settings = wiring.settings()
    log.configure(settings, "up")
    secret_file.make_private_folder(settings.data_dir)
    with _only_one(settings):
        return asyncio.run(_live(settings, workers, lifeline=lifeline))


async def _live(settings: Settings, workers: int, *, lifeline: bool) -> int:
    # a stop may take as long as the workers' grace, the API's and the database's together
    with stopping(3 * settings.grace_s + 120, lifeline=lifeline) as stop:
        async with _database(settings) as (url, server):
            applied = await migrate.upgrade(_direct(settings, url))
            is_new = await _prepare(settings, url)
            family = Family()
            try:
                await _start(family, settings, workers, stop.event)
                if not stop.event.is_set():
                    _tell(settings, family, url_is_ours=server is not None, applied=applied, is_new=is_new)
                    ready(family.children[0].where)
                    await _watch(family, server, stop.event)
            finally:
                await family.stop()
        family.refuse_failed()
    return exits.OK


async def _start(family: Family, settings: Settings, workers: int, stop: asyncio.Event) -> None:
    """Start the API, then the workers; a wish to stop meanwhile is heard."""

    def child(name: str, role: str) -> Child:
        return Child(name, [role, "--lifeline"], settings.grace_s, dict(os.environ))

    async def start() -> None:
        await family.add(child("api", "api"))
        await family.add(*(child(f"worker {number}", "worker") for number in range(1, workers + 1)))

    starting = asyncio.create_task(start())
    stopped = asyncio.create_task(stop.wait())
    either: set[asyncio.Future[Any]] = {starting, stopped}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if starting.done():
        starting.result()
        return
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def _watch(family: Family, server: embedded_postgres.Server | None, stop: asyncio.Event) -> None:
    """Stay until told to stop or until a child refuses for good; start the embedded server again when it has died."""
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not family.failed.done():
            either: set[asyncio.Future[Any]] = {stopped, family.failed}
            await asyncio.wait(either, timeout=_HEALTH_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if server is not None and not stop.is_set() and not _lives(server.pid):
                await _revive(server)
    finally:
        stopped.cancel()


async def _revive(server: embedded_postgres.Server) -> None:
    """Start the embedded server again; what does not work now is tried again at the next look."""
    _log.error("database_died", pid=server.pid)
    try:
        held = await asyncio.to_thread(
            embedded_postgres.ensure, server.data_dir, bin_dir=wiring.settings().postgres_bin
        )
        server.pid = held.pid
        await asyncio.to_thread(held.release, keep=True)
    except OutriderError as error:
        _log.error("database_not_restarted", code=error.code, reason=error.message)
    else:
        _log.info("database_restarted", pid=server.pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[tuple[str, embedded_postgres.Server | None]]:
    """A running database: the given one, or the embedded one held by this process."""
    if settings.database_url is not None:
        yield wiring.checked_url(settings.database_url), None
        return
    async with wiring.embedded() as server:
        try:
            yield server.url, server
        finally:
            await asyncio.to_thread(server.release)  # also when it was found running: `up` ends what is here


def _direct(settings: Settings, url: str) -> str:
    return wiring.checked_url(settings.direct_database_url) if settings.direct_database_url else url


async def _prepare(settings: Settings, url: str) -> bool:
    """Make or check the key. Gives whether nobody can sign in yet."""
    db = Database(url, pool_size=2, name="outrider up")
    try:
        with revision.rights_are_named():
            await recorded_key(db, settings, may_create=True)
            async with db.uow(Role.ENGINE) as uow:
                return not await uow.session.scalar(select(exists().select_from(User)))
    finally:
        await db.close()


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock of this data directory.

    Raises:  Refused(already_running) when another `outrider up` holds it.
    """
    path = settings.data_dir / "up.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode("ascii", "replace").strip()
            raise Refused(
                "already_running",
                f"`outrider up` already runs here (process {owner or 'unknown'}, data in {settings.data_dir})",
                status=409,
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _tell(settings: Settings, family: Family, *, url_is_ours: bool, applied: list[str], is_new: bool) -> None:
    """Say on stderr where everything is."""
    api, *workers = family.children
    where = f"embedded, {settings.data_dir / 'postgresql'}" if url_is_ours else "OUTRIDER_DATABASE_URL"
    lines = {
        "start page": f"{api.where}/",
        "api": f"{api.where}/api/v1  ({api.where}/openapi.json describes it)",
        **{worker.name: worker.where for worker in workers},
        "database": where + (f"; migrated now: {', '.join(applied)}" if applied else ""),
        "secret key": "OUTRIDER_SECRET_KEY" if settings.secret_key else str(settings.key_path),
    }
    output.say(f"outrider is up (process {os.getpid()}); stop it with Ctrl-C or SIGTERM")
    output.say(output.facts(lines))
    if is_new:
        outrider = "outrider" if sys.argv[0].endswith("outrider") else "python -m outrider"
        output.say(
            "nobody can sign in yet; in another terminal, make the first person and the first key with\n"
            f"  {outrider} user create you@example.com --role owner --installation-admin\n"
            f"  {outrider} key create first --role admin"
        )

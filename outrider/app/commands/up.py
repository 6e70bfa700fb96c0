"""Run everything on this machine: database, migrations, API and workers as one supervised family of processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
from cyclopts import App, Parameter

from outrider.app import orphans
from outrider.app.family import Child, Family
from outrider.app.nursery import Nursery, lives
from outrider.app.set_up import Done, Known, SetUp
from outrider.app.signals import ready, stopping
from outrider.base.errors import OutriderError, Refused
from outrider.data import embedded_postgres, log
from outrider.interfaces.cli import exits, output
from outrider.interfaces.cli.options import between, whole_number

APP = App(name="up", help_epilogue="Example: `outrider up --workers 2`")

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
    set_up = SetUp()
    try:
        known = set_up.known()
        if isinstance(known, int):
            return known
        with closing(Nursery()) as nursery, _only_one(Path(known.data_dir)):  # while the child sets up
            log.configure(known, "up")  # begins a thread: what is forked comes before
            return asyncio.run(_live(known, set_up, nursery, workers, lifeline=lifeline))
    finally:
        set_up.close()


async def _live(known: Known, set_up: SetUp, nursery: Nursery, workers: int, *, lifeline: bool) -> int:
    # a stop may take as long as the workers' grace, the API's and the database's together
    with stopping(3 * known.grace_s + 120, lifeline=lifeline) as stop:
        async with _database(known) as server:
            done = await asyncio.to_thread(set_up.done, server.url if server else None)
            if isinstance(done, int):
                return done
            family = Family()
            with orphans.adopted():  # not the database, which may outlive this
                try:
                    await _start(family, known, nursery, workers, stop.event)
                    if not stop.event.is_set():
                        _tell(known, family, done)
                        ready(family.children[0].where)
                        await _watch(known, family, nursery, server, stop.event)
                finally:
                    await family.stop()
        family.refuse_failed()
    return exits.OK


async def _start(family: Family, known: Known, nursery: Nursery, workers: int, stop: asyncio.Event) -> None:
    """Start the API, then the workers and the scheduler; a wish to stop meanwhile is heard."""

    def child(name: str, role: str) -> Child:
        return Child(name, role, known.grace_s, nursery)

    async def start() -> None:
        await family.add(child("api", "api"))
        await family.add(
            *(child(f"worker {number}", "worker") for number in range(1, workers + 1)),
            child("scheduler", "scheduler"),
            *([child("submission", "submission")] if known.takes_submissions else []),
            *([child("returns", "returns")] if known.takes_returns else []),
        )

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


async def _watch(
    known: Known, family: Family, nursery: Nursery, server: embedded_postgres.Server | None, stop: asyncio.Event
) -> None:
    """Stay until told to stop or until a child refuses for good; start the embedded server again when it has died."""
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not family.failed.done():
            if family.is_ready:
                nursery.rest()
            either: set[asyncio.Future[Any]] = {stopped, family.failed}
            await asyncio.wait(either, timeout=_HEALTH_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            nursery.bury()
            if server is not None and not stop.is_set() and not lives(server.pid):
                with orphans.adopted(wish=False):
                    await _revive(known, server)
    finally:
        stopped.cancel()


async def _revive(known: Known, server: embedded_postgres.Server) -> None:
    """Start the embedded server again; what does not work now is tried again at the next look."""
    _log.error("database_died", pid=server.pid)
    try:
        held = await asyncio.to_thread(embedded_postgres.ensure, server.data_dir, bin_dir=_bin_dir(known))
        server.pid = held.pid
        await asyncio.to_thread(held.release, keep=True)
    except OutriderError as error:
        _log.error("database_not_restarted", code=error.code, reason=error.message)
    else:
        _log.info("database_restarted", pid=server.pid)


@asynccontextmanager
async def _database(known: Known) -> AsyncIterator[embedded_postgres.Server | None]:
    """The embedded database, running and held by this process; None when another is given."""
    if not known.is_embedded:
        yield None
        return
    folder = Path(known.data_dir) / "postgresql"
    server = await asyncio.to_thread(embedded_postgres.ensure, folder, bin_dir=_bin_dir(known))
    try:
        yield server
    finally:
        await asyncio.to_thread(server.release)  # also when it was found running: `up` ends what is here


def _bin_dir(known: Known) -> Path | None:
    return Path(known.postgres_bin) if known.postgres_bin else None


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock of this data directory.

    Raises:  Refused(already_running) when another `outrider up` holds it.
    """
    path = data_dir / "up.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode("ascii", "replace").strip()
            raise Refused(
                "already_running",
                f"`outrider up` already runs here (process {owner or 'unknown'}, data in {data_dir})",
                status=409,
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _tell(known: Known, family: Family, done: Done) -> None:
    """Say on stderr where everything is."""
    api, *workers = family.children
    where = f"embedded, {known.data_dir}/postgresql" if known.is_embedded else "OUTRIDER_DATABASE_URL"
    lines = {
        "start page": f"{api.where}/",
        "api": f"{api.where}/api/v1  ({api.where}/openapi.json describes it)",
        **{worker.name: worker.where for worker in workers},
        "database": where + (f"; migrated now: {', '.join(done.applied)}" if done.applied else ""),
        "secret key": known.key_source,
    }
    output.say(f"outrider is up (process {os.getpid()}); stop it with Ctrl-C or SIGTERM")
    output.say(output.facts(lines))
    if done.is_new:
        outrider = "outrider" if sys.argv[0].endswith("outrider") else "python -m outrider"
        output.say(
            "nobody can sign in yet; in another terminal, make the first person and the first key with\n"
            f"  {outrider} user create you@example.com --role owner --installation-admin\n"
            f"  {outrider} key create first --role admin"
        )

"""The database: bring it to this release's schema, look where it stands, start and stop the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data import embedded_postgres, migrate, revision
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, facts
from outrider.interfaces.cli.progress import progress

APP = App(name="db")


@APP.command(name="migrate")
async def migrate_(
    *,
    to: str = "head",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    options: Json = JSON,
) -> Answer:
    """Apply what is pending: one runner at a time, safe under traffic, safe to repeat after any crash.

    Example: `outrider db migrate`

    Parameters
    ----------
    to
        The revision to stop at.
    dry_run
        Only say what would be applied.
    """
    del options
    async with _direct() as url:
        before = await revision.status(url)
        if dry_run:
            pending = list(before.pending)
            return Answer(
                {"applied": [], "pending": pending}, f"dry run: would apply {', '.join(pending) or 'nothing'}"
            )
        applied = await _applied(url, to, len(before.pending))
        now = await revision.status(url)
    done = f"applied {', '.join(applied)}" if applied else "nothing to apply"
    return Answer({"applied": applied, "current": now.current}, f"{done}; the database is at {now.current}")


@APP.command
async def status(*, options: Json = JSON) -> Answer:
    """Compare the database with this release; changes nothing.

    Example: `outrider db status`
    """
    del options
    async with _direct() as url:
        found = await revision.status(url)
    data = msgspec.to_builtins(found)
    shown = {**data, "pending": ", ".join(found.pending) or "none"}
    return Answer(data, facts(shown))


@APP.command
async def generate(message: str, *, options: Json = JSON) -> Answer:
    """Write a new migration from the difference between the declared tables and a database at head.

    Example: `outrider db generate "add a column"`
    """
    del options
    if not message.strip() or len(message) > 100:  # noqa: PLR2004 - it becomes a file name
        raise Refused("invalid_message", "must say in 1 to 100 characters what the migration does", field="message")
    async with _direct() as url:
        path = await migrate.generate(url, message)
    return Answer({"path": str(path)}, f"wrote {path}; read it, complete it, then `outrider db migrate`")


@APP.command
async def start(*, options: Json = JSON) -> Answer:
    """Start the embedded database and leave it running until `outrider db stop`.

    Example: `outrider db start`
    """
    del options
    settings = doors().settings()
    if settings.database_url is not None:
        raise Refused("not_embedded", "OUTRIDER_DATABASE_URL is set: that server is yours to start")
    server = await asyncio.to_thread(
        embedded_postgres.ensure, settings.data_dir / "postgresql", bin_dir=settings.postgres_bin
    )
    await asyncio.to_thread(server.release, keep=True)
    data = {"pid": server.pid, "version": server.version, "socket_dir": str(server.socket_dir)}
    return Answer(data, f"PostgreSQL {server.version} runs (process {server.pid}, sockets in {server.socket_dir})")


@APP.command
async def stop(*, options: Json = JSON) -> Answer:
    """Stop the embedded database, whoever uses it.

    Example: `outrider db stop`
    """
    del options
    folder = doors().settings().data_dir / "postgresql"
    was_running = await asyncio.to_thread(embedded_postgres.stop, folder)
    return Answer({"stopped": was_running}, "stopped" if was_running else "it was not running")


async def _applied(url: str, to: str, pending_count: int) -> list[str]:
    """Apply what is pending, with a bar for who waits."""
    done: list[str] = []
    with progress("migrating", pending_count) as advance:

        def told(revision: str) -> None:
            done.append(revision)
            advance(len(done))

        return await migrate.upgrade(url, to=to, told=told)


@asynccontextmanager
async def _direct() -> AsyncIterator[str]:
    """The database's URL without a pooler in between."""
    direct = doors().settings().direct_database_url
    async with doors().address() as url:
        yield direct.get_secret_value() if direct else url

"""Which schema a database has and which one this release works on: a plain look, changes nothing.

Owns the comparison of what the database says with the files of `migrations/versions`. Every process asks this at its
start; what migrates, and brings Alembic with it, is `migrate.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy import column, exc, func, select, table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from outrider.base.errors import Misconfigured
from outrider.data.db import Role
from outrider.data.faults import database_faults

FOLDER = Path(__file__).parents[1] / "migrations"
"""Where Alembic finds its environment and, below `versions`, one file per revision, named `<revision>_<words>.py`."""
OLDEST_SERVER = 160000
LOCK_TIMEOUT_MS = 1500
"""Everybody else queues behind a waiting DDL lock: this plus the statement stays below 2 s [F47]. Half a second above
PostgreSQL's preset `deadlock_timeout`, after which it ends an autovacuum that is in the way, and never before."""
_NO_PRIVILEGE = "42501"
_VERSIONS = table("alembic_version", column("version_num"))


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where a database stands: its revision, ours, and what lies between.

    `is_newer`: the database was migrated by a later release, which this one does not know.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]
    is_newer: bool


def known() -> list[str]:
    """The revisions of this release, oldest first: they follow one another in the order of their names."""
    return sorted(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*_*.py"))


async def status(url: str) -> MigrationStatus:
    """Compare the revision of a database with this release's; changes nothing.

    Raises:  Unavailable, Misconfigured as for any connection.
    """
    with database_faults(), rights_are_named():
        async with connected(login_engine(url)) as connection:
            try:
                return await read(connection)
            except exc.DBAPIError as error:
                if sqlstate(error) != _NO_PRIVILEGE:
                    raise
                # a login that does not migrate asks as the role it works as
                await connection.rollback()
                await connection.scalar(select(func.set_config("role", Role.APP.value, False)))  # noqa: FBT003 - SQL's
                return await read(connection)


async def require_current(url: str) -> None:
    """Refuse to work on another schema than this release's.

    Raises:  Misconfigured(schema_too_old) with what to run, or Misconfigured(schema_newer).
    """
    found = await status(url)
    refuse_newer(found)
    if found.pending:
        raise Misconfigured(
            "schema_too_old",
            f"schema too old: {len(found.pending)} migration(s) pending (database at {found.current or 'none'}, "
            f"this release needs {found.head}); run `outrider db migrate`",
        )


async def read(connection: AsyncConnection) -> MigrationStatus:
    """The same on a connection that is open already."""
    is_there = await connection.scalar(select(func.to_regclass(_VERSIONS.name))) is not None
    current: str | None = await connection.scalar(select(_VERSIONS.c.version_num)) if is_there else None
    await connection.rollback()
    revisions = known()
    if current is not None and current not in revisions:
        return MigrationStatus(current, revisions[-1], (), is_newer=True)
    done = revisions.index(current) + 1 if current else 0
    return MigrationStatus(current, revisions[-1], tuple(revisions[done:]), is_newer=False)


def refuse_newer(found: MigrationStatus) -> None:
    """Refuse a database that a newer release has migrated.

    Raises:  Misconfigured(schema_newer).
    """
    if found.is_newer:
        raise Misconfigured(
            "schema_newer",
            f"the database has schema {found.current}, made by a newer release; this one knows up to {found.head}: "
            "use that release, or restore the backup made before its migration",
        )


@contextmanager
def rights_are_named() -> Iterator[None]:
    """Turn a refused statement into the operator's error; the server's own words name the right."""
    try:
        yield
    except exc.DBAPIError as error:
        cause = getattr(error.orig, "__cause__", None)
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            raise Misconfigured("database_rights", f"the database user lacks a right: {cause}") from error
        raise


def sqlstate(error: exc.DBAPIError) -> str | None:
    """The server's code of what went wrong, when it was the server that said so."""
    return getattr(error.orig, "sqlstate", None)


def login_engine(url: str) -> AsyncEngine:
    """One connection at a time as the login role itself."""
    settings = {"application_name": "outrider migrate", "timezone": "UTC", "lock_timeout": f"{LOCK_TIMEOUT_MS}ms"}

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, server_settings=settings, timeout=10)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection; with its end the engine ends too."""
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()

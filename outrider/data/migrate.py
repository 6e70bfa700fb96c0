"""Bringing a database to the schema of this release: upgrade, status and generation of migrations by Alembic.

Owns how migrations run: one runner at a time, each migration in a transaction of its own, short waits for locks,
repeated with jitter, nothing left behind by a kill. Never says what a schema looks like: that is in `migrations/`.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, event, exc, func, select, table
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from outrider.base import failpoint
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.data.db import Role, database_faults
from outrider.data.durability import refuse_unsafe

OLDEST_SERVER = 160000
LOCATION = "outrider:migrations"
_LOCK_TIMEOUT = "1s"  # everybody else queues behind a waiting DDL lock: this plus the statement stays below 2 s [F47]
ADVISORY_KEY = 0x4F55_5452_4944_4552
"""The session lock of whoever migrates: "OUTRIDER"."""
_NO_PRIVILEGE = "42501"
_RETRIED = {"55P03", "40P01", "40001", "XX000"}
"""Lock not available, deadlock, serialization; XX000 is "tuple concurrently updated" of two databases' role grants."""

_alembic = threading.Lock()
"""Alembic's `op` and `context` are globals of the process: one upgrade at a time within it."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where a database stands: its revision, ours, and what lies between.

    `is_newer`: the database was migrated by a later release, which this one does not know.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]
    is_newer: bool


async def upgrade(url: str, *, to: str = "head", wait_s: float = 300.0, patience_s: float = 60.0) -> list[str]:
    """Apply what is pending, safely under traffic and beside other runners.

    Takes:   url         of a login role that may create roles and owns the database; no pooler in between
             wait_s      how long another runner is waited for
             patience_s  how long one that holds a needed lock is waited for, in tries of 1 s with pauses
    Gives:   the revisions applied now, oldest first; empty when the database was up to date.
    Raises:  Misconfigured naming the right that lacks, an old server, a newer schema, or a server that may forget what
             it has committed; Unavailable when others hold locks or the database is away: whole migrations are done or
             not done, repeating is safe.
    Source:  faults.md F47, F48
    """
    applied: list[str] = []
    with database_faults():
        async with _one_at_a_time(), _connection(url) as connection, _advisory_lock(connection, wait_s):
            status_now = await connection.run_sync(_status)
            _refuse_newer(status_now)
            await _refuse_unfit(connection, is_new=status_now.current is None)
            await _apply(connection, to, applied, patience_s)
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await refuse_unsafe(raw)
    return applied


async def status(url: str) -> MigrationStatus:
    """Compare the revision of a database with this release's; changes nothing.

    Raises:  Unavailable, Misconfigured as for any connection.
    """
    with database_faults(), _rights_are_named():
        async with _connection(url) as connection:
            try:
                return await connection.run_sync(_status)
            except exc.DBAPIError as error:
                if _sqlstate(error) != _NO_PRIVILEGE:
                    raise
                # a login that does not migrate asks as the role it works as
                await connection.rollback()
                await connection.scalar(select(func.set_config("role", Role.APP.value, False)))  # noqa: FBT003 - SQL's
                return await connection.run_sync(_status)


async def require_current(url: str) -> None:
    """Refuse to work on another schema than this release's.

    Raises:  Misconfigured(schema_too_old) with what to run, or Misconfigured(schema_newer).
    """
    found = await status(url)
    _refuse_newer(found)
    if found.pending:
        raise Misconfigured(
            "schema_too_old",
            f"schema too old: {len(found.pending)} migration(s) pending (database at {found.current or 'none'}, "
            f"this release needs {found.head}); run `outrider db migrate`",
        )


async def generate(url: str, message: str) -> Path:
    """Write a new migration from the difference between the declared tables and a database at head [S1-23].

    Gives:   the file; to be read and completed by a person (data-plane tables are not compared).
    Raises:  Misconfigured when the database is not at head; Refused when nothing differs.
    """
    await require_current(url)
    with database_faults():
        async with _one_at_a_time(), _connection(url) as connection:
            return await connection.run_sync(_generate, message)


async def _apply(connection: AsyncConnection, to: str, applied: list[str], patience_s: float) -> None:
    """Run what is pending; a migration that did not get its locks in time is rolled back and tried again."""
    deadline = asyncio.get_running_loop().time() + patience_s
    attempt = 0
    while True:
        attempt += 1
        try:
            with _rights_are_named():
                await connection.run_sync(_upgrade, to, applied)
        except exc.DBAPIError as error:
            await connection.rollback()
            if _sqlstate(error) not in _RETRIED:
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    "migration_blocked",
                    "tables are locked by long transactions; nothing is half-done, run `outrider db migrate` again",
                ) from error
            await asyncio.sleep(random.uniform(0.1, min(2.0, 0.2 * attempt)))  # noqa: S311 - spreads load
        else:
            return


def _config(connection: Connection | None = None, **attributes: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", LOCATION)
    config.attributes.update(attributes, connection=connection)
    return config


def _upgrade(connection: Connection, to: str, applied: list[str]) -> None:
    def note(*, step: Any, **_more: Any) -> None:
        if step.up_revision_id not in applied:
            applied.append(step.up_revision_id)

    command.upgrade(_config(connection, on_version_apply=note), to)


def _generate(connection: Connection, message: str) -> Path:
    def drop_empty(_context: Any, _revision: Any, directives: list[Any]) -> None:
        if directives[0].upgrade_ops.is_empty():
            directives.clear()

    config = _config(connection, compare=True)
    latest = ScriptDirectory.from_config(config).get_current_head() or "0000"
    made: Any = command.revision(
        config,
        message,
        autogenerate=True,
        rev_id=f"{int(latest) + 1:04d}",
        process_revision_directives=drop_empty,
    )
    if not made:
        raise Refused("nothing_to_migrate", "the declared tables equal the database: there is nothing to generate")
    return Path(made.path)


def _status(connection: Connection) -> MigrationStatus:
    scripts = ScriptDirectory.from_config(_config())
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    known = [script.revision for script in reversed(list(scripts.walk_revisions()))]
    head = known[-1]
    if current is not None and current not in known:
        return MigrationStatus(current, head, (), is_newer=True)
    done = known.index(current) + 1 if current else 0
    return MigrationStatus(current, head, tuple(known[done:]), is_newer=False)


def _refuse_newer(found: MigrationStatus) -> None:
    if found.is_newer:
        raise Misconfigured(
            "schema_newer",
            f"the database has schema {found.current}, made by a newer release; this one knows up to {found.head}: "
            "use that release, or restore the backup made before its migration",
        )


async def _refuse_unfit(connection: AsyncConnection, *, is_new: bool) -> None:
    """Say before the first statement which right or version lacks, independent of the server's language."""
    version = int(str(await connection.scalar(select(func.current_setting("server_version_num")))))
    if version < OLDEST_SERVER:
        raise Misconfigured("database_version", f"PostgreSQL {version // 10000} is too old; 16 or later is needed")
    user = str(await connection.scalar(select(func.current_user())))
    if is_new:
        lacking = await _lacking(connection, user)
        if lacking:
            raise Misconfigured("database_rights", f"the database user {user!r} lacks a right: {lacking}")
    await connection.rollback()


async def _lacking(connection: AsyncConnection, user: str) -> str | None:
    """The first right that making the schema needs and the user has not."""
    roles = table("pg_roles", column("rolname"), column("rolcreaterole"), column("rolsuper"))
    found = {row.rolname: row for row in await connection.execute(select(roles))}
    me = found[user]
    if me.rolsuper:
        return None
    if not all(role in found for role in Role) and not me.rolcreaterole:
        return f"CREATEROLE; as a superuser run: ALTER ROLE {user} CREATEROLE"
    for role in Role:
        may = (func.pg_has_role(user, role.value, right) for right in ("SET", "MEMBER WITH ADMIN OPTION"))
        if role in found and not any([await connection.scalar(select(each)) for each in may]):
            return f"membership of {role}; as a superuser run: GRANT {role} TO {user} WITH INHERIT FALSE, SET TRUE"
    grantable = func.has_schema_privilege(user, "public", "CREATE WITH GRANT OPTION")
    if not await connection.scalar(select(grantable)):
        return f"to own the database; as a superuser run: ALTER DATABASE … OWNER TO {user}"
    return None


@contextmanager
def _rights_are_named() -> Iterator[None]:
    """Turn a refused statement into the operator's error; the server's own words name the right."""
    try:
        yield
    except exc.DBAPIError as error:
        cause = getattr(error.orig, "__cause__", None)
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            raise Misconfigured("database_rights", f"the database user lacks a right: {cause}") from error
        raise


def _sqlstate(error: exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


@asynccontextmanager
async def _one_at_a_time() -> AsyncIterator[None]:
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - loops of several threads share it, no Event does
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        _alembic.release()


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[AsyncConnection]:
    """One connection as the login role itself, closed at the end."""
    settings = {"application_name": "outrider migrate", "timezone": "UTC", "lock_timeout": _LOCK_TIMEOUT}

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, server_settings=settings, timeout=10)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    if failpoint.ARMED:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: failpoint.hit("migrate.statement"))
        event.listen(engine.sync_engine, "commit", lambda *_: failpoint.hit("migrate.commit"))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def _advisory_lock(connection: AsyncConnection, wait_s: float) -> AsyncIterator[None]:
    """Hold the runner's lock for the session; it ends with the connection, so a killed runner blocks nobody.

    Polled, because a waiting `pg_advisory_lock` would hold a snapshot, which another runner's CREATE INDEX
    CONCURRENTLY would wait for.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while not await connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_KEY))):
        await connection.rollback()
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable("migration_running", "another `outrider db migrate` is running; try again when it ended")
        await asyncio.sleep(random.uniform(0.05, 0.3))  # noqa: S311 - spreads load
    await connection.rollback()
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            await connection.rollback()
            await connection.scalar(select(func.pg_advisory_unlock(ADVISORY_KEY)))
            await connection.rollback()

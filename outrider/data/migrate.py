"""Bringing a database to the schema of this release: upgrade and generation of migrations by Alembic.

Owns how migrations run: one runner at a time, each migration in a transaction of its own, short waits for locks,
repeated with jitter, nothing left behind by a kill. Never says what a schema looks like: that is in `migrations/`; only
where a database stands is asked in `revision.py`, so that processes do without Alembic.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, event, exc, func, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from outrider.base import failpoint
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.data import revision
from outrider.data.db import Role
from outrider.data.durability import refuse_unsafe
from outrider.data.faults import database_faults

ADVISORY_KEY = 0x4F55_5452_4944_4552
"""The session lock of whoever migrates: "OUTRIDER"."""
_RETRIED = {"55P03", "40P01", "40001", "XX000"}
"""Lock not available, deadlock, serialization; XX000 is "tuple concurrently updated" of two databases' role grants."""

_alembic = threading.Lock()
"""Alembic's `op` and `context` are globals of the process: one upgrade at a time within it."""


Told = Callable[[str], None]
"""Called with each revision when it is applied."""


async def upgrade(
    url: str, *, to: str = "head", wait_s: float = 300.0, patience_s: float = 60.0, told: Told | None = None
) -> list[str]:
    """Apply what is pending, safely under traffic and beside other runners.

    Takes:   url         of a login role that may create roles and owns the database; no pooler in between
             wait_s      how long another runner is waited for
             patience_s  how long one that holds a needed lock is waited for, in tries of 1.5 s with pauses
             told        is called with each revision as it is applied
    Gives:   the revisions applied now, oldest first; empty when the database was up to date.
    Raises:  Misconfigured naming the right that lacks, an old server, a newer schema, or a server that may forget what
             it has committed; Unavailable when others hold locks or the database is away: whole migrations are done or
             not done, repeating is safe.
    Source:  faults.md F47, F48
    """
    applied: list[str] = []
    with database_faults():
        async with _one_at_a_time(), _connection(url) as connection, _advisory_lock(connection, wait_s):
            status_now = await revision.read(connection)
            revision.refuse_newer(status_now)
            await _refuse_unfit(connection, is_new=status_now.current is None)
            await _apply(connection, to, _Applied(applied, told), patience_s)
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await refuse_unsafe(raw)
    return applied


async def generate(url: str, message: str) -> Path:
    """Write a new migration from the difference between the declared tables and a database at head [S1-23].

    Gives:   the file; to be read and completed by a person (data-plane tables are not compared).
    Raises:  Misconfigured when the database is not at head; Refused when nothing differs.
    """
    await revision.require_current(url)
    with database_faults():
        async with _one_at_a_time(), _connection(url) as connection:
            return await connection.run_sync(_generate, message)


@dataclass(frozen=True, slots=True)
class _Applied:
    """What has been applied so far, and who is told."""

    revisions: list[str]
    told: Told | None

    def note(self, revision: str) -> None:
        if revision not in self.revisions:
            self.revisions.append(revision)
            if self.told is not None:
                self.told(revision)


async def _apply(connection: AsyncConnection, to: str, applied: _Applied, patience_s: float) -> None:
    """Run what is pending; a migration that did not get its locks in time is rolled back and tried again."""
    deadline = asyncio.get_running_loop().time() + patience_s
    attempt = 0
    while True:
        attempt += 1
        try:
            with revision.rights_are_named():
                await connection.run_sync(_upgrade, to, applied)
        except exc.DBAPIError as error:
            await connection.rollback()
            if revision.sqlstate(error) not in _RETRIED:
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
    config.set_main_option("script_location", str(revision.FOLDER).replace("%", "%%"))
    config.attributes.update(attributes, connection=connection)
    return config


def _upgrade(connection: Connection, to: str, applied: _Applied) -> None:
    def note(*, step: Any, **_more: Any) -> None:
        applied.note(step.up_revision_id)

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


async def _refuse_unfit(connection: AsyncConnection, *, is_new: bool) -> None:
    """Say before the first statement which right or version lacks, independent of the server's language."""
    version = int(str(await connection.scalar(select(func.current_setting("server_version_num")))))
    if version < revision.OLDEST_SERVER:
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


@asynccontextmanager
async def _one_at_a_time() -> AsyncIterator[None]:
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - loops of several threads share it, no Event does
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        _alembic.release()


def _connection(url: str) -> AbstractAsyncContextManager[AsyncConnection]:
    """One connection as the login role itself, closed at the end."""
    engine = revision.login_engine(url)
    if failpoint.ARMED:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: failpoint.hit("migrate.statement"))
        event.listen(engine.sync_engine, "commit", lambda *_: failpoint.hit("migrate.commit"))
    return revision.connected(engine)


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

"""One SQLAlchemy pool per process and the unit of work on it; the data plane takes the raw asyncpg connection.

Owns connecting, roles, tenant binding and what goes back into the pool. Knows no table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from outrider.base.errors import Broken
from outrider.data.faults import DOUBTFUL, TRANSIENT, database_faults
from outrider.data.pool import CalmPool


class Role(StrEnum):
    """The database roles; what each may do is in the migration and in docs/decisions."""

    OWNER = "outrider_owner"
    APP = "outrider_app"
    ENGINE = "outrider_engine"
    OPS = "outrider_ops"
    READONLY = "outrider_readonly"
    BACKUP = "outrider_backup"
    JOBS = "outrider_jobs"


_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    " SELECT set_config('role', '{role}', true), set_config('app.tenant', '{tenant}', true)"
)
"""One message, so one round trip: no statement can come between. Both end with the transaction, however it ends."""


@dataclass(slots=True)
class _End:
    """How a unit of work ends that raises nothing."""

    is_undone: bool = False


@dataclass(slots=True)
class UnitOfWork:
    """One transaction as one role for one tenant (or none). Commits when its block ends, rolls back when it raises.

    A transaction inside it is a `savepoint`: asyncpg's own `raw.transaction()` knows nothing of the one around it.
    """

    raw: asyncpg.Connection
    role: Role
    tenant_id: UUID | None
    _end: _End = field(default_factory=_End)

    @property
    def tenant(self) -> UUID:
        """The tenant this unit of work is bound to; Broken(no_tenant) when it has none."""
        if self.tenant_id is None:
            raise Broken("no_tenant", "this unit of work is not bound to a tenant")
        return self.tenant_id

    @asynccontextmanager
    async def savepoint(self, *, is_kept: bool = True) -> AsyncIterator[None]:
        """A part of the unit of work that is undone by itself when it raises; what was before it stands.

        Takes:   is_kept  False: it is undone in any case, its `SET LOCAL` too
        Gives:   after the exception has been met the unit of work goes on, also where a statement was refused.
        """
        await self.raw.execute("SAVEPOINT part")  # the same name inside hides this one until it is released
        try:
            yield
        except BaseException:
            with suppress(*TRANSIENT):  # nothing can go on then: whatever comes next says so, and COMMIT as well
                await self.raw.execute(_UNDO_PART)
            raise
        await self.raw.execute("RELEASE SAVEPOINT part" if is_kept else _UNDO_PART)

    def undo_at_end(self) -> None:
        """Roll back at the end of the block instead of committing; until then it goes on as it would."""
        self._end.is_undone = True


_UNDO_PART: Final = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part"


class Database:
    """The pool of one process.

    Takes:   url      postgresql://…; a socket directory as `?host=/dir`
             role     set on every connection at its start (the worker's data plane); None: each unit of work
                      names its own
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        wait_s: float = 2.0,
        role: Role | None = None,
        statement_timeout_s: float = 30.0,
        name: str = "outrider",
    ) -> None:
        self.url = url
        self._settings = {
            "application_name": name[:60],
            "timezone": "UTC",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
            "statement_timeout": str(int(statement_timeout_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(statement_timeout_s * 2000)),
        }
        if role is not None:
            self._settings["role"] = role.value  # asyncpg takes plain text only
        self._role = role
        self._is_closed = False
        self.pool_size = pool_size
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect_for_pool,
            poolclass=CalmPool,
            pool_use_lifo=True,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=wait_s,
            pool_recycle=3600,
            hide_parameters=True,  # an error of the database must not carry addresses or secrets into a log
            json_deserializer=str,  # jsonb is text on raw connections; declared columns are read by orm.Json
        )

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own with the pool's settings (LISTEN, lease thread); the caller closes it."""
        return await asyncpg.connect(self.url, server_settings=self._settings, timeout=10, statement_cache_size=512)

    async def _connect_for_pool(self) -> asyncpg.Connection:
        if self._is_closed:  # nobody would close it
            raise asyncpg.InterfaceError("the pool is closed")
        return await self.connect()

    async def close(self) -> None:
        """Close every connection, those in use when they come back; idempotent. Nothing can begin afterwards."""
        self._is_closed = True
        await self.engine.dispose()

    def available(self) -> int:
        """Connections that could be handed out now."""
        pool: Any = self.engine.pool
        return self.pool_size - int(pool.checkedout())

    @asynccontextmanager
    async def uow(self, role: Role, tenant_id: UUID | None = None) -> AsyncIterator[UnitOfWork]:
        """Begin a unit of work.

        Takes:   the role, and the tenant whose rows the app role may see.
        Gives:   the raw connection inside a transaction; committed at the end of the block.
        Raises:  Unavailable when the database is away or fails on the way: nothing was committed, except that a fault
                 during COMMIT itself leaves that open; idempotency keys and fences make repeating safe.
                 Broken(nothing_kept) when the block passed over a failed statement, for which the database undid it.
        Source:  docs/decisions/0036-units-of-work-on-the-driver.md
        """
        begin = _begin(role, tenant_id)
        with database_faults():
            async with self._lent() as raw:
                work = UnitOfWork(raw, role, tenant_id)
                try:
                    await raw.execute(begin)
                    yield work
                except Exception:
                    with suppress(*TRANSIENT):  # the server rolls back when this connection ends, and it does
                        await raw.execute("ROLLBACK")
                    raise
                if work._end.is_undone:  # noqa: SLF001 - shared with copies of it for other tenants
                    await raw.execute("ROLLBACK")
                elif await raw.execute("COMMIT") == "ROLLBACK":
                    raise Broken(
                        "nothing_kept", "a statement failed and was passed over: nothing of the unit of work was kept"
                    )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A raw transaction of the data plane, as the role of the pool.

        Raises:  Broken on a pool without a role; Unavailable as `uow`.
        """
        if self._role is None:
            raise Broken("no_role", "raw transactions need a pool with a role")
        with database_faults():
            async with self._lent() as raw, raw.transaction():
                yield raw

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[asyncpg.Connection]:
        """A raw connection of the data plane without a transaction: each statement is committed by itself.

        For reads and single statements, where a transaction would cost two round trips for nothing.

        Raises:  as `transaction`.
        """
        if self._role is None:
            raise Broken("no_role", "raw statements need a pool with a role")
        with database_faults():
            async with self._lent() as raw:
                yield raw

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool; it goes back only when it is known to be as it was, else it is closed.

        Without SQLAlchemy's own `async with`: that makes a task for each return, which costs more than a statement.
        Returning waits for nothing, but where a connection is closed, and one whose closing is cut short is gone too.
        """
        connection = await self.engine.connect()
        try:
            pooled: Any = connection.sync_connection
            raw: asyncpg.Connection = pooled.connection.driver_connection
            is_sound = False
            try:
                yield raw
                is_sound = True
            except Exception as error:
                is_sound = not isinstance(error, DOUBTFUL)
                raise
            finally:
                if raw.is_closed():
                    self._pool.lost()
                if not is_sound or raw.is_closed() or raw.is_in_transaction():
                    await connection.invalidate()
        finally:
            await connection.close()

    @property
    def _pool(self) -> CalmPool:
        pool = self.engine.pool
        assert isinstance(pool, CalmPool)  # noqa: S101 - as the engine was made
        return pool


def _begin(role: Role, tenant_id: UUID | None) -> str:
    """The message that begins a unit of work. What is put into it can be nothing but a name of ours and a UUID."""
    if tenant_id is not None and not isinstance(tenant_id, UUID):
        raise Broken("not_a_tenant", "a unit of work is bound to a tenant by its id")
    return _BEGIN.format(role=Role(role).value, tenant=tenant_id or "")

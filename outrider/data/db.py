"""One SQLAlchemy pool per process and the unit of work on it; the data plane takes the raw asyncpg connection.

Owns connecting, roles, tenant binding and the translation of connection faults into Unavailable. Knows no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from outrider.base.errors import Broken, Misconfigured, Unavailable
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


_BEGIN = text("select set_config('role', :role, true), set_config('app.tenant', :tenant, true)")

TRANSIENT: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    OSError,
    TimeoutError,
)
"""What passes by itself: the unit of work rolled back, repeating it whole is safe."""

_DOUBTFUL: tuple[type[BaseException], ...] = (asyncio.CancelledError, *TRANSIENT)


@contextmanager
def database_faults() -> Iterator[None]:
    """Turn faults of connection and server into errors of ours, whoever met them first (SQLAlchemy or asyncpg)."""
    try:
        yield
    except exc.TimeoutError as error:
        raise Unavailable("database_busy", "every database connection is in use; try again") from error
    except exc.DBAPIError as error:
        cause = getattr(error.orig, "__cause__", None) or error.orig
        known = _unavailable() if error.connection_invalidated else _known(cause)
        if known is None:
            raise
        raise known from error
    except (asyncpg.PostgresError, *TRANSIENT) as error:
        known = _known(error)
        if known is None:
            raise
        raise known from error


def _known(cause: BaseException | None) -> Misconfigured | Unavailable | None:
    """What a driver's exception means for the operator; None for everything that is a bug."""
    if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
        return Misconfigured("database_password", "the database refused the user or password of OUTRIDER_DATABASE_URL")
    if isinstance(cause, asyncpg.InvalidCatalogNameError):
        return Misconfigured("database_missing", "the database named in OUTRIDER_DATABASE_URL does not exist")
    if isinstance(cause, asyncpg.DiskFullError):
        return Unavailable("database_full", "the database has no room left on its disk; make room, then try again")
    return _overtaken(cause) or (_unavailable() if isinstance(cause, TRANSIENT) else None)


def _overtaken(cause: BaseException | None) -> Unavailable | None:
    """What a database says that is there, but let others' work go before ours and undid ours as a whole.

    Nobody repeats it here: what ran in the unit of work is its caller's, and a context manager cannot run it again.
    """
    if isinstance(cause, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return Unavailable(
            "database_busy",
            "the database was busy with others' changes to the same; nothing was changed, try again",
            retry_after_s=1,
        )
    if isinstance(cause, asyncpg.LockNotAvailableError):
        return Unavailable(
            "database_busy",
            "somebody else is changing the same for longer than is waited for; nothing was changed, try again",
            retry_after_s=1,
        )
    if isinstance(cause, asyncpg.QueryCanceledError):
        return Unavailable(
            "database_busy",
            "the database did not finish this in the time it may take; nothing was changed, try again",
            retry_after_s=1,
        )
    return None


def _unavailable() -> Unavailable:
    return Unavailable("database_unavailable", "the database is not reachable; try again")


@dataclass(slots=True)
class UnitOfWork:
    """One transaction as one role for one tenant (or none). Commits when its block ends, rolls back when it raises."""

    session: AsyncSession
    raw: asyncpg.Connection
    role: Role
    tenant_id: UUID | None

    @property
    def tenant(self) -> UUID:
        """The tenant this unit of work is bound to; Broken(no_tenant) when it has none."""
        if self.tenant_id is None:
            raise Broken("no_tenant", "this unit of work is not bound to a tenant")
        return self.tenant_id


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
            isolation_level="READ COMMITTED",
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
        Gives:   session and raw connection, both inside the same transaction; committed at the end of the block.
        Raises:  Unavailable when the database is away or fails on the way: nothing was committed, except that a fault
                 during COMMIT itself leaves that open; idempotency keys and fences make repeating safe.
        """
        with database_faults():
            async with AsyncSession(self.engine, expire_on_commit=False, autoflush=True) as session, session.begin():
                await session.execute(_BEGIN, {"role": role, "tenant": str(tenant_id) if tenant_id else ""})
                connection = await session.connection()
                raw: Any = (await connection.get_raw_connection()).driver_connection
                if not raw.is_in_transaction():
                    raise Broken(
                        "no_transaction", "a unit of work without a transaction would commit each statement by itself"
                    )
                yield UnitOfWork(session, raw, role, tenant_id)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A raw transaction of the data plane, as the role of the pool; one round trip less than `uow`.

        Raises:  Broken on a pool without a role; Unavailable as `uow`.
        """
        if self._role is None:
            raise Broken("no_role", "raw transactions need a pool with a role")
        with database_faults():
            async with self.engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    async with raw.transaction():
                        yield raw
                except _DOUBTFUL:
                    # the state of this connection is unknown: the pool must not hand it out again
                    await connection.invalidate()
                    raise

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[asyncpg.Connection]:
        """A raw connection of the data plane without a transaction: each statement is committed by itself.

        For reads and single statements, where a transaction would cost two round trips for nothing.

        Raises:  as `transaction`.
        """
        if self._role is None:
            raise Broken("no_role", "raw statements need a pool with a role")
        with database_faults():
            async with self.engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    yield raw
                except _DOUBTFUL:
                    await connection.invalidate()  # as above
                    raise

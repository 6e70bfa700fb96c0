"""Faults of the database's connection and server: which pass by themselves, and what each means for whom.

Owns their translation into Unavailable and Misconfigured; repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy import exc

from outrider.base.errors import Misconfigured, Unavailable

DOUBTFUL: Final[tuple[type[BaseException], ...]] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,  # it became a standby: whoever connects again reaches the new primary
    OSError,
    TimeoutError,
)
"""After these the state of a connection is not known: the pool must not hand it out again."""

TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    *DOUBTFUL,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
)
"""What passes by itself: the unit of work rolled back, repeating it whole is safe."""


@contextmanager
def database_faults() -> Iterator[None]:
    """Turn faults of connection and server into errors of ours, whoever met them first.

    SQLAlchemy does where a connection is made or waited for, and wraps what the driver raised; else it comes bare.
    """
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

"""Health of a database is a real connection: signed in with the password, one query answered, durability as required.

Owns that question, for synchronous and asynchronous callers; never starts or stops anything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import asyncpg

from outrider.base.errors import Misconfigured, OutriderError, Unavailable
from outrider.data.durability import refuse_unsafe

_BOUND_S = 5.0


async def connect_and_ask(url: str, *, bound_s: float = _BOUND_S) -> None:
    """Sign in and ask.

    Raises:  Unavailable(database_not_ready) while it does not answer or is still recovering; Misconfigured when the
             password is not accepted or the server may forget commits (`refuse_unsafe`).
    """
    try:
        async with asyncio.timeout(bound_s):
            connection = await asyncpg.connect(url, timeout=bound_s, ssl=False)
            try:
                await connection.fetchval("SHOW server_version")
                await refuse_unsafe(connection)
            finally:
                connection.terminate()
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise Misconfigured(
            "database_password", "the embedded database does not accept the passwords in its pgpass file"
        ) from None
    except asyncpg.TooManyConnectionsError:
        return  # it lives and is only busy
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, EOFError) as error:
        raise Unavailable(
            "database_not_ready", f"the database does not answer: {error or type(error).__name__}"
        ) from None


async def is_healthy(url: str, *, bound_s: float = _BOUND_S) -> bool:
    """Whether a connection to the URL can be made and used within the bound."""
    try:
        await connect_and_ask(url, bound_s=bound_s)
    except OutriderError:
        return False
    return True


def ask(url: str, *, bound_s: float = _BOUND_S) -> None:
    """`connect_and_ask` for synchronous callers, also where an event loop runs in this thread."""
    _run(connect_and_ask(url, bound_s=bound_s))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on an event loop of its own in a thread of its own, and raise here what it raised there."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, name="database-health")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]

"""A table of two rows beside the product's own, for tests of units of work that get in each other's way.

async with two_rows(url, "as it was") as (db, beside):      a pool of the engine's, and a connection that may do all
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from outrider.data.db import Database, Role


@asynccontextmanager
async def two_rows(url: str, text: str = "") -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    """The table `two_rows`, ids 1 and 2, that anybody may change; it is gone with the block."""
    db, beside = Database(url, pool_size=3, role=Role.ENGINE), await asyncpg.connect(url)
    try:
        await beside.execute(
            "DROP TABLE IF EXISTS two_rows; CREATE TABLE two_rows (id int PRIMARY KEY, text text NOT NULL);"
            "GRANT ALL ON two_rows TO PUBLIC"
        )
        await beside.execute("INSERT INTO two_rows VALUES (1, $1), (2, $1)", text)
        yield db, beside
    finally:
        await db.close()
        await beside.execute("DROP TABLE IF EXISTS two_rows")
        await beside.close()

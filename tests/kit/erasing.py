"""One run of an erasure in a process of its own, to be killed at a failpoint.

python -m tests.kit.erasing DATABASE_URL DATA_DIR TENANT_ID ERASURE_ID
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from outrider.base.settings import load
from outrider.data.db import Database
from outrider.domain.people import erase


async def main(url: str, data_dir: str, tenant_id: str, erasure_id: str) -> None:
    """Finish the erasure."""

    async def progress(_: int) -> None:
        return

    db = Database(url, pool_size=2, name="erasing")
    try:
        await erase.finish(db, load(data_dir=Path(data_dir)), UUID(tenant_id), UUID(erasure_id), progress)
    finally:
        await db.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

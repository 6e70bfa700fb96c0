"""Files of exports whose time is over leave the disk of this machine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from outrider.data.db import Database, Role
from outrider.domain.people.files import ExportFiles
from outrider.domain.people.rows import SQL

PART_KEPT_S = 3600
"""A file that nobody wants is left so long: it may be one that is just being written."""


async def expire(db: Database, data_dir: Path) -> int:
    """Mark exports whose time is over and remove every file that none that is wanted has. Gives how many files."""
    async with db.uow(Role.ENGINE) as uow:
        await SQL.exports_expired.many(uow.raw)
        rows = await SQL.exports_wanted.many(uow.raw)
    files = ExportFiles(data_dir)
    wanted = {files.of(row["tenant_id"], row["id"]) for row in rows}
    return await asyncio.to_thread(files.sweep, wanted, older_than=time.time() - PART_KEPT_S)

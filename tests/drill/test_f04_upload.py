"""F04: the API is killed in the middle of an upload: nothing is imported, and what was written of it goes away."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from outrider.data.db import Role
from outrider.domain.tenants import keys
from outrider.engine.maintenance import imports
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import Process, until

pytestmark = pytest.mark.timeout(900)
_ROWS = b"".join(b"p%d@example.com\n" % number for number in range(150_000))
_WITHIN_S = 3_600


async def test_an_upload_cut_off_by_a_kill_imports_nothing_and_its_file_is_removed_within_the_hour(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path) as drill:
        async with drill.db.uow(Role.APP, (await drill.sender("at_most_once")).tenant_id) as uow:
            _, key = await keys.create(uow, OPERATOR, name="drill", role="operator", scopes=["imports:write"])
        victim = await drill.start("api").ready()
        writer = await _begin_upload(victim, key)

        def written() -> list[Path]:
            return [path for path in (tmp_path / "data").rglob("*.part") if path.stat().st_size > 0]

        try:
            await until(lambda: bool(written()), what="the beginning of the upload is on disk")
            victim.kill()
        finally:
            writer.close()
        (left,) = written()
        assert await drill.value("SELECT count(*) FROM imports") == 0
        # as it is when a look comes that is not the last one within the hour: by then it has to be gone
        aged_s = time.time() - (_WITHIN_S - imports.EVERY_S)
        os.utime(left, (aged_s, aged_s))
        await drill.start("api").ready()
        await until(lambda: not left.exists(), what="the next process removes what is left")
        assert await drill.value("SELECT count(*) FROM imports") == 0


async def _begin_upload(api: Process, key: str) -> asyncio.StreamWriter:
    """Send the head of an upload and part of its body, and keep the line open."""
    place = urlsplit(api.where.split()[0])
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        "POST /api/v1/imports?file_name=x.csv HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
        f"Content-Length: {10 * len(_ROWS)}\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
    writer.write(head.encode() + b"email\n" + _ROWS)
    await writer.drain()
    return writer

"""F99: an erasure killed -9 between its pages, while others are written to, leaves nothing of the person."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

import pytest

from outrider.domain.contacts import write
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from outrider.domain.messages.people import PAGE
from outrider.domain.people import erase
from tests.kit.audience import ACTOR, Audience, opened
from tests.kit.statements import ROOT

pytestmark = pytest.mark.timeout(900)

EACH, COUNT = 500, 2 * PAGE + 5_000
"""Every 500th message is the person's, over three pages of the ledger."""

KILLS = ("erase.page:1:kill", "erase.page:1:kill", "erase.page:2:kill")
_LEDGER = """
WITH lane AS (
  INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $1, 'bulk') RETURNING id
), content AS (
  INSERT INTO contents (tenant_id, channel, hash, is_template) VALUES ($1, 'email', 'x', false) RETURNING id
), made AS (
  INSERT INTO messages (tenant_id, id, lane_id, contact_id, content_id, address, purpose, state, due_at, detail)
  SELECT $1, outrider_id(), lane.id, CASE WHEN n % $3 = 0 THEN $2::uuid END, content.id,
         CASE WHEN n % $3 = 0 THEN 'zebulon@example.org' ELSE 'p' || n || '@example.org' END, 'x', 'sent', now(),
         CASE WHEN n % $3 = 0 THEN '250 <zebulon@example.org>' END
  FROM lane, content, generate_series(1, $4::int) n RETURNING id, detail
)
INSERT INTO message_events (tenant_id, message_id, kind, data)
SELECT $1, id, 'sent', jsonb_build_object('detail', detail) FROM made
"""


async def _run(audience: Audience, url: str, data_dir: Path, erasure_id: UUID, at: str = "") -> tuple[int, Path]:
    """One process; gives its exit code and the log of its failpoints."""
    log = data_dir / f"hits-{at.replace(':', '-')}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | (
        {"OR_FAILPOINT": at, "OR_FAILPOINT_LOG": str(log)} if at else {}
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.erasing", url, str(data_dir), str(audience.tenant), str(erasure_id),
        env=environment, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            return await process.wait(), log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_erasure_killed_between_its_pages_leaves_nothing_of_the_person(
    migrated_url: str, tmp_path: Path
) -> None:
    async with opened(migrated_url) as audience:
        async with audience.app() as uow:
            new = NewContact(name="Zebulon", addresses=[AddressView("email", "zebulon@example.org")])
            person = await write.create(uow, audience.channels, ACTOR, new)
        async with audience.engine() as uow:
            await uow.raw.execute(_LEDGER, audience.tenant, person.id, EACH, COUNT, timeout=None)
            begun = await erase.begin(uow, ACTOR, person.id, reason="asked")
        for kill in KILLS:
            code, log = await _run(audience, migrated_url, tmp_path, begun.id, kill)
            assert code == -signal.SIGKILL
            assert log.read_text().splitlines()[-1].split()[::2] == ["erase.page", "kill"]
        before = await audience.fetch("SELECT state, message_count FROM erasures")
        assert before[0][0] == "running"
        code, _ = await _run(audience, migrated_url, tmp_path, begun.id)
        assert code == 0
        assert await audience.fetch("SELECT state, message_count FROM erasures") == [("completed", COUNT // EACH)]
        for table in ("messages", "message_events", "contacts", "addresses", "suppressions", "erasures", "audit_log"):
            rows = await audience.fetch(f"SELECT count(*) FROM {table} t WHERE strpos(lower(t::text), 'zebulon') > 0")
            assert rows == [(0,)], table
        assert await audience.fetch("SELECT count(*) FROM messages WHERE address <> 'erased'") == [
            (COUNT - COUNT // EACH,)
        ]
        assert await audience.fetch("SELECT count(*) FROM contents") == [(1,)]  # others got it as well

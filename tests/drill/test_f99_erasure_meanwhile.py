"""F99: somebody is erased while a campaign sends to them, an export holds them and a backup reads: nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from outrider.base.errors import Refused
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.settings import Settings, load
from outrider.data.db import Role
from outrider.domain.people import export, making, tabular
from outrider.domain.tenants import keys
from tests.kit import traces
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import until

pytestmark = pytest.mark.timeout(900)

PEOPLE = 1_500
WORD = "zebulon"
ADDRESS = f"{WORD}@example.com"
ON_THE_WIRE_S = 20
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 50}
_HELD = {"action": "hang", "stage": "dot", "recipient": ADDRESS, "seconds": ON_THE_WIRE_S}


async def test_somebody_is_erased_while_their_letter_is_on_the_wire_their_file_written_and_a_backup_read(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path) as drill:
        sender = await drill.sender("at_most_once")
        campaign_id = await drill.campaign(sender, PEOPLE)
        person = await _somebody(drill)
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            _, key = await keys.create(uow, OPERATOR, name="drill", role="admin", scopes=["contacts:write"])
        settings = load(data_dir=tmp_path / "data")
        whole = await _export_of_everybody(drill, settings)
        assert traces.in_files(tmp_path / "data", words=[WORD]) == [(str(whole), WORD)]
        assert {("public.contacts", WORD), ("public.addresses", WORD)} <= set(await _in_database(drill))
        drill.faults(_HELD, _SLOW)
        api, scheduler = drill.start("api"), drill.start("scheduler")
        await api.ready()
        await scheduler.ready()
        await drill.worker()
        await until(
            lambda: any(each.address == ADDRESS for each in drill.acceptances()), what="their letter on the wire"
        )
        backup, writing = await _backup(drill), _Writing()
        file = asyncio.create_task(_write(drill, settings, await _asked(drill, person), writing))
        await writing.begun.wait()
        before = len(drill.acceptances())
        erasure_id = await _erase(api.where, key, person)
        assert await drill.value("SELECT state FROM queue WHERE message_id IN " + _THEIRS) == 1, "it was being sent"
        assert await drill.value("SELECT state FROM campaigns WHERE id = $1", campaign_id) == "sending"
        await until(lambda: len(drill.acceptances()) > before, what="the campaign goes on meanwhile")

        async def is_erased() -> bool:
            return bool(await drill.value("SELECT state FROM erasures WHERE id = $1", erasure_id) == "completed")

        await until(is_erased, what="the erasure")
        writing.may_end.set()
        with pytest.raises(Refused, match="erased"):
            await file
        assert await backup.fetchval(_SEEN) == 1, "the backup reads what there was when it began; it held nobody up"
        await backup.close()
        drill.faults()
        await drill.drained()
        await _nothing_is_left(drill, whole)
        assert sum(each.address == ADDRESS for each in drill.acceptances()) == 1, "one letter had left, and no other"
        assert await drill.value("SELECT count(*) FROM messages WHERE state = 'sent' AND address = 'erased'") == 1
        assert await drill.value("SELECT count(*) FROM messages WHERE campaign_id = $1", campaign_id) == PEOPLE


_SEEN = f"SELECT count(*) FROM addresses WHERE address = '{ADDRESS}'"
_THEIRS = f"(SELECT id FROM messages WHERE address = '{ADDRESS}')"

_STOPPED = "SELECT count(*) FROM suppressions WHERE address_hash = sha256(convert_to($1, 'UTF8')) AND reason = 'erased'"


class _Writing:
    """A file whose writer waits in the middle until somebody lets it go on."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def progress(self, _count: int) -> None:
        self.begun.set()
        await self.may_end.wait()


async def _somebody(drill: Drill) -> UUID:
    """Make one of the campaign's people somebody with a name, before anything is queued."""
    person: UUID = await drill.value("SELECT id FROM contacts ORDER BY id OFFSET 100 LIMIT 1")
    await drill.execute("UPDATE contacts SET name = 'Zebulon' WHERE id = $1", person)
    await drill.execute("UPDATE addresses SET address = $2 WHERE contact_id = $1", person, ADDRESS)
    return person


async def _asked(drill: Drill, person: UUID) -> UUID:
    async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        return (await export.ask(uow, OPERATOR, person)).id


async def _export_of_everybody(drill: Drill, settings: Settings) -> Path:
    """A file that was written before, and may still be fetched."""
    async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        asked = await tabular.ask(uow, OPERATOR, "contacts")

    async def progress(_: int) -> None:
        return

    await making.write(drill.db, settings, DEFAULT_TENANT, asked.id, progress)
    (path,) = (settings.data_dir / "exports").iterdir()
    return path


async def _write(drill: Drill, settings: Settings, export_id: UUID, writing: _Writing) -> int:
    return await making.write(drill.db, settings, DEFAULT_TENANT, export_id, writing.progress)


async def _backup(drill: Drill) -> asyncpg.Connection:
    """A dump's transaction: one snapshot, as the role that backups have, open until it has read everything."""
    connection = await drill.db.connect()
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL ROLE outrider_backup")
    assert await connection.fetchval(_SEEN) == 1
    return connection


async def _erase(url: str, key: str, person: UUID) -> UUID:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "drill"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{url}/api/v1/contacts/{person}/erase", json={"reason": "asked by letter"}) as answer,
    ):
        assert answer.status == 202, await answer.text()
        return UUID((await answer.json())["id"])


async def _nothing_is_left(drill: Drill, whole: Path) -> None:
    """No table, journal, export or log has a word of them; the promise not to write to them is kept by its hash."""
    assert not await asyncio.to_thread(whole.exists)
    assert await _in_database(drill) == []
    assert await drill.value(_STOPPED, ADDRESS) == 1
    logs = [process.log for process in drill.processes[1:]]  # the capture server is the world outside
    assert sum(log.stat().st_size for log in logs) > 0
    assert traces.in_files(drill.folder / "data", *logs, words=[WORD]) == []


async def _in_database(drill: Drill) -> list[tuple[str, str]]:
    connection = await drill.db.connect()
    try:
        return await traces.in_database(connection, WORD)
    finally:
        await connection.close()

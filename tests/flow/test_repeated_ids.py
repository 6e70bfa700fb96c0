"""One id of a provider for two messages is told to operators, whichever processes met the two [F62]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.domain.callbacks import look
from outrider.domain.messages.poison import Standing
from outrider.interfaces.cli.alarms import alarms
from tests.kit.texting import Texting, texting


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def test_it_is_known_for_a_day_by_what_was_reported_of_both(office: Texting) -> None:
    sid = "SM" + "d" * 32

    async def is_known() -> bool:
        async with office.api.engine() as uow:
            found = await look.repeated_ids(uow.raw)
        told = alarms((), (), (), (), (), (), Standing(0, None), found)
        return any(sid in line for line in told)

    first, second = await office.sent(sid=sid), await office.sent("+14155552672", sid=sid)
    other = await office.sent("+14155552673")
    for message_id, status in ((first, "sent"), (first, "delivered"), (other, "failed")):
        await office.report(message_id, status, sid=sid)
        await office.applied()
    assert not await is_known(), "what is known by another id is none of it"
    await office.report(second, "delivered", sid=sid)
    assert not await is_known()
    await office.applied()
    assert await is_known()
    await office.rows("UPDATE webhook_events SET received_at = received_at - interval '2 days' WHERE tenant_id = $1")
    assert not await is_known()

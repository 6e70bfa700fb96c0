"""A late acceptance whose message somebody else is writing at that moment is told again until it is heard."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from outrider.base.clock import boottime_s
from outrider.contracts.outcome import Accepted
from outrider.engine.dispatch import record
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.journal import Journal
from outrider.engine.dispatch.record import Recorder
from outrider.engine.dispatch.recovery import Recovery
from tests.kit.dispatch import Desk, Post


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk(transactional_guarantee="at_most_once")


async def swept(desk: Desk) -> Batch:
    """A batch of one message whose lease ended before its answer came."""
    await desk.admit()
    claim = await desk.claim()
    assert claim.batch is not None
    await desk.post.execute(
        "UPDATE queue SET lease_until = now() - interval '1 second' WHERE token = $1", claim.batch.token
    )
    recovery = Recovery(desk.post.engine, desk.post.runtime.settings.journal_dir, desk.post.runtime.settings)
    await recovery._from_leases(desk.tenant_id)
    assert await desk.states(list(claim.batch.messages)) == ["uncertain"]
    return claim.batch


def recorder_of(desk: Desk) -> Recorder:
    settings = desk.post.runtime.settings
    journal = Journal(settings.journal_dir / str(uuid4()), uuid4())
    return Recorder(desk.post.engine, journal, settings, lambda _batch: None)


async def answered_while_locked(desk: Desk, batch: Batch) -> tuple[Recorder, UUID]:
    """The answer comes while somebody else has the message's row."""
    (message_id,) = batch.messages
    recorder = recorder_of(desk)
    async with desk.post.engine.transaction() as other:
        await other.fetch("SELECT FROM messages WHERE id = $1 FOR UPDATE", message_id)
        recorder.add(batch, batch.messages[message_id], Accepted("p1"))
        is_over = asyncio.Event()
        is_over.set()
        await recorder.run(is_over)
        assert recorder.waiting_count == 0, "nobody waited for it"
        await recorder.tell_late()
    assert await desk.states([message_id]) == ["uncertain"]
    return recorder, message_id


async def test_a_late_acceptance_settles_its_message_when_whoever_wrote_it_has_finished(desk: Desk) -> None:
    recorder, message_id = await answered_while_locked(desk, await swept(desk))
    await recorder.tell_late()
    assert await desk.states([message_id]) == ["sent"]
    assert await desk.events(message_id) == ["uncertain", "sent"]
    await recorder.tell_late()
    assert await desk.events(message_id) == ["uncertain", "sent"], "told once"


async def test_what_people_decided_meanwhile_stays_decided(desk: Desk) -> None:
    recorder, message_id = await answered_while_locked(desk, await swept(desk))
    await desk.post.execute(
        "WITH gone AS (DELETE FROM uncertain_messages WHERE message_id = $1) "
        "UPDATE messages SET state = 'failed', code = 'answer_lost' WHERE id = $1",
        message_id,
    )
    await recorder.tell_late()
    assert await desk.states([message_id]) == ["failed"]


async def test_a_late_acceptance_is_not_remembered_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, message_id = await answered_while_locked(desk, await swept(desk))
    await desk.post.execute("DELETE FROM uncertain_messages WHERE message_id = $1", message_id)
    later_s = boottime_s() + timedelta(hours=1).total_seconds()
    monkeypatch.setattr(record, "boottime_s", lambda: later_s)
    await recorder.tell_late()
    assert recorder._belated == {}

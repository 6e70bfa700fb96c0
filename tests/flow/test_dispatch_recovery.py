"""Recovery on a real database: what a dead worker left is handed back, recorded, repeated or uncertain; never lost."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Unavailable
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.engine.dispatch import journal as journals
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.journal import DeadClaim, Journal
from outrider.engine.dispatch.recovery import CRASHES_TO_POISON, Recovery
from tests.kit.dispatch import Desk, Post


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk(transactional_guarantee="at_most_once")


@pytest.fixture
async def keen(post: Post) -> Desk:
    """A tenant whose sender promises at_least_once."""
    return await post.desk()


class Dead:
    """A worker that claimed, wrote its journal and died."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.folder = folder
        self.journal = Journal(folder, uuid4())
        self.recovery = Recovery(desk.post.engine, folder, desk.post.runtime.settings)

    async def claimed(self, count: int = 1) -> tuple[Batch, list[UUID]]:
        """A batch under lease, its claim in the journal."""
        await self.desk.admit(count)
        token = await self.desk.post.token()
        self.journal.claim(token, self.desk.tenant_id)
        claim = await self.desk.claim(token=token)
        assert claim.batch is not None
        return claim.batch, list(claim.batch.messages)

    def die(self, *, flushed: bool = True) -> None:
        """Kill -9: what was handed to the kernel stays, the lock goes."""
        if not flushed:
            self.journal._pending.clear()
        self.journal.close(is_settled=False)

    async def recovered(self, ids: list[UUID]) -> list[str]:
        """The states after one round of recovery."""
        await self.recovery.step()
        return await self.desk.states(ids)

    def files(self) -> list[str]:
        return sorted(path.suffix for path in self.folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


# from a journal


async def test_what_was_not_begun_is_ready_at_once_and_nothing_is_held_against_it(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    _, ids = await dead.claimed(3)
    dead.die()
    assert await dead.recovered(ids) == ["queued"] * 3
    row = await desk.queued(ids[0])
    assert row is not None
    assert (row["attempt"], row["crashes"], row["attempted_at"]) == (0, 0, None)
    assert dead.recovery.handed_back_count == 3
    assert dead.files() == []


async def test_an_outcome_in_the_journal_is_recorded(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    batch, ids = await dead.claimed(5)
    outcomes: tuple[Outcome, ...] = (
        Accepted("p1"), Rejected("mailbox_unavailable", "550"), Deferred("server_deferred", "450", 60.0),
        Uncertain("answer_lost", "cut"), Unsent("paused"),
    )  # fmt: skip
    for message_id, outcome in zip(ids, outcomes, strict=True):
        dead.journal.begun(batch.token, message_id)
        dead.journal.outcome(batch.token, message_id, outcome)
    dead.die()
    assert await dead.recovered(ids) == ["sent", "failed", "scheduled", "uncertain", "queued"]
    assert (await desk.message(ids[0]))["provider_id"] == "p1"
    assert dead.files() == []


async def test_begun_without_an_answer_is_uncertain_where_nothing_may_go_twice(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    batch, ids = await dead.claimed(3)
    dead.journal.begun(batch.token, ids[0])
    dead.journal.begun(batch.token, ids[1])
    dead.journal.outcome(batch.token, ids[1], Accepted("never reached the file"))
    dead.die(flushed=False)
    assert await dead.recovered(ids) == ["uncertain", "uncertain", "queued"]
    assert dead.recovery.uncertain_count == 2
    assert (await desk.message(ids[0]))["code"] == "answer_lost"


async def test_begun_without_an_answer_is_repeated_with_the_same_date_where_it_must_arrive(
    keen: Desk, folder: Path
) -> None:
    dead = Dead(keen, folder)
    batch, ids = await dead.claimed(1)
    dead.journal.begun(batch.token, ids[0])
    dead.die()
    assert await dead.recovered(ids) == ["queued"]
    again = await keen.claim()
    assert again.batch is not None
    message = again.batch.messages[ids[0]]
    assert (message.attempt, message.dated_at) == (2, batch.messages[ids[0]].dated_at)
    assert await keen.events(ids[0]) == ["rescued"]


async def test_a_death_while_rendering_is_held_against_every_message_of_the_batch(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    batch, ids = await dead.claimed(3)
    dead.journal.rendering(batch.token, desk.tenant_id, is_over=False)
    dead.die()
    assert await dead.recovered(ids) == ["queued"] * 3
    for _ in ids:  # each goes alone now
        claim = await desk.claim()
        assert claim.batch is not None
        assert len(claim.batch.messages) == 1


async def test_a_death_after_rendering_is_not_held_against_them(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    batch, ids = await dead.claimed(2)
    dead.journal.rendering(batch.token, desk.tenant_id, is_over=False)
    dead.journal.rendering(batch.token, desk.tenant_id, is_over=True)
    dead.die()
    await dead.recovered(ids)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids


async def test_a_message_that_kills_its_worker_again_and_again_is_poison(desk: Desk, folder: Path) -> None:
    ids: list[UUID] = []
    for death in range(CRASHES_TO_POISON):
        dead = Dead(desk, folder / str(death))
        token = await desk.post.token()
        dead.journal.claim(token, desk.tenant_id)
        if not ids:
            ids = await desk.admit()
        claim = await desk.claim(token=token)
        assert claim.batch is not None
        dead.journal.rendering(token, desk.tenant_id, is_over=False)
        dead.die()
        states = await dead.recovered(ids)
        assert states == (["failed"] if death == CRASHES_TO_POISON - 1 else ["queued"])
    assert (await desk.message(ids[0]))["code"] == "poison"


async def test_a_claim_that_is_done_is_not_touched(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    batch, ids = await dead.claimed(1)
    dead.journal.done(batch.token)
    dead.die()
    assert await dead.recovered(ids) == ["sending"], "another incarnation may hold it: only its lease decides"


async def test_a_claim_that_shows_nothing_yet_is_looked_at_again_until_no_commit_can_come(
    desk: Desk, folder: Path
) -> None:
    dead = Dead(desk, folder)
    await desk.admit()
    token = await desk.post.token()
    dead.journal.claim(token, desk.tenant_id)
    dead.die()
    await dead.recovery.step()
    assert dead.files() == [".journal", ".lock"], "its commit may still be on the way"
    claim = await desk.claim(token=token)  # and here it comes
    assert claim.batch is not None
    assert await dead.recovered(list(claim.batch.messages)) == ["queued"]
    assert dead.files() == []


async def test_a_journal_that_shows_nothing_is_forgotten_after_a_lease(desk: Desk, folder: Path) -> None:
    dead = Dead(desk, folder)
    dead.journal.claim(await desk.post.token(), desk.tenant_id)
    dead.die()
    old = dead.journal.path.stat().st_mtime - desk.post.runtime.settings.lease_s - 1
    os.utime(dead.journal.path, (old, old))
    await dead.recovery.step()
    assert dead.files() == []


@pytest.mark.parametrize("flaw", ["damage", "another boot"])
async def test_a_journal_without_proof_is_put_away_and_only_the_lease_decides(
    desk: Desk, folder: Path, flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Dead(desk, folder)
    _, ids = await dead.claimed(1)
    dead.die()
    if flaw == "damage":
        content = bytearray(dead.journal.path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        dead.journal.path.write_bytes(content)
    else:
        monkeypatch.setattr(journals, "boot_id", lambda: "after the power came back")
    assert await dead.recovered(ids) == ["sending"]
    assert dead.files() == []
    await end_leases(desk)
    await sweeper(desk, folder).step()
    assert await desk.states(ids) == ["uncertain"]


async def test_the_journal_of_the_living_is_not_read(desk: Desk, folder: Path) -> None:
    living = Dead(desk, folder)
    _, ids = await living.claimed(1)
    assert await living.recovered(ids) == ["sending"]
    living.die()


async def test_a_journal_is_kept_while_the_database_is_away(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Dead(desk, folder)
    _, ids = await dead.claimed(2)
    dead.die()

    async def fail(*_: object) -> bool:
        raise Unavailable("database_unavailable", "away")

    monkeypatch.setattr(Recovery, "_from_claim", fail)
    with pytest.raises(Unavailable):
        await dead.recovery.step()
    monkeypatch.undo()
    assert dead.files() == [".journal", ".lock"]
    assert await dead.recovered(ids) == ["queued", "queued"]


async def test_what_was_swept_meanwhile_is_not_taken_from_its_new_owner(keen: Desk, folder: Path) -> None:
    dead = Dead(keen, folder)
    batch, ids = await dead.claimed(1)
    dead.journal.begun(batch.token, ids[0])
    dead.journal.outcome(batch.token, ids[0], Rejected("message_rejected", "stale"))
    dead.die()
    await end_leases(keen)
    await sweeper(keen, folder / "elsewhere").step()  # another machine's worker
    again = await keen.claim()
    assert again.batch is not None
    assert await dead.recovered(ids) == ["sending"]


async def test_one_journal_that_cannot_be_recovered_keeps_nobody_waiting(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = sorted((Dead(desk, folder), Dead(desk, folder)), key=lambda each: each.journal.path)
    _, stuck = await bad.claimed(1)
    _, ids = await good.claimed(1)
    _, ended = await Dead(desk, folder / "elsewhere").claimed(1)
    bad.die()
    good.die()
    await desk.post.execute("UPDATE queue SET lease_until = now() - interval '1 s' WHERE message_id = $1", ended[0])
    real = Recovery._from_claim

    async def fail_for_one(recovery: Recovery, claim: DeadClaim) -> bool:
        if claim.token == (await desk.queued(stuck[0]) or {}).get("token"):
            raise ValueError("a bug")
        return await real(recovery, claim)

    monkeypatch.setattr(Recovery, "_from_claim", fail_for_one)
    await sweeper(desk, folder).step()
    assert await desk.states([*stuck, *ids, *ended]) == ["sending", "queued", "uncertain"]
    monkeypatch.undo()
    assert await bad.recovered(stuck) == ["queued"]


# from leases


def sweeper(desk: Desk, folder: Path) -> Recovery:
    """Recovery that does not wait a lease's length after the database's start, which was just now."""
    settings = desk.post.runtime.settings.model_copy(update={"lease_s": 0.0})
    return Recovery(desk.post.engine, folder, settings)


async def end_leases(desk: Desk, by: timedelta = timedelta(seconds=1)) -> None:
    await desk.post.execute(
        "UPDATE queue SET lease_until = now() - $2::interval WHERE tenant_id = $1 AND state = 1", desk.tenant_id, by
    )


async def test_an_ended_lease_counts_as_begun_and_the_promise_decides(desk: Desk, keen: Desk, folder: Path) -> None:
    careful, ids = await Dead(desk, folder / "a").claimed(2)
    eager, others = await Dead(keen, folder / "b").claimed(2)
    await end_leases(desk)
    await end_leases(keen)
    recovery = sweeper(desk, folder / "none")
    await recovery.step()
    assert await desk.states(ids) == ["uncertain", "uncertain"]
    assert await keen.states(others) == ["queued", "queued"]
    assert (recovery.uncertain_count, recovery.handed_back_count) == (2, 2)
    assert careful.token != eager.token


async def test_a_lease_that_holds_is_left_alone_beside_one_that_has_ended(desk: Desk, folder: Path) -> None:
    _, ended = await Dead(desk, folder / "a").claimed(1)
    await end_leases(desk)
    _, holding = await Dead(desk, folder / "b").claimed(1)
    await sweeper(desk, folder / "none").step()
    assert await desk.states([*ended, *holding]) == ["uncertain", "sending"]


async def test_directly_after_the_database_started_no_lease_is_swept(desk: Desk, folder: Path) -> None:
    _, ids = await Dead(desk, folder / "a").claimed(1)
    await end_leases(desk)
    patient = desk.post.runtime.settings.model_copy(update={"lease_s": 1e6})
    await Recovery(desk.post.engine, folder / "none", patient).step()
    assert await desk.states(ids) == ["sending"], "its worker may only have lost its connection"
    await Recovery(
        desk.post.engine, folder / "none", desk.post.runtime.settings.model_copy(update={"lease_s": 0.0})
    ).step()
    assert await desk.states(ids) == ["uncertain"]


async def test_a_flood_of_ended_leases_is_swept_in_slices(keen: Desk, folder: Path) -> None:
    for _ in range(2):
        await keen.admit(800)
        await keen.claim()
    await end_leases(keen)
    recovery = sweeper(keen, folder / "none")
    assert await recovery._from_leases(keen.tenant_id) is True
    assert await recovery._from_leases(keen.tenant_id) is False
    assert recovery.handed_back_count == 1600


async def test_a_sender_that_is_gone_promises_nothing(desk: Desk, keen: Desk, folder: Path) -> None:
    _, ids = await Dead(keen, folder / "a").claimed(1)
    await keen.post.execute("DELETE FROM senders WHERE tenant_id = $1", keen.tenant_id)
    await end_leases(keen)
    await sweeper(keen, folder / "none").step()
    assert await keen.states(ids) == ["uncertain"]


async def test_two_that_sweep_at_once_sweep_each_message_once(keen: Desk, folder: Path) -> None:
    _, ids = await Dead(keen, folder / "a").claimed(1)
    await end_leases(keen)
    first, second = sweeper(keen, folder / "none"), sweeper(keen, folder / "none")
    async with keen.post.engine.transaction() as other:
        await other.fetch("SELECT 1 FROM queue WHERE message_id = $1 FOR UPDATE", ids[0])
        assert await first._from_leases(keen.tenant_id) is False
        assert first.handed_back_count == 0
    await second._from_leases(keen.tenant_id)
    await first._from_leases(keen.tenant_id)
    assert first.handed_back_count + second.handed_back_count == 1
    assert await keen.events(ids[0]) == ["rescued"]

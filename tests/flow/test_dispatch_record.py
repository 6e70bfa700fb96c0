"""Recording on a real database: each kind of row, the fence of the token, late answers, and a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from outrider.base.errors import Unavailable
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.data.db import Database
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.journal import Journal, abandoned
from outrider.engine.dispatch.record import Recorder, Row, write, write_all
from outrider.engine.dispatch.recovery import Recovery
from tests.kit.dispatch import Desk, Post


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def leased(desk: Desk, count: int = 1, **more: Any) -> Batch:
    """A batch of new messages."""
    await desk.admit(count, **more)
    claim = await desk.claim(lane=await desk.lane(more.get("message_class", "transactional")))
    assert claim.batch is not None
    assert len(claim.batch.messages) == count
    return claim.batch


async def put(desk: Desk, *rows: Row) -> set[UUID]:
    async with desk.post.engine.transaction() as raw:
        return await write(raw, desk.tenant_id, list(rows))


async def deltas(desk: Desk) -> dict[tuple[str, str], int]:
    """What was counted, without acceptances of messages."""
    rows = await desk.post.fetch(
        "SELECT state, code, sum(n)::int AS n FROM rollup_deltas WHERE tenant_id = $1 AND state <> 'accepted' "
        "GROUP BY 1, 2",
        desk.tenant_id,
    )
    return {(row["state"], row["code"]): row["n"] for row in rows if row["n"]}


# the kinds of row


async def test_an_acceptance_is_in_ledger_events_and_counts_and_leaves_the_queue(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    assert await put(desk, Row("sent", message_id, batch.token, "sent", "p7")) == {message_id}
    message = await desk.message(message_id)
    assert (message["state"], message["provider_id"], message["attempts"]) == ("sent", "p7", 1)
    assert message["attempted_at"] == batch.messages[message_id].dated_at
    assert message["finished_at"] is not None
    assert await desk.queued(message_id) is None
    assert await desk.events(message_id) == ["sent"]
    assert await deltas(desk) == {("sent", ""): 1}


async def test_a_failure_keeps_its_cause_and_its_detail(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("finish", message_id, batch.token, "failed", None, "mailbox_unavailable", "550 no"))
    message = await desk.message(message_id)
    assert (message["state"], message["code"], message["detail"]) == ("failed", "mailbox_unavailable", "550 no")
    event = (await desk.post.fetch("SELECT kind, data FROM message_events WHERE message_id = $1", message_id))[0]
    assert event["kind"] == "failed"
    assert '"cause": "mailbox_unavailable"' in event["data"]
    assert '"attempt": 1' in event["data"]
    assert await deltas(desk) == {("failed", "mailbox_unavailable"): 1}


async def test_an_uncertain_message_is_on_the_list_of_those_that_wait_for_people(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("finish", message_id, batch.token, "uncertain", None, "answer_lost", "cut"))
    listed = await desk.post.fetch(
        "SELECT message_id, lane_id, cause, detail FROM uncertain_messages WHERE tenant_id = $1", desk.tenant_id
    )
    assert [tuple(row) for row in listed] == [(message_id, batch.lane.id, "answer_lost", "cut")]


async def test_a_deferral_waits_for_its_time_with_the_reason_and_keeps_the_attempt(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("defer", message_id, batch.token, code="server_deferred", detail="450", delay_s=3600.0))
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["state"], row["token"], row["lease_until"], row["attempt"]) == (4, None, None, 1)
    assert row["reason"] == "server_deferred"
    assert 3500 < (row["due_at"] - batch.messages[message_id].dated_at).total_seconds() < 3700
    message = await desk.message(message_id)
    assert (message["state"], message["waiting_for"], message["attempts"]) == ("scheduled", "server_deferred", 1)
    assert await desk.events(message_id) == ["deferred"]


async def test_what_is_handed_back_is_as_if_it_had_never_been_claimed(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("hand_back", message_id, batch.token, crash=1))
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["state"], row["token"], row["attempt"], row["attempted_at"], row["crashes"]) == (0, None, 0, None, 1)
    assert await desk.events(message_id) == []


async def test_handing_back_a_repetition_keeps_what_the_attempts_before_it_were(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("try_again", message_id, batch.token))
    again = await desk.claim()
    assert again.batch is not None
    await put(desk, Row("hand_back", message_id, again.batch.token))
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["attempt"], row["attempted_at"]) == (1, batch.messages[message_id].dated_at)


async def test_a_repetition_is_ready_at_once_and_says_so(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await put(desk, Row("try_again", message_id, batch.token))
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["state"], row["attempt"], row["crashes"]) == (0, 1, 1)
    assert await desk.events(message_id) == ["rescued"]


KINDS = [
    Row("sent", UUID(int=0), 0, "sent", "p"),
    Row("finish", UUID(int=0), 0, "failed", None, "poison", ""),
    Row("defer", UUID(int=0), 0, code="x", detail="", delay_s=1.0),
    Row("hand_back", UUID(int=0), 0),
    Row("try_again", UUID(int=0), 0),
]


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.kind)
@pytest.mark.parametrize("case", ["another token", "no longer there", "another tenant"])
async def test_without_the_token_nothing_of_a_message_is_written(post: Post, desk: Desk, row: Row, case: str) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    before = (await desk.queued(message_id), await desk.message(message_id))
    token = batch.token + 1 if case == "another token" else batch.token
    which = uuid4() if case == "no longer there" else message_id
    tenant = (await post.desk()).tenant_id if case == "another tenant" else desk.tenant_id
    fields = {"state": row.state, "provider_id": row.provider_id, "code": row.code, "detail": row.detail}
    async with post.engine.transaction() as raw:
        ours = await write(raw, tenant, [Row(row.kind, which, token, **fields, delay_s=row.delay_s)])  # type: ignore[arg-type]  # by name
    assert ours == set()
    assert (await desk.queued(message_id), await desk.message(message_id)) == before
    assert await desk.events(message_id) == []
    assert await deltas(desk) == {}


async def test_rows_of_every_kind_go_in_one_statement_per_kind_and_only_ours_come_back(desk: Desk) -> None:
    batch = await leased(desk, 10)
    ids = list(batch.messages)
    rows = [
        *(Row("sent", each, batch.token, "sent", f"p{n}") for n, each in enumerate(ids[:3])),
        *(Row("finish", each, batch.token, "failed", None, "poison", "") for each in ids[3:5]),
        *(Row("defer", each, batch.token, code="x", detail="", delay_s=60.0) for each in ids[5:7]),
        Row("hand_back", ids[7], batch.token),
        Row("try_again", ids[8], batch.token),
        Row("sent", ids[9], batch.token + 5, "sent", "stale"),
    ]
    assert await put(desk, *rows) == set(ids[:9])
    assert await desk.states(ids) == [*["sent"] * 3, *["failed"] * 2, *["scheduled"] * 2, "queued", "queued", "sending"]
    assert [(await desk.message(each))["provider_id"] for each in ids[:3]] == ["p0", "p1", "p2"]


# the recorder


class Office:
    """A recorder with a journal of its own and a database that can be cut off."""

    def __init__(self, desk: Desk, **settings: Any) -> None:
        post = desk.post
        self.settings = post.runtime.settings.model_copy(update=settings)
        self.journal = Journal(self.settings.journal_dir / str(uuid4()), uuid4())
        self.closed: list[Batch] = []
        self.cut: Exception | None = None
        self.flushes = 0
        self.may_repeat = False
        self.recorder = Recorder(cast("Database", self), self.journal, self.settings, self.closed.append)
        self.recorder.promise(lambda _batch: self.may_repeat)
        self._engine = post.engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        self.flushes += 1
        if self.cut is not None:
            raise self.cut
        async with self._engine.transaction() as raw:
            yield raw

    def settle(self, batch: Batch, outcome: Outcome, which: UUID | None = None) -> None:
        for message_id in [which] if which else list(batch.messages):
            self.recorder.add(batch, batch.messages[message_id], outcome)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Event]:
        """The recorder's own loop; ended when everything is recorded."""
        stop = asyncio.Event()
        task = asyncio.create_task(self.recorder.run(stop))
        try:
            yield stop
        finally:
            stop.set()
            async with asyncio.timeout(90):
                await task
            self.journal.close(is_settled=False)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not is_so():  # noqa: ASYNC110 - the recorder sets no event when it has tried
            await asyncio.sleep(0.005)


async def test_results_wait_while_the_database_is_away_and_are_recorded_when_it_is_back(desk: Desk) -> None:
    batch = await leased(desk, 3)
    office = Office(desk, flush_s=0.005)
    office.cut = Unavailable("database_unavailable", "away")
    async with office.running():
        office.settle(batch, Accepted("p"))
        await until(lambda: office.flushes >= 2)
        assert office.recorder.waiting_count == 3
        assert (office.closed, office.recorder.recorded_count) == ([], 0)
        office.cut = None
        await until(lambda: office.closed == [batch])
    assert await desk.states(list(batch.messages)) == ["sent"] * 3
    assert (office.recorder.recorded_count, office.recorder.fenced_count) == (3, 0)
    assert office.recorder.kind_counts == {"accepted": 3}


async def test_a_commit_that_was_cut_is_repeated_without_counting_twice(desk: Desk) -> None:
    batch = await leased(desk, 2)
    office = Office(desk, flush_s=0.005)
    real = office.transaction

    @asynccontextmanager
    async def lost_answer() -> AsyncIterator[asyncpg.Connection]:
        async with real() as raw:
            yield raw
        office.transaction = real  # type: ignore[method-assign]  # only the first answer is lost
        raise Unavailable("database_unavailable", "committed, but the answer was lost")

    office.transaction = lost_answer  # type: ignore[method-assign]  # see above
    async with office.running():
        office.settle(batch, Accepted("p"))
        await until(lambda: office.closed == [batch])
    assert await deltas(desk) == {("sent", ""): 2}
    assert [await desk.events(each) for each in batch.messages] == [["sent"], ["sent"]]


async def test_an_outcome_that_cannot_be_recorded_costs_only_itself(desk: Desk) -> None:
    batch = await leased(desk, 5)
    bad = list(batch.messages)[2]
    office = Office(desk)
    for message_id, message in batch.messages.items():
        # past the watch, which makes text printable: what else may be wrong with a row nobody knows
        outcome = Rejected("x", "NUL \0") if message_id == bad else Accepted("p")
        office.recorder.add(batch, message, outcome)
    with capture_logs() as logs:
        async with office.running():
            await until(lambda: office.closed == [batch])
    states = dict(zip(batch.messages, await desk.states(list(batch.messages)), strict=True))
    assert states.pop(bad) == "sending", "its lease ends and the sweep decides"
    assert set(states.values()) == {"sent"}
    assert [log["message"] for log in logs if log["event"] == "outcome_unrecordable"] == [str(bad)]
    assert batch.unrecorded == 0


async def test_a_batch_is_closed_and_out_of_the_journal_when_its_last_outcome_is_recorded(desk: Desk) -> None:
    batch = await leased(desk, 2)
    one, two = batch.messages
    office = Office(desk, flush_s=0.005)
    office.journal.claim(batch.token, desk.tenant_id)
    async with office.running():
        office.settle(batch, Accepted("p"), one)
        await until(lambda: office.recorder.recorded_count == 1)
        assert office.closed == []
        office.settle(batch, Unsent("paused"), two)
        await until(lambda: office.closed == [batch])
    (found,) = abandoned(office.journal.path.parent)
    found.release()
    assert found.claims == []


async def test_stopping_waits_until_nothing_is_left(desk: Desk) -> None:
    batch = await leased(desk, 7)
    office = Office(desk, flush_s=0.2, flush_count=3)
    async with office.running() as stop:
        office.settle(batch, Accepted("p"))
        stop.set()
    assert office.closed == [batch]
    assert await desk.states(list(batch.messages)) == ["sent"] * 7
    assert office.flushes == 3, "at most flush_count in one transaction"


async def test_outcomes_of_several_tenants_go_in_one_transaction(post: Post, desk: Desk) -> None:
    other = await post.desk()
    batches = [await leased(desk, 2), await leased(other, 2)]
    office = Office(desk, flush_s=0.2)
    async with office.running() as stop:
        for batch in batches:
            office.settle(batch, Accepted("p"))
        stop.set()
    assert office.flushes == 1
    for each, batch in zip((desk, other), batches, strict=True):
        assert await each.states(list(batch.messages)) == ["sent", "sent"]
        assert await deltas(each) == {("sent", ""): 2}, "each tenant counts its own"


async def test_what_many_tenants_had_accepted_is_recorded_by_one_statement(post: Post) -> None:
    desks = [await post.desk() for _ in range(5)]
    batches = {each.tenant_id: await leased(each, 2) for each in desks}
    rows = {tenant: [Row("sent", m, b.token, provider_id="p") for m in b.messages] for tenant, b in batches.items()}
    stranger, *_ = rows
    rows[stranger].append(Row("sent", *_first_of_another(batches, stranger), provider_id="p"))
    asked: list[Any] = []
    async with post.engine.transaction() as raw:
        ours = await write_all(raw, {tenant: part[2:] for tenant, part in rows.items()})
        assert ours == set(), "a message of another tenant is not this one's"
        with raw.query_logger(asked.append):
            ours = await write_all(raw, {tenant: part[:2] for tenant, part in rows.items()})
            await asyncio.sleep(0)  # its listeners are told in the next turn of the loop
    assert len(asked) == 1
    assert ours == {message_id for batch in batches.values() for message_id in batch.messages}


def _first_of_another(batches: dict[UUID, Batch], stranger: UUID) -> tuple[UUID, int]:
    other = next(batch for tenant, batch in batches.items() if tenant != stranger)
    return next(iter(other.messages)), other.token


async def test_the_promise_of_the_sender_decides_what_a_lost_answer_means(desk: Desk) -> None:
    batch = await leased(desk, 2)
    one, two = batch.messages
    office = Office(desk, flush_s=0.005)
    async with office.running():
        office.settle(batch, Uncertain("answer_lost", "cut"), one)
        await until(lambda: office.recorder.recorded_count == 1)
        office.may_repeat = True
        office.settle(batch, Uncertain("answer_lost", "cut"), two)
    assert await desk.states([one, two]) == ["uncertain", "scheduled"]


async def test_what_an_outcome_says_of_the_connection_is_counted_for_the_batch(desk: Desk) -> None:
    batch = await leased(desk, 4)
    ids = list(batch.messages)
    office = Office(desk)
    async with office.running():
        office.settle(batch, Accepted("p"), ids[0])
        office.settle(batch, Deferred("connection_failed", ""), ids[1])
        office.settle(batch, Deferred("server_deferred", ""), ids[2])
        office.settle(batch, Deferred("plugin_failed", ""), ids[3])
    assert (batch.accepted_count, batch.unreached_count) == (1, 2)


# answers after the sweep


async def test_an_acceptance_after_the_sweep_settles_the_uncertain_message(post: Post) -> None:
    desk = await post.desk(transactional_guarantee="at_most_once")
    batch = await leased(desk, 2)
    one, two = batch.messages
    await sweep(desk)
    assert await desk.states([one, two]) == ["uncertain", "uncertain"]
    office = Office(desk)
    async with office.running():
        office.settle(batch, Accepted("late"), one)
        office.settle(batch, Rejected("message_rejected", "late"), two)
    assert office.recorder.fenced_count == 2
    assert await desk.states([one, two]) == ["sent", "uncertain"]
    assert await desk.events(one) == ["uncertain", "sent"]
    assert await deltas(desk) == {("sent", ""): 1, ("uncertain", "answer_lost"): 1}
    assert office.closed == [batch]


async def test_an_answer_after_the_message_went_to_another_worker_changes_nothing(desk: Desk) -> None:
    batch = await leased(desk)
    (message_id,) = batch.messages
    await sweep(desk)
    assert await desk.states([message_id]) == ["queued"], "at_least_once repeats"
    again = await desk.claim()
    assert again.batch is not None
    office = Office(desk)
    async with office.running():
        office.settle(batch, Rejected("message_rejected", "stale"))
    assert await desk.states([message_id]) == ["sending"]
    row = await desk.queued(message_id)
    assert row is not None
    assert row["token"] == again.batch.token


async def sweep(desk: Desk) -> None:
    """End every lease of the tenant and let recovery find it."""
    await desk.post.execute(
        "UPDATE queue SET lease_until = now() - interval '1 second' WHERE tenant_id = $1 AND state = 1", desk.tenant_id
    )
    recovery = Recovery(desk.post.engine, desk.post.runtime.settings.journal_dir, desk.post.runtime.settings)
    await recovery._from_leases(desk.tenant_id)


async def test_a_transactional_outcome_waits_for_none_of_a_campaign(post: Post, desk: Desk) -> None:
    other = await post.desk()
    many, single = await leased(desk, 3), await leased(other)
    many.lane = replace(many.lane, message_class="bulk")
    office = Office(desk, flush_s=1.0, flush_count=3)
    real, is_free = office.transaction, asyncio.Event()
    first = True

    @asynccontextmanager
    async def slow() -> AsyncIterator[asyncpg.Connection]:
        nonlocal first
        is_first, first = first, False
        async with real() as raw:
            if is_first:
                await is_free.wait()
            yield raw

    office.transaction = slow  # type: ignore[method-assign]  # the database takes long over the campaign's
    async with office.running():
        office.settle(many, Accepted("p"))
        await until(lambda: office.flushes == 1)
        office.settle(single, Accepted("p"))
        await until(lambda: office.closed == [single])
        assert office.recorder.waiting_count == 3
        is_free.set()
        await until(lambda: office.closed == [single, many])
    assert await desk.states(list(many.messages)) == ["sent"] * 3
    assert await other.states(list(single.messages)) == ["sent"]


async def test_transactional_outcomes_that_come_in_crowds_share_transactions(desk: Desk) -> None:
    batches = [await leased(desk, 20) for _ in range(3)]
    office = Office(desk, flush_s=0.3, flush_count=100)
    async with office.running():
        office.settle(batches[0], Accepted("p"))
        await until(lambda: office.closed == batches[:1])
        for batch in batches[1:]:
            office.settle(batch, Accepted("p"))
            await asyncio.sleep(0)
        await until(lambda: len(office.closed) == len(batches))
    assert office.flushes == 2, "after a large one the next is waited for as of a campaign's"

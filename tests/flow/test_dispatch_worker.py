"""A whole worker on this event loop, a real database, and channels and providers that behave well or badly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.contracts.channel import Item, Unrenderable
from outrider.contracts.gate import Candidate, Fact, Gate, Lane, Verdict
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Unsent
from outrider.contracts.provider import Outgoing, Watch
from outrider.data.db import Database
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.messages import stats, workers
from outrider.engine.dispatch import pipeline, run, second_thoughts
from outrider.engine.dispatch.batch import LONGEST_UNASKED_S, Batch
from outrider.engine.dispatch.claim import Claim, Claimer
from outrider.engine.dispatch.recovery import Recovery
from outrider.engine.dispatch.ring import Ring
from outrider.engine.dispatch.run import Worker
from outrider.engine.fanout import expand
from outrider.engine.loop import Loop
from tests.kit.campaigns import launched
from tests.kit.dispatch import Desk, GlassChannel, GlassProvider, Post, plain_bytes, posts, send_soundly, until


@pytest.fixture(scope="module")
async def house(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("worker")) as made:
        yield made


@pytest.fixture
async def post(house: Post, tmp_path: Path) -> AsyncIterator[Post]:
    """The database of the module with a provider, a channel and a folder of the test's own."""
    provider, channel = GlassProvider(), GlassChannel()
    settings = house.runtime.settings.model_copy(update={"data_dir": tmp_path})
    runtime = replace(house.runtime, settings=settings, providers={"glass": provider}, channels={"email": channel})
    yield Post(runtime, house.engine, provider, channel)
    await house.execute("DELETE FROM switches")
    await house.reset()


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes rest for minutes where they would for seconds: a rest is not over before somebody has looked at it."""
    rest = Ring.rest
    monkeypatch.setattr(Ring, "rest", lambda self, lane, seconds: rest(self, lane, 60 * seconds))


async def test_a_message_goes_from_the_queue_to_the_provider_and_into_the_ledger(post: Post, desk: Desk) -> None:
    ids = await desk.admit(3, variables='{"n": 1}')
    async with post.working() as worker:
        await desk.until(ids, "sent")
        listed = {process.process.id: process async for process in _workers(post)}
    assert {message.id for message in post.provider.taken} == set(ids)
    message = post.provider.taken[0]
    row = await desk.message(message.id)
    assert message.body.decode() == f'{message.address}|{{"n": 1}}|{row["attempted_at"].isoformat()}|\r\n'
    assert row["attempts"] == 1
    assert listed[worker.options.worker_id].process.journal == str(worker.journal.path)
    assert not list(worker.journal.path.parent.iterdir()), "nothing is left open after an orderly stop"
    assert (post.provider.opened, post.provider.closed) == (1, 1)
    assert worker.report()["in_flight"] == 0


async def _workers(post: Post) -> AsyncIterator[workers.Seen]:
    async with post.engine.transaction() as raw:
        for seen in await workers.listed(raw):
            yield seen


async def test_bulk_carries_an_unsubscribe_link_of_its_own_and_transactional_none(post: Post, desk: Desk) -> None:
    campaign = await launched(desk, 2)
    (letter,) = await desk.admit()
    async with post.working(expand.loops(post.runtime)):
        await desk.until([letter], "sent")
        await until(lambda: _is_finished(desk, campaign.id))
    by_id = {message.id: message for message in post.provider.taken}
    assert {each.id for each in by_id.values() if each.is_urgent} == {letter}
    assert by_id[letter].body.decode().rstrip().endswith("|")
    for member in await campaign.messages():
        url = by_id[member].body.decode().rstrip().rpartition("|")[2]
        prefix, _, token = url.rpartition("/")
        assert prefix == f"{post.runtime.settings.public_url}/u"
        assert post.runtime.unsubscribe_links.read(token) == (desk.tenant_id, member)


async def _is_finished(desk: Desk, campaign_id: UUID) -> bool:
    rows = await desk.post.fetch("SELECT state FROM campaigns WHERE id = $1", campaign_id)
    return bool(rows[0]["state"] == "finished")


async def test_a_deferred_message_is_tried_again_with_the_same_bytes(post: Post, desk: Desk) -> None:
    seen: list[bytes] = []

    def answer(message: Outgoing) -> Outcome:
        seen.append(message.body)
        return Accepted() if len(seen) == 3 else Deferred("server_deferred", "450 later")

    post.provider.answer = answer
    ids = await desk.admit()
    async with post.working():
        await desk.until(ids, "sent")
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert await desk.events(ids[0]) == ["deferred", "deferred", "sent"]
    assert (await desk.message(ids[0]))["attempts"] == 3


# providers that break their contract


async def test_a_provider_that_settles_twice_is_heard_once(post: Post, desk: Desk) -> None:
    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        await send_soundly(provider, batch, watch)
        for message in batch:
            watch.settle(message, Rejected("message_rejected", "changed my mind"))

    post.provider.send = send
    ids = await desk.admit(3)
    async with post.working():
        await desk.until(ids, "sent")
    assert [await desk.events(each) for each in ids] == [["sent"]] * 3


async def test_a_provider_that_forgets_leaves_begun_messages_uncertain_or_repeated_and_loses_none(
    post: Post, desk: Desk
) -> None:
    careful = await post.desk(transactional_guarantee="at_most_once")
    forgotten: set[UUID] = set()

    def answer(message: Outgoing) -> Outcome | None:
        if message.id in forgotten:
            return Accepted()
        forgotten.add(message.id)
        return None

    post.provider.answer = answer
    ids, others = await desk.admit(2), await careful.admit(2)
    async with post.working():
        await desk.until(ids, "sent")
        await careful.until(others, "uncertain")
    assert [await desk.events(each) for each in ids] == [["deferred", "sent"]] * 2
    assert {message.id for message in post.provider.taken} == set(ids), "what may have left is not sent again"


async def test_a_provider_that_raises_costs_an_attempt_and_not_the_lane(post: Post, desk: Desk) -> None:
    poison = (await desk.admit(address="poison@example.org"))[0]
    ids = await desk.admit(5)

    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        if any(message.id == poison for message in batch):
            raise ZeroDivisionError
        await send_soundly(provider, batch, watch)

    post.provider.send = send
    async with post.working(retry_attempts=3) as worker:
        await desk.until(ids, "sent")
        await desk.until([poison], "failed")
        labels = {"app": post.runtime.settings.app_label, "cause": "plugin_failed"}
        assert (worker.registry.get_sample_value("outrider_batches_failed_total", labels) or 0) >= 3
    message = await desk.message(poison)
    assert (message["code"], message["detail"], message["attempts"]) == ("plugin_failed", "ZeroDivisionError", 3)


@pytest.mark.usefixtures("long_rests")
async def test_a_provider_that_takes_nothing_is_not_asked_without_pause(post: Post, desk: Desk) -> None:
    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        del provider, batch, watch

    post.provider.send = send
    ids = await desk.admit(4)
    async with post.working() as worker:
        await until(lambda: _is(worker.recorder.kind_counts.get("deferred", 0) == 4))
        await desk.until(ids, "queued")
        assert post.provider.batches == [4]
        assert worker.pipeline._ring._rests[(await desk.lane()).id] > boottime_s(), "the lane rests"
    assert {(await desk.message(each))["attempts"] for each in ids} == {1}


async def test_a_slow_server_gets_a_message_for_every_line_after_single_ones_too(post: Post, desk: Desk) -> None:
    is_let_go, at_hand = asyncio.Event(), 0

    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        nonlocal at_hand
        at_hand += len(batch)
        await (asyncio.sleep(0.6) if len(provider.batches) == 1 else is_let_go.wait())
        await send_soundly(provider, batch, watch)

    post.provider.line_count, post.provider.send = 8, send
    async with post.working():
        await desk.until(await desk.admit(1), "sent")  # two a second: half a second of that is one message
        ids = await desk.admit(30)
        await until(lambda: _is(at_hand > 8))
        is_let_go.set()
        await desk.until(ids, "sent")


async def test_nonsense_as_an_outcome_loses_nothing(post: Post, desk: Desk) -> None:
    first = True

    def answer(message: Outgoing) -> Outcome:
        nonlocal first
        del message
        if first:
            first = False
            return Rejected("bad\0cause", "half a pair \udcff")
        return Accepted("id\0")

    post.provider.answer = answer
    ids = await desk.admit(3)
    async with post.working():
        await desk.until(ids, "sent", "failed")
    assert Counter(await desk.states(ids)) == {"sent": 2, "failed": 1}


async def test_a_message_the_provider_withdraws_goes_back_as_if_nothing_had_been_tried(post: Post, desk: Desk) -> None:
    asked = Counter[UUID]()

    def answer(message: Outgoing) -> Outcome:
        asked[message.id] += 1
        return Unsent("no connection free") if asked[message.id] == 1 else Accepted()

    post.provider.answer = answer
    ids = await desk.admit(2)
    async with post.working():
        await desk.until(ids, "sent")
    assert {(await desk.message(each))["attempts"] for each in ids} == {1}
    assert [await desk.events(each) for each in ids] == [["sent"]] * 2


# what cannot be made


async def test_a_message_that_cannot_be_rendered_fails_alone(post: Post, desk: Desk) -> None:
    def compose(item: Item) -> Outgoing | Unrenderable:
        return Unrenderable(item.id, "line 3: no such name") if item.address.startswith("p1@") else plain_bytes(item)

    post.channel.compose = compose
    ids = await desk.admit(3)
    async with post.working():
        await desk.until(ids, "sent", "failed")
    assert await desk.states(ids) == ["sent", "failed", "sent"]
    message = await desk.message(ids[1])
    assert (message["code"], message["detail"]) == ("render_failed", "line 3: no such name")


async def test_a_channel_that_raises_for_one_message_costs_the_others_a_delay(post: Post, desk: Desk) -> None:
    def compose(item: Item) -> Outgoing | Unrenderable:
        if item.address.startswith("p1@"):
            raise RecursionError
        return plain_bytes(item)

    post.channel.compose = compose
    ids = await desk.admit(3)
    async with post.working(retry_attempts=3):
        await desk.until([ids[0], ids[2]], "sent")
        await desk.until([ids[1]], "failed")
    assert (await desk.message(ids[1]))["code"] == "plugin_failed"


async def test_a_message_whose_content_is_gone_fails_and_says_so(post: Post, desk: Desk) -> None:
    ids = await desk.admit()
    await post.execute("DELETE FROM contents WHERE tenant_id = $1", desk.tenant_id)
    async with post.working():
        await desk.until(ids, "failed")
    assert (await desk.message(ids[0]))["detail"] == "its content is gone"


@pytest.mark.parametrize(
    "fault", ["the sender is gone", "the provider is not installed", "the channel is not installed"]
)
async def test_a_sender_that_cannot_be_used_delays_its_messages_with_the_reason(
    post: Post, desk: Desk, fault: str
) -> None:
    ids = await desk.admit()
    if fault == "the sender is gone":
        await post.execute("DELETE FROM senders WHERE tenant_id = $1", desk.tenant_id)
    elif fault == "the provider is not installed":
        await post.execute("UPDATE connections SET provider = 'pigeon' WHERE tenant_id = $1", desk.tenant_id)
    else:
        post.runtime = replace(post.runtime, channels={})
    async with post.working(retry_first_s=3600.0, retry_most_s=3600.0) as worker:
        await desk.until(ids, "scheduled")
        labels = {"app": post.runtime.settings.app_label, "cause": "sender_unusable"}
        assert worker.registry.get_sample_value("outrider_batches_failed_total", labels) == 1
        async with post.engine.transaction() as raw:
            (told,) = [each for each in await stats.unworkable(raw) if each.tenant_id == desk.tenant_id]
    assert (told.cause, told.count) == ("sender_unusable", 1)
    assert (await desk.message(ids[0]))["waiting_for"] == "sender_unusable"
    assert await desk.events(ids[0]) == ["deferred"]


# stopping what is under way


class Hanging:
    """A provider that waits before the body of each message until it is let go."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.is_begun_first = False

    async def __call__(self, provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        if self.is_begun_first:
            assert watch.begin(batch[0]) is None
        self.waiting.set()
        await self.go.wait()
        await send_soundly(provider, batch, watch)

    async def until_waiting(self) -> None:
        async with asyncio.timeout(90):
            await self.waiting.wait()


@pytest.fixture
def hanging(post: Post) -> Hanging:
    made = Hanging()
    post.provider.send = made
    return made


async def test_a_pause_stops_messages_that_were_claimed_already_and_they_go_on_after_it(
    post: Post, desk: Desk, hanging: Hanging
) -> None:
    ids = await desk.admit(3)
    async with post.working() as worker:
        await hanging.until_waiting()
        await desk.pause("tenant", str(desk.tenant_id))
        version = worker.board.version
        await until(lambda: _is(worker.board.version > version))
        hanging.go.set()
        await desk.until(ids, "queued")
        assert {reason for _message, reason in post.provider.withheld} == {"paused: tenant: test"}
        assert post.provider.taken == []
        await desk.resume()
        await desk.until(ids, "sent")
    assert {(await desk.message(each))["attempts"] for each in ids} == {1}


async def _is(what: bool) -> bool:  # noqa: FBT001 - a condition
    return what


async def test_who_says_stop_while_a_message_waits_for_its_connection_does_not_get_it(
    post: Post, desk: Desk, hanging: Hanging
) -> None:
    ids = await desk.admit(2)
    async with post.working() as worker:
        await hanging.until_waiting()
        await desk.suppress("p1@example.org")
        await until(lambda: _is(any(batch.withdrawn for batch in worker.batches.values())))
        hanging.go.set()
        await desk.until(ids, "sent", "blocked")
    assert await desk.states(ids) == ["sent", "blocked"]
    assert post.provider.addresses() == ["p0@example.org"]


async def test_every_worker_hears_at_once_who_says_stop_and_asks_about_nobody_else(
    post: Post, desk: Desk, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    # never by itself: what is asked again is asked because somebody said so
    monkeypatch.setattr(second_thoughts, "ASK_AGAIN_S", 3600.0)
    other = await post.desk()
    ids, others = await desk.admit(4), await other.admit(1)
    async with (
        post.working(claim_batch=1, lanes_in_flight=2) as first,
        post.working(claim_batch=1, lanes_in_flight=2) as second,
    ):

        def open_batches(*tenants: UUID) -> list[Batch]:
            found = [batch for worker in (first, second) for batch in worker.batches.values()]
            return [batch for batch in found if batch.lane.tenant_id in tenants]

        await until(lambda: _is(len(open_batches(desk.tenant_id)) == 4 and len(open_batches(other.tenant_id)) == 1))
        (elsewhere,) = open_batches(other.tenant_id)
        claimed_s = elsewhere.asked_s
        for person in range(4):
            await desk.suppress(f"p{person}@example.org")
        await post.execute(CONTACTS.tell_suppression.sql, str(desk.tenant_id))
        await until(lambda: _is(all(batch.withdrawn for batch in open_batches(desk.tenant_id))))
        assert elsewhere.asked_s == claimed_s
        hanging.go.set()
        await desk.until(ids, "blocked")
        await other.until(others, "sent")
    assert len(post.provider.taken) == 1


async def test_the_emergency_file_stops_everything_without_the_database(
    post: Post, desk: Desk, hanging: Hanging
) -> None:
    ids = await desk.admit(2)
    async with post.working() as worker:
        await hanging.until_waiting()
        worker.board._emergency_path.touch()
        await until(lambda: _is(worker.board.is_emergency))
        hanging.go.set()
        await desk.until(ids, "queued")
        assert post.provider.taken == []
        assert worker.report()["is_emergency"]
        worker.board._emergency_path.unlink()
        await desk.until(ids, "sent")


async def test_stopping_waits_for_what_is_under_way(post: Post, desk: Desk, hanging: Hanging) -> None:
    ids = await desk.admit(3)
    async with post.working():
        await hanging.until_waiting()
        asyncio.get_running_loop().call_later(0.05, hanging.go.set)
    assert await desk.states(ids) == ["sent"] * 3


async def test_what_hangs_beyond_the_grace_is_uncertain_if_begun_and_goes_back_if_not(
    post: Post, hanging: Hanging
) -> None:
    desk = await post.desk(transactional_guarantee="at_most_once")
    hanging.is_begun_first = True
    ids = await desk.admit(3)
    async with post.working(grace_s=0.1) as worker:
        await hanging.until_waiting()
    assert await desk.states(ids) == ["uncertain", "queued", "queued"]
    assert worker.batches == {}
    assert not list(worker.journal.path.parent.iterdir())


async def test_a_background_loop_that_waits_for_ever_is_cut_when_the_worker_has_ended(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LAST_ROUND_S", 0.05)
    begun = asyncio.Event()

    async def wait() -> bool:
        begun.set()
        return await asyncio.Event().wait()

    async with post.working([Loop("stuck", 1.0, wait)]) as worker:
        await begun.wait()
    assert worker.state == "stopped"


async def test_feeders_and_what_they_sent_share_one_grace(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    async def feed(_self: pipeline.Pipeline, *_more: object) -> None:
        await asyncio.Event().wait()

    async def finish(tasks: set[asyncio.Task[None]], grace_s: float) -> None:
        given.append(grace_s)
        for task in tasks:
            task.cancel()

    monkeypatch.setattr(pipeline.Pipeline, "feed", feed)
    monkeypatch.setattr(run, "finish", finish)
    async with post.working(grace_s=0.1):
        pass
    assert given[0] == 0.0, "the feeders took all of it"


# the worker and its neighbours


@pytest.mark.parametrize("is_late", [False, True], ids=["committed at once", "committed later"])
async def test_a_claim_whose_commit_was_cut_is_given_back_and_not_taken_for_begun(
    post: Post, monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    desk = await post.desk(transactional_guarantee="at_most_once")
    ids = await desk.admit(3)
    cut = _Cut(monkeypatch)
    async with post.working() as worker:
        await until(lambda: _is(cut.pending is not None))
        if is_late:
            rounds = worker.pulses.by_name["lost_claims"].rounds
            await until(lambda: _is(worker.pulses.by_name["lost_claims"].rounds > rounds))
        await cut.commit()
        await desk.until(ids, "sent", "uncertain")
    assert await desk.states(ids) == ["sent"] * 3


class _Cut:
    """The connection of the first claim is lost at its commit, which comes through when `commit` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pending: Callable[[], Awaitable[Claim]] | None = None
        self._is_through = asyncio.Event()
        real = Claimer.claim

        async def claim(claimer: Claimer, *args: object, **more: object) -> Claim:
            if self.pending is None:
                self.pending = partial(real, claimer, *args, **more)  # type: ignore[arg-type]  # handed through
                raise Unavailable("database_unavailable", "the answer to the commit was lost")
            await self._is_through.wait()
            return await real(claimer, *args, **more)  # type: ignore[arg-type]  # as above

        monkeypatch.setattr(Claimer, "claim", claim)

    async def commit(self) -> None:
        """The claim is in the database now; nobody was told."""
        assert self.pending is not None
        assert (await self.pending()).batch is not None
        self._is_through.set()


async def test_two_workers_share_the_work_and_send_each_message_once(post: Post, desk: Desk) -> None:
    ids = await desk.admit(600)
    async with post.working(claim_batch=20), post.working(claim_batch=20):
        await desk.until(ids, "sent")
    assert len(post.provider.taken) == 600
    assert {message.id for message in post.provider.taken} == set(ids)


async def test_a_tenant_with_thousands_waiting_does_not_delay_anothers_single_message(post: Post, desk: Desk) -> None:
    await desk.admit(3000)
    small = await post.desk()
    (letter,) = await small.admit()
    async with post.working(claim_batch=50):
        await small.until([letter], "sent")
        place = [message.id for message in post.provider.taken].index(letter)
    assert place <= 500


@pytest.mark.usefixtures("long_rests")
async def test_a_server_that_comes_back_gets_everything_at_once_after_one_probe(
    post: Post, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True
    woken: list[Lane] = []

    def wake(one: Lane) -> None:
        woken.append(one)
        Ring.wake(ring, one)

    def answer(message: Outgoing) -> Outcome:
        del message
        return Deferred("connection_failed", "refused") if is_away else Accepted()

    post.provider.answer = answer
    ids, lane = await desk.admit(50), await desk.lane()
    async with post.working() as worker:
        ring = worker.pipeline._ring
        await until(lambda: _is(worker.recorder.kind_counts.get("deferred", 0) == 50))
        await desk.until(ids, "queued")
        assert ring._rests[lane.id] > boottime_s() + 1, "the lane rests while its server is away"
        is_away = False
        ring.wake(lane)
        monkeypatch.setattr(ring, "wake", wake)
        await until(lambda: _is(worker.recorder.kind_counts.get("accepted", 0) >= 1))
        await until(lambda: _is(lane in woken))  # its rest ended with the first acceptance
        await desk.until(ids, "sent")
    assert post.provider.batches[:2] == [50, 1], "one message probed"


class Crashing(Gate):
    """Has a bug that one tenant's messages meet."""

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        if message.address.startswith(self.help):
            raise ZeroDivisionError
        return super().judge(fact, message, now)


@pytest.mark.parametrize("is_asked_again", [False, True], ids=["at the claim", "while it waits"])
async def test_a_gate_with_a_bug_stops_the_lane_that_meets_it_and_no_other(
    post: Post, desk: Desk, hanging: Hanging, *, is_asked_again: bool
) -> None:
    facts = None
    if is_asked_again:
        facts = (
            "SELECT t.id AS message_id FROM unnest($2::uuid[], $4::text[]) t(id, address) WHERE t.address LIKE 'met%'"
            " AND num_nulls($1::uuid, $3::uuid[], $5::text, $6::text, $7::text[]) >= 0"
        )
    gate = Crashing("crashing", 99, "met", facts=facts, is_asked_again=is_asked_again)
    post.runtime = replace(post.runtime, gates=(*post.runtime.gates, gate))
    other = await post.desk()
    if not is_asked_again:
        hanging.go.set()
        met = await desk.admit(3, address="met{}@example.org")
    async with post.working(longest_unasked_s=LONGEST_UNASKED_S) as worker:
        ids = await other.admit(20)
        if is_asked_again:
            # claimed before the gate has anything to say; then it is asked about a message that meets its bug
            met = await desk.admit(3)
            await hanging.until_waiting()
            await until(lambda: _is(len(worker.batches) == 2))
            for batch in worker.batches.values():
                for message in batch.messages.values():
                    message.address = "met@example.org" if message.id in set(met) else message.address
            # whoever claims it again, as soon as it is handed back, meets the bug as well
            await post.execute("UPDATE messages SET address = 'met@example.org' WHERE id = ANY ($1)", met)
            (asked,) = [batch for batch in worker.batches.values() if set(batch.messages) == set(met)]
            await until(lambda: _is(boottime_s() - asked.asked_s > LONGEST_UNASKED_S))
            hanging.go.set()
        await other.until(ids, "sent")
        if is_asked_again:
            # on a slow machine one of the other tenant's may have had to wait as well; it went all the same
            await until(lambda: _is({message.id for message, _reason in post.provider.withheld} >= set(met)))
            reasons = {reason for message, reason in post.provider.withheld if message.id in set(met)}
            assert reasons == {"do-not-contact could not be asked again"}
            assert set(met).isdisjoint(message.id for message in post.provider.taken)
        else:
            assert set(await desk.states(met)) == {"queued"}
            assert worker.pipeline._ring._rests[(await desk.lane()).id] > boottime_s() + 5


async def test_a_hanging_server_holds_up_no_other_sender(post: Post, desk: Desk, hanging: Hanging) -> None:
    stuck = await desk.admit(5)
    other = await post.desk()

    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        is_stuck = batch[0].id in set(stuck)
        await (hanging if is_stuck else send_soundly)(provider, batch, watch)

    post.provider.send = send
    async with post.working():
        await hanging.until_waiting()
        quick = await other.admit(5)
        await other.until(quick, "sent")
        assert await desk.states(stuck) == ["sending"] * 5
        hanging.go.set()


class _Away:
    """A database that is away."""

    def transaction(self) -> None:
        raise Unavailable("database_unavailable", "away")


async def test_a_worker_with_its_hands_full_claims_nothing_more_until_they_are_free(
    post: Post, desk: Desk, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def waiting(batches: Iterable[Batch], _now_s: float) -> int:
        looks.append(sum(len(batch.unsettled) for batch in batches))
        return looks[-1]

    monkeypatch.setattr(pipeline, "just_claimed", waiting)
    monkeypatch.setattr(pipeline, "_CROWD", 2)
    first = await desk.admit(2)
    async with post.working():
        await hanging.until_waiting()
        other = await post.desk()
        second = await other.admit(1)
        looks.clear()

        async def has_looked() -> bool:
            return len(looks) > 5

        await until(has_looked)
        assert set(looks) == {2}
        assert await other.states(second) == ["queued"]
        hanging.go.set()
        await desk.until(first, "sent")
        await other.until(second, "sent")


def _fail() -> None:
    raise RuntimeError


async def test_a_worker_that_breaks_leaves_its_outcomes_to_its_sibling_and_nothing_behind(
    post: Post, hanging: Hanging
) -> None:
    desk = await post.desk(transactional_guarantee="at_most_once")
    first, *others = ids = await desk.admit(3)
    post.provider.answer = lambda message: Accepted("known") if message.id == first else None
    hanging.go.set()

    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        await send_soundly(provider, batch, watch)
        hanging.waiting.set()
        await asyncio.Event().wait()

    post.provider.send = send
    kept: list[Worker] = []

    async def break_it() -> None:
        async with post.working(flush_s=1.0) as worker:
            kept.append(worker)
            worker.recorder._database = cast("Database", _Away())
            await hanging.until_waiting()
            worker.board.look_at_file = _fail  # type: ignore[method-assign]  # a part of the worker that breaks
            await until(lambda: _is(not worker.renewer._thread.is_alive()))

    with pytest.raises(ExceptionGroup):
        await break_it()
    (worker,) = kept
    assert await desk.states(ids) == ["sending"] * 3
    assert worker.pipeline.tasks == set()
    recovery = Recovery(post.engine, post.runtime.settings.journal_dir, post.runtime.settings)
    await recovery.step()
    assert await desk.states([first]) == ["sent"], "its outcome had reached the journal"
    assert await desk.states(others) == ["uncertain", "uncertain"]

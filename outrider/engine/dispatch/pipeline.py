"""The walk: claim -> compose -> send -> settle.

A few feeders claim; each batch is then carried by a task of its own, so that a server that hangs holds up nobody but
its own sender. Owns the batches in flight and the pace of claims; claim, bytes, wire and record are others'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

import structlog

from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured, OutriderError, Refused, Unavailable
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Deferred, Outcome, Uncertain, Unsent
from outrider.contracts.provider import Outgoing
from outrider.data.db import Database
from outrider.data.runtime import Runtime
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.stats import UNWORKABLE
from outrider.engine.dispatch import bills, pacing, routes
from outrider.engine.dispatch.batch import Batch, BatchWatch, just_claimed
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.breaker import Breaker
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.directory import Directory
from outrider.engine.dispatch.journal import Journal
from outrider.engine.dispatch.keys import Keys
from outrider.engine.dispatch.making import Maker
from outrider.engine.dispatch.pace import WORK_S, Pace, least_of
from outrider.engine.dispatch.record import Recorder, Row, write
from outrider.engine.dispatch.ring import Ring
from outrider.engine.dispatch.second_thoughts import SecondThoughts
from outrider.engine.dispatch.senders import Senders, Use
from outrider.engine.dispatch.shares import Class, Pool, Shares

_log = structlog.get_logger(__name__)
_TOKENS_PER_BLOCK = 1000
_SHORTEST_REST_S = 1.0
_LONGEST_REST_S = 60.0
"""So long a lane rests whose sender cannot be used as it is configured …"""
_LONGEST_PAUSE_S = 2.0
"""… and one whose server cannot be reached, which its circuit leaves alone for longer."""
_BROKEN_REST_S = 30.0
_CROWD = 500
"""Few large claims at once cost less than many small ones, and show what a server takes."""
_MOST_BATCHES = 64
"""Open batches of a worker; one sender has at most `lanes_in_flight` of them, one pool as many as it leaves free."""
_CLOSED_REST_S = 0.5
"""So long a sender rests none of whose connections may take anything."""


class Pipeline:
    """The slots of one worker."""

    def __init__(
        self,
        runtime: Runtime,
        database: Database,
        *,
        board: Board,
        journal: Journal,
        recorder: Recorder,
        batches: dict[int, Batch],
    ) -> None:
        self._runtime = runtime
        self._database = database
        self._board = board
        self._journal = journal
        self._recorder = recorder
        self._batches = batches
        self._claimer = Claimer(database, runtime.gates, lease_s=runtime.settings.lease_s)
        self._claimer.spending.billed_later = bills.channels(runtime.providers.values())
        self.second_thoughts = SecondThoughts(database, self._claimer, runtime.gates, batches)
        self._senders = Senders(runtime)
        self._breaker = Breaker(database, runtime.settings)
        self.repeated_ids_count = 0
        """Ids that a provider gave to a second message."""
        self.failed_counts = dict.fromkeys(UNWORKABLE, 0)
        """Batches that could not be worked on as a whole, by cause: what one tenant has is broken, or a plugin is."""
        self._maker = Maker(runtime, database, self._senders, journal, self._claimer.spending)
        self._ring = Ring(boottime_s)
        self._directory = Directory(database, boottime_s, runtime.settings.poll_s)
        self._paces: dict[tuple[UUID, UUID], Pace] = {}
        self._usual = Pace()
        """Of all senders together."""
        self._tokens = iter(range(0))
        self._token_lock = asyncio.Lock()
        self._promises: dict[int, bool] = {}
        self._lost_tokens: dict[int, tuple[UUID, float]] = {}
        self._shares = Shares()
        self._room = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self._is_told = False
        recorder.promise(lambda batch: self._promises.get(batch.token, False))

    async def feed(self, stop: asyncio.Event) -> None:
        """Claim until `stop`; what is in flight then (`tasks`) is finished within the caller's grace or cancelled."""
        while not stop.is_set():
            try:
                if not await self._turn():
                    await self._idle(stop)
            except Unavailable as error:
                _log.warning("claim_waits", code=error.code)
                await asyncio.sleep(0.5)
            except Exception:  # noqa: BLE001 - the last resort of a feeder: a bug in one lane must not stop the others
                _log.exception("claim_failed")
                await asyncio.sleep(1.0)

    async def _turn(self) -> bool:
        """Serve the lane whose turn it is. Tells whether there was one."""
        await self._look_around()
        if len(self.tasks) >= _MOST_BATCHES:
            return False
        lane = self._ring.next(self._must_wait, self._is_crowded)
        if lane is None:
            return False
        sender, pool = (lane.tenant_id, lane.sender_id, lane.message_class), self._pool(lane)
        self._shares.add(sender, pool)
        try:
            is_carried = await self._claim(lane, pool)
        except BaseException as error:
            self._closed_one(sender, pool)
            if not isinstance(error, Unavailable):
                self._ring.rest(lane, _BROKEN_REST_S)  # a bug in one lane: the others go on meanwhile
            raise
        if not is_carried:
            self._closed_one(sender, pool)
        return True

    def _pool(self, lane: Lane) -> Pool:
        return lane.tenant_id, self._senders.provider_of(lane)

    def _is_crowded(self, message_class: str) -> bool:
        """Whether as much of a class has just been claimed as keeps this process busy: more would only wait here.

        What waits costs second thoughts and may have to be handed back. Batches older than that wait for their servers
        and hold up nobody. Each class by itself: a campaign at full rate must not keep a password mail waiting [F93].
        """
        batches = (batch for batch in self._batches.values() if batch.lane.message_class == message_class)
        return just_claimed(batches, boottime_s()) >= _CROWD

    def _must_wait(self, lane: Lane) -> bool:
        """Whether a lane may not be served now: paused, or its sender rests, or it or its pool has enough in flight.

        A pool gets as many batches as it leaves free: alone half of them, and however many providers hang, there is
        always room for one that does not [F60].
        """
        sender = (lane.tenant_id, lane.sender_id)
        pace = self._paces.get(sender)
        if pace is not None and pace.rests_until_s > boottime_s():
            return True
        is_full = self._shares.of_class((*sender, lane.message_class)) >= self._runtime.settings.lanes_in_flight
        is_full = is_full or self._shares.of_pool(self._pool(lane)) >= _MOST_BATCHES - len(self.tasks)
        return is_full or self._board.why_stopped(lane) is not None

    def _closed_one(self, sender: Class, pool: Pool) -> None:
        self._shares.close(sender, pool)
        self._room.set()

    async def _claim(self, lane: Lane, pool: Pool) -> bool:
        """Claim from a lane and send the batch on its way. Tells whether there was one."""
        sender = (lane.tenant_id, lane.sender_id)
        pace = self._paces.get(sender) or self._paces.setdefault(sender, self._usual.of_a_newcomer())
        if pace.left < 1 and not await self._may_again(lane, pace):
            return False
        token, reading = await self._token(), self._ring.reading
        self._journal.claim(token, lane.tenant_id)
        try:
            claim = await self._claimer.claim(lane, token, limit=pace.limit(self._runtime.settings.claim_batch))
        except BaseException:
            # the commit may have been cut: whatever holds this token was not begun and is given back
            self._lost_tokens[token] = (lane.tenant_id, boottime_s())
            raise
        if claim.is_drained:
            self._ring.drop(lane, reading=reading)
        elif claim.rest_s:
            self._ring.rest(lane, claim.rest_s)
        if claim.batch is None:
            self._journal.done(token)
            return False
        if pace.failures:
            self._ring.rest(lane, min(_LONGEST_PAUSE_S, 2.0 ** min(pace.failures, 6)))
        self._batches[token] = claim.batch
        task = asyncio.create_task(self._carry(claim.batch, pace, pool), name=f"batch {token}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def _may_again(self, lane: Lane, pace: Pace) -> bool:
        """Look whether a connection of a sender may take something again; nothing is claimed for that."""
        try:
            async with self._database.statements() as raw:
                pace.left = (await self._senders.use(raw, lane)).left
        except (Refused, Misconfigured):
            pace.left = routes.NO_LIMIT  # what is wrong is told to the next batch's messages
        if pace.left < 1:
            pace.rests_until_s = boottime_s() + _CLOSED_REST_S
        return pace.left >= 1

    async def _carry(self, batch: Batch, pace: Pace, pool: Pool) -> None:
        """Take one batch from its claim to its last outcome; nothing of it is left open, whatever happens."""
        watch = BatchWatch(batch, self._board, self._journal, self._recorder.add)
        begin_s = boottime_s()
        left: Outcome = Unsent("the worker stopped")
        try:
            use, slices = await self._maker.prepare(batch)
            known = self._pool(batch.lane)
            if known != pool:
                self._shares.move(pool, known)
                pool = known
                self._room.set()
            pace.least = max(
                (least_of(route, self._runtime.settings.lanes_in_flight) for route in use.routes), default=1
            )
            self._promises[batch.token] = use.sender.guarantees[batch.lane.message_class] == "at_least_once"
            if use.left < 1:
                slices, left = [], Unsent(routes.CLOSED)
            for part in slices:
                outgoing = await self._maker.make(batch, use, part, watch)
                if outgoing:
                    await self._send(batch, use, outgoing, watch)
            if slices:
                left = Deferred("plugin_failed", "the provider settled nothing")
            pace.left = use.left
            if pace.left < 1:
                pace.rests_until_s = boottime_s() + _CLOSED_REST_S
        except (Refused, Misconfigured) as error:
            left = Deferred("sender_unusable", str(error))
            self.failed_counts[left.cause] += 1
        except OutriderError as error:
            left = Unsent(error.code)
            self._ring.rest(batch.lane, _SHORTEST_REST_S)
        except Exception as error:  # noqa: BLE001 - a bug in a plugin must not lose its batch: what was begun is uncertain
            # an attempt, so that it comes later, alone, and not for ever: one bad message must not hold up its lane
            _log.exception("carry_failed", lane=batch.lane.id)
            left = Deferred("plugin_failed", type(error).__name__)
            self.failed_counts[left.cause] += 1
        finally:
            self._settle_rest(batch, watch, left)
            is_unusable = isinstance(left, Deferred) and left.cause == "sender_unusable"
            longest_s = _LONGEST_REST_S if is_unusable else _LONGEST_PAUSE_S
            self._judge_pace(batch, pace, boottime_s() - begin_s, longest_s)
            self._closed_one((batch.lane.tenant_id, batch.lane.sender_id, batch.lane.message_class), pool)

    async def _send(self, batch: Batch, use: Use, outgoing: Sequence[Outgoing], watch: BatchWatch) -> None:
        """Send by the sender's connections, and tell their circuits what is worth telling."""
        tenant_id, keys = batch.lane.tenant_id, Keys(self._database, batch)
        ears = routes.Ears(
            watch.moves,
            refused=lambda tally: self._breaker.refused(tenant_id, tally),
            repeated=self._repeated,
            ask=pacing.of_others(self._database, batch, partial(self._over_rate, batch)),
            keep=keys.keep,
            drop=keys.drop,
        )
        await self._breaker.tell(tenant_id, await routes.send(use.routes, outgoing, watch, ears))

    def _over_rate(self, batch: Batch, grant: routes.Grant) -> None:
        """A connection that takes over may send no more now: nobody claims what would only be held."""
        batch.over_rate_per_s = grant.rate_per_s
        self._ring.rest(batch.lane, _SHORTEST_REST_S)

    def _repeated(self, message: Outgoing, owner: UUID, provider_id: str) -> None:
        """A provider gave two messages one id: what it reports by it alone cannot be told apart [F62]."""
        self.repeated_ids_count += 1
        _log.error("provider_id_repeated", message=str(message.id), was_of=str(owner), provider_id=provider_id)

    def circuit_bell(self, payload: str) -> None:
        """A circuit was opened, or its connection is taken for reachable."""
        connection_id, _, state = payload.partition(" ")
        self._senders.look_again(UUID(connection_id), is_closed=state == "open")
        self.wake.set()

    def ready_bell(self, _payload: str) -> None:
        """Something became ready: asked for at once where it probably is, else with the next directory."""
        self._is_told = True
        self.wake.set()
        self._room.set()

    def _settle_rest(self, batch: Batch, watch: BatchWatch, left: Outcome) -> None:
        """What the provider did not settle: begun is uncertain, the rest goes back."""
        for message_id in list(batch.unsettled):
            claimed = batch.messages[message_id]
            is_begun, is_keyed = message_id in batch.begun, message_id in batch.keyed
            outcome = Uncertain("answer_lost", "the send was cut short", is_keyed) if is_begun else left
            watch.settle(Outgoing(message_id, claimed.address, "", b"", str(message_id)), outcome)

    def _judge_pace(self, batch: Batch, pace: Pace, took_s: float, longest_s: float) -> None:
        """Learn from a batch: how fast, or that the server cannot be reached at all."""
        if batch.accepted_count:
            if pace.failures:
                pace.failures = 0
                self._ring.wake(batch.lane)
            pace.learn_of(batch, took_s)
            self._usual.learn_of(batch, took_s)
        elif batch.unreached_count:
            pace.failures += 1
            self._ring.rest(batch.lane, min(longest_s, 2.0 ** min(pace.failures, 6)))
        elif batch.withdrawn or self._board.why_stopped(batch.lane):
            pass
        elif took_s > WORK_S:
            pace.learn_of(batch, took_s)
        if batch.over_rate_per_s is not None:
            pace.rate = min(pace.rate or batch.over_rate_per_s, batch.over_rate_per_s)

    async def _token(self) -> int:
        """The next lease token; a block of a thousand comes from the database."""
        async with self._token_lock:
            token = next(self._tokens, None)
            if token is None:
                async with self._database.transaction() as raw:
                    first = int(await SQL.token_block.value(raw))
                self._tokens = iter(range(first, first + _TOKENS_PER_BLOCK))
                token = next(self._tokens)
            return token

    async def _look_around(self) -> None:
        """Read the directory of lanes when that is due."""
        if self._directory.is_read_now:
            return
        if not self._directory.is_due(is_woken=self.wake.is_set()):
            if self._is_told:
                self._is_told = False
                self._ring.revive()
            return
        self.wake.clear()
        self._is_told = False
        self._ring.renew(await self._directory.read(self._ring.with_work()))
        self._room.set()  # who had nothing to do while it was read

    async def _idle(self, stop: asyncio.Event) -> None:
        """Nothing to do: wait for a wake-up, for room, for the end of a lane's rest, or for the next look."""
        if self._is_told and not self._directory.is_read_now:
            return
        self._room.clear()
        events, bound_s = [self._room, stop], min(self._runtime.settings.poll_s, self._ring.rests_for_s())
        if not self._directory.is_read_now:  # else somebody looks, and says when that is done
            if self.wake.is_set():  # heard, and the next look is near
                bound_s = min(bound_s, max(0.001, self._directory.rests_for_s))
            else:
                events.append(self.wake)
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waiting, timeout=bound_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def closed(self, batch: Batch) -> None:
        """Everything of a batch is in the database."""
        self._batches.pop(batch.token, None)
        self._promises.pop(batch.token, None)

    async def give_back_lost(self) -> bool:
        """Claims whose commit was cut: what holds their token was never begun."""
        for token, (tenant_id, lost_s) in list(self._lost_tokens.items()):
            async with self._database.transaction() as raw:
                leased = await SQL.leased_by.many(raw, tenant_id, [token])
                if leased:
                    ids = [row["message_id"] for row in leased]
                    await write(raw, tenant_id, [Row("hand_back", message_id, token) for message_id in ids])
            # a commit that is still on its way shows nothing yet: look again before forgetting it
            if leased or boottime_s() - lost_s > self._runtime.settings.lease_s:
                self._lost_tokens.pop(token, None)
                self._journal.done(token)
        return False

    def stops(self) -> Mapping[tuple[str, str], int]:
        """How many messages each gate held or blocked here: (gate, verdict) -> count."""
        return self._claimer.stops

    def spent(self) -> Mapping[tuple[str, str], int]:
        """What messages cost that went from here: (channel, currency) -> micros."""
        return self._claimer.spending.spent

    async def close_idle(self) -> bool:
        """Close accounts nobody uses."""
        await self._senders.close_idle()
        return False

    async def close(self) -> None:
        """Close every account."""
        await self._breaker.close()
        await self._senders.close_idle(everything=True)

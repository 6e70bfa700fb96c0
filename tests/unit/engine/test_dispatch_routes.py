"""Routes: who takes what, what moves on, what never does, and that a hanging connection holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from outrider.contracts.outcome import OF_ACCOUNT, Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Outgoing, Watch
from outrider.engine.dispatch.batch import UNREACHED
from outrider.engine.dispatch.routes import CLOSED, NO_LIMIT, OVER_RATE, Account, Ears, Grant, Route, Tally, send


@dataclass
class Line:
    """A transport that answers as told and remembers what it was given."""

    answer: Callable[[Outgoing], Outcome] = lambda _message: Accepted()
    given: list[Outgoing] = field(default_factory=list)
    gate: asyncio.Event | None = None
    name: str = ""

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        self.given += batch
        if self.gate is not None:
            await self.gate.wait()
        for message in batch:
            watch.begin(message)
            watch.settle(message, self.answer(message))

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class Notes:
    """What the engine was told."""

    settled: dict[UUID, Outcome] = field(default_factory=dict)
    moved: list[UUID] = field(default_factory=list)
    refused: list[Tally] = field(default_factory=list)
    repeated: list[tuple[UUID, UUID, str]] = field(default_factory=list)

    def repeats(self, message: Outgoing, owner: UUID, provider_id: str) -> None:
        self.repeated.append((message.id, owner, provider_id))

    def begin(self, _message: Outgoing) -> str | None:
        return None

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        assert message.id not in self.settled, "settled twice"
        self.settled[message.id] = outcome

    def moves(self, message: Outgoing) -> None:
        self.moved.append(message.id)


def letters(count: int) -> list[Outgoing]:
    return [Outgoing(uuid4(), f"p{n}@example.org", "b@example.org", b"x", str(n)) for n in range(count)]


def route(line: Line, left: float = NO_LIMIT) -> Route:
    return Route(uuid4(), Account(line, 0.0), left)


async def run(routes: list[Route], outgoing: list[Outgoing], notes: Notes) -> list[Tally]:
    async with asyncio.timeout(90):
        return await send(routes, outgoing, notes, Ears(notes.moves, notes.refused.append, notes.repeats))


AWAY = Deferred("connection_failed", "refused")


async def test_all_goes_by_the_first_connection_while_it_works() -> None:
    first, second, notes = Line(), Line(), Notes()
    (tally,) = await run([own := route(first), route(second)], sent := letters(5), notes)
    assert tally.route is own
    assert first.given == sent
    assert not second.given
    assert (tally.accepted, tally.unreached, tally.is_failure) == (5, 0, False)


@pytest.mark.parametrize("cause", sorted(UNREACHED))
async def test_what_is_known_not_to_have_left_goes_by_the_next_at_once(cause: str) -> None:
    first, second, notes = Line(lambda _m: Deferred(cause, "away")), Line(), Notes()
    failed, went = await run([route(first), spare := route(second)], sent := letters(3), notes)
    assert (failed.is_failure, failed.cause, went.accepted) == (True, cause, 3)
    assert notes.moved == [message.id for message in sent]
    assert set(notes.settled.values()) == {Accepted()}
    assert went.route is spare


@pytest.mark.parametrize(
    "outcome",
    [
        Uncertain("answer_lost", "cut"),
        Rejected("mailbox_unavailable", "550"),
        Deferred("server_deferred", "450 later"),
    ],
)
async def test_what_may_have_left_or_is_the_messages_own_matter_never_moves(outcome: Outcome) -> None:
    first, second, notes = Line(lambda _m: outcome), Line(), Notes()
    await run([route(first), route(second)], letters(3), notes)
    assert not second.given
    assert not notes.moved
    assert set(notes.settled.values()) == {outcome}


async def test_a_spare_stays_open_while_it_may_have_to_take_over() -> None:
    first, second, notes = Line(lambda _m: AWAY, gate=asyncio.Event()), Line(), Notes()
    running = asyncio.create_task(run([route(first), spare := route(second)], letters(1), notes))
    async with asyncio.timeout(90):
        while not first.given:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0)
    assert spare.account.busy_count == 1, "one that nobody uses is closed after a minute"
    assert first.gate is not None
    first.gate.set()
    await running
    assert (spare.account.busy_count, set(notes.settled.values())) == (0, {Accepted()})


async def test_the_last_connection_settles_what_it_cannot_do_either() -> None:
    lines, notes = [Line(lambda _m: AWAY) for _ in range(3)], Notes()
    tallies = await run([route(line) for line in lines], letters(2), notes)
    assert [tally.is_failure for tally in tallies] == [True, True, True]
    assert set(notes.settled.values()) == {AWAY}
    assert len(notes.moved) == 4


async def test_one_that_is_being_tried_takes_its_few_and_holds_up_nobody() -> None:
    first, second, notes = Line(gate=asyncio.Event()), Line(), Notes()
    running = asyncio.create_task(run([tried := route(first, left=2), route(second)], letters(7), notes))
    async with asyncio.timeout(90):
        while len(notes.settled) < 5:  # noqa: ASYNC110 - the other connection's five are settled while the first hangs
            await asyncio.sleep(0)
    assert (len(first.given), len(second.given)) == (2, 5)
    assert first.gate is not None
    first.gate.set()
    assert [tally.accepted for tally in await running] == [2, 5]
    assert tried.left == 0


async def test_none_goes_by_one_that_is_known_to_be_away() -> None:
    first, second, notes = Line(), Line(), Notes()
    await run([route(first, left=0), route(second)], letters(3), notes)
    assert not first.given
    assert len(second.given) == 3


async def test_when_all_are_away_nobody_is_asked_and_everything_goes_back() -> None:
    first, second, notes = Line(), Line(), Notes()
    assert await run([route(first, left=0), route(second, left=0)], letters(3), notes) == []
    assert not first.given
    assert not second.given
    assert set(notes.settled.values()) == {Unsent(CLOSED)}


async def test_no_more_goes_by_the_last_than_it_may_take() -> None:
    first, second, notes = Line(), Line(), Notes()
    await run([route(first, left=2), route(second, left=3)], letters(9), notes)
    assert (len(first.given), len(second.given)) == (2, 3)
    assert list(notes.settled.values()).count(Unsent(CLOSED)) == 4


class Leaving(Line):
    """A line that asks before each message, as providers do."""

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        for message in batch:
            reason = watch.begin(message)
            if reason is None:
                self.given.append(message)
                watch.settle(message, self.answer(message))
            else:
                watch.settle(message, Unsent(reason))


@pytest.mark.parametrize("cause", sorted(OF_ACCOUNT))
async def test_a_refusal_of_the_account_stops_all_that_has_not_begun_and_is_told_at_once(cause: str) -> None:
    notes = Notes()
    answers: list[Outcome] = [Accepted(), Deferred(cause, "no", 7.0)]
    line = Leaving(lambda _message: answers.pop(0))
    (tally,) = await run([only := route(line)], sent := letters(5), notes)
    assert line.given == sent[:2]
    assert [notes.settled[each.id] for each in sent[2:]] == [Unsent(CLOSED)] * 3
    assert notes.refused == [tally]
    assert (tally.is_failure, tally.cause, tally.wish_s, only.account.is_closed) == (True, cause, 7.0, True)


async def test_what_has_not_begun_when_an_account_is_refused_goes_by_the_next_connection() -> None:
    notes, second = Notes(), Leaving()
    line = Leaving(lambda _message: Deferred("authentication_failed", "401"))
    await run([route(line), route(second)], sent := letters(5), notes)
    assert line.given == sent[:1]
    assert sorted(each.id for each in second.given) == sorted(each.id for each in sent)
    assert set(notes.settled.values()) == {Accepted()}


async def test_the_try_of_a_closed_connection_goes_and_nothing_else() -> None:
    notes, line = Notes(), Leaving()
    tried, other = route(line, left=1), route(line)
    tried.is_try, other.account = True, tried.account
    tried.account.is_closed = True
    await run([other], letters(2), notes)
    assert not line.given
    (tally,) = await run([tried], sent := letters(1), notes)
    assert line.given == sent
    assert tally.answered == 1


async def test_what_a_provider_decides_about_counts_as_answered_either_way() -> None:
    answers: list[Outcome] = [Rejected("number_invalid"), Deferred("server_deferred"), Uncertain("answer_lost"), AWAY]
    line, notes = Line(lambda _message: answers.pop(0)), Notes()
    (tally,) = await run([route(line)], letters(4), notes)
    assert (tally.accepted, tally.answered, tally.unreached) == (0, 2, 1)


async def test_an_id_given_to_two_messages_is_told_with_both() -> None:
    line, notes = Line(lambda _message: Accepted("same")), Notes()
    account = Account(line, 0.0, given_ids={})
    sent = letters(2)
    await run([Route(uuid4(), account)], sent, notes)
    assert notes.repeated == [(sent[1].id, sent[0].id, "same")]
    await run([Route(uuid4(), Account(line, 0.0))], letters(2), notes)
    assert len(notes.repeated) == 1, "ids of a provider that never reports mean nothing"


async def test_a_provider_that_changes_its_mind_about_what_moved_is_not_heard() -> None:
    class Fickle(Line):
        async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
            for message in batch:
                watch.settle(message, AWAY)
                watch.settle(message, Accepted("twice"))

    notes, second = Notes(), Line()
    await run([route(Fickle()), route(second)], sent := letters(1), notes)
    assert second.given == sent
    assert notes.settled == {sent[0].id: Accepted()}


async def test_what_a_provider_raises_is_raised_when_the_others_have_ended() -> None:
    class Broken(Line):
        async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
            del batch, watch
            raise RuntimeError("a bug")

    notes, second = Notes(), Line()
    with pytest.raises(RuntimeError):
        await run([route(Broken(), left=1), route(second)], letters(3), notes)
    assert len(notes.settled) == 2


async def test_nothing_goes_by_the_next_before_the_request_it_was_part_of_is_forgotten() -> None:
    first, second, notes, dropped = Line(lambda _m: AWAY), Line(), Notes(), list[Outgoing]()
    sent = letters(3)

    async def drop(messages: Sequence[Outgoing]) -> str | None:
        assert not second.given
        dropped.extend(messages)
        return None

    await send([route(first), route(second)], sent, notes, Ears(notes.moves, drop=drop))
    assert dropped == second.given == sent


async def test_what_cannot_be_forgotten_goes_back() -> None:
    async def drop(_messages: Sequence[Outgoing]) -> str | None:
        return "no database"

    first, second, notes = Line(lambda _m: AWAY), Line(), Notes()
    await send([route(first), route(second)], letters(3), notes, Ears(notes.moves, drop=drop))
    assert not second.given
    assert set(notes.settled.values()) == {Unsent("no database")}


def rates(**counts: int) -> Callable[[Route, int], Awaitable[Grant]]:
    """Rates by name of the transport's line: so many may go; a line without one takes everything."""

    async def ask(asked: Route, count: int) -> Grant:
        name = getattr(asked.account.transport, "name", "")
        if name not in counts:
            return Grant(count)
        granted = min(count, counts[name])
        counts[name] -= granted
        return Grant(granted, 4.0)

    return ask


async def test_what_the_rate_of_one_does_not_let_go_goes_by_the_next() -> None:
    first, second, third, notes = Line(lambda _m: AWAY), Line(name="second"), Line(name="third"), Notes()
    sent = letters(6)
    routes = [route(first), route(second), route(third)]
    await send(routes, sent, notes, Ears(notes.moves, ask=rates(second=2, third=4)))
    assert (len(second.given), len(third.given)) == (2, 4)
    assert set(notes.settled.values()) == {Accepted()}


async def test_what_no_rate_lets_go_is_held_one_turn_after_another() -> None:
    first, second, notes = Line(lambda _m: AWAY), Line(name="second"), Notes()
    sent = letters(5)
    await send([route(first), route(second)], sent, notes, Ears(notes.moves, ask=rates(second=2)))
    assert second.given == sent[:2]
    waits = [notes.settled[message.id] for message in sent[2:]]
    assert waits == [Unsent(OVER_RATE, 0.25), Unsent(OVER_RATE, 0.5), Unsent(OVER_RATE, 0.75)]


async def test_a_try_that_its_rate_keeps_back_is_told_as_none_and_goes_to_somebody_else() -> None:
    first, second, notes = Line(lambda _m: AWAY), Line(name="second"), Notes()
    tried = Route(uuid4(), Account(second, 0.0), 1, is_try=True)
    tallies = await send([route(first), tried], letters(1), notes, Ears(notes.moves, ask=rates(second=0)))
    assert [(each.answered, each.is_failure) for each in tallies if each.route is tried] == [(0, False)]
    assert tried.left == 0, "this worker's turn is over"


async def test_what_a_rate_keeps_back_takes_no_place_of_a_connection_that_is_being_tried() -> None:
    first, second, notes = Line(lambda _m: AWAY), Line(name="second"), Notes()
    growing = route(second, 4)
    await send([route(first), growing], letters(6), notes, Ears(notes.moves, ask=rates(second=1)))
    assert (len(second.given), growing.left) == (1, 3)


async def test_what_a_slow_rate_holds_looks_again_in_a_minute_at_the_connection_before_it() -> None:
    first, second, notes = Line(lambda _m: AWAY), Line(name="second"), Notes()
    sent = letters(500)
    await send([route(first), route(second)], sent, notes, Ears(notes.moves, ask=rates(second=2)))
    waits = [found.after_s for found in notes.settled.values() if isinstance(found, Unsent)]
    assert (len(waits), max(each or 0.0 for each in waits)) == (498, 60.0)

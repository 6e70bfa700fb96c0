"""Turns of batches, and settling once."""

from __future__ import annotations

import asyncio

import pytest

from outrider.contracts.outcome import Accepted, Outcome, Unsent
from outrider.contracts.provider import Outgoing
from outrider.plugins.providers.smtp.queue import Batch, Queue
from tests.kit.watching import Recorder, outgoing


def batch(name: str, count: int, recorder: Recorder | None = None) -> Batch:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return Batch([outgoing(f"{name}{n}@b.c") for n in range(count)], recorder or Recorder(), done)


def take_all(queue: Queue) -> list[str]:
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item.message.address.partition("@")[0])
    return taken


async def test_batches_take_turns_message_by_message() -> None:
    queue = Queue()
    for name, count in (("a", 4), ("b", 1), ("c", 2)):
        queue.add(batch(name, count))
    assert queue.count == 7
    assert take_all(queue) == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"]
    assert queue.count == 0


async def test_what_is_put_back_goes_first() -> None:
    queue = Queue()
    queue.add(batch("a", 1))
    queue.add(batch("b", 2))
    item = queue.take()
    assert item is not None
    queue.put_back(item)
    assert (queue.count, take_all(queue)) == (3, ["a0", "b0", "b1"])


async def test_sifting_settles_up_to_the_first_that_may_go() -> None:
    recorder = Recorder(lambda message: "paused" if message.address < "a2" else None)
    queue, ours = Queue(), batch("a", 4, recorder)
    queue.add(ours)
    queue.add(batch("b", 1))
    queue.sift(ours)
    assert recorder.outcomes == {"a0@b.c": Unsent("paused"), "a1@b.c": Unsent("paused")}
    assert (queue.count, take_all(queue)) == (3, ["a2", "b0", "a3"])


async def test_sifting_may_end_a_whole_batch() -> None:
    recorder = Recorder(lambda _: "paused")
    queue, ours = Queue(), batch("a", 3, recorder)
    queue.add(ours)
    queue.sift(ours)
    assert (queue.count, take_all(queue), len(recorder.outcomes)) == (0, [], 3)
    assert ours.done.done()


async def test_dropping_concerns_one_batch_and_draining_all() -> None:
    mine, other = Recorder(), Recorder()
    queue, ours = Queue(), batch("a", 3, mine)
    queue.add(ours)
    queue.add(batch("b", 2, other))
    queue.drop(ours, Unsent("x"))
    queue.drop(ours, Unsent("twice"))
    assert (queue.count, set(mine.outcomes.values()), other.settled) == (2, {Unsent("x")}, {})
    queue.drain(Unsent("y"))
    assert (queue.count, set(other.outcomes.values())) == (0, {Unsent("y")})


async def test_a_message_is_settled_once_and_the_last_one_ends_the_batch_even_if_the_engine_raises() -> None:
    class Raising(Recorder):
        def settle(self, message: Outgoing, outcome: Outcome) -> None:
            super().settle(message, outcome)
            raise RuntimeError

    recorder = Raising()
    ours = batch("a", 1, recorder)
    item = ours.waiting.popleft()
    with pytest.raises(RuntimeError):
        item.settle(Accepted())
    item.settle(Unsent("late"))
    assert recorder.outcomes == {"a0@b.c": Accepted()}
    assert ours.done.done()


async def test_an_urgent_batch_goes_before_others_that_came_first_but_for_every_fourth_message() -> None:
    queue, urgent = Queue(), batch("u", 4)
    urgent.is_urgent = True
    queue.add(batch("a", 3))
    queue.add(batch("b", 1))
    queue.add(urgent)
    assert queue.count == 8
    assert take_all(queue) == ["u0", "u1", "u2", "a0", "u3", "b0", "a1", "a2"]


async def test_an_urgent_message_that_is_put_back_stays_urgent() -> None:
    queue = Queue()
    urgent = batch("u", 1)
    urgent.is_urgent = True
    queue.add(urgent)
    item = queue.take()
    assert item is not None
    queue.add(batch("a", 1))
    queue.put_back(item)
    queue.drop(urgent, Unsent("x"))
    assert (queue.count, take_all(queue)) == (1, ["a0"])

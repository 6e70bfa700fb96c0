"""One look for all loops of a worker: whom it wakes, how often it asks, and that nobody needs to look for himself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from outrider.base.clock import utc_now
from outrider.base.errors import Unavailable
from outrider.engine import lookout, loop
from outrider.engine.inbound import reports
from outrider.engine.lookout import Lookout
from outrider.engine.loop import Asking, Loop, woken
from tests.kit.dispatch import Desk, Post, until


@dataclass
class Directory:
    """A statement that counts how often it is asked."""

    sql: str
    asked: int = 0
    values: list[tuple[Any, ...]] = field(default_factory=list)

    async def many(self, connection: asyncpg.Connection, *args: Any) -> list[asyncpg.Record]:
        self.asked += 1
        self.values.append(args)
        rows: list[asyncpg.Record] = await connection.fetch(self.sql, *args)
        return rows


class Cut(Directory):
    """A statement during which the line breaks."""

    async def many(self, connection: asyncpg.Connection, *args: Any) -> list[asyncpg.Record]:
        self.asked += 1
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


NOBODY, SOMEBODY = "SELECT 1 WHERE false", "SELECT 1"
BOTH = "SELECT true AS yes, false AS no"


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def nothing() -> bool:
    return False


def asking(name: str, question: Asking) -> Loop:
    return woken(name, nothing, question)


def is_woken(each: Loop) -> bool:
    assert each.wake is not None
    return each.wake.is_set()


async def test_a_row_wakes_and_none_does_not(post: Post) -> None:
    idle, busy = asking("idle", Asking(Directory(NOBODY))), asking("busy", Asking(Directory(SOMEBODY)))
    await Lookout(post.engine, [idle, busy, Loop("by itself", 1.0, nothing)]).step()
    assert (is_woken(idle), is_woken(busy)) == (False, True)


async def test_a_statement_of_several_loops_is_asked_once_and_wakes_by_its_columns(post: Post) -> None:
    first, second = Directory(BOTH), Directory(BOTH)
    yes, no = asking("yes", Asking(first, "yes")), asking("no", Asking(second, "no"))
    await Lookout(post.engine, [yes, no]).step()
    assert (is_woken(yes), is_woken(no)) == (True, False)
    assert first.asked + second.asked == 1


async def test_the_same_statement_with_other_values_is_another_question(post: Post) -> None:
    one = Directory("SELECT 1 WHERE $1::int = 1")
    loops = [asking("one", Asking(one, values=(1,))), asking("two", Asking(one, values=(2,)))]
    await Lookout(post.engine, loops).step()
    assert [is_woken(each) for each in loops] == [True, False]
    assert one.values == [(1,), (2,)]


async def test_who_was_woken_and_has_not_begun_yet_is_not_asked_for_again(post: Post) -> None:
    question = Directory(SOMEBODY)
    busy = asking("busy", Asking(question))
    looks = Lookout(post.engine, [busy])
    await looks.step()
    await looks.step()
    assert question.asked == 1
    assert busy.wake is not None
    busy.wake.clear()
    await looks.step()
    assert question.asked == 2


async def test_what_nobody_waits_for_is_asked_seldom(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(lookout, "boottime_s", lambda: now_s)
    often, seldom = Directory(NOBODY), Directory(f"{NOBODY} AND true")
    looks = Lookout(post.engine, [asking("often", Asking(often)), asking("seldom", Asking(seldom, every_s=2.0))])
    for _ in range(9):  # two seconds, four looks a second, and the one that begins
        await looks.step()
        now_s += 0.25
    assert (often.asked, seldom.asked) == (9, 2)


async def test_a_line_that_breaks_is_told_and_the_next_look_asks_again(post: Post) -> None:
    question = Cut(SOMEBODY)
    looks = Lookout(post.engine, [asking("x", Asking(question, every_s=60.0))])
    for _ in range(2):
        with pytest.raises(Unavailable):
            await looks.step()
    assert question.asked == 2


async def test_a_worker_needs_no_look_of_its_loops_own(post: Post, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes due is sent though the loop that makes it ready would look for it only in an hour."""
    monkeypatch.setattr(loop, "UNASKED_S", 3600.0)
    async with post.working(reports.loops(post.runtime)) as worker:

        async def have_looked() -> bool:
            return all(worker.pulses.by_name[each.name].rounds for each in worker.loops if each.asking)

        await until(have_looked)
        ids = await desk.admit(2, due_at=utc_now() + timedelta(seconds=1))
        assert await desk.states(ids) == ["scheduled"] * 2
        await desk.until(ids, "sent")
    assert {each.name for each in worker.loops if each.asking} == {"promotion", "reports"}

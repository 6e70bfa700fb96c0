"""The desk of callbacks: nobody waits for ever, and what cannot be kept costs only itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Inbound, Unread
from outrider.data.runtime import Runtime
from outrider.domain.callbacks.take import Came
from outrider.engine.inbound import desk as desk_module
from outrider.engine.inbound.desk import Desk, Tally, _Waiting

TENANT, CONNECTION = UUID(int=1), UUID(int=2)


class Counter(Desk):
    """A desk whose database is a list; `bad` cannot be kept, and nothing is before `open` is set."""

    def __init__(self) -> None:
        super().__init__(cast("Runtime", SimpleNamespace(db=None, channels={})))
        self.open = asyncio.Event()
        self.begun = asyncio.Event()
        self.kept: list[str] = []
        self.away_count = 0
        self.open_count = 0

    async def _commit(self, tenant_id: UUID, batch: list[_Waiting]) -> list[str]:
        assert tenant_id == TENANT
        self.begun.set()
        self.open_count += 1
        await self.open.wait()
        self.open_count -= 1
        if self.away_count:
            self.away_count -= 1
            raise Unavailable("database_unavailable", "away")
        keys = [each.came.told.key for each in batch]
        if "bad" in keys:
            raise ValueError("a byte that no column takes")
        self.kept += keys
        return keys


def told(key: str) -> Came:
    return Came(CONNECTION, "glass", Unread(key, "unknown"), b"", "genuine", "192.0.2.1")


async def all_of(*waiting: asyncio.Task[str]) -> list[Any]:
    async with asyncio.timeout(90):
        return await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_comes_in_the_very_moment_in_which_the_last_is_kept_is_kept_as_well() -> None:
    desk = Counter()
    first = asyncio.create_task(desk.take(TENANT, "glass", told("first")))
    await desk.begun.wait()
    desk.open.set()  # wakes the commit; the second comes right behind it, before anybody hears that it has ended
    second = asyncio.create_task(desk.take(TENANT, "glass", told("second")))
    assert await all_of(first, second) == ["first", "second"]
    await desk.close()


async def test_one_that_cannot_be_kept_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    del caplog
    desk = Counter()
    first = asyncio.create_task(desk.take(TENANT, "glass", told("first")))
    await desk.begun.wait()
    others = [asyncio.create_task(desk.take(TENANT, "glass", told(key))) for key in ("stop", "bad", "report")]
    await asyncio.sleep(0)
    desk.open.set()
    answers = await all_of(first, *others)
    assert [each for each in answers if isinstance(each, str)] == ["first", "stop", "report"]
    assert isinstance(answers[2], Unavailable)
    assert sorted(desk.kept) == ["first", "report", "stop"]
    await desk.close()


async def test_a_database_that_is_away_for_a_moment_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "_PAUSE_S", 0.0)
    desk = Counter()
    desk.away_count = 3
    desk.open.set()
    assert await all_of(asyncio.create_task(desk.take(TENANT, "glass", told("stop")))) == ["stop"]
    await desk.close()


async def test_what_people_write_is_kept_one_after_another_and_reports_go_beside_it() -> None:
    desk = Counter()
    words = [Inbound(word, word, "+1", "+2", word) for word in ("STOP", "START")]
    stop = asyncio.create_task(desk.take(TENANT, "glass", Came(CONNECTION, "glass", words[0], b"", "genuine", "x")))
    await desk.begun.wait()
    start = asyncio.create_task(desk.take(TENANT, "glass", Came(CONNECTION, "glass", words[1], b"", "genuine", "x")))
    reports = []
    for number, expected in enumerate((2, 3, 3, 3)):
        reports.append(asyncio.create_task(desk.take(TENANT, "glass", told(f"report {number}"))))
        for _ in range(20):
            await asyncio.sleep(0)
        assert desk.open_count == expected, "one of what people write, two of reports"
    desk.open.set()
    await all_of(stop, start, *reports)
    assert [key for key in desk.kept if key.startswith("ST")] == ["STOP", "START"]
    assert len(desk.kept) == 6
    await desk.close()


async def test_one_that_stays_away_is_said_so_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "_PATIENCE_S", 0.0)
    desk = Counter()
    desk.away_count = 1
    desk.open.set()
    (answer,) = await all_of(asyncio.create_task(desk.take(TENANT, "glass", told("stop"))))
    assert isinstance(answer, Unavailable)
    await desk.close()


async def test_sources_that_are_refused_while_the_database_is_away_are_told_apart_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk_module, "_MOST_REFUSALS", 10)
    tally = Tally(TENANT, CONNECTION)
    refused = 0

    class Away:
        """A database that is looked for in vain while others knock."""

        def uow(self, *_whose: object) -> Away:
            return self

        async def __aenter__(self) -> None:
            nonlocal refused
            for _ in range(30):
                refused += 1
                desk.refuse(tally, f"192.0.2.{refused}", "forged")
            raise Unavailable("database_unavailable", "away")

        async def __aexit__(self, *_error: object) -> None: ...

    desk = Desk(cast("Runtime", SimpleNamespace(db=Away(), channels={})))
    desk.refuse(tally, "192.0.2.0", "forged")
    for _ in range(20):
        with pytest.raises(Unavailable):
            await desk._write_down()
    assert sum(tally.counts.values()) == refused + 1, "each is counted"
    assert len(tally.counts) <= 11, "by no more sources than that, and those that are many"

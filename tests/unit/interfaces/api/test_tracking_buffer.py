"""Hits in memory: bounded, kept while the database is away, stored once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.runtime import Runtime
from outrider.domain.tracking import inbox
from outrider.interfaces.api import tracking_buffer
from outrider.interfaces.api.tracking_buffer import Buffer, Key
from tests.kit.smtp_talk import until

TENANT = UUID(int=1)


class Store:
    """What stands for the database: takes hits, or is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.taken: list[inbox.Taken] = []
        self.while_writing: Any = lambda: None

    @asynccontextmanager
    async def uow(self, _role: object) -> AsyncIterator[Store]:
        if self.is_away:
            raise Unavailable("database_unavailable", "away")
        yield self

    async def take_in(self, _uow: object, hits: Sequence[inbox.Taken]) -> None:
        self.while_writing()
        self.taken += hits


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(inbox, "take_in", made.take_in)
    return made


def buffer(store: Store, registry: CollectorRegistry | None = None) -> Buffer:
    settings = SimpleNamespace(tracking_flush_s=0.01, app_label="outrider")
    return Buffer(cast("Runtime", SimpleNamespace(db=store, settings=settings)), registry or CollectorRegistry())


def key(message: int = 1, link: int = 0, machine: str = "") -> Key:
    return Key(TENANT, UUID(int=message), 2, link, machine)


async def test_alike_hits_are_one_entry_with_a_count(store: Store) -> None:
    made = buffer(store)
    for _ in range(5):
        made.add(key())
    made.add(key(link=2))
    made.add(key(machine="agent"))
    await made.flush()
    assert sorted((hit.link, hit.machine, hit.n) for hit in store.taken) == [(0, "", 5), (0, "agent", 1), (2, "", 1)]
    assert all(hit.age_s >= 0 for hit in store.taken)
    assert made.waiting_count == 0


async def test_what_the_database_does_not_take_is_kept_and_stored_once_when_it_is_back(store: Store) -> None:
    made = buffer(store)
    store.is_away = True
    made.add(key())
    with pytest.raises(Unavailable):
        await made.flush()
    made.add(key())
    store.is_away = False
    await made.flush()
    await made.flush()
    assert [hit.n for hit in store.taken] == [2]


async def test_a_password_that_was_changed_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = 0

    async def refused_once(uow: object, hits: Sequence[inbox.Taken]) -> None:
        nonlocal refusals
        refusals += 1
        if refusals == 1:
            raise Misconfigured("database_password", "the database refused the user or password")
        await store.take_in(uow, hits)

    monkeypatch.setattr(inbox, "take_in", refused_once)
    made = buffer(store)
    made.add(key())
    made.start()
    await until(lambda: bool(store.taken))
    await made.close()
    assert [hit.n for hit in store.taken] == [1]


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"outrider_tracking_{name}_total", {"app": "outrider", **labels}) or 0.0


async def test_an_error_that_nobody_expected_loses_nothing_but_what_causes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def picky(uow: object, hits: Sequence[inbox.Taken]) -> None:
        if any(hit.message_id.int == 7 for hit in hits):
            raise ValueError("it cannot be stored")
        await store.take_in(uow, hits)

    monkeypatch.setattr(inbox, "take_in", picky)
    registry = CollectorRegistry()
    made = buffer(store, registry)
    for message in range(20):
        made.add(key(message))
    for _ in range(3):
        made.add(key(7))
    made.start()
    await until(lambda: made.waiting_count == 0)
    await made.close()
    assert sorted(hit.message_id.int for hit in store.taken) == [each for each in range(20) if each != 7]
    assert sample(registry, "hits", kind="click", result="lost") == 4.0
    assert sample(registry, "failures", cause="error") >= 3.0


async def test_an_error_that_passes_loses_nothing_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 0

    async def late(uow: object, hits: Sequence[inbox.Taken]) -> None:
        nonlocal failures
        failures += 1
        if failures <= 4:  # narrowed down from five entries, and then twice alone
            raise RuntimeError("a bug that comes and goes")
        await store.take_in(uow, hits)

    monkeypatch.setattr(inbox, "take_in", late)
    registry = CollectorRegistry()
    made = buffer(store, registry)
    for message in range(5):
        made.add(key(message))
    made.start()
    await until(lambda: len(store.taken) == 5)
    await made.close()
    assert sorted(hit.message_id.int for hit in store.taken) == list(range(5))
    assert sample(registry, "hits", kind="click", result="lost") == 0.0
    assert sample(registry, "failures", cause="error") == 4.0


async def test_what_comes_while_a_batch_is_written_is_in_the_next_one(store: Store) -> None:
    made = buffer(store)
    made.add(key())

    def once() -> None:
        store.while_writing = lambda: None
        made.add(key())

    store.while_writing = once
    await made.flush()
    assert [hit.n for hit in store.taken] == [1, 1]


async def test_memory_is_bounded_and_what_is_dropped_is_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_buffer, "_MOST_ENTRIES", 3)
    registry = CollectorRegistry()
    made = buffer(store, registry)
    for message in range(5):
        made.add(key(message))
    made.add(key(0))
    labels = {"app": "outrider", "kind": "click", "result": "dropped"}
    assert (made.waiting_count, made.dropped_count) == (3, 2)
    assert registry.get_sample_value("outrider_tracking_hits_total", labels) == 2.0
    await made.flush()
    assert sum(hit.n for hit in store.taken) == 4


async def test_closing_stores_what_is_left_and_gives_up_when_nobody_takes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = buffer(store)
    made.start()
    made.add(key())
    await made.close()
    assert [hit.n for hit in store.taken] == [1]
    monkeypatch.setattr(tracking_buffer, "_LAST_WITHIN_S", 0.1)
    registry = CollectorRegistry()
    late = buffer(store, registry)
    store.is_away = True
    late.start()
    late.add(key())
    await late.close()
    assert late.waiting_count == 1
    assert sample(registry, "hits", kind="click", result="lost") == 1.0
    assert sample(registry, "failures", cause="away") >= 1.0

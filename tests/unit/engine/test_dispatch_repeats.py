"""Repeats: rounds over several tenants, without a database and without a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from outrider.data.db import Database
from outrider.data.runtime import Runtime
from outrider.engine.dispatch import repeats
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.repeats import Repeater


class Nothing:
    """A database in which nothing is looked up but by the stubs of statements."""

    @asynccontextmanager
    async def uow(self, *_which: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(raw=None)


class Statement:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    async def many(self, *_arguments: Any) -> list[dict[str, Any]]:
        return list(self.rows)


async def test_a_provider_that_hangs_for_one_tenant_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = [uuid4(), uuid4()]
    due = Statement(*({"tenant_id": each} for each in tenants))
    monkeypatch.setattr(repeats, "KEYED", SimpleNamespace(tenants_due=due, take_due=Statement({"key": "batch-1"})))
    monkeypatch.setattr(repeats, "_ROUND_S", 10.0)
    both, ended = asyncio.Barrier(2), list[UUID]()

    async def one(_self: Repeater, tenant_id: UUID, _key: str, _taken_s: float) -> None:
        await both.wait()
        ended.append(tenant_id)

    monkeypatch.setattr(Repeater, "_one", one)
    runtime = SimpleNamespace(db=Nothing(), gates=(), settings=SimpleNamespace(lease_s=60.0))
    repeater = Repeater(cast("Runtime", runtime), cast("Database", None), cast("Board", None))
    assert await repeater.step() is False
    assert sorted(ended) == sorted(tenants)

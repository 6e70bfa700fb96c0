"""Bills: rounds over several tenants, without a database and without a provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from outrider.data.runtime import Runtime
from outrider.engine.dispatch import bills
from outrider.engine.dispatch.bills import Biller


class Nothing:
    """A database in which nothing is looked up but by the stubs of statements."""

    @asynccontextmanager
    async def uow(self, *_which: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(raw=None)


async def test_a_round_that_takes_long_ends_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asking, asked, clock = [uuid4() for _ in range(4)], list[UUID](), {"s": 0.0}

    async def tenants(*_arguments: Any) -> list[dict[str, UUID]]:
        return [{"tenant_id": each} for each in asking if each not in asked]

    async def tenant(_self: Biller, tenant_id: UUID) -> bool:
        asked.append(tenant_id)
        clock["s"] += 15.0
        return False

    monkeypatch.setattr(bills, "boottime_s", lambda: clock["s"])
    monkeypatch.setattr(bills, "SPENDING", SimpleNamespace(tenants_asking=SimpleNamespace(many=tenants)))
    monkeypatch.setattr(Biller, "_tenant", tenant)
    settings = SimpleNamespace(emergency_path=tmp_path / "none")
    biller = Biller(cast("Runtime", SimpleNamespace(db=Nothing(), settings=settings)))
    assert [await biller.step(), len(asked)] == [True, 2]
    assert [await biller.step(), asked] == [False, asking]

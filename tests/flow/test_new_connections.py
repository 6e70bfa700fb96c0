"""A new account at a provider has a rate before anybody thinks of one; its owner may know better."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.plugins.providers.twilio import PROVIDER
from tests.kit.texting import Texting, texting


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def limit_of(office: Texting) -> Any:
    """The limit of its connection, as everybody sees it."""
    shown = await office.owner.get("/api/v1/limits")
    return next((each for each in shown.json["items"] if each["scope_id"] == office.connection["id"]), None)


async def test_it_sends_as_fast_as_its_provider_takes_until_its_owner_says_otherwise(office: Texting) -> None:
    first = await limit_of(office)
    assert (first["scope"], first["rate_per_s"], first["burst"]) == (
        "connection", PROVIDER.usual_rate_per_s, PROVIDER.usual_rate_per_s,
    )  # fmt: skip
    where = f"/api/v1/limits/connection/{office.connection['id']}"
    assert (await office.owner.put(where, {"rate_per_s": 400})).status == 200
    patched = await office.owner.patch(
        f"/api/v1/connections/{office.connection['id']}", {"settings": {"validity_s": 60}}
    )
    assert patched.status == 200
    assert (await limit_of(office))["rate_per_s"] == 400
    assert (await office.owner.delete(where)).status == 204
    assert await limit_of(office) is None, "nothing gives it back what was taken away"


async def test_it_is_written_down_who_gave_it_that_rate_and_why(office: Texting) -> None:
    (row,) = await office.rows(
        "SELECT actor_kind, reason FROM audit_log WHERE tenant_id = $1 AND action = 'rate.set' AND target_id = $2",
        office.connection["id"],
    )
    assert "provider" in row["reason"]

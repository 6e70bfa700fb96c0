from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

import pytest

from outrider.base.ids import NIL
from outrider.contracts.gate import Lane
from outrider.data.db import Database
from outrider.engine.dispatch.board import Board

TENANT, SENDER, CAMPAIGN = UUID(int=1), UUID(int=2), UUID(int=3)
LANE = Lane(TENANT, 7, "email", SENDER, CAMPAIGN, "bulk")
STOPS: list[tuple[UUID, str, str]] = [
    (NIL, "installation", str(NIL)),
    (NIL, "channel", "email"),
    (TENANT, "tenant", str(TENANT)),
    (TENANT, "channel", "email"),
    (TENANT, "sender", str(SENDER)),
    (TENANT, "campaign", str(CAMPAIGN)),
]
OTHERS: list[tuple[UUID, str, str]] = [
    (NIL, "channel", "sms"),
    (UUID(int=9), "tenant", str(UUID(int=9))),
    (UUID(int=9), "channel", "email"),
    (TENANT, "channel", "sms"),
    (TENANT, "sender", str(UUID(int=9))),
    (TENANT, "campaign", str(UUID(int=9))),
    (UUID(int=9), "sender", str(SENDER)),
    (UUID(int=9), "campaign", str(CAMPAIGN)),
]


def board(path: Path = Path("/nowhere/EMERGENCY_STOP")) -> Board:
    made = Board(cast("Database", None), path)
    made.is_known = True
    return made


def test_until_the_switches_were_read_nothing_goes() -> None:
    made = board()
    made.is_known = False
    assert made.why_stopped(LANE) == "switches not read yet"


def test_nothing_paused_lets_the_lane_go() -> None:
    assert board().why_stopped(LANE) is None


@pytest.mark.parametrize("key", STOPS, ids=lambda key: key[1])
def test_each_scope_that_covers_a_lane_stops_it_with_its_reason(key: tuple[UUID, str, str]) -> None:
    made = board()
    made._stops = {key: "complaints"}
    assert made.why_stopped(LANE) == f"paused: {key[1]}: complaints"


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_paused_elsewhere_does_not_stop_it(key: tuple[UUID, str, str]) -> None:
    made = board()
    made._stops = {key: "complaints"}
    assert made.why_stopped(LANE) is None


def test_a_lane_without_campaign_is_stopped_by_no_campaign() -> None:
    made = board()
    made._stops = {(TENANT, "campaign", str(NIL)): "x"}
    assert made.why_stopped(Lane(TENANT, 8, "email", SENDER, None, "transactional")) is None


def test_maintenance_stops_every_lane() -> None:
    made = board()
    made._maintenance = "new disk"
    assert made.why_stopped(LANE) == "maintenance: new disk"


def test_the_emergency_file_stops_everything_and_each_change_is_a_new_version(tmp_path: Path) -> None:
    file = tmp_path / "EMERGENCY_STOP"
    made = board(file)
    made.look_at_file()
    assert (made.version, made.why_stopped(LANE)) == (0, None)
    file.touch()
    made.look_at_file()
    made.look_at_file()
    assert (made.version, made.why_stopped(LANE)) == (1, "paused: emergency file")
    made.is_known = False
    assert made.why_stopped(LANE) == "paused: emergency file"
    file.unlink()
    made.look_at_file()
    assert made.version == 2


class Row(dict[str, Any]):
    """A row of the installation's table."""


class FakeRaw:
    """Answers the two questions of `refresh`."""

    def __init__(self, row: Row | None, switches: list[Row]) -> None:
        self.row, self.switches, self.read_count = row, switches, 0

    async def fetchrow(self, _sql: str) -> Row | None:
        return self.row

    async def fetch(self, _sql: str) -> list[Row]:
        self.read_count += 1
        return self.switches

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def statements(self) -> Self:
        return self


async def test_the_switches_are_read_again_only_when_their_epoch_has_changed() -> None:
    row = Row(switch_epoch=4, maintenance_since=None, maintenance_reason=None)
    raw = FakeRaw(row, [])
    made = Board(cast("Database", raw), Path("/nowhere/x"))
    await made.refresh()
    await made.refresh()
    assert (raw.read_count, made.version, made.is_known) == (1, 1, True)
    row["switch_epoch"] = 3  # a restored backup counts lower
    raw.switches = [Row(tenant_id=TENANT, scope="tenant", scope_id=str(TENANT), reason="stop")]
    await made.refresh()
    assert (raw.read_count, made.version) == (2, 2)
    assert made.why_stopped(LANE) == "paused: tenant: stop"


async def test_maintenance_without_a_reason_is_maintenance() -> None:
    row = Row(switch_epoch=1, maintenance_since="now", maintenance_reason=None)
    made = Board(cast("Database", FakeRaw(row, [])), Path("/nowhere/x"))
    await made.refresh()
    assert made.why_stopped(LANE) == "maintenance: not given"


async def test_a_database_without_its_installation_row_leaves_everything_stopped() -> None:
    made = Board(cast("Database", FakeRaw(None, [])), Path("/nowhere/x"))
    await made.refresh()
    assert made.why_stopped(LANE) == "switches not read yet"

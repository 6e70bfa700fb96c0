"""The database's clock decides about schedules: no process's wall clock is asked, and leaps are told from time."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import outrider
from outrider.domain.schedules.times import Planned
from outrider.engine.scheduling.leaps import Leaps

PACKAGE = Path(outrider.__file__).parent
BEGIN = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def test_nothing_that_decides_about_schedules_asks_the_clock_of_its_own_machine() -> None:
    files = [*(PACKAGE / "domain" / "schedules").glob("*.py"), *(PACKAGE / "engine" / "scheduling").glob("*.py")]
    assert len(files) > 10
    for path in files:
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Attribute, ast.Name))
        }
        assert not names & {"utc_now", "utcnow", "today", "time_ns"}, path
        assert "now(" not in path.read_text(encoding="utf-8").replace("outrider_now()", ""), path


def test_a_clock_that_is_slewed_is_no_leap_and_one_that_is_set_is() -> None:
    leaps = Leaps()
    slew = 1 + 500e-6
    for hour in range(100):
        assert not leaps.look(BEGIN + timedelta(hours=hour * slew), 1000.0 + hour * 3600), "500 ppm"
        assert leaps.last is None
    now = BEGIN + timedelta(hours=99 * slew)
    assert leaps.look(now + timedelta(hours=2, seconds=1), 1000.0 + 99 * 3600 + 1) == timedelta(hours=2)
    assert leaps.last is not None
    planned = [Planned(now + timedelta(hours=1), BEGIN)]
    assert leaps.last.covers(planned)
    assert not leaps.last.covers([Planned(now - timedelta(seconds=1), BEGIN)])
    assert not leaps.last.covers([])


def test_a_clock_that_goes_back_is_told_and_covers_nothing() -> None:
    leaps = Leaps()
    leaps.look(BEGIN, 0.0)
    assert leaps.look(BEGIN - timedelta(hours=2), 0.0) == -timedelta(hours=2)
    assert leaps.last is None


def test_time_during_which_the_database_was_away_is_no_leap() -> None:
    leaps = Leaps()
    leaps.look(BEGIN, 0.0)
    assert not leaps.look(BEGIN + timedelta(hours=3), 3 * 3600.0)
    assert leaps.last is None

"""What doctor says of a server with few WAL segments, or whose checkpoints come too often: told, never a failure."""

from __future__ import annotations

import pytest

from outrider.interfaces.cli.write_ahead import judged

GOOD = {
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
    "wal_segment_size": "16MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_recycle": "on",
    "wal_init_zero": "on",
}


def test_a_server_that_keeps_enough_is_ok() -> None:
    found = judged(GOOD)
    assert (found.verdict, found.detail, found.remedy) == ("ok", "min_wal_size 1GB, max_wal_size 4GB", "")


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("min_wal_size", "80MB", "min_wal_size = 1GB"),
        ("max_wal_size", "1GB", "max_wal_size = 4GB"),
        ("checkpoint_timeout", "30s", "checkpoint_timeout = 15min"),
        ("checkpoint_completion_target", "0.5", "checkpoint_completion_target = 0.9"),
    ],
)
def test_each_setting_that_makes_others_wait_is_named_with_what_to_set(name: str, value: str, remedy: str) -> None:
    found = judged({**GOOD, name: value})
    assert found.verdict == "warn"
    assert found.remedy.startswith(f"set {remedy} and reload")


def test_everything_is_told_at_once_of_a_server_as_it_comes() -> None:
    found = judged({**GOOD, "min_wal_size": "80MB", "max_wal_size": "1GB"})
    assert "min_wal_size = 1GB, max_wal_size = 4GB" in found.remedy
    assert "until 16MB are written" in found.detail


def test_segments_that_are_not_recycled_are_told_and_left_to_who_knows_the_disk() -> None:
    found = judged({**GOOD, "wal_recycle": "off", "wal_init_zero": "off"})
    assert found.verdict == "ok"
    assert "ZFS and btrfs only" in found.detail


def test_what_a_server_does_not_show_is_not_judged() -> None:
    assert judged({}).verdict == "ok"

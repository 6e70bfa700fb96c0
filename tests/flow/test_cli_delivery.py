"""How a campaign goes out, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Command, Done, migrated_command


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path)
    text = tmp_path / "hello.txt"
    text.write_text("Hello {{ name }}")
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("lists", "create", "all"),
            ("template", "create", "hello", "--subject", "s", "--text", str(text)),
            ("template", "create", "other", "--subject", "o", "--text", str(text)),
            ("campaign", "create", "spring", "--sender", "news", "--template", "hello", "--list", "all"),
        ]
    )
    assert [done.code for done in prepared] == [0] * 6, prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_everything_can_be_said_shown_and_taken_back(outrider: Command, tmp_path: Path) -> None:
    file = tmp_path / "delivery.json"
    file.write_text('{"canary": {"max_bounced_percent": 1}}')
    waves, tried, seen, local, by_file, plain, audit = outrider.many(
        [
            ("delivery", "set", "spring", "--canary", "2", "--canary-minimum", "50", "--variant", "A=60", "--variant",
             "B=40", "--variant-template", "B=other", "--test", "30", "--metric", "opens", "--spread-hours", "2",
             "--json"),
            ("delivery", "set", "spring", "--per-hour", "5", "--dry-run"),
            ("delivery", "show", "spring"),
            ("delivery", "set", "spring", "--at", "2027-03-01T09:00", "--late", "skip", "--zone-attribute", "zone",
             "--fallback-zone", "Asia/Tokyo", "--json"),
            ("delivery", "set", "spring", "--file", str(file), "--json"),
            ("delivery", "set", "spring", "--json"),
            ("audit", "list", "--action", "campaign.delivery", "--json"),
        ]
    )  # fmt: skip
    said = _ok(waves)["delivery"]
    assert (said["canary"]["share_percent"], said["canary"]["minimum_count"]) == (2, 50)
    assert (said["ab_test"]["metric"], said["ab_test"]["audience_percent"]) == ("opens", 30)
    assert [(each["name"], each["share_percent"]) for each in _ok(waves)["variants"]] == [("A", 60), ("B", 40)]
    assert said["pacing"]["spread_hours"] == 2
    assert "dry run" in tried.out
    assert "variant B" in seen.out, "a dry run changes nothing"
    assert "spread_hours 2" in seen.out
    hour = _ok(local)["delivery"]["local_time"]
    assert hour == {
        "at": "2027-03-01T09:00:00", "late": "skip", "attribute": "zone", "fallback_zone": "Asia/Tokyo",
    }  # fmt: skip
    assert _ok(by_file)["delivery"]["canary"]["max_bounced_percent"] == 1
    assert set(_ok(plain)["delivery"].values()) == {None}
    assert len(_ok(audit)) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--at", "tomorrow"), "--at"),
        (("--late", "skip"), "--at"),
        (("--canary-by-hand",), "--canary"),
        (("--test", "30"), "--variant"),
        (("--file", "none.json", "--per-hour", "5"), "--file"),
        (("--at", "2027-03-01T09:00Z"), "local_time.at"),
        (("--variant", "A"), "--variant"),
        (("--variant", "A=x"), "--variant"),
        (("--variant", "A=50", "--variant", "B=40", "--variant-subject", "B=x"), "must make 100"),
        (("--variant", "A=50", "--variant-subject", "C=x"), "no --variant is called C"),
        (("--per-hour", "1", "--per-minute", "1"), "pacing: needs one"),
        (("--canary", "1", "--at", "2027-03-01T09:00"), "canary: cannot go"),
        (("--canary", "77"), "canary.share_percent"),
        (("--file", "/nowhere.json"), "--file"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(outrider: Command, options: tuple[str, ...], told: str) -> None:
    (done,) = outrider.many([("delivery", "set", "spring", *options)])
    assert done.code == 2, done
    assert told in done.err


def test_decisions_are_refused_where_nothing_waits(outrider: Command) -> None:
    done = outrider.many(
        [
            ("delivery", "go-on", "spring", "--yes"),
            ("delivery", "stop", "spring"),
            ("delivery", "winner", "spring", "A", "--yes"),
            ("delivery", "pace", "spring", "--per-hour", "5"),
            ("delivery", "results", "spring"),
        ]
    )
    assert [each.code for each in done] == [75, 75, 75, 75, 0]
    assert "it compares nothing" in done[-1].out

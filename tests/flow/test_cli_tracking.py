"""Openings, clicks and results by the command line."""

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
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("lists", "create", "all"),
            ("template", "create", "hello", "--subject", "s", "--text", str(_file(tmp_path))),
            ("campaign", "create", "spring", "--sender", "news", "--template", "hello", "--list", "all"),
        ]
    )
    assert [done.code for done in prepared] == [0] * 5, prepared
    return made


def _file(folder: Path) -> Path:
    path = folder / "hello.txt"
    path.write_text("Hello {{ name }}")
    return path


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_what_is_noticed_is_chosen_shown_and_audited(outrider: Command) -> None:
    before, chosen, tried, after, sender, campaign, audit = outrider.many(
        [
            ("tracking", "show", "--json"),
            ("tracking", "set", "--opens", "off", "--reason", "privacy", "--json"),
            ("tracking", "set", "--clicks", "off", "--dry-run"),
            ("tracking", "show", "--json"),
            ("tracking", "set", "--clicks", "off", "--sender", "news", "--json"),
            ("tracking", "set", "--clicks", "off", "--campaign", "spring", "--json"),
            ("audit", "list", "--action", "tracking.choose", "--json"),
        ]
    )
    assert (_ok(before)["opens"], _ok(before)["changed_at"]) == (True, None)
    assert (_ok(chosen)["opens"], _ok(chosen)["clicks"]) == (False, True)
    assert "dry run" in tried.out
    assert (_ok(after)["opens"], _ok(after)["clicks"]) == (False, True)
    assert _ok(sender)["clicks"] is _ok(campaign)["clicks"] is False
    assert len(_ok(audit)) == 3


def test_what_makes_no_sense_is_refused_in_one_line(outrider: Command) -> None:
    for done in outrider.many(
        [
            ("tracking", "set"),
            ("tracking", "set", "--opens", "perhaps"),
            ("tracking", "set", "--transactional", "on", "--sender", "news"),
            ("tracking", "show", "--sender", "news", "--campaign", "spring"),
            ("tracking", "show", "--campaign", "autumn"),
            ("results", "autumn"),
            ("results", "spring", "--by", "mood"),
        ]
    ):
        assert done.code != 0
        assert done.err.startswith("error: "), done
        assert "Traceback" not in done.err


def test_results_of_a_campaign_nobody_answered_are_empty(outrider: Command) -> None:
    whole, text, *parts = outrider.many(
        [
            ("results", "spring", "--json"),
            ("results", "spring"),
            *(("results", "spring", "--by", by, "--json") for by in ("hour", "link", "domain", "content")),
        ]
    )
    assert _ok(whole)["opens"] == {"people": 0, "hits": 0, "machines": 0, "machine_hits": 0}
    assert "opened by people" in text.out
    assert [_ok(part) for part in parts] == [[], [], [], []]

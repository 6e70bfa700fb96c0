"""Lists on offer, forms and looks by the command line."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.access_table import PIXEL
from tests.kit.command import Command, Done, migrated_command


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path)
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("lists", "create", "weekly"),
        ]
    )
    assert [done.code for done in prepared] == [0] * 3, prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_a_list_is_offered_and_a_form_made_changed_shown_and_deleted(outrider: Command) -> None:
    new = ("forms", "create", "footer", "--title", "Letters", "--consent", "I agree.", "--list", "weekly")
    early, offer, offers, tried, made, changed, shown, html, listed, deleted, gone = outrider.many(
        [
            new,
            ("lists", "offer", "weekly", "--title", "Every week", "--description", "What grows", "--json"),
            ("lists", "offers", "--json"),
            (*new, "--dry-run"),
            (*new, "--asks-name", "--json"),
            ("forms", "change", "footer", "--consent", "I really agree.", "--open", "no", "--json"),
            ("forms", "show", "footer"),
            ("forms", "show", "footer", "--html"),
            ("forms", "list", "--json"),
            ("forms", "delete", "footer"),
            ("forms", "show", "footer"),
        ]
    )
    assert early.code == 2
    assert "--list: weekly is not on offer" in early.err
    assert (_ok(offer)["title"], _ok(offers)[0]["name"]) == ("Every week", "weekly")
    assert "dry run" in tried.out
    assert "/s/" in _ok(made)["url"]
    assert (_ok(changed)["version"], _ok(changed)["is_open"], _ok(changed)["asks_name"]) == (2, False, True)
    assert "I really agree." in shown.out
    assert html.out.startswith("<form action=")
    assert [each["name"] for each in _ok(listed)] == ["footer"]
    assert "deleted form footer" in deleted.out
    assert gone.code != 0


def test_a_look_is_shown_changed_and_refused_when_nobody_could_read_it(outrider: Command, tmp_path: Path) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(base64.b64decode(PIXEL))
    before, changed, refused, both, after, without = outrider.many(
        [
            ("tenant", "look", "--json"),
            ("tenant", "look", "--colour", "#006644", "--footer", "Line", "--logo", str(logo), "--json"),
            ("tenant", "look", "--colour-dark", "#006644"),
            ("tenant", "look", "--logo", str(logo), "--no-logo"),
            ("tenant", "look"),
            ("tenant", "look", "--no-logo", "--json"),
        ]
    )
    assert (_ok(before)["colour"], _ok(before)["has_logo"]) == ("", False)
    assert (_ok(changed)["colour"], _ok(changed)["has_logo"]) == ("#006644", True)
    assert (refused.code, "contrast" in refused.err) == (2, True)
    assert both.code != 0
    assert "#006644" in after.out
    assert _ok(without)["has_logo"] is False


def test_what_makes_no_sense_is_refused_in_one_line(outrider: Command) -> None:
    for done in outrider.many(
        [
            ("lists", "offer", "nobody", "--title", "x"),
            ("lists", "withdraw", "weekly"),
            ("forms", "change", "none", "--title", "x"),
            ("forms", "create", "f", "--title", "t", "--consent", "c", "--list", "nobody"),
        ]
    ):
        assert done.code != 0
        assert len(done.err.strip().splitlines()) == 1, done.err

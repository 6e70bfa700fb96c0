"""`outrider campaign`: every verb, as data and as text, with its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Command, Done, migrated_command

_PASSWORD = "a quite unusual phrase 7"


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path).with_(OUTRIDER_PUBLIC_URL="https://news.example.org")
    people = tmp_path / "people.csv"
    people.write_text("email,name\nann@example.net,Ann\nbob@example.net,Bob\n")
    letter = tmp_path / "hello.txt"
    letter.write_text("Hello {{ name }} {{ unsubscribe_url }}")
    consent = ("--consent", "granted", "--consent-source", "test")
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("template", "create", "hello", "--subject", "Hi {{ name }}", "--text", str(letter)),
            ("contacts", "import", str(people), "--list", "all", *consent, "--errors", str(tmp_path / "errors.csv")),
            ("lists", "create", "friends"),
            ("campaign", "create", "spring", "--sender", "news", "--template", "hello", "--list", "all"),
        ]
    )
    assert [done.code for done in prepared] == [0] * 6, prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_a_draft_is_shown_changed_tried_and_deleted(outrider: Command) -> None:
    shown, text, changed, back, nothing, both, seen, html, tried, stranger, kept, gone, unknown = outrider.many(
        [
            ("campaign", "show", "spring", "--json"),
            ("campaign", "show", "spring"),
            ("campaign", "update", "spring", "--name", "summer", "--priority", "2", "--without-list", "friends",
             "--version", "1", "--expires", "2999-01-01T00:00:00Z", "--json"),
            ("campaign", "update", "summer", "--no-exclusions", "--version", "latest", "--expires", "none", "--json"),
            ("campaign", "update", "summer"),
            ("campaign", "update", "summer", "--no-exclusions", "--without-list", "friends"),
            ("campaign", "preview", "summer", "--set", "name=Grace", "--json"),
            ("campaign", "preview", "summer", "--part", "html"),
            ("campaign", "test-send", "summer", "ann@example.net", "--dry-run"),
            ("campaign", "test-send", "summer", "stranger@example.net"),
            ("campaign", "delete", "summer", "--yes", "--dry-run", "--json"),
            ("campaign", "delete", "summer", "--yes", "--json"),
            ("campaign", "show", "summer"),
        ]
    )  # fmt: skip
    assert (_ok(shown)["name"], _ok(shown)["state"]) == ("spring", "draft")
    assert "spring" in text.out
    data = _ok(changed)
    assert (data["name"], data["priority"], data["template_version"]) == ("summer", 2, 1)
    assert len(data["exclusions"]["list_ids"]) == 1
    data = _ok(back)
    assert (data["exclusions"]["list_ids"], data["template_version"], data["expires_at"]) == ([], None, None)
    assert (nothing.code, both.code) == (2, 2)
    assert _ok(seen)["text"].startswith("Hello Grace")
    assert _ok(seen)["sender"] == "News <news@example.com>"
    assert "(none)" in html.out
    for done in (tried, stranger):
        assert (done.code, "OUTRIDER_TEST_ADDRESSES" in done.err) == (2, True), done
    assert _ok(kept)["is_deleted"]
    assert _ok(gone)["is_deleted"]
    assert unknown.code == 4


def test_test_sends_go_to_people_of_ones_own(outrider: Command) -> None:
    allowed = outrider.with_(OUTRIDER_TEST_ADDRESSES='["me@example.net"]')
    done = allowed.run("campaign", "test-send", "spring", "me@example.net", "--json")
    (message_id,) = _ok(done)["ids"]
    (row,) = _ok(allowed.run("messages", "list", "--json"))
    assert (row["id"], row["address"], row["campaign_id"]) == (message_id, "me@example.net", None)


def test_a_variant_is_seen_and_tried_by_its_name_and_the_campaign_published(outrider: Command) -> None:
    allowed = outrider.with_(OUTRIDER_TEST_ADDRESSES='["me@example.net"]')
    launch = ("campaign", "launch", "spring", "--acknowledge", "empty_suppressions", "--yes")
    (
        _, seen, text, unknown, tried, early, _, made, again, shown, gone, twice, none,
    ) = allowed.many(
        [
            ("delivery", "set", "spring", "--variant", "a=50", "--variant", "b=50", "--variant-subject",
             "b=Dear {{ name }}", "--winner-by-hand"),
            ("campaign", "preview", "spring", "--variant", "b", "--set", "name=Grace", "--json"),
            ("campaign", "preview", "spring"),
            ("campaign", "preview", "spring", "--variant", "c"),
            ("campaign", "test-send", "spring", "me@example.net", "--variant", "b"),
            ("campaign", "publish", "spring"),
            launch,
            ("campaign", "publish", "spring", "--set", "name=friend", "--json"),
            ("campaign", "publish", "spring", "--set", "name=you", "--dry-run"),
            ("campaign", "web-version", "spring", "--json"),
            ("campaign", "unpublish", "spring"),
            ("campaign", "unpublish", "spring"),
            ("campaign", "web-version", "spring"),
        ]
    )  # fmt: skip
    assert (_ok(seen)["subject"], _ok(seen)["variant"]) == ("Dear Grace", "b")
    assert text.out.startswith("variant a of a, b\n")
    assert (unknown.code, "must be one of a, b" in unknown.err) == (2, True)
    assert (tried.code, "1 test message(s) of variant b are queued" in tried.out) == (0, True)
    assert (early.code, "launched" in early.err) == (75, True)
    page = _ok(made)
    assert page["url"].startswith("https://news.example.org/v/")
    assert "code" not in page
    assert again.code == 0
    assert (_ok(shown)["url"], _ok(shown)["variables"]) == (page["url"], {"name": "friend"})
    assert (gone.code, twice.code, none.code) == (0, 4, 4)


def test_scheduling_launching_undoing_and_the_sheet(outrider: Command) -> None:
    moment = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    reason = ("--reason", "after lunch")
    asks, known, unasked, waiting, back, launched, progress, undone, late, sheet, due, none, audit = outrider.many(
        [
            ("campaign", "preflight", "spring", "--no-connection"),
            ("campaign", "launch", "spring", "--acknowledge", "everything", "--yes"),
            ("campaign", "launch", "spring", "--yes"),
            ("campaign", "schedule", "spring", moment, "--acknowledge", "empty_suppressions", *reason, "--yes",
             "--json"),
            ("campaign", "unschedule", "spring", "--json"),
            ("campaign", "launch", "spring", "--undo", "600", *reason, "--yes", "--json"),
            ("campaign", "progress", "spring"),
            ("campaign", "undo", "spring", "--reason", "too early", "--json"),
            ("campaign", "undo", "spring"),
            ("campaign", "sheet", "spring"),
            ("campaign", "retry", "spring", "--json"),
            ("campaign", "retry", "spring", "--count", "1", "--yes"),
            ("audit", "list", "--json"),
        ]
    )  # fmt: skip
    assert (asks.code, "ASKS" in asks.out, "0.00 EUR" in asks.out) == (1, True, True), asks
    assert (known.code, unasked.code) == (2, 75)
    assert "empty_suppressions" in unasked.err
    assert (_ok(waiting)["state"], _ok(back)["state"]) == ("scheduled", "draft")
    assert _ok(launched)["undo_until"] is not None
    assert "can be undone for" in progress.out
    assert _ok(undone)["state"] == "draft"
    assert (late.code, none.code) == (75, 75)
    assert "no preflight was made" in sheet.out
    assert _ok(due)["count"] == 0
    told = {(each["action"], each["reason"]) for each in _ok(audit)}
    assert {
        ("campaign.schedule", "after lunch"),
        ("campaign.launch", "after lunch"),
        ("campaign.undo", "too early"),
    } <= told


def test_asking_and_approving_are_signed_for_by_two_people(outrider: Command) -> None:
    for name in ("ann", "bob"):
        made = outrider.run(
            "user", "create", f"{name}@example.org", "--role", "admin", "--password-stdin", stdin=f"{_PASSWORD}\n"
        )
        assert made.code == 0, made
    changed = outrider.run("tenant", "change", "default", "--set", "approval_above_count=1")
    assert changed.code == 0, changed

    def signed(verb: str, who: str, *more: str, password: str = _PASSWORD) -> Done:
        line = ("campaign", verb, "spring", "--as", f"{who}@example.org", "--password-stdin", *more)
        return outrider.run(*line, stdin=f"{password}\n")

    asked = signed("request-approval", "ann", "--acknowledge", "empty_suppressions", "--reason", "sale", "--json")
    assert _ok(asked)["state"] == "waiting"
    (waiting,) = _ok(outrider.run("campaign", "approvals", "--state", "waiting", "--json"))
    assert (waiting["requested_by"], waiting["request_reason"]) == ("ann@example.org", "sale")
    assert signed("approve", "ann").code == 77
    assert signed("approve", "bob", password="not it").code == 77
    assert outrider.run("campaign", "approve", "spring", "--as", "bob@example.org").code == 2
    assert outrider.run("campaign", "launch", "spring", "--yes").code == 75
    assert _ok(signed("reject", "bob", "--reason", "wrong price", "--json"))["state"] == "rejected"
    assert _ok(signed("request-approval", "ann", "--json"))["state"] == "waiting"
    assert _ok(outrider.run("campaign", "withdraw-approval", "spring", "--json"))["state"] == "withdrawn"
    assert _ok(signed("request-approval", "ann", "--json"))["state"] == "waiting"
    assert _ok(signed("approve", "bob", "--json"))["decided_by"] == "bob@example.org"
    assert _ok(outrider.run("campaign", "launch", "spring", "--yes", "--json"))["state"] == "sending"


def test_links_are_tried_when_asked_for_and_this_machine_never(outrider: Command, tmp_path: Path) -> None:
    letter = tmp_path / "linked.txt"
    letter.write_text("See http://127.0.0.1:9/x {{ unsubscribe_url }}")
    plain, tried, text, checked, shown = outrider.many(
        [
            ("template", "update", "hello", "--subject", "Hi", "--text", str(letter)),
            ("template", "links", "hello", "--dial", "--json"),
            ("template", "links", "hello", "--dial"),
            ("campaign", "preflight", "spring", "--no-connection", "--dial", "--json"),
            ("campaign", "preflight", "spring", "--no-connection", "--dial"),
        ]
    )
    assert plain.code == 0, plain
    (one,) = json.loads(tried.out)["dialled"]
    assert (tried.code, one["verdict"], one["code"], one["status"]) == (1, "unsure", "not_allowed", None)
    assert "not_allowed" in text.out
    assert json.loads(checked.out)["dialled_links"] == [one]
    assert "link_not_allowed" in shown.out

"""Looking after an audience by the command line alone: attributes, tags, segments, campaigns to them, people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Command, Done, migrated_command


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A command on a migrated database with a sender, a template and three contacts."""
    made = migrated_command(new_database, tmp_path)
    people = tmp_path / "people.csv"
    people.write_text(
        "email,name,plan\nann@example.org,Ann,gold\nbob@example.org,Bob,free\nanna@example.org,Anna,gold\n"
    )
    text = tmp_path / "letter.txt"
    text.write_text("Dear {{ name }}")
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("template", "create", "letter", "--subject", "Hello", "--text", str(text)),
            ("contacts", "import", str(people), "--list", "all", "--consent", "granted", "--consent-source", "form"),
        ]
    )
    assert [done.code for done in prepared] == [0, 0, 0, 0], prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_an_audience_is_looked_after_by_the_command_line(outrider: Command, tmp_path: Path) -> None:
    rules = tmp_path / "gold.json"
    rules.write_text('{"kind": "attribute", "key": "plan", "value": "gold"}')
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"kind": "attribute", "key": "plan", "op": "like", "value": "gold"}')
    out = tmp_path / "ann.json"
    done = outrider.many(
        [
            ("attributes", "define", "plan", "choice", "--choice", "gold", "--choice", "free", "--json"),
            ("attributes", "values", "plan", "--json"),
            ("segments", "create", "gold", "--rules", str(rules), "--json"),
            ("segments", "create", "wrong", "--rules", str(wrong)),
            ("segments", "count", "gold", "--channel", "email", "--json"),
            ("segments", "contacts", "gold", "--json"),
            ("contacts", "search", "ANN@", "--json"),
            ("campaign", "create", "first", "--sender", "news", "--template", "letter", "--segment", "gold", "--json"),
            ("campaign", "create", "second", "--sender", "news", "--template", "letter", "--list", "all",
             "--without-campaign", "first", "--without-segment", "gold", "--json"),
            ("campaign", "create", "none", "--sender", "news", "--template", "letter"),
            ("segments", "delete", "gold", "--yes"),
            ("people", "export", "ann@example.org", "--to", str(out), "--json"),
            ("people", "merge", "ann@example.org", "anna@example.org", "--yes", "--json"),
            ("people", "erase", "ann@example.org", "--yes", "--reason", "asked", "--json"),
            ("people", "erasures", "--json"),
            ("contacts", "show", "ann@example.org"),
        ]
    )  # fmt: skip
    assert _ok(done[0])["choices"] == ["gold", "free"]
    assert {(each["value"], each["contact_count"]) for each in _ok(done[1])} == {("gold", 2), ("free", 1)}
    assert _ok(done[2])["contact_count"] == 2
    assert done[3].code == 2
    assert "like" in done[3].err
    assert _ok(done[4]) == {"contact_count": 2, "with_address_count": 2, "channel": "email"}
    assert {each["name"] for each in _ok(done[5])} == {"Ann", "Anna"}
    assert [each["name"] for each in _ok(done[6])] == ["Ann"]
    first, second = _ok(done[7]), _ok(done[8])
    assert (first["list_id"], first["segment_id"] is not None) == (None, True)
    assert second["exclusions"]["campaign_ids"] == [first["id"]]
    assert (done[9].code, "list_id" in done[9].err) == (2, True)
    assert "segment_in_use" in done[10].err or "goes to this segment" in done[10].err
    assert _ok(done[11])["state"] == "completed"
    assert json.loads(out.read_text())["contact"]["name"] == "Ann"
    assert out.stat().st_mode & 0o777 == 0o600
    assert len(_ok(done[12])["addresses"]) == 2
    begun = _ok(done[13])
    assert begun["job_id"]
    assert len(begun["contact_ids"]) == 2
    assert [each["id"] for each in _ok(done[14])] == [begun["id"]]
    assert done[15].code == 4


def test_lists_and_senders_are_looked_after_by_hand(outrider: Command) -> None:
    done = outrider.many(
        [
            ("lists", "create", "friends", "--json"),
            ("lists", "add", "friends", "ann@example.org", "ANN@example.org", "anna@example.org", "--json"),
            ("lists", "add", "friends", "nobody@example.org"),
            ("lists", "remove", "friends", "anna@example.org", "--json"),
            ("lists", "members", "friends"),
            ("lists", "members", "friends", "--json"),
            ("lists", "rename", "friends", "close friends", "--json"),
            ("lists", "list", "--json"),
            ("lists", "delete", "close friends", "--yes", "--dry-run"),
            ("lists", "delete", "close friends", "--yes", "--json"),
            ("lists", "delete", "close friends", "--yes"),
            ("sender", "archive", "news", "--json"),
            ("sender", "list", "--json"),
            ("sender", "restore", "news", "--json"),
            ("sender", "list", "--json"),
        ]
    )
    assert _ok(done[1])["changed_count"] == 2
    assert done[2].code == 4
    assert _ok(done[3])["changed_count"] == 1
    assert "Ann" in done[4].out
    assert [each["contact_id"] in done[4].out for each in _ok(done[5])] == [True]
    assert _ok(done[6])["name"] == "close friends"
    assert {each["name"]: each["member_count"] for each in _ok(done[7])}["close friends"] == 1
    assert (done[8].code, done[10].code) == (0, 4)
    assert _ok(done[9])["id"] == _ok(done[0])["id"]
    assert _ok(done[11])["archived_at"] is not None
    assert _ok(done[12]) == []
    assert _ok(done[13])["archived_at"] is None
    assert [each["name"] for each in _ok(done[14])] == ["news"]


def test_many_addresses_are_put_on_the_list_at_once(outrider: Command, tmp_path: Path) -> None:
    file = tmp_path / "stop.txt"
    file.write_text("# by post\n\nfour@example.org\n +14155550123 \n", encoding="utf-8-sig")
    why = ("--reason", "by post")
    one, many, wrong, nothing, tried, listed, audit = outrider.many(
        [
            ("suppressions", "add", "ONE@example.org", *why, "--json"),
            ("suppressions", "add", "one@example.org", "two@example.org", "--file", str(file), *why, "--json"),
            ("suppressions", "add", "five@example.org", "nobody", "+1", "six@example.org"),
            ("suppressions", "add"),
            ("suppressions", "add", "seven@example.org", "eight@example.org", "--dry-run"),
            ("suppressions", "list", "--json"),
            ("audit", "list", "--action", "suppression.add_many", "--json"),
        ]
    )
    assert _ok(one) == {"count": 1, "changed_count": 1, "address": "ONE@example.org", "changed": True}
    assert _ok(many) == {"count": 4, "changed_count": 3}
    assert (wrong.code, "address 2: nobody: " in wrong.err, "address 3: +1: " in wrong.err) == (2, True, True)
    assert (nothing.code, "--file" in nothing.err, tried.code) == (2, True, 0)
    rows = {row["address"]: row["note"] for row in _ok(listed)}
    assert rows == {
        "one@example.org": "by post", "two@example.org": "by post", "four@example.org": "by post",
        "+14155550123": "by post",
    }  # fmt: skip
    assert [(entry["reason"], entry["target_id"]) for entry in _ok(audit)] == [("by post", "4 entries")]


def test_the_reason_of_whatever_is_changed_by_a_command_stands_in_the_audit_log(outrider: Command) -> None:
    reason = ("--reason", "asked by phone")
    done = outrider.many(
        [
            ("lists", "create", "friends", *reason),
            ("attributes", "define", "size", "number", *reason),
            ("lists", "rename", "friends", "close friends", "--reason", "x" * 501),
            ("lists", "rename", "friends", "close friends", "--reason", "two\nlines"),
            ("audit", "list", "--json"),
        ]
    )
    assert [each.code for each in done] == [0, 0, 2, 2, 0], done
    assert "--reason" in done[2].err
    assert "--reason" in done[3].err
    kept = {(each["action"], each["reason"]) for each in _ok(done[4])}
    assert {("list.create", "asked by phone"), ("attribute.define", "asked by phone")} <= kept
    assert ("template.create", "not given") in kept


def test_a_contact_is_made_and_changed_by_hand(outrider: Command) -> None:
    done = outrider.many(
        [
            ("attributes", "define", "visits", "number"),
            ("contacts", "create", "Eve@Example.org", "+436601234567", "--name", "Eve", "--external-id", "4711",
             "--set", "visits=3", "--set", "plan=gold", "--timezone", "Europe/Vienna", "--locale", "de-AT",
             "--tag", "VIP", "--json"),
            ("contacts", "create", "eve@example.org"),
            ("contacts", "create", "fritz@example.org", "--set", "visits=many"),
            ("contacts", "create", "fritz@example.org", "--set", "visits"),
            ("contacts", "create", "fritz@example.org", "--dry-run"),
            ("contacts", "show", "fritz@example.org"),
            ("contacts", "change", "+43 660 1234567", "--name", "Eva", "--external-id", "", "--unset", "plan",
             "--set", "visits=4", "--locale", "", "--json"),
            ("contacts", "change", "eve@example.org"),
            ("contacts", "add-address", "eve@example.org", "eva@example.org", "--json"),
            ("contacts", "add-address", "eve@example.org", "ann@example.org"),
            ("contacts", "remove-address", "eva@example.org", "+436601234567", "--json"),
            ("contacts", "show", "eva@example.org"),
        ]
    )  # fmt: skip
    made = _ok(done[1])
    assert [(each["channel"], each["address"]) for each in made["addresses"]] == [
        ("email", "eve@example.org"), ("sms", "+436601234567"),
    ]  # fmt: skip
    assert (made["name"], made["external_id"], made["tags"]) == ("Eve", "4711", ["vip"])
    assert made["attributes"] == {"visits": 3, "plan": "gold"}
    assert "another contact has this address" in done[2].err
    assert "visits: must be a number" in done[3].err
    assert "must be attribute=value" in done[4].err
    assert [each.code for each in done[2:5]] == [75, 2, 2]
    assert "dry run" in done[5].out
    assert done[6].code == 4, "a dry run makes nobody"
    changed = _ok(done[7])
    assert (changed["name"], changed["external_id"], changed["locale"]) == ("Eva", None, None)
    assert (changed["attributes"], changed["timezone"]) == ({"visits": 4}, "Europe/Vienna")
    assert "name what to change" in done[8].err
    assert len(_ok(done[9])["addresses"]) == 3
    assert done[10].code == 75
    assert {each["address"] for each in _ok(done[11])["addresses"]} == {"eve@example.org", "eva@example.org"}
    assert "vip" in done[12].out


def test_what_somebody_says_about_consent_is_recorded_by_hand(outrider: Command) -> None:
    said = ("consents", "record", "ann@example.org")
    done = outrider.many(
        [
            (*said, "withdrawn", "--source", "telephone", "--json"),
            (*said, "granted", "--source", "letter"),
            (*said, "granted", "--source", "letter", "--text-shown", "Yes, write me.", "--form-version", "7", "--json"),
            ("consents", "history", "ann@example.org", "--json"),
            (*said, "maybe", "--source", "letter"),
        ]
    )
    assert _ok(done[0])["is_changed"] is True
    assert done[1].code == 75
    assert "text_shown" in done[1].err
    assert _ok(done[2])["status"] == "granted"
    assert [(each["status"], each["source"]) for each in _ok(done[3])] == [
        ("granted", "form"), ("withdrawn", "telephone"), ("granted", "letter"),
    ]  # fmt: skip
    assert done[4].code == 2


def test_a_template_is_taken_out_of_use_and_back(outrider: Command) -> None:
    done = outrider.many(
        [
            ("template", "archive", "letter", "--json"),
            ("template", "update", "letter", "--subject", "Again"),
            ("template", "list", "--json"),
            ("template", "list", "--archived", "--json"),
            ("template", "versions", "letter", "--json"),
            ("template", "unarchive", "letter", "--json"),
            ("template", "list", "--json"),
            ("template", "archive", "none"),
        ]
    )
    assert _ok(done[0])["archived_at"] is not None
    assert done[1].code != 0
    assert _ok(done[2]) == []
    assert [each["name"] for each in _ok(done[3])] == ["letter"]
    assert [each["version"] for each in _ok(done[4])] == [1]
    assert _ok(done[5])["archived_at"] is None
    assert len(_ok(done[6])) == 1
    assert done[7].code == 4


def test_what_is_stopped_is_named_as_people_name_it(outrider: Command) -> None:
    done = outrider.many(
        [
            ("campaign", "create", "spring", "--sender", "news", "--template", "letter", "--list", "all", "--json"),
            ("pause", "sender", "news", "--json"),
            ("pause", "campaign", "spring", "--json"),
            ("status", "--json"),
            ("resume", "sender", "news", "--yes", "--json"),
            ("pause", "sender", "nobody"),
            ("resume", "campaign", "spring"),
            ("uncertain", "list", "--campaign", "spring", "--json"),
            ("uncertain", "resend", "--all", "--campaign", "autumn", "--yes"),
            ("messages", "list", "--campaign", "autumn"),
        ]
    )
    campaign = _ok(done[0])
    assert _ok(done[7]) == []
    assert [each.err for each in done[8:]] == ["error: campaign: no campaign named 'autumn'\n"] * 2
    assert _ok(done[1])["scope_id"] == campaign["sender_id"]
    assert _ok(done[2])["scope_id"] == campaign["id"]
    assert campaign["id"] in done[3].out
    assert [each["scope"] for each in _ok(done[4])["still_paused"]] == ["campaign"]
    assert (done[5].code, done[5].err) == (4, "error: which: no sender named 'nobody'\n")
    assert (done[6].code, "this needs confirmation" in done[6].err) == (2, True)

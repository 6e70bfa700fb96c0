"""Previews on the command line: what a recipient would get, in each channel, made as the worker makes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Command, Done, migrated_command

SID = "AC" + "0" * 32


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path).with_(OUTRIDER_PUBLIC_URL="https://news.example.org")
    (tmp_path / "people.csv").write_text("phone,name\n+61412345678,Ann\n")
    (tmp_path / "sale.txt").write_text("{{ name }} ({{ phone }}): 20% off")
    (tmp_path / "letter.txt").write_text("Dear {{ name }} at {{ email }}")
    connection = ("connection", "create", "sms", "--provider", "twilio", "--set", f"account_sid={SID}")
    consent = ("--consent", "granted", "--consent-source", "test")
    signed_in = made.run(*connection, "--secret", "auth_token", stdin="token\n")
    assert signed_in.code == 0, signed_in
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "texts", "--connection", "sms", "--from", "+14155550100"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("template", "create", "sale", "--channel", "sms", "--text", str(tmp_path / "sale.txt")),
            ("template", "create", "letter", "--subject", "Hi", "--text", str(tmp_path / "letter.txt")),
            ("contacts", "import", str(tmp_path / "people.csv"), "--channel", "sms", "--list", "phones", *consent),
            ("campaign", "create", "spring", "--sender", "texts", "--template", "sale", "--list", "phones"),
        ]
    )
    assert [done.code for done in prepared] == [0] * 7, prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_a_text_is_shown_with_its_number_its_parts_and_the_way_out(outrider: Command) -> None:
    (contact,) = _ok(outrider.run("contacts", "list", "--json"))
    data, plain, own, by_number, nobody = outrider.many(
        [
            ("campaign", "preview", "spring", "--json"),
            ("campaign", "preview", "spring"),
            ("campaign", "preview", "spring", "--contact", contact["id"], "--json"),
            ("campaign", "preview", "spring", "--contact", "+61 412 345 678", "--json"),
            ("campaign", "preview", "spring", "--contact", "nobody@example.org"),
        ]
    )
    assert _ok(data)["text"] == "Sample Recipient (+14155550123): 20% off\nReply STOP to opt out"
    assert (_ok(data)["sender"], _ok(data)["measure"]["segments"]) == ("+14155550100", 1)
    assert "parts" in plain.out
    assert "no price is known for sms" in plain.out
    assert (_ok(data)["price"]["country"], _ok(own)["price"]["country"]) == (None, "AU")
    assert "subject" not in plain.out
    assert _ok(own)["text"] == "Ann (+61412345678): 20% off\nReply STOP to opt out"
    assert _ok(by_number) == _ok(own)
    assert (nobody.code, nobody.err) == (4, "error: --contact: nobody has this address\n")


def test_a_template_is_shown_before_it_is_in_a_campaign(outrider: Command) -> None:
    text, letter, named, wrong, missing = outrider.many(
        [
            ("template", "preview", "sale", "--set", "name=Grace", "--json"),
            ("template", "preview", "letter"),
            ("template", "preview", "letter", "--sender", "news", "--version", "1", "--json"),
            ("template", "preview", "sale", "--sender", "news"),
            ("template", "preview", "nothing"),
        ]
    )
    assert _ok(text)["text"].startswith("Grace (+14155550123): 20% off")
    assert "Dear Sample Recipient at recipient@example.org" in letter.out
    assert "subject" in letter.out
    assert _ok(named)["sender"] == "News <news@example.com>"
    assert (wrong.code, "--sender" in wrong.err) == (2, True), wrong
    assert missing.code == 4


def test_a_text_is_measured_and_priced_on_the_command_line(outrider: Command) -> None:
    text = "x" * 161
    plain, unknown, _, priced, data, away, email, wrong, both = outrider.many(
        [
            ("numbers", "measure", text, "--no-price"),
            ("numbers", "measure", text),
            ("budget", "set-price", "sms", "79000", "--country", "AU"),
            ("numbers", "measure", text, "--to", "+61 412 345 678"),
            ("numbers", "measure", text, "--to", "+61412345678", "--json"),
            ("numbers", "measure", text),
            ("numbers", "measure", text, "--channel", "email"),
            ("numbers", "measure", text, "--to", "nobody"),
            ("numbers", "measure", text, "--to", "+61412345678", "--no-price"),
        ]
    )
    assert (plain.code, "price" in plain.out, "segments" in plain.out) == (0, False, True), plain
    assert "no price is known for sms (outrider budget set-price): it is sent, and not counted" in unknown.out
    assert "0.158 EUR (2 parts at 0.079)" in priced.out
    assert _ok(data)["price"]["total_micros"] == 158_000
    assert "to every other country" in away.out
    assert "to AU" in away.out
    assert (email.code, "--channel" in email.err) == (2, True), email
    assert (wrong.code, "--to" in wrong.err) == (2, True), wrong
    assert (both.code, "--to: is for the price" in both.err) == (2, True), both


def test_a_price_for_every_tenant_is_set_and_taken_away_on_the_command_line(outrider: Command) -> None:
    unknown, both, made, looked, removed, again, left, entries = outrider.many(
        [
            ("budget", "set-price", "smss", "1"),
            ("budget", "set-price", "sms", "1", "--country", "NZ", "--tenant", "default", "--installation"),
            ("budget", "set-price", "sms", "5000", "--country", "NZ", "--installation"),
            ("budget", "remove-price", "sms", "--country", "NZ", "--installation", "--dry-run"),
            ("budget", "remove-price", "sms", "--country", "NZ", "--json"),
            ("budget", "remove-price", "sms", "--country", "NZ", "--installation", "--reason", "gone up", "--json"),
            ("budget", "prices", "--json"),
            ("audit", "list", "--installation", "--action", "price.remove", "--json"),
        ]
    )
    assert (unknown.code, "channel: must be one of" in unknown.err) == (2, True), unknown
    assert (both.code, "--tenant or --installation" in both.err) == (2, True), both
    assert (made.code, looked.code, "1 price(s) removed" in looked.out) == (0, 0, True), looked
    assert _ok(removed)["count"] == 0, "the tenant has none of its own"
    assert _ok(again)["count"] == 1
    assert [each for each in json.loads(left.out) if each["country"] == "NZ"] == []
    (entry,) = [each for each in json.loads(entries.out) if each["target_id"] == "sms NZ"]
    assert (entry["reason"], entry["details"]["was"][0][1]) == ("gone up", 5000)

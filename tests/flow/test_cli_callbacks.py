"""What providers told and people wrote, by the command line: looked at, applied again, taken unsigned for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from tests.kit.command import Command, Done, migrated_command

PHONE = "+14155552671"
ACCOUNT = "AC" + "0" * 32


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path).with_(OUTRIDER_PUBLIC_URL="https://mail.example.org")
    account = ("connection", "create", "sms", "--provider", "twilio", "--set", f"account_sid={ACCOUNT}")
    done = made.run(*account, "--secret", "auth_token", stdin="a token\n")
    assert done.code == 0, done
    (other,) = made.many([("connection", "create", "mx", "--set", "host=mail.example.org")])
    assert other.code == 0, other
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def _execute(outrider: Command, statement: str, *args: Any) -> Any:
    """A value, as the engine sees it; `$1` is the tenant."""

    async def work() -> Any:
        connection = await asyncpg.connect(outrider.environment["OUTRIDER_DATABASE_URL"])
        try:
            await connection.execute("SET ROLE outrider_engine")
            return await connection.fetchval(statement, DEFAULT_TENANT, *args)
        finally:
            await connection.close()

    return asyncio.run(work())


def _told(outrider: Command, word: str, state: str, *, repeats: int = 0) -> str:
    """A callback as the API keeps it."""
    statement = (
        "INSERT INTO webhook_events (tenant_id, connection_id, provider, event_key, kind, word, body_hash, signature, "
        "source, state, repeats) SELECT $1, id, 'twilio', $2, 'report', $2, '', 'genuine', '192.0.2.7', $3, $4 "
        "FROM connections WHERE tenant_id = $1 AND name = 'sms' RETURNING id::text"
    )
    return str(_execute(outrider, statement, word, state, repeats))


def test_what_was_told_is_listed_and_applied_again(outrider: Command) -> None:
    ids = [_told(outrider, "delivered", "applied", repeats=3), _told(outrider, "failed", "orphan")]
    everything, orphans, repeated, tried, again, after, audit = outrider.many(
        [
            ("callbacks", "list", "--json"),
            ("callbacks", "list", "--state", "orphan", "--json"),
            ("callbacks", "list", "--repeated"),
            ("callbacks", "replay", *ids, "--dry-run"),
            ("callbacks", "replay", *ids, "--reason", "mended", "--json"),
            ("callbacks", "list", "--state", "new", "--json"),
            ("audit", "list", "--action", "callback.replay", "--json"),
        ]
    )
    assert [each["word"] for each in _ok(everything)] == ["failed", "delivered"], "the newest first"
    assert [each["id"] for each in _ok(orphans)] == ids[1:]
    assert "delivered" in repeated.out
    assert "failed" not in repeated.out
    assert "dry run" in tried.out
    assert _ok(again) == {"count": 2}
    assert {each["id"] for each in _ok(after)} == set(ids)
    assert [entry["reason"] for entry in _ok(audit)] == ["mended"]


def test_what_cannot_be_is_said_with_its_name(outrider: Command) -> None:
    allow = ("allow", "192.0.2.7", "--connection", "sms")
    wrong: dict[tuple[str, ...], str] = {
        ("replay",): "which",
        ("replay", "x"): "ids",
        ("list", "--state", "gone"): "--state",
        ("disallow", "x"): "exception",
        ("disallow", str(UUID(int=7))): "no such exception",
        ("url", "mx"): "does not report",
        ("url", "nobody"): "nobody",
        ("conversation", PHONE): "nobody has this address",
        allow: "--reason",
        (*allow[:1], "192.0.2.0/8", *allow[2:], "--reason", "r"): "network",
        (*allow[:1], "10.0.0.0/8", *allow[2:], "--reason", "r"): "/16",
        (*allow, "--minutes", "1441", "--reason", "r"): "1440",
    }
    for done, told in zip(outrider.many([("callbacks", *line) for line in wrong]), wrong.values(), strict=True):
        assert done.code not in {0, 1}, done
        assert told in done.err, done
        assert "Traceback" not in done.err


def test_a_network_is_taken_unsigned_for_a_while_and_no_longer(outrider: Command) -> None:
    allow = ("callbacks", "allow", "192.0.2.7", "--connection", "sms", "--minutes", "30", "--reason", "rotation")
    tried, none, made, shown = outrider.many(
        [(*allow, "--dry-run"), ("callbacks", "exceptions"), (*allow, "--json"), ("callbacks", "exceptions", "--json")]
    )
    assert "dry run" in tried.out
    assert "no exceptions" in none.out, "a dry run allows nothing"
    exception = _ok(made)
    assert (exception["network"], exception["reason"]) == ("192.0.2.7/32", "rotation")
    assert [each["id"] for each in _ok(shown)] == [exception["id"]]
    ended, over, all_of_them, audit = outrider.many(
        [
            ("callbacks", "disallow", exception["id"]),
            ("callbacks", "exceptions", "--json"),
            ("callbacks", "exceptions", "--ended", "--json"),
            ("audit", "list", "--json"),
        ]
    )
    assert ended.code == 0, ended
    assert _ok(over) == []
    assert [each["id"] for each in _ok(all_of_them)] == [exception["id"]]
    actions = [entry["action"] for entry in _ok(audit)]
    assert {"callback.allow", "callback.disallow"} <= set(actions)


def test_refusals_and_the_address_are_shown(outrider: Command) -> None:
    statement = (
        "INSERT INTO webhook_refusals (tenant_id, connection_id, minute, source, reason, n) SELECT $1, id, "
        "date_trunc('minute', now()), '192.0.2.9', 'wrong_signature', 17 FROM connections WHERE tenant_id = $1 "
        "AND name = 'sms' RETURNING n"
    )
    nothing = outrider.run("callbacks", "refusals")
    assert "none was refused" in nothing.out
    assert _execute(outrider, statement) == 17
    refused, address = outrider.many([("callbacks", "refusals", "--json"), ("callbacks", "url", "sms", "--json")])
    (row,) = _ok(refused)
    assert (row["source"], row["reason"], row["count"]) == ("192.0.2.9", "wrong_signature", 17)
    told = _ok(address)
    assert told["provider"] == "twilio"
    assert told["url"].startswith("https://mail.example.org/cb/twilio/")


def test_what_people_wrote_is_shown_by_itself_and_as_a_conversation(outrider: Command) -> None:
    ann = (
        "WITH ann AS (INSERT INTO contacts (tenant_id, name) VALUES ($1, 'Ann') RETURNING id) "
        "INSERT INTO addresses (tenant_id, channel, address, contact_id) SELECT $1, 'sms', $2, id FROM ann "
        "RETURNING address"
    )
    assert _execute(outrider, ann, PHONE) == PHONE
    wrote = (
        "INSERT INTO inbound_messages (tenant_id, channel, connection_id, contact_id, address, number, text, word, "
        "is_flagged, reply, provider_id) SELECT $1, 'sms', c.id, a.contact_id, a.address, '+14155550100', $2, $3, "
        "$3 = '', $4, $2 FROM connections c, addresses a WHERE c.tenant_id = $1 AND c.name = 'sms' "
        "AND a.tenant_id = $1 RETURNING text"
    )
    _execute(outrider, wrote, "Stop", "stop", "You are out.")
    _execute(outrider, wrote, "please stop by", "", "")
    everything, flagged, _, sent, talk, shown = outrider.many(
        [
            ("callbacks", "inbound", "--json"),
            ("callbacks", "inbound", "--flagged", "--json"),
            ("sender", "create", "texts", "--connection", "sms", "--from", "+14155550100"),
            ("messages", "send", PHONE, "--text", "We close at 6."),
            ("callbacks", "conversation", PHONE, "--json"),
            ("callbacks", "conversation", PHONE),
        ]
    )
    assert sent.code == 0, sent
    assert [each["text"] for each in _ok(everything)] == ["please stop by", "Stop"]
    assert [each["text"] for each in _ok(flagged)] == ["please stop by"]
    turns = _ok(talk)
    assert [(turn["direction"], turn["text"], turn["word"], turn["reply"]) for turn in turns] == [
        ("sent", "We close at 6.", "", ""),
        ("received", "please stop by", "", ""), ("received", "Stop", "stop", "You are out."),
    ]  # fmt: skip
    assert "We close at 6." in shown.out

"""Looking after tenants, people, senders and send rates by the command line alone; every change is audited."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.domain.tenants import passwords
from outrider.domain.tenants.attempts import email_hash
from tests.kit.command import Command, Done, command, migrated_command
from tests.kit.postgres import run_apart, run_sql

KEY = ("--idempotency-key", "order-17")


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A command on a migrated database with one connection and sender."""
    made = migrated_command(new_database, tmp_path)
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("connection", "create", "other", "--set", "host=other.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
        ]
    )
    assert [done.code for done in prepared] == [0, 0, 0], prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def _audited(outrider: Command, action: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = outrider.run("audit", "list", "--action", action, "--json").json()
    return rows


def _value(outrider: Command, sql: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(outrider.environment["OUTRIDER_DATABASE_URL"])
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE outrider_engine")
                return await connection.fetchval(sql)
        finally:
            await connection.close()

    return run_apart(ask())


def test_the_same_send_under_one_key_is_accepted_once(outrider: Command) -> None:
    send = ("messages", "send", "ann@example.org", "--subject", "Receipt", "--json", *KEY)
    tried, first, again, other, api_key = outrider.many(
        [
            (*send, "--text", "thanks", "--dry-run"),
            (*send, "--text", "thanks"),
            (*send, "--text", "thanks"),
            (*send, "--text", "something else"),
            ("messages", "send", "ann@example.org", "--text", "x", "--idempotency-key", "é"),
        ]
    )
    assert _ok(tried)["is_replayed"] is False
    assert _ok(first)["is_replayed"] is False, "a dry run keeps no key"
    assert _ok(again) == {"id": _ok(first)["id"], "is_replayed": True}
    assert (other.code, "--idempotency-key" in other.err) == (2, True)
    assert (api_key.code, "printable" in api_key.err) == (2, True)
    assert _value(outrider, "SELECT count(*) FROM messages") == 1


def test_a_file_that_is_no_text_is_refused_by_its_option(outrider: Command, tmp_path: Path) -> None:
    (tmp_path / "latin.html").write_bytes(b"<p>caf\xe9</p>")
    done = outrider.run("messages", "send", "ann@example.org", "--html", str(tmp_path / "latin.html"))
    assert (done.code, "--html" in done.err, "not UTF-8" in done.err) == (2, True, True)


def test_a_sender_is_changed_and_what_is_not_named_stays(outrider: Command) -> None:
    changed, nothing, unknown = outrider.many(
        [
            (
                "sender", "update", "news", "--from-name", "The News", "--connection", "other", "--bulk",
                "at_least_once", "--reason", "moved", "--json",
            ),
            ("sender", "update", "news"),
            ("sender", "update", "nobody", "--name", "x"),
        ]
    )  # fmt: skip
    sender = _ok(changed)
    assert (sender["from_name"], sender["from_address"]) == ("The News", "news@example.com")
    assert (sender["bulk_guarantee"], sender["transactional_guarantee"]) == ("at_least_once", "at_least_once")
    connections = {row["name"]: row["id"] for row in outrider.run("connection", "list", "--json").json()}
    assert sender["connection_id"] == connections["other"]
    assert (nothing.code, unknown.code) == (2, 4)
    (entry,) = _audited(outrider, "sender.update")
    assert entry["reason"] == "moved"
    assert set(entry["details"]["fields"]) == {"from_name", "connection_id", "bulk_guarantee"}


def test_people_get_other_roles_lose_access_and_get_it_back(outrider: Command) -> None:
    outrider.many([("user", "create", "ann@example.org", "--role", "owner"), ("user", "create", "bob@example.org")])
    last, promoted, gone, back, unknown, nothing = outrider.many(
        [
            ("user", "change", "ann@example.org", "--role", "viewer"),
            ("user", "change", "BOB@example.org", "--role", "owner", "--reason", "holiday", "--json"),
            ("user", "deactivate", "bob@example.org", "--json"),
            ("user", "reactivate", "bob@example.org", "--json"),
            ("user", "deactivate", "eve@example.org"),
            ("user", "change", "ann@example.org"),
        ]
    )
    assert (last.code, "last active owner" in last.err) == (75, True)
    assert _ok(promoted)["role"] == "owner"
    assert (_ok(gone)["is_active"], _ok(back)["is_active"]) == (False, True)
    assert (unknown.code, nothing.code) == (4, 2)
    entries = _audited(outrider, "user.change")
    assert [entry["details"] for entry in reversed(entries)] == [
        {"role": ["operator", "owner"]}, {"is_active": [True, False]}, {"is_active": [False, True]},
    ]  # fmt: skip
    assert entries[-1]["reason"] == "holiday"


async def _matches(outrider: Command, password: str) -> bool:
    """Whether the only user signs in with a password."""
    connection = await asyncpg.connect(outrider.environment["OUTRIDER_DATABASE_URL"])
    try:
        await connection.execute("SET ROLE outrider_engine")
        return await passwords.matches(await connection.fetchval("SELECT password_hash FROM users"), password)
    finally:
        await connection.close()


def test_a_forgotten_password_is_set_and_a_lost_laptop_signed_out(outrider: Command) -> None:
    outrider.run("user", "create", "ann@example.org", "--role", "owner")
    run_sql(
        outrider.environment["OUTRIDER_DATABASE_URL"],
        "SET ROLE outrider_engine",
        "INSERT INTO sessions (tenant_id, token_hash, user_id, expires_at) "
        "SELECT tenant_id, decode(n, 'hex'), id, now() + interval '1 hour' FROM users, unnest(ARRAY['aa', 'bb']) AS n",
    )
    tried, out, made, again, unknown = outrider.many(
        [
            ("user", "password", "ann@example.org", "--dry-run", "--json"),
            ("user", "sign-out", "ann@example.org", "--reason", "lost", "--json"),
            ("user", "password", "ANN@example.org", "--reason", "forgot it", "--json"),
            ("user", "sign-out", "ann@example.org", "--json"),
            ("user", "password", "eve@example.org"),
        ]
    )
    assert "password" not in _ok(tried), "nothing that does not hold is handed out"
    assert len(_ok(made)["password"]) > 20
    assert (_ok(out)["ended_count"], _ok(again)["ended_count"]) == (2, 0)
    assert unknown.code == 4
    assert run_apart(_matches(outrider, _ok(made)["password"]))
    (entry,) = _audited(outrider, "user.password")
    assert entry["reason"] == "forgot it"
    assert [each["reason"] for each in _audited(outrider, "session.end_all")] == ["not given", "lost"]
    weak = outrider.run("user", "password", "ann@example.org", "--password-stdin", stdin="12345\n")
    assert (weak.code, weak.err.count("\n")) == (2, 1)


def test_a_locked_address_may_sign_in_again_at_once(outrider: Command) -> None:
    outrider.run("user", "create", "ann@example.org", "--role", "owner")
    run_sql(
        outrider.environment["OUTRIDER_DATABASE_URL"],
        "SET ROLE outrider_engine",
        "INSERT INTO login_attempts (email_hash, failed_count, ends_at) "
        f"VALUES ('\\x{email_hash('ann@example.org').hex()}', 99, now() + interval '1 hour')",
    )
    tried, done = outrider.many(
        [
            ("user", "unlock", "ann@example.org", "--dry-run"),
            ("user", "unlock", "ann@example.org", "--reason", "called", "--json"),
        ]
    )
    assert (tried.code, tried.out.startswith("dry run")) == (0, True)
    assert _ok(done)["email"] == "ann@example.org"
    assert _value(outrider, "SELECT count(*) FROM login_attempts") == 0
    (entry,) = _audited(outrider, "user.unlock")
    assert entry["reason"] == "called"


def test_a_tenant_is_renamed_and_its_settings_go_back_to_their_presets(outrider: Command) -> None:
    outrider.run("tenant", "create", "Acme")
    changed, off, preset, unknown, zone, nothing = outrider.many(
        [
            ("tenant", "change", "Acme", "--name", "Acme & Sons", "--timezone", "Europe/Berlin", "--json"),
            ("tenant", "change", "Acme & Sons", "--set", "consent_required=false", "--json"),
            ("tenant", "change", "Acme & Sons", "--set", "consent_required=", "--json"),
            ("tenant", "change", "Acme & Sons", "--set", "no_such=1"),
            ("tenant", "change", "Acme & Sons", "--timezone", "Berlin"),
            ("tenant", "change", "Acme"),
        ]
    )
    assert (_ok(changed)["name"], _ok(changed)["timezone"]) == ("Acme & Sons", "Europe/Berlin")
    assert _ok(off)["settings"]["consent_required"] is False
    assert _ok(preset)["settings"]["consent_required"] is True
    assert (unknown.code, zone.code, nothing.code) == (2, 2, 2)


def test_send_rates_are_set_listed_and_taken_away(outrider: Command) -> None:
    whole, sender, listed, gone, again = outrider.many(
        [
            ("limits", "set", "tenant", "--rate", "50", "--burst", "100", "--json"),
            ("limits", "set", "sender", "news", "--rate", "0.5", "--reason", "warming up", "--json"),
            ("limits", "list", "--json"),
            ("limits", "clear", "tenant", "--json"),
            ("limits", "clear", "tenant", "--json"),
        ]
    )
    assert (_ok(whole)["rate_per_s"], _ok(whole)["burst"]) == (50, 100)
    assert (_ok(sender)["scope"], _ok(sender)["rate_per_s"], _ok(sender)["burst"]) == ("sender", 0.5, 1)
    assert len(_ok(listed)) == 2
    assert (_ok(gone)["was"]["rate_per_s"], _ok(again)["was"]) == (50, None)
    assert [entry["reason"] for entry in _audited(outrider, "rate.set")] == ["warming up", "not given"]
    for wrong, field in (("x", "--rate"), ("0", "--rate"), ("nan", "--rate"), ("1e9", "--rate")):
        done = outrider.run("limits", "set", "tenant", "--rate", wrong)
        assert (done.code, field in done.err) == (2, True)


def test_status_forgets_processes_that_stopped_in_order(outrider: Command) -> None:
    rows = (("stopped", "2 minutes"), ("running", "2 minutes"), ("stopped", "1 second"), ("running", "2 days"))
    run_sql(
        outrider.environment["OUTRIDER_DATABASE_URL"],
        "SET ROLE outrider_engine",
        *(
            "INSERT INTO workers (id, role, host, boot_id, pid, version, state, heartbeat_at) "
            f"VALUES (gen_random_uuid(), 'worker', 'h', 'b', {pid}, 'v', '{state}', now() - interval '{age}')"
            for pid, (state, age) in enumerate(rows, start=1)
        ),
    )
    shown, everything = outrider.many([("status", "--json"), ("status", "--all", "--json")])
    assert {row["pid"] for row in _ok(shown)["processes"]} == {2, 3}
    assert {row["pid"] for row in _ok(everything)["processes"]} == {1, 2, 3, 4}


def test_migrating_shows_a_bar_to_who_waits_at_a_terminal(database_url: str, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = command(tmp_path, url=database_url).start("db", "migrate", stderr=theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what the last writer's end is to a terminal
            while part := screen.read(65536):
                shown += part
        out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, shown
    assert out.startswith("applied 0001")
    assert "migrating" in shown.decode()
    assert f"{out.count(',') + 1}/" in shown.decode()


def test_migrating_in_a_script_shows_no_bar(database_url: str, tmp_path: Path) -> None:
    done = command(tmp_path, url=database_url).run("db", "migrate")
    assert (done.code, done.err) == (0, "")


def test_providers_are_asked_about_uncertain_messages_by_hand(outrider: Command) -> None:
    done = outrider.run("uncertain", "reconcile", "--all", "--yes", "--json")
    assert _ok(done) == {"sent": [], "again": [], "withdrawn": [], "undecided": []}
    unknown = "00000000-0000-0000-0000-000000000009"
    assert _ok(outrider.run("uncertain", "reconcile", unknown, "--reason", "why", "--json"))["undecided"] == [unknown]
    refused = outrider.run("uncertain", "reconcile", unknown, "--campaign", "spring", "--reason", "why")
    assert (refused.code, "--campaign with --all" in refused.err) == (2, True)
    (audited,) = _audited(outrider, "uncertain.reconcile")
    assert (audited["reason"], audited["details"]["asked"]) == ("why", 1)
    tried = outrider.run("uncertain", "reconcile", unknown, "--dry-run")
    assert tried.code == 0
    assert len(_audited(outrider, "uncertain.reconcile")) == 1
    assert outrider.run("uncertain", "reconcile").code == 2

"""Imports, their undoing, moving in and exports from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.kit.audience import write_csv
from tests.kit.command import Command, migrated_command


@pytest.fixture
def program(new_database: Callable[..., str], tmp_path: Path) -> Command:
    return migrated_command(new_database, tmp_path / "data")


def test_a_dry_run_then_an_import_what_it_changed_and_its_undo(program: Command, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", ["email", "name"], [["a@b.co", "Ann"], ["nobody", "x"], ["b@b.co", "=1+1"]])
    tried = program.run("contacts", "import", str(path), "--list", "News", "--dry-run")
    assert tried.code == 0, tried.err
    assert "dry run, nothing was changed" in tried.out
    assert "invalid_address 1" in tried.out
    assert "what would change" in tried.out
    assert program.run("contacts", "list", "--json").json() == []
    assert program.run("lists", "list", "--json").json() == []
    done = program.run("contacts", "import", str(path), "--list", "News", "--json").json()
    would = program.run("contacts", "import", str(path), "--list", "News", "--dry-run", "--json").json()
    assert (done["created_count"], done["rejected_by"]) == (2, {"invalid_address": 1})
    assert (would["unchanged_count"], would["changes"]) == (2, [])
    listed = program.run("imports", "list", "--json").json()
    assert [one["is_dry_run"] for one in listed] == [True, False, True]
    changed = program.run("imports", "changes", done["id"], "--only", "new", "--json").json()
    assert [one["address"] for one in changed] == ["a@b.co", "b@b.co"]
    assert "invalid_address 1" in program.run("imports", "show", done["id"]).out
    asked = program.run("imports", "undo", done["id"])
    assert (asked.code != 0, "2 deleted" in asked.err) == (True, True)
    begun = program.run("imports", "undo", done["id"], "--yes", "--json").json()
    assert begun["undo_state"] == "running"
    jobs = program.run("jobs", "list", "--json").json()
    assert [(one["id"], one["type"]) for one in jobs] == [(begun["undo_job_id"], "undo_import")]
    again = program.run("imports", "undo", done["id"], "--yes")
    assert (again.code != 0, "being undone already" in again.err) == (True, True)
    assert program.run("jobs", "cancel", begun["undo_job_id"], "--yes").code == 0
    assert program.run("imports", "undo", done["id"], "--yes", "--json").json()["undo_state"] == "running"


async def test_an_import_that_nobody_goes_on_with_is_cancelled(program: Command, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", ["email"], [["a@b.co"], ["b@b.co"]])
    done = program.run("contacts", "import", str(path), "--json").json()
    late = program.run("imports", "cancel", done["id"], "--yes")
    assert (late.code, "the import is completed" in late.err) == (75, True)
    connection = await asyncpg.connect(program.environment["OUTRIDER_DATABASE_URL"])
    try:
        await connection.execute("SET ROLE outrider_engine")
        await connection.execute("UPDATE imports SET state = 'running', finished_at = NULL")
    finally:
        await connection.close()
    asked, tried, ended, again, shown, unknown, audit = program.many(
        [
            ("imports", "cancel", done["id"]),
            ("imports", "cancel", done["id"], "--dry-run"),
            ("imports", "cancel", done["id"], "--yes", "--reason", "wrong file"),
            ("imports", "cancel", done["id"], "--yes", "--json"),
            ("imports", "show", done["id"], "--json"),
            ("imports", "cancel", str(UUID(int=7)), "--yes"),
            ("audit", "list", "--action", "import.cancel", "--json"),
        ]
    )
    assert (asked.code != 0, "ends where it is" in asked.err) == (True, True)
    assert (tried.code, ended.code, again.code, unknown.code) == (0, 0, 0, 4)
    assert "cancelled after 2 of 2 rows" in ended.out
    assert shown.json()["state"] == again.json()["state"] == "cancelled"
    (entry,) = audit.json()
    assert entry["target_id"] == done["id"]


def test_moving_in_and_writing_everything_out_again(program: Command, tmp_path: Path) -> None:
    header = ["uuid", "email", "name", "attributes", "status", "created_at", "updated_at"]
    when = "2024-01-02 10:00:00.5 +0000 UTC"
    rows = [
        ["u1", "ann@b.co", "Ann", json.dumps({"city": "Bonn"}), "enabled", when, when],
        ["u2", "bob@b.co", "Bob", "{}", "blocklisted", when, when],
    ]
    path = str(write_csv(tmp_path / "subscribers.csv", header, rows))
    stopped = program.run("suppressions", "import", path, "--source", "listmonk", "--json").json()
    assert (stopped["created_count"], stopped["unchanged_count"]) == (1, 1)
    people = program.run("contacts", "import", path, "--map", "uuid=external_id", "--map", "status=ignore", "--json")
    assert people.json()["suppressed_count"] == 1
    said = str(write_csv(tmp_path / "c.csv", ["email", "status"], [["ann@b.co", "confirmed"]]))
    assert program.run("consents", "import", said, "--source", "listmonk", "--json").json()["created_count"] == 1
    for kind, count in (("contacts", 2), ("lists", 0), ("suppressions", 1), ("consents", 1)):
        to = tmp_path / f"{kind}-out.csv"
        done = program.run("exports", "write", kind, "--to", str(to))
        assert done.code == 0, done.err
        with to.open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == count
        assert to.stat().st_mode & 0o777 == 0o600
        assert program.run("exports", "write", kind, "--to", str(to)).code != 0
    listed = program.run("exports", "list", "--json").json()
    assert {one["kind"] for one in listed} == {"contacts", "lists", "suppressions", "consents"}
    again = program.run("contacts", "import", str(tmp_path / "contacts-out.csv"), "--json").json()
    assert (again["unchanged_count"], again["rejected_count"]) == (2, 0)

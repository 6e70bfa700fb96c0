"""From an empty database to a finished campaign by the command line alone, on a real mail server."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.secret import new_key
from outrider.interfaces.sandbox import SandboxOptions
from tests.kit.command import Command, Done, command
from tests.kit.sandbox import SandboxProcess

PEOPLE = "email,name,consent\nann@example.org,Ann,\nbob@example.org,Bob,\neve@example.org,Eve,withdrawn\nnobody,No,\n"


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A capture mail server."""
    with SandboxProcess(SandboxOptions(ledger_path=tmp_path / "ledger", smtp_port=0, http_port=0)) as sandbox:
        yield sandbox


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def _worker(outrider: Command) -> subprocess.Popen[str]:
    process = outrider.start("worker", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready: ")
    return process


def test_a_campaign_is_made_checked_sent_and_looked_at_without_the_api(
    database_url: str, mail: SandboxProcess, tmp_path: Path
) -> None:
    outrider = command(tmp_path, url=database_url, key=new_key()).with_(
        OUTRIDER_EGRESS_ALLOW='["127.0.0.0/8"]',
        OUTRIDER_ALLOW_LOCALHOST_LINKS="true",
        OUTRIDER_WORKER_HEALTH_PORT="0",
    )
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "text.txt").write_text("Dear {{ name }}\n")
    mx = ("--set", "host=127.0.0.1", "--set", f"port={mail.addresses.smtp[1]}", "--set", "tls=off")
    text, people, refused = (str(tmp_path / name) for name in ("text.txt", "people.csv", "refused.csv"))
    consent = ("--consent", "granted", "--consent-source", "test")
    prepared = outrider.many(
        [
            ("db", "migrate", "--json"),
            ("connection", "create", "mx", *mx, "--json"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>", "--json"),
            ("template", "create", "hello", "--subject", "Hello {{ name }}", "--text", text, "--json"),
            ("contacts", "import", people, "--list", "all", *consent, "--errors", refused, "--json"),
            ("campaign", "create", "spring", "--sender", "news", "--template", "hello", "--list", "all", "--json"),
            ("campaign", "preflight", "spring", "--json"),
        ]
    )
    *prepared, asked = prepared
    assert asked.code == 1, "a first campaign with an empty do-not-contact list asks"
    checked = json.loads(asked.out)
    assert [each["code"] for each in checked["findings"] if each["is_blocking"]] == ["empty_suppressions"]
    *_, imported, campaign = [_ok(done) for done in prepared]
    assert (imported["created_count"], imported["rejected_count"]) == (3, 1)
    assert "nobody" in Path(refused).read_text()
    assert stat.S_IMODE(Path(refused).stat().st_mode) == 0o600
    assert (checked["member_count"], checked["without_consent_count"], checked["will_go_count"]) == (3, 1, 2)

    worker = _worker(outrider)
    try:
        launched = outrider.many(
            [
                ("campaign", "launch", "spring", "--acknowledge", "empty_suppressions", "--yes", "--json"),
                ("campaign", "progress", "spring", "--follow", "--json"),
                ("messages", "list", "--campaign", campaign["name"], "--json"),
                ("messages", "stats", "--last", "3", "--json"),
                ("messages", "stats", "--minutes", "1440"),
                ("messages", "send", "ann@example.org", "--subject", "Receipt", "--html", text, "--json"),
                ("doctor", "--json"),
                ("status", "--json"),
                ("data", "validate", "--json"),
                ("audit", "verify", "--json"),
            ]
        )  # fmt: skip
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert worker.stdout is not None
        worker.stdout.close()
    told = launched.pop(4)
    assert (told.code, "66.7" in told.out, "stopped by the gate consent" in told.out) == (0, True, True), told.out
    _launch, progress, messages, stats, sent, doctor, status, valid, _chains = [_ok(done) for done in launched]
    assert progress["is_finished"]
    assert progress["counts"] == {"sent": 2, "blocked": 1}
    assert {row["address"]: row["state"] for row in messages} == {
        "ann@example.org": "sent", "bob@example.org": "sent", "eve@example.org": "blocked",
    }  # fmt: skip
    assert {each["state"]: each["count"] for each in stats["states"]} == {"sent": 2, "blocked": 1}
    assert sent["id"]
    taken = [record.rcpt_to for record in mail.reader.taken() if record.outrider_ids["message"] != sent["id"]]
    assert sorted(map(str, taken)) == ["ann@example.org", "bob@example.org"]
    verdicts = {finding["subject"]: finding["verdict"] for finding in doctor["findings"]}
    assert verdicts["connection default / mx"] == "ok"
    assert verdicts["workers"] == "ok"
    assert [process["role"] for process in status["processes"]] == ["worker"]
    assert valid == {"is_ok": True, "findings": []}


def test_secrets_are_read_from_stdin_sealed_and_never_shown(migrated_url: str, tmp_path: Path) -> None:
    outrider = command(tmp_path, url=migrated_url, key=new_key()).with_(OUTRIDER_EGRESS_ALLOW='["127.0.0.0/8"]')
    arguments = ["--set", "host=127.0.0.1", "--set", "username=me"]
    in_argument = outrider.run("connection", "create", "mx", *arguments, "--set", "password=hunter2hunter2")
    assert in_argument.code == 2
    assert "hunter2" not in in_argument.err
    made = outrider.run("connection", "create", "mx", *arguments, "--secret", "password", "--json", stdin="hunter2\n")
    assert _ok(made)["has_secret"] == {"password": True}
    shown = outrider.run("connection", "list", "--json")
    assert "hunter2" not in made.out + shown.out
    none = outrider.run("connection", "create", "other", *arguments, "--secret", "password", stdin="")
    assert none.code == 2


def test_a_users_password_is_asked_for_or_made_and_shown_once(migrated_url: str, tmp_path: Path) -> None:
    outrider = command(tmp_path, url=migrated_url, key=new_key())
    made, listed, twice, short = outrider.many(
        [
            ("user", "create", "Ann@Example.org", "--role", "owner", "--json"),
            ("user", "list", "--json"),
            ("user", "create", "ann@example.org"),
            ("user", "create", "not an address"),
        ]
    )
    user = _ok(made)
    assert user["email"] == "ann@example.org"
    assert len(user["password"]) >= 20
    assert user["password"] not in listed.out
    assert twice.code == 75
    assert short.code == 2
    given = outrider.run(
        "user", "create", "bob@example.org", "--password-stdin", "--json", stdin="correct horse battery\n"
    )
    assert "password" not in _ok(given)
    weak = outrider.run("user", "create", "eve@example.org", "--password-stdin", stdin="short\n")
    assert weak.code == 2
    assert "short" not in weak.err.replace("too_short", "")


def test_a_pause_without_a_database_names_the_way_that_needs_none(tmp_path: Path) -> None:
    outrider = command(tmp_path, url="postgresql://a:b@127.0.0.1:1/d")
    done = outrider.run("pause", "installation")
    assert done.code == 69
    assert "outrider pause --emergency" in done.err
    assert outrider.run("pause", "--emergency", "--reason", "fire").code == 0
    assert "fire" in (tmp_path / "EMERGENCY_STOP").read_text()
    assert outrider.run("resume", "--emergency").code == 2, "asks first"
    assert outrider.run("resume", "--emergency", "--yes").code == 0
    assert not os.path.lexists(tmp_path / "EMERGENCY_STOP")

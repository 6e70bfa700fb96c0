"""doctor names what is wrong: each stage of a connection, the key, the schema, the clock's neighbour; sends nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from outrider.base.secret import Keyring, new_key
from outrider.interfaces.sandbox import SandboxOptions, parse_rules
from tests.kit.command import Command, command
from tests.kit.postgres import run_sql
from tests.kit.sandbox import SandboxProcess


@pytest.fixture
def outrider(migrated_url: str, tmp_path: Path) -> Command:
    """A command on a migrated database, allowed to reach loopback."""
    return command(tmp_path, url=migrated_url, key=new_key()).with_(OUTRIDER_EGRESS_ALLOW='["127.0.0.0/8"]')


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nothing listens."""
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def _examined(outrider: Command, *settings: str, stdin: str = "") -> dict[str, Any]:
    """The finding about one connection with these settings."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    secret = ["--secret", "password"] if stdin else []
    made = outrider.run("connection", "create", "mx", *arguments, *secret, stdin=stdin)
    assert made.code == 0, made
    done = outrider.run("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(done.out)["findings"]}
    found: dict[str, Any] = findings["connection default / mx"]
    assert done.code == (0 if found["verdict"] == "ok" else 1)
    return found


def _sandbox(tmp_path: Path, **options: Any) -> SandboxProcess:
    return SandboxProcess(SandboxOptions(ledger_path=tmp_path / "ledger", smtp_port=0, http_port=None, **options))


def _port(sandbox: SandboxProcess) -> str:
    assert sandbox.addresses.smtp is not None
    return f"port={sandbox.addresses.smtp[1]}"


def test_a_sound_connection_is_ok_and_nothing_was_sent(outrider: Command, tmp_path: Path) -> None:
    with _sandbox(tmp_path) as sandbox:
        found = _examined(outrider, "host=127.0.0.1", _port(sandbox), "tls=off")
        assert found["verdict"] == "ok"
        assert list(sandbox.reader) == []


def test_a_name_that_does_not_resolve_fails_at_dns(outrider: Command) -> None:
    assert "stage dns fails" in _examined(outrider, "host=mail.invalid", "port=25", "tls=off")["detail"]


def test_a_port_without_a_server_fails_at_tcp(outrider: Command, free_port: int) -> None:
    assert "stage tcp fails" in _examined(outrider, "host=127.0.0.1", f"port={free_port}", "tls=off")["detail"]


def test_a_server_that_hangs_up_fails_at_greeting(outrider: Command, tmp_path: Path) -> None:
    faults = parse_rules(b'{"rules": [{"action": "drop", "stage": "banner"}]}')
    with _sandbox(tmp_path, faults=faults) as sandbox:
        assert "stage greeting fails" in _examined(outrider, "host=127.0.0.1", _port(sandbox), "tls=off")["detail"]


def test_missing_encryption_fails_at_tls(outrider: Command, tmp_path: Path) -> None:
    with _sandbox(tmp_path, is_starttls_offered=False) as sandbox:
        assert "stage tls fails" in _examined(outrider, "host=127.0.0.1", _port(sandbox), "tls=required")["detail"]


def test_a_wrong_password_fails_at_auth_and_is_not_shown(outrider: Command, tmp_path: Path) -> None:
    with _sandbox(tmp_path, credentials={"me": "right"}) as sandbox:
        found = _examined(
            outrider, "host=127.0.0.1", _port(sandbox), "tls=off", "username=me", stdin="hunter2hunter2\n"
        )
    assert "stage auth fails" in found["detail"]
    assert "hunter2" not in json.dumps(found)


def test_another_key_an_old_schema_and_a_database_that_is_away_fail_by_name(outrider: Command, tmp_path: Path) -> None:
    first = outrider.run("doctor", "--json", "--no-connections")
    assert first.code == 0, first.out
    other = new_key()
    wrong = outrider.with_(OUTRIDER_SECRET_KEY=other).run("doctor", "--json")
    found = {each["subject"]: each for each in wrong.json()["findings"]}["secret key"]
    assert (wrong.code, found["verdict"]) == (1, "fail")
    assert Keyring(other).key_id in found["detail"]
    away = outrider.with_(OUTRIDER_DATABASE_URL="postgresql://a:hunter2@127.0.0.1:1/d").run("doctor", "--json")
    found = {each["subject"]: each for each in away.json()["findings"]}["database"]
    assert (away.code, found["verdict"]) == (1, "fail")
    assert "hunter2" not in away.out
    run_sql(outrider.environment["OUTRIDER_DATABASE_URL"], "UPDATE alembic_version SET version_num = '9999'")
    newer = outrider.run("doctor", "--json")
    found = {each["subject"]: each for each in newer.json()["findings"]}["schema"]
    assert (newer.code, found["verdict"]) == (1, "fail")


def test_a_database_that_may_forget_is_a_failure(outrider: Command) -> None:
    url = outrider.environment["OUTRIDER_DATABASE_URL"]
    name = url.rpartition("@/")[2].partition("?")[0]
    run_sql(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    done = outrider.run("doctor", "--json")
    found = {each["subject"]: each for each in done.json()["findings"]}["durability"]
    assert (done.code, found["verdict"]) == (1, "fail")
    assert "synchronous_commit" in found["detail"]


def test_a_server_that_keeps_little_of_its_log_is_a_warning_that_says_what_to_set(outrider: Command) -> None:
    done = outrider.run("doctor", "--json", "--no-connections")
    found = {each["subject"]: each for each in done.json()["findings"]}["write-ahead log"]
    assert (done.code, found["verdict"]) == (0, "warn"), "the tests' own server keeps 128 MB"
    assert found["detail"].startswith("min_wal_size 128MB, max_wal_size 1GB; ")
    assert "set min_wal_size = 1GB, max_wal_size = 4GB and reload the server" in found["remedy"]

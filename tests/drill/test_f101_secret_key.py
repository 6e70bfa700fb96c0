"""F101: a missing or wrong secret key stops the start and names both keys; nothing is decrypted to garbage."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from outrider.base import settings
from outrider.base.errors import Misconfigured
from outrider.base.secret import Keyring, new_key
from outrider.data import secret_file
from tests.kit.command import Command, command, migrated_command


@pytest.fixture
def fresh(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A command on a migrated database that no process has started on yet."""
    return migrated_command(new_database, tmp_path)


async def _recorded(found: Command) -> tuple[str | None, str | None]:
    connection = await asyncpg.connect(found.environment["OUTRIDER_DATABASE_URL"])
    try:
        await connection.execute("SET ROLE outrider_engine")
        row = await connection.fetchrow("SELECT key_id, key_check FROM installation")
        assert row is not None
        return row["key_id"], row["key_check"]
    finally:
        await connection.close()


def _started_once(found: Command) -> Command:
    """Let a process record its key, as the first start does."""
    process = found.with_(OUTRIDER_WORKER_HEALTH_PORT="0").start("worker", "--lifeline")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().startswith("ready: ")
    process.stdin.close()  # the lifeline: the parent is gone
    assert process.wait(60) == 0
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    return found


async def test_the_first_start_records_which_key_seals(fresh: Command) -> None:
    assert await _recorded(fresh) == (None, None)
    _started_once(fresh)
    key_id, check = await _recorded(fresh)
    keyring = Keyring(fresh.environment["OUTRIDER_SECRET_KEY"])
    assert key_id == keyring.key_id
    secret_file.verify(keyring, key_id, check)


@pytest.mark.parametrize("process", ["worker", "api"])
def test_a_wrong_key_refuses_to_start_and_names_both_keys(fresh: Command, process: str) -> None:
    _started_once(fresh)
    right, wrong = Keyring(fresh.environment["OUTRIDER_SECRET_KEY"]), new_key()
    done = fresh.with_(OUTRIDER_SECRET_KEY=wrong).run(process)
    error = done.err.splitlines()[-1]
    assert done.code == 78
    assert error.startswith("error: ")
    assert right.key_id in error
    assert Keyring(wrong).key_id in error
    assert "Traceback" not in done.err
    assert wrong not in done.err


def test_a_missing_key_refuses_to_start_and_names_the_one_it_needs(fresh: Command) -> None:
    _started_once(fresh)
    done = fresh.with_(OUTRIDER_SECRET_KEY=None).run("worker")
    assert done.code == 78
    assert Keyring(fresh.environment["OUTRIDER_SECRET_KEY"]).key_id in done.err.splitlines()[-1]


def test_another_key_with_the_same_id_is_found_by_the_check_text() -> None:
    one, other = Keyring(new_key()), Keyring(new_key())
    other.key_id = one.key_id
    with pytest.raises(Misconfigured, match="changed or moved"):
        secret_file.verify(other, one.key_id, secret_file.check_of(one))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_key_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    program = (
        "import os, sys; from outrider.base import settings; from outrider.data import secret_file;"
        f"os.umask({umask}); print(secret_file.create(settings.load(data_dir=sys.argv[1])).key_id)"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        env=command(tmp_path).environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = tmp_path / "data" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Keyring(path.read_text()).key_id == made.stdout.strip()


def test_processes_that_make_the_key_at_once_agree_on_one(tmp_path: Path) -> None:
    program = (
        "import sys; from outrider.base import settings; from outrider.data import secret_file; sys.stdin.readline();"
        "print(secret_file.create(settings.load(data_dir=sys.argv[1])).key_id)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            env=command(tmp_path).environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert len({racer.communicate()[0] for racer in racers}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"], "no draft is left"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_file_that_others_can_open_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    path.write_text(new_key())
    path.chmod(mode)
    with pytest.raises(Misconfigured, match=f"chmod 600 {path}"):
        secret_file.load(settings.load(data_dir=tmp_path))
    path.chmod(0o600)
    assert secret_file.load(settings.load(data_dir=tmp_path)) is not None


def test_a_key_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret.key", 0o600)
    with pytest.raises(Misconfigured, match="not a regular file"):
        secret_file.load(settings.load(data_dir=tmp_path))


def test_a_key_that_is_no_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text("hunter2-hunter2-hunter2")
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="not 32 bytes") as caught:
        secret_file.load(settings.load(data_dir=tmp_path))
    assert "hunter2" not in str(caught.value)

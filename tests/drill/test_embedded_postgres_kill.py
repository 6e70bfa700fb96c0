"""Kills of the embedded database's owner, postmaster and backends: nothing committed is lost, never two servers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.embedded_postgres import ensure, postmaster, server, status, stop
from outrider.data.embedded_postgres.home import Home, existing
from tests.kit.embedded import IS_ROOT, data_folder, hiding, holder, ordinary_user
from tests.kit.postgres import run_sql

LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_BOUND_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as path:
        yield path


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + _BOUND_S
    while not condition():
        assert time.monotonic() < give_up_at, "the condition was not met in time"
        time.sleep(0.01)


def home_of(data_dir: Path) -> Home:
    home = existing(data_dir)
    assert home is not None
    return home


def test_after_a_kill_of_its_owner_the_next_start_attaches_to_the_live_server(folder: Path) -> None:
    with holder(folder / "pg", start_new_session=True) as owner:
        facts = owner.facts()
        run_sql(facts["url"], "CREATE TABLE kept AS SELECT 42 AS n")
        os.killpg(owner.process.pid, signal.SIGKILL)  # as a terminal or a supervisor does: the whole group
        assert owner.kill() == -signal.SIGKILL
    assert status(folder / "pg").state == "healthy"
    with holder(folder / "pg") as second:
        again = second.facts()
        assert (again["pid"], again["is_owner"]) == (facts["pid"], False)
        run_sql(again["url"], "DO $$ BEGIN ASSERT (SELECT n FROM kept) = 42; END $$")
        assert second.release() == 0
    assert status(folder / "pg").state == "stopped"


async def test_after_a_kill_of_the_postmaster_every_acknowledged_row_is_there(folder: Path) -> None:
    first = ensure(folder / "pg")
    run_sql(first.url, "CREATE TABLE acked (n int PRIMARY KEY)")
    acknowledged: list[int] = []
    writer = await asyncpg.connect(first.url)

    async def write() -> None:
        for number in range(1_000_000):
            await writer.execute("INSERT INTO acked VALUES ($1)", number)
            acknowledged.append(number)
            if number == 200:
                os.kill(first.pid, signal.SIGKILL)

    with pytest.raises(LOST):
        await write()
    writer.terminate()
    with await asyncio.to_thread(ensure, folder / "pg") as second:
        assert (second.is_owner, second.pid != first.pid) == (True, True)
        connection = await asyncpg.connect(second.url)
        found = {row[0] for row in await connection.fetch("SELECT n FROM acked")}
        await connection.close()
        assert len(acknowledged) > 200
        assert not set(acknowledged) - found
        first.release()  # its hold outlived its server and must not stop the new one
        assert status(folder / "pg").pid == second.pid


def test_a_kill_of_every_process_at_once_is_recovered(folder: Path) -> None:
    first = ensure(folder / "pg")
    run_sql(first.url, "CREATE TABLE kept AS SELECT 42 AS n")
    for pid in postmaster.server_processes(home_of(folder / "pg")):
        os.kill(pid, signal.SIGKILL)
    with ensure(folder / "pg") as second:
        run_sql(second.url, "DO $$ BEGIN ASSERT (SELECT n FROM kept) = 42; END $$")
        first.release()


def test_a_pid_file_whose_number_another_process_has_now_is_no_obstacle(folder: Path) -> None:
    first = ensure(folder / "pg")
    home = home_of(folder / "pg")
    pid_file = home.cluster / "postmaster.pid"
    content = pid_file.read_text()
    for pid in postmaster.server_processes(home):
        os.kill(pid, signal.SIGKILL)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd="/", **home.account.identity)
    try:
        pid_file.write_text(content.replace(str(first.pid), str(other.pid), 1))
        assert status(folder / "pg").state == "stopped"
        with ensure(folder / "pg") as second:
            assert second.is_owner
            first.release()
        assert other.poll() is None
    finally:
        other.communicate()


def test_a_second_server_is_refused_while_an_orphan_of_the_first_works_on_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END_THEMSELVES_S", 0.2)
    monkeypatch.setattr(postmaster, "ORPHANS_BOUND_S", 0.6)
    first = ensure(folder / "pg")
    home = home_of(folder / "pg")
    orphan = next(pid for pid in postmaster.server_processes(home) if title_of(pid).endswith(b"checkpointer "))
    os.kill(orphan, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not postmaster.is_server_process(first.pid, home))
    assert status(folder / "pg").state == "orphaned"
    with pytest.raises(Unavailable, match=rf"kill -9 .*\b{orphan}\b") as error:
        ensure(folder / "pg")
    assert error.value.code == "database_orphans"
    os.kill(orphan, signal.SIGCONT)
    with ensure(folder / "pg") as second:
        assert second.is_owner
        first.release()


async def test_a_backend_too_busy_to_notice_is_told_to_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END_THEMSELVES_S", 0.3)
    first = ensure(folder / "pg")
    connection = await asyncpg.connect(first.url)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    busy = asyncio.ensure_future(connection.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    await asyncio.to_thread(until, lambda: state_of(backend) == "R")
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.to_thread(until, lambda: not postmaster.is_server_process(first.pid, home_of(folder / "pg")))
    assert postmaster.is_server_process(backend, home_of(folder / "pg"))
    second = await asyncio.to_thread(ensure, folder / "pg")
    assert not postmaster.is_server_process(backend, home_of(folder / "pg"))
    with pytest.raises(LOST):
        await busy
    connection.terminate()
    first.release()
    await asyncio.to_thread(second.release)


def test_a_start_that_is_interrupted_leaves_no_server_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        assert list(postmaster.server_processes(home_of(folder / "pg")))
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_wait_until_healthy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure(folder / "pg")
    assert status(folder / "pg").state == "stopped"


def test_a_server_that_recovers_for_long_is_left_to_it_and_attached_to_later(folder: Path) -> None:
    first = ensure(folder / "pg")
    os.kill(first.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable, match="is left to recover") as error:
        ensure(folder / "pg", start_bound_s=0.2)
    assert error.value.code == "database_not_ready"
    os.kill(first.pid, signal.SIGCONT)
    with ensure(folder / "pg") as second:
        assert (second.pid, second.is_owner) == (first.pid, False)
        first.release()


@pytest.mark.parametrize("moment", ["pgpass", "cluster.new-*", "cluster.new-*/base", "cluster"])
def test_a_kill_while_the_cluster_is_made_leaves_nothing_in_the_way(folder: Path, moment: str) -> None:
    with holder(folder / "pg", start_new_session=True) as maker:
        until(lambda: next((folder / "pg").glob(moment), None))
        os.killpg(maker.process.pid, signal.SIGKILL)
        assert maker.kill() == -signal.SIGKILL
    with ensure(folder / "pg") as server:
        run_sql(server.url, "CREATE TABLE t (n int)")
        assert not list((folder / "pg").glob("*.new-*"))


@pytest.mark.skipif(not IS_ROOT, reason="making a process namespace needs root")
def test_process_1_refuses_the_database(folder: Path) -> None:
    with holder(folder / "pg", prefix=("unshare", "--pid", "--fork", "--mount-proc")) as one:
        assert one.complaint().startswith("database_pid_1: process 1")
        assert one.process.returncode == 78


@pytest.mark.skipif(not IS_ROOT, reason="making a process namespace needs root")
def test_process_1_stays_behind_as_init_and_ends_a_kept_server_cleanly(folder: Path) -> None:
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with holder(folder / "pg", "leave_pid_1=yes", "keep=yes", prefix=prefix) as one:
        assert one.facts()["is_owner"]
        # the server is a process of another namespace here: seen by its lock, not by its number
        assert one.release() == 0
    log = "".join(path.read_text() for path in (folder / "pg" / "log").iterdir())
    assert "database system is shut down" in log
    with ensure(folder / "pg"):
        after = "".join(path.read_text() for path in (folder / "pg" / "log").iterdir())
        assert "not properly shut down" not in after


@pytest.mark.skipif(not IS_ROOT, reason="making a process namespace needs root")
def test_a_server_of_another_container_on_the_same_data_is_neither_doubled_nor_touched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END_THEMSELVES_S", 0.2)
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with holder(folder / "pg", "leave_pid_1=yes", prefix=prefix) as other:
        url = other.facts()["url"]
        for touch in (ensure, stop):
            with pytest.raises(Unavailable, match="another container runs a server") as error:
                touch(folder / "pg")
            assert error.value.code == "database_elsewhere"
        assert status(folder / "pg").problem == "another container runs a server on this data"
        run_sql(url, "CREATE TABLE still_there (n int)")
        assert other.release() == 0


def test_a_server_of_a_container_that_cannot_be_seen_is_not_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END_THEMSELVES_S", 0.2)
    monkeypatch.setattr(postmaster, "ORPHANS_BOUND_S", 0.6)
    with holder(folder / "pg") as other:
        pid = other.facts()["pid"]
        # as from within another container: the lock is all there is to see
        monkeypatch.setattr(postmaster, "_command_of", lambda _pid, _home: None)
        with pytest.raises(Unavailable, match="not of this machine or container"):
            ensure(folder / "pg")
        monkeypatch.undo()
        assert status(folder / "pg").pid == pid
        assert other.release() == 0


if not sys.executable.startswith("/tmp/"):  # else hiding it would hide the interpreter

    @pytest.mark.skipif(not IS_ROOT, reason="making a mount namespace needs root")
    def test_a_server_whose_socket_is_only_hidden_from_here_is_not_stopped(folder: Path) -> None:
        folder.chmod(0o777)
        become = "exec setpriv --reuid=65534 --regid=65534 --clear-groups"
        hide = f'{hiding("/tmp", scratch=folder)}; {become} "$@"'
        with holder(folder / "pg", prefix=("unshare", "--mount", "/bin/sh", "-c", hide, "sh")) as other:
            pid = other.facts()["pid"]
            with pytest.raises(Misconfigured, match="is not visible from here"):
                ensure(folder / "pg")
            assert status(folder / "pg").pid == pid
            assert other.release() == 0


def test_an_ordinary_user_survives_the_kill_of_an_owner_too(folder: Path) -> None:
    folder.chmod(0o777)
    with holder(folder / "pg", **ordinary_user()) as owner:
        facts = owner.facts()
        assert owner.kill() == -signal.SIGKILL
    with holder(folder / "pg", **ordinary_user()) as second:
        assert second.facts()["pid"] == facts["pid"]
        assert second.release() == 0


def title_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

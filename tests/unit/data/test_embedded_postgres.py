"""What the embedded database's supervisor decides without touching anything."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.durability import SAFE_SETTINGS, unsafe_reason
from outrider.data.embedded_postgres import configuration, ensure
from outrider.data.embedded_postgres.account import Account, account_for
from outrider.data.embedded_postgres.faults import plain_errors, refuse, telling_line
from outrider.data.embedded_postgres.home import Home
from outrider.data.embedded_postgres.moving import move_commands
from outrider.data.embedded_postgres.programs import Programs
from outrider.data.embedded_postgres.server import _url
from outrider.data.embedded_postgres.sockets import key_of

USER = Account(1000, 1000, is_dropped_to=False)


def facts(*, uid: int = 0, gid: int = 0, mode: int = 0o755) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize("name", SAFE_SETTINGS)
@pytest.mark.parametrize("value", ["off", "OFF", " off ", "false", "no", "0", "of", "f", "", "maybe"])
def test_no_spelling_turns_safety_off(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as error:
        configuration.refuse_settings({name: value})
    assert (error.value.code, error.value.field) == ("unsafe_durability", name)


@pytest.mark.parametrize("level", ["on", "local", "remote_write", "remote_apply"])
def test_every_level_of_synchronous_commit_that_waits_for_the_disk_is_safe(level: str) -> None:
    assert unsafe_reason("synchronous_commit", level) is None
    assert unsafe_reason("fsync", level) is None if level == "on" else unsafe_reason("fsync", level)


def test_the_command_line_pins_all_three() -> None:
    assert {f"{name}=on" for name in SAFE_SETTINGS} <= set(configuration.pinned())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_addresses", "*"),
        ("unix_socket_directories", "/tmp"),
        ("hba_file", "/tmp/open"),
        ("config_file", "/tmp/other"),
        ("include", "/tmp/more"),
        ("data_sync_retry", "on"),
        ("zero_damaged_pages", "on"),
        ("work_mem", "4MB\nfsync = off"),
        ("work_mem = 1\nfsync", "off"),
        ("Fsync", "off"),
        ("", "on"),
    ],
)
def test_settings_that_are_the_supervisors_or_malformed_are_refused(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as error:
        configuration.refuse_settings({name: value})
    assert error.value.code == "database_setting"


def test_ordinary_settings_and_extensions_pass() -> None:
    configuration.refuse_settings({"work_mem": "16MB", "pg_stat_statements.max": "5000", "fsync": "on"})


@pytest.mark.parametrize(("value", "quoted"), [("it's", "'it''s'"), ("a\\b", "'a\\\\b'"), ("", "''")])
def test_a_value_cannot_leave_its_quotes(value: str, quoted: str) -> None:
    assert configuration._quoted(value) == quoted


@pytest.mark.parametrize("port", [0, 80, 1023, 65536])
def test_a_port_out_of_range_is_refused_before_anything_is_made(port: int) -> None:
    with pytest.raises(Misconfigured) as error:
        ensure(Path("/nonexistent/never/made"), tcp_port=port)
    assert error.value.field == "tcp_port"


def test_process_1_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(Misconfigured, match="docker run --init"):
        ensure(Path("/nonexistent/never/made"))


def test_the_cause_is_the_last_fatal_line_or_the_faulty_line_of_a_file() -> None:
    log = "LOG:  starting\n2026 [1] FATAL:  data directory has wrong ownership\n2026 [1] LOG:  database is shut down\n"
    assert telling_line(log) == "data directory has wrong ownership"
    file = 'LOG:  syntax error in file "x.conf" line 3\nFATAL:  configuration file "x.conf" contains errors\n'
    assert telling_line(file) == 'syntax error in file "x.conf" line 3'
    assert telling_line("initdb: error: invalid locale name\ninitdb: hint: no") == "invalid locale name"
    assert telling_line("") == "it said nothing"
    assert len(telling_line("FATAL:  " + "x" * 5000)) <= 300


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ('FATAL:  could not write to file "pg_wal/1": No space left on device', Unavailable),
        ("FATAL:  could not map anonymous shared memory: Cannot allocate memory", Unavailable),
        ('FATAL:  could not open file "x": Read-only file system', Misconfigured),
        ("PANIC:  could not locate a valid checkpoint record", Misconfigured),
    ],
)
def test_a_failed_program_is_the_operators_business_unless_it_passes(output: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as error:
        refuse("it does not start", output)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EROFS, Misconfigured),
        (errno.EACCES, Misconfigured),
        (errno.ENOSPC, Unavailable),
        (errno.EIO, Unavailable),
    ],
)
def test_faults_of_the_system_become_one_line(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"making it: .*/some/where") as error, plain_errors("making it"):
        raise OSError(number, os.strerror(number), "/some/where")
    assert "\n" not in str(error.value)


def test_a_program_that_hangs_is_named() -> None:
    with pytest.raises(Unavailable, match="initdb took more than 120 s"), plain_errors("making it"):
        raise subprocess.TimeoutExpired(["/usr/bin/initdb", "-D", "x"], 120)


def test_root_runs_data_as_who_owns_it_and_others_run_only_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    chosen = account_for(facts(uid=4242, gid=77), Path("/data"))
    assert (chosen.uid, chosen.gid, chosen.is_dropped_to) == (4242, 77, True)
    assert chosen.identity == {"user": 4242, "group": 77, "extra_groups": []}
    fresh = account_for(facts(uid=0), Path("/data"))
    assert fresh.uid != 0
    assert fresh.is_dropped_to
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account_for(facts(uid=1000), Path("/data")).identity == {}
    with pytest.raises(Misconfigured, match="belongs to user 0, this process runs as 1000"):
        account_for(facts(uid=0), Path("/data"))


def test_a_url_carries_any_password_and_folder() -> None:
    url = _url("outrider", "p@ss/w:rd?", "outrider", Path("/run/out rider/x"), 5433)
    assert url == "postgresql://outrider:p%40ss%2Fw%3Ard%3F@/outrider?host=/run/out%20rider/x&port=5433"


def test_each_data_directory_has_a_short_name_of_its_own() -> None:
    one, other = (key_of(Home(Path(path), USER)) for path in ("/data/one", "/data/two"))
    assert one != other
    assert len(one) == len(other) == 12
    assert key_of(Home(Path("/data/one"), USER)) == one


def test_move_commands_keep_the_old_data_and_quote_every_path() -> None:
    home = Home(Path("/srv/my data/pg"), Account(65534, 65534, is_dropped_to=True))
    programs = Programs(Path("/opt/pg 18/bin"), "18.6", 18)
    commands = move_commands(home, 12, programs, Path("/run/outrider/abc"))
    text = "\n".join(commands)
    assert "apt install postgresql-12" in commands[0]
    assert "mv '/srv/my data/pg' '/srv/my data/pg-12'" in commands
    assert "'/opt/pg 18/bin/pg_dumpall'" in text
    assert "/usr/lib/postgresql/12/bin/pg_ctl start" in text
    assert all("setpriv --reuid=65534" in line for line in commands if "pg_ctl" in line or "initdb" in line)
    assert "rm " not in text


@pytest.mark.parametrize(
    ("settings", "ahead_mib"),
    [({}, 256), ({"min_wal_size": "128MB"}, 32), ({"min_wal_size": "80GB"}, 256), ({"min_wal_size": "plenty"}, 0)],
)
def test_a_new_cluster_gets_a_quarter_of_the_wal_that_it_keeps_made_ahead(
    settings: dict[str, str], ahead_mib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 30))
    assert configuration.wal_ahead_bytes(Home(tmp_path, USER), settings) == ahead_mib << 20


def test_a_disk_with_little_room_gets_nothing_made_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 << 30))
    assert configuration.wal_ahead_bytes(Home(tmp_path, USER), {}) == 0

"""Every row of the table of bad inputs for the command line: one test per id, or the reason why it does not apply."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.data import migrate, revision
from tests.kit.command import Command, Done, command, migrated_command
from tests.kit.postgres import run_sql, shared_server

ROWS: dict[str, dict[str, str]] = {
    row["id"]: row for row in json.loads((Path(__file__).with_name("bad_inputs_cli.json")).read_text(encoding="utf-8"))
}
DOES_NOT_APPLY = {
    "L27": "tests/drill: a stopped worker's finish is fenced off (faults F13)",
    "L36": "there is no command that deletes a tenant: its messages and proofs outlive it",
    "L37": "there is no purge command: retention is a setting with bounds",
    "L51": "there is no backup command yet: pg_dump as role outrider_backup",
}


@pytest.fixture(scope="module")
def ready(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A command on a migrated database."""
    return migrated_command(new_database, tmp_path_factory.mktemp("data"))


def told(done: Done, code: int | tuple[int, ...]) -> str:
    """Assert the exit code and that there is one line of error and no traceback; gives that line."""
    assert done.code in ((code,) if isinstance(code, int) else code), done
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.err
    return lines[0]


def test_every_row_has_a_test_or_a_reason() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    tested = {found.upper() for found in re.findall(r"def test_(l\d\d)_", source)}
    assert tested | set(DOES_NOT_APPLY) == set(ROWS)
    assert not tested & set(DOES_NOT_APPLY)


def test_l03_the_version_is_one_line(ready: Command) -> None:
    done = ready.run("--version")
    assert (done.code, done.out.count("\n"), done.err) == (0, 1, "")


def test_l05_an_unknown_option_is_a_usage_error(ready: Command) -> None:
    assert "--frce" in told(ready.run("tenant", "list", "--frce"), 2)


def test_l06_an_option_without_its_value_is_a_usage_error(ready: Command) -> None:
    for done in ready.many([("user", "list", "--tenant"), ("tenant", "list", "--limit")]):
        assert "requires an argument" in told(done, 2)


def test_l07_a_value_that_looks_like_an_option_is_a_usage_error(ready: Command) -> None:
    told(ready.many([("user", "list", "--tenant", "--all")])[0], 2)


def test_l08_a_number_that_is_none_or_out_of_bounds_is_a_usage_error(ready: Command) -> None:
    values = ("abc", "-1", "99999999999999999999", "1e3", "٣", "0", "1001", "1.0", "0x10", "")
    for done in ready.many([("tenant", "list", f"--limit={value}") for value in values]):
        assert "limit" in told(done, 2)


def test_l10_a_tenant_in_other_case_does_not_exist(ready: Command) -> None:
    made, found, other = ready.many(
        [("tenant", "create", "Acme"), ("user", "list", "--tenant", "Acme"), ("user", "list", "--tenant", "acme")]
    )
    assert (made.code, found.code) == (0, 0)
    assert "no tenant named 'acme'" in told(other, 4)


def test_l14_a_settings_file_that_names_an_unset_variable_is_refused_by_its_name(
    ready: Command, tmp_path: Path
) -> None:
    path = tmp_path / "outrider.toml"
    path.write_text('environment = "${UNSET_VARIABLE}"\n')
    assert "UNSET_VARIABLE is not set" in told(ready.with_(OUTRIDER_CONFIG=str(path)).run("status"), 2)
    done = ready.with_(OUTRIDER_CONFIG=str(path), UNSET_VARIABLE="staging").run("status", "--json")
    assert done.json()["environment"] == "staging"


class TestL15:
    """The database's address is unset, malformed, wrong, or leads to another schema."""

    def test_l15_no_database_yet(self, tmp_path: Path) -> None:
        assert "outrider up" in told(command(tmp_path).run("status"), 2)

    @pytest.mark.parametrize(
        "url", ["nonsense", "mysql://a:hunter2@h/d", "postgresql://a:hunter2@h:port/d", "postgresql:///"]
    )
    def test_l15_a_malformed_url(self, tmp_path: Path, url: str) -> None:
        assert "hunter2" not in told(command(tmp_path, url=url).run("status"), 2)

    def test_l15_a_wrong_password(self, ready: Command) -> None:
        url = re.sub(r"//outrider:[^@]*@", "//outrider:hunter2@", ready.environment["OUTRIDER_DATABASE_URL"])
        assert "hunter2" not in told(ready.with_(OUTRIDER_DATABASE_URL=url).run("status"), (2, 69))

    def test_l15_an_unknown_user(self, ready: Command) -> None:
        url = ready.environment["OUTRIDER_DATABASE_URL"].replace("//outrider:", "//nobody_here:")
        told(ready.with_(OUTRIDER_DATABASE_URL=url).run("status"), (2, 69))

    def test_l15_a_host_that_is_down(self, tmp_path: Path) -> None:
        told(command(tmp_path, url="postgresql://a:hunter2@127.0.0.1:1/d").run("status"), 69)

    def test_l15_a_host_that_does_not_resolve(self, tmp_path: Path) -> None:
        told(command(tmp_path, url="postgresql://a:hunter2@nowhere.invalid/d").run("status"), 69)

    def test_l15_a_database_that_does_not_exist(self, ready: Command) -> None:
        url = re.sub(r"@/\w+\?", "@/no_such_database?", ready.environment["OUTRIDER_DATABASE_URL"])
        told(ready.with_(OUTRIDER_DATABASE_URL=url).run("status"), 2)

    def test_l15_a_schema_that_is_too_old(self, tmp_path: Path, database_url: str) -> None:
        assert "outrider db migrate" in told(command(tmp_path, url=database_url).run("status"), 2)

    def test_l15_a_schema_that_is_newer(self, tmp_path: Path, migrated_url: str) -> None:
        run_sql(migrated_url, "UPDATE alembic_version SET version_num = '9999'")
        assert "newer release" in told(command(tmp_path, url=migrated_url).run("status"), 2)


def test_l16_a_database_user_without_rights_is_told_which(ready: Command, tmp_path: Path, database_url: str) -> None:
    without = _login_without_rights(ready)
    assert "permission denied" in told(without.run("status"), 77)
    url = without.environment["OUTRIDER_DATABASE_URL"].partition("@/")[0] + "@/" + database_url.partition("@/")[2]
    assert "lacks a right" in told(command(tmp_path, url=url).run("db", "migrate"), 77)


def _login_without_rights(ready: Command) -> Command:
    """The same database through a login that is in none of our roles."""
    url = ready.environment["OUTRIDER_DATABASE_URL"]
    password = re.search(r"//outrider:([^@]*)@", url)
    assert password is not None
    run_sql(
        shared_server().superuser_url,
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'no_rights') THEN"
        f" CREATE ROLE no_rights LOGIN PASSWORD '{password[1]}'; END IF; END $$",
    )
    return ready.with_(OUTRIDER_DATABASE_URL=url.replace("//outrider:", "//no_rights:"))


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_l17_a_closed_standard_stream_is_no_traceback_and_lost_output_is_an_error(
    ready: Command, descriptor: int
) -> None:
    with_streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with_streams[("stdin", "stdout", "stderr")[descriptor]] = None
    process = ready.start("tenant", "list", "--json", preexec_fn=lambda: os.close(descriptor), **with_streams)
    out, err = process.communicate(timeout=180)
    assert "Traceback" not in (err or "")
    if descriptor == 1:
        assert process.returncode == 74
    else:
        assert process.returncode == 0
        assert json.loads(out)


def test_l17_a_full_disk_under_stdout_is_an_error(ready: Command) -> None:
    with Path("/dev/full").open("w") as full:
        process = ready.start("exits", stdin=subprocess.DEVNULL, stdout=full)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 74
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [("exits",), ("--help",), ("tenant", "list", "--json"), ("tenant", "--help")])
def test_l19_a_reader_that_went_away_is_no_traceback(ready: Command, arguments: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = ready.start(*arguments, stdin=subprocess.DEVNULL, stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=180)
    assert process.returncode in (0, 141)
    assert err == ""


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["POSIX", "ascii", "C"],
)
def test_l21_unicode_is_escaped_where_the_locale_cannot_show_it(ready: Command, locale: dict[str, str]) -> None:
    ready.run("tenant", "create", "Büro 東京")
    there = ready.with_(**{"LC_ALL": None, **locale})
    done = there.run("tenant", "list")
    assert done.code == 0
    assert "B\\xfcro" in done.out or "Büro" in done.out
    assert "Büro 東京" in [row["name"] for row in there.run("tenant", "list", "--json").json()]
    assert (there.run("--help").code, there.run("exits").err) == (0, "")


def test_l23_ctrl_c_while_migrating_rolls_back_and_gives_the_lock_up(tmp_path: Path, database_url: str) -> None:
    async def interrupt() -> int:
        holder = await asyncpg.connect(database_url)
        await holder.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        await holder.execute("BEGIN; LOCK TABLE alembic_version IN SHARE MODE")
        process = command(tmp_path, url=database_url).start("db", "migrate", stdin=subprocess.DEVNULL)
        try:
            async with asyncio.timeout(180):
                while not await holder.fetchval(  # noqa: ASYNC110 - the server has no event for it
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database()))"
                ):
                    await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.to_thread(process.communicate, timeout=180)
        finally:
            await holder.close()
        assert err == "error: interrupted\n"
        return process.returncode

    assert asyncio.run(interrupt()) == 130
    assert asyncio.run(revision.status(database_url)).current is None
    assert asyncio.run(migrate.upgrade(database_url, wait_s=5)), "the lock was given up"


def test_l23_ctrl_c_in_an_import_keeps_its_checkpoint_and_the_next_run_goes_on(ready: Command, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "".join(f"ctrlc{n}@example.org\n" for n in range(12_000)))
    stopping = ready.with_(OR_FAILPOINT="import.committed:1:stop")
    process = stopping.start("contacts", "import", str(path), "--list", "L23", stdin=subprocess.DEVNULL)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it stands still after its first batch"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (130, "error: interrupted\n")
    done = ready.run("contacts", "import", str(path), "--list", "L23", "--json").json()
    assert (done["state"], done["created_count"], done["unchanged_count"]) == ("completed", 12_000, 0)


def test_l24_sigterm_ends_a_worker_in_order(ready: Command) -> None:
    process = ready.with_(OUTRIDER_WORKER_HEALTH_PORT="0").start("worker", stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready: ")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_l30_a_worker_refuses_a_schema_that_is_too_old(tmp_path: Path, database_url: str) -> None:
    done = command(tmp_path, url=database_url).run("worker")
    assert done.code == 78
    assert "schema too old" in done.err.splitlines()[-1]


def test_l34_pausing_and_resuming_twice_is_no_error_and_is_audited_each_time(ready: Command) -> None:
    audit = ("audit", "list", "--installation", "--json")
    pause, resume = ("pause", "installation", "--json"), ("resume", "installation", "--yes", "--json")
    before, *done, after = ready.many([audit, pause, pause, resume, resume, audit])
    assert [each.code for each in done] == [0] * 4
    assert [each.json()["changed"] for each in done] == [True, False, True, False]
    assert len(after.json()) == len(before.json()) + 4


def test_l35_resuming_needs_a_confirmation(ready: Command) -> None:
    ready.run("pause", "channel", "email")
    assert "--yes" in told(ready.run("resume", "channel", "email"), 2)
    assert [row["scope_id"] for row in ready.run("status", "--json").json()["paused"]] == ["email"]
    assert ready.run("resume", "channel", "email", "--yes").code == 0


def test_l43_a_role_that_does_not_exist_and_a_database_user_without_rights(ready: Command) -> None:
    told(ready.run("user", "create", "a@example.com", "--role", "superadmin"), 2)
    told(_login_without_rights(ready).run("user", "create", "a@example.com", "--role", "owner"), 77)
    assert not ready.run("user", "list", "--json").json()


def test_l44_what_is_no_readable_file_with_rows_is_refused_in_one_line(ready: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "header.csv").write_text("email\n")
    paths = (tmp_path, "-", tmp_path / "missing.csv", tmp_path / "empty.csv", tmp_path / "loop.csv", "a\nb.csv", "a\0b")
    for done in ready.many([("contacts", "import", str(path)) for path in paths]):
        told(done, 2)


def test_l45_importing_a_file_twice_makes_nobody_twice(ready: Command, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email,name\n" + "".join(f"p{n}@example.org,Person {n}\n" for n in range(40)))
    first, second = ready.many([("contacts", "import", str(path), "--list", "L45", "--json")] * 2)
    assert (first.code, second.code) == (0, 0)
    assert first.json()["created_count"] == 40
    assert (second.json()["created_count"], second.json()["unchanged_count"]) == (0, 40)


def test_l59_a_dry_run_writes_nothing(ready: Command, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("email\ndry@example.org\n")
    text = tmp_path / "text.txt"
    text.write_text("Hello")
    mx = ("--set", "host=mail.example.org", "--set", "tls=off")
    key, *made = ready.many(
        [
            ("key", "create", "dry", "--json"),
            ("lists", "create", "everybody"),
            ("connection", "create", "mx", *mx),
            ("sender", "create", "news", "--connection", "mx", "--from", "news@example.org"),
            ("template", "create", "hello", "--subject", "Hello", "--text", str(text)),
            ("campaign", "create", "spring", "--sender", "news", "--template", "hello", "--list", "everybody"),
            ("suppressions", "add", "no@example.org"),
        ]
    )
    assert [done.code for done in made] == [0] * len(made), made
    url = ready.environment["OUTRIDER_DATABASE_URL"]
    before = asyncio.run(_contents(url))
    lines = (
        ("tenant", "create", "Dry"),
        ("user", "create", "dry@example.com"),
        ("key", "create", "dry2"),
        ("key", "revoke", key.json()["id"]),
        ("pause", "installation"),
        ("resume", "installation"),
        ("pause", "--emergency"),
        ("maintenance", "on"),
        ("maintenance", "off"),
        ("lists", "create", "dry"),
        ("suppressions", "add", "dry@example.org"),
        ("suppressions", "remove", "no@example.org"),
        ("connection", "create", "dry", *mx),
        ("connection", "update", "mx", "--set", "port=26"),
        ("sender", "create", "dry", "--connection", "mx", "--from", "dry@example.org"),
        ("template", "create", "dry", "--subject", "Dry", "--text", str(text)),
        ("template", "update", "hello", "--subject", "Dry", "--text", str(text)),
        ("campaign", "create", "dry", "--sender", "news", "--template", "hello", "--list", "everybody"),
        ("campaign", "cancel", "spring"),
        ("messages", "send", "dry@example.org", "--subject", "Dry", "--text", "dry"),
        ("uncertain", "resend", "--all"),
        ("uncertain", "mark", "sent", "--all"),
        ("poison", "requeue", "--all"),
        ("db", "migrate"),
    )
    for done in ready.many([(*line, "--dry-run") for line in lines]):
        assert done.code == 0, done
        assert "dry run" in done.out
    assert asyncio.run(_contents(url)) == before
    (tried,) = ready.many([("contacts", "import", str(people), "--list", "everybody", "--dry-run")])
    assert tried.code == 0, tried
    now = asyncio.run(_contents(url))
    changed = {name for name in now if now[name] != before[name]}
    assert changed == {"imports", "import_changes", "audit_log", "audit_heads"}, (
        "what it would change is kept to be read"
    )
    assert not (Path(ready.environment["OUTRIDER_DATA_DIR"]) / "EMERGENCY_STOP").exists()


async def _contents(url: str) -> dict[str, Any]:
    """A digest of every table."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE outrider_engine")
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND has_table_privilege(oid, 'SELECT')"
        )
        assert len(tables) > 20
        return {
            row[0]: await connection.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {row[0]} t"
            )
            for row in tables
        }
    finally:
        await connection.close()


def test_l61_no_home_and_no_temporary_folder_are_no_traceback(ready: Command, tmp_path: Path) -> None:
    bare = ready.with_(HOME=None, XDG_DATA_HOME=None, TMPDIR=str(tmp_path / "missing"), OUTRIDER_DATA_DIR=None)
    assert bare.run("tenant", "list").code == 0
    nowhere = ready.with_(OUTRIDER_DATA_DIR="/proc/nowhere", OUTRIDER_SECRET_KEY=None)
    told(nowhere.run("pause", "--emergency"), (2, 71, 78))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_l62_the_emergency_file_and_keys_do_not_depend_on_the_umask(ready: Command, tmp_path: Path, umask: int) -> None:
    there = ready.with_(OUTRIDER_DATA_DIR=str(tmp_path))
    process = there.start("pause", "--emergency", stdin=subprocess.DEVNULL, preexec_fn=lambda: os.umask(umask))
    process.communicate(timeout=180)
    assert process.returncode == 0
    mode = (tmp_path / "EMERGENCY_STOP").stat().st_mode & 0o777
    assert not mode & 0o022, "nobody else may write it"


@pytest.mark.parametrize(
    ("limit", "value"),
    [(resource.RLIMIT_NOFILE, 20), (resource.RLIMIT_AS, 300_000 * 1024), (resource.RLIMIT_AS, 100_000 * 1024)],
    ids=["-n 20", "-v 300000", "-v 100000"],
)
def test_l64_a_starved_worker_works_or_ends_in_one_line(ready: Command, limit: int, value: int) -> None:
    process = ready.with_(OUTRIDER_WORKER_HEALTH_PORT="0").start(
        "worker", stdin=subprocess.DEVNULL, preexec_fn=lambda: resource.setrlimit(limit, (value, value))
    )
    assert process.stdout is not None
    is_ready = process.stdout.readline().startswith("ready: ")
    if is_ready:
        process.terminate()
    _, err = process.communicate(timeout=180)
    assert "Traceback" not in err
    if is_ready:
        assert process.returncode == 0
    else:
        assert process.returncode > 0, "an exit code, not a crash"
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ((), {"PYTHONHASHSEED": "0"}),
        ((), {"PYTHONHASHSEED": "4242"}),
        ((), {"PYTHONOPTIMIZE": "2"}),
        (("-I",), {}),
        (("-W", "error"), {}),
    ],
    ids=["seed 0", "seed 4242", "-OO", "-I", "-W error"],
)
def test_l65_the_interpreters_options_change_nothing(
    ready: Command, flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    other = Command(ready.with_(**environment).environment, flags)
    lines = (("tenant", "list", "--json"), ("exits",), ("pause", "campaign", "x"), ("--help",))
    assert other.many(lines) == ready.many(lines)


def test_l48_a_format_that_there_is_not_is_a_usage_error(ready: Command, tmp_path: Path) -> None:
    to = tmp_path / "contacts.xml"
    assert "--format" in told(ready.run("exports", "write", "contacts", "--to", str(to), "--format", "xml"), 2)
    assert not to.exists()

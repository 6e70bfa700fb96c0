"""Attacks from beside the API: other accounts of the machine, the database's working roles, and the log."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import structlog

from outrider.base.settings import load
from outrider.data import log, migrate
from outrider.data.db import Role
from outrider.data.embedded_postgres import home
from outrider.domain.contacts.imports.cells import neutral
from outrider.domain.contacts.imports.files import ImportFiles
from outrider.engine.dispatch.journal import Journal
from tests.kit.api import runtime_for

FOREIGN_WRITE = 0o022


@pytest.fixture
def no_umask() -> Iterator[None]:
    """What a careless service file leaves a process with."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
async def test_without_a_umask_nobody_else_may_write_into_a_folder_of_ours(tmp_path: Path) -> None:
    """A folder above that others may write lets them put another in the place of the journals or the data."""
    Journal(tmp_path / "a" / "b" / "journals", uuid4()).close(is_settled=False)

    async def upload() -> AsyncIterator[bytes]:
        yield b"email\n"

    runtime = runtime_for("postgresql://nobody@/none?host=/nowhere", data_dir=tmp_path / "c" / "d")
    await ImportFiles(runtime.settings.data_dir).receive(upload())
    home._make(tmp_path / "e" / "f" / "pg")
    check_modes(tmp_path)


def check_modes(folder: Path) -> None:
    """Nothing below is for others to write, and files of ours are ours alone."""
    made = list(folder.rglob("*"))
    assert len(made) >= 10
    for path in made:
        assert not path.stat().st_mode & FOREIGN_WRITE, path
        if path.suffix in {".journal", ".lock", ".part"}:
            assert path.stat().st_mode & 0o777 == 0o600, path


@pytest.mark.parametrize("role", [Role.APP, Role.ENGINE, Role.OPS, Role.READONLY, Role.BACKUP])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE tenants (id uuid)",
        "SELECT outrider_drop_month('202001')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT lo_import('/etc/passwd')",
        "CREATE EXTENSION dblink",
        "SELECT * FROM pg_authid",
        "SET session_replication_role = replica",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "GRANT outrider_engine TO outrider_readonly",
    ],
)
async def test_no_working_role_can_reach_out_of_its_tables(migrated: str, role: Role, statement: str) -> None:
    connection = await asyncpg.connect(migrated)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SELECT set_config('role', $1, true)", str(role))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await transaction.rollback()
        await connection.close()


@pytest.fixture(scope="module")
async def migrated(new_database: Callable[..., str]) -> str:
    """Migrated by itself and not copied: what is granted on a database is not copied with it."""
    url = new_database()
    await migrate.upgrade(url)
    return url


OWNERS_RIGHTS = {
    # function that runs with its owner's rights -> (what it gives, who may call it besides its owner)
    "outrider_rows_outside": ("boolean", {Role.ENGINE}),
    "outrider_settle_event_clock": ("boolean", {Role.ENGINE}),
    "outrider_run_add": ("void", {Role.ENGINE, Role.APP}),  # looks at the tenant itself (test_jobs_enqueue.py)
    "outrider_run_remove": ("boolean", {Role.ENGINE, Role.APP}),
    "outrider_runs_ready": ("text", {Role.ENGINE}),
    "outrider_runs_claimed": ("record", {Role.ENGINE}),
    "outrider_runs_open": ("text", {Role.ENGINE}),
    "outrider_runs_sweep": ("integer", {Role.ENGINE}),
    "outrider_budget_by_hand": ("trigger", set()),  # writes down what somebody changed with psql; nobody calls it
}


async def test_what_runs_with_its_owner_s_rights_looks_names_up_nowhere_else_and_is_called_by_few(
    migrated: str,
) -> None:
    connection = await asyncpg.connect(migrated)
    try:
        found = await connection.fetch(
            "SELECT proname, prorettype::regtype::text AS gives, proconfig, oid FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        )
        assert {row["proname"]: row["gives"] for row in found} == {
            name: gives for name, (gives, _) in OWNERS_RIGHTS.items()
        }
        for row in found:
            assert any(each.startswith("search_path=pg_catalog") for each in row["proconfig"])
            for role in (Role.APP, Role.ENGINE, Role.OPS, Role.READONLY, Role.BACKUP):
                question = "SELECT has_function_privilege($1, $2::oid, 'EXECUTE')"
                may = await connection.fetchval(question, str(role), row["oid"])
                assert may == (role in OWNERS_RIGHTS[row["proname"]][1]), (row["proname"], role)
    finally:
        await connection.close()


def _fail(text: str) -> None:
    raise ValueError(text)


def test_what_an_error_quotes_cannot_colour_or_move_a_terminal() -> None:
    """A trace may have lines, but nothing that an attacker's text makes the terminal do."""
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    output = io.StringIO()
    try:
        with redirect_stderr(output):
            log.configure(load(log_format="console"), "test", is_long_running=False)
            try:
                _fail("evil \x1b[2J\x1b[31m\r\x07 name")
            except ValueError:
                structlog.get_logger("test").exception("broken", given="a\x1b[31m\nforged")
    finally:
        structlog.reset_defaults()
        root.handlers[:] = before
        root.setLevel(level)
    assert "evil" in output.getvalue()
    for character in "\x1b\r\x07":
        assert character not in output.getvalue()
    assert "\nforged" not in output.getvalue()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_an_export_is_calculated(start: str) -> None:
    assert neutral(f"{start}HYPERLINK(1)").startswith("'")

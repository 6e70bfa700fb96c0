"""DBOS behind our port: its schema as our migration makes it, who may touch it, and what of its inside we rely on."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from dbos._core import execute_dequeued_workflow
from dbos._queue import Queue
from dbos._serialization import DBOSPortableJSON
from dbos._sys_db import SystemDatabase

from outrider.engine.jobs.claims import SCHEMA
from tests.kit.postgres import run_sql

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = {
    "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, character_maximum_length "
    "FROM information_schema.columns WHERE table_schema = 'outrider_dbos'",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'outrider_dbos'",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'outrider_dbos'::regnamespace AND contype <> 'n'",
    "functions": "SELECT proname, pg_get_functiondef(oid) FROM pg_proc "
    "WHERE pronamespace = 'outrider_dbos'::regnamespace",
    "triggers": "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
    "WHERE NOT t.tgisinternal AND c.relnamespace = 'outrider_dbos'::regnamespace",
    "version": "SELECT version FROM outrider_dbos.dbos_migrations",
}


async def catalogue(url: str) -> dict[str, set[tuple[Any, ...]]]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "pg_catalog"})
    try:
        return {name: {tuple(row.values()) for row in await connection.fetch(sql)} for name, sql in CATALOGUE.items()}
    finally:
        await connection.close()


async def test_our_migration_makes_the_schema_that_this_dbos_makes_itself(
    contract_superuser_url: str, new_database: Callable[..., str]
) -> None:
    url = new_database()
    run_sql(url, "CREATE SCHEMA outrider_dbos")
    system = SystemDatabase.create(
        system_database_url=url,
        engine_kwargs={"pool_size": 2, "max_overflow": 0},
        engine=None,
        schema=SCHEMA,
        serializer=DBOSPortableJSON,
        executor_id=None,
        use_listen_notify=False,
    )
    try:
        system.run_migrations()
    finally:
        system.destroy()
    theirs, ours = await catalogue(url), await catalogue(contract_superuser_url)
    assert len(theirs["columns"]) > 80
    for kind, found in theirs.items():
        assert ours[kind] == found, f"{kind}: a new release of DBOS needs a migration of ours"


async def test_nobody_but_its_owner_has_rights_on_the_schema(contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        others = await connection.fetch(
            "SELECT c.relname, a.grantee::regrole::text FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a "
            "WHERE c.relnamespace = 'outrider_dbos'::regnamespace AND a.grantee <> 'outrider_jobs'::regrole "
            "UNION ALL SELECT p.proname, a.grantee::text FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a "
            "WHERE p.pronamespace = 'outrider_dbos'::regnamespace AND a.grantee <> 'outrider_jobs'::regrole "
            "UNION ALL SELECT n.nspname, a.grantee::text FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a "
            "WHERE n.nspname = 'outrider_dbos' AND a.grantee <> 'outrider_jobs'::regrole"
        )
        owners = await connection.fetch(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'outrider_dbos'::regnamespace"
        )
        may_create = await connection.fetchval("SELECT has_schema_privilege('outrider_jobs', 'public', 'CREATE')")
    finally:
        await connection.close()
    assert others == []
    assert [row[0] for row in owners] == ["outrider_jobs"]
    assert not may_create


async def test_the_doors_are_for_the_roles_that_need_them(contract_superuser_url: str) -> None:
    connection = await asyncpg.connect(contract_superuser_url)
    try:
        rows = await connection.fetch(
            "SELECT p.proname, p.prosecdef, p.proconfig::text, "
            "has_function_privilege('outrider_app', p.oid, 'EXECUTE') AS app, "
            "has_function_privilege('outrider_engine', p.oid, 'EXECUTE') AS engine, "
            "has_function_privilege('outrider_ops', p.oid, 'EXECUTE') AS ops "
            "FROM pg_proc p WHERE p.proname LIKE 'outrider\\_run%' AND p.pronamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    assert len(rows) == 7
    for row in rows:
        assert "search_path" in row["proconfig"], row["proname"]
        assert row["engine"], row["proname"]
        assert not row["ops"], row["proname"]
        assert row["app"] == (row["proname"] in {"outrider_run_id", "outrider_run_add", "outrider_run_remove"})
        assert row["prosecdef"] == (row["proname"] != "outrider_run_id")


def test_what_we_rely_on_inside_dbos_is_still_there() -> None:
    claim = inspect.signature(SystemDatabase.start_queued_workflows).parameters
    assert list(claim)[1:8] == [
        "queue", "executor_id", "app_version", "queue_partition_key", "local_running_count",
        "partition_local_running_count", "owner_xid",
    ]  # fmt: skip
    assert list(inspect.signature(execute_dequeued_workflow).parameters) == ["dbos", "status", "owner_xid"]
    assert {"name", "concurrency", "worker_concurrency", "token"} <= set(inspect.signature(Queue).parameters)
    assert DBOSPortableJSON.name() == "portable_json"


def test_one_module_imports_dbos() -> None:
    importing = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "outrider").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Import)
            and any(alias.name.split(".")[0] in {"dbos", "psycopg"} for alias in node.names)
        )
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"dbos", "psycopg"})
    ]
    assert set(importing) == {"outrider/engine/jobs/claims.py"}


def loaded(role: str, *modules: str) -> set[str]:
    """Which of these modules a process of this role has loaded before it begins."""
    code = f"import sys, outrider.app.wiring, outrider.app.commands.{role}; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(modules) & set(said.stdout.split())


@pytest.mark.parametrize("role", ["api", "worker"])
def test_only_processes_that_run_jobs_load_dbos(role: str) -> None:
    assert not loaded(role, "dbos", "psycopg")


def test_a_process_that_runs_jobs_loads_neither_alembic_nor_the_web_framework() -> None:
    assert not loaded("scheduler", "alembic", "litestar")
    assert loaded("scheduler", "dbos"), "else this test sees nothing"

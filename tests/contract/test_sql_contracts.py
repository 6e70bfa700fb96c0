"""Named statements: each fits the migrated schema and its roles, is bound to a tenant, and is the only place of SQL."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.data.db import Role
from outrider.data.orm import Base
from tests.kit.schema import declared
from tests.kit.statements import NOT_NAMED, PACKAGE, ROOT, SQL_FILES, Named, every_statement

STATEMENTS = every_statement()
EACH = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.where)
LOADER = re.compile(r"\bload\(\s*__package__(?:\s*,\s*\"(?P<file>[a-z_]+\.sql)\")?\s*\)")

WITHOUT_TENANT = {
    # these tables belong to nobody: they have no tenant to be bound to
    "installation",
    "workers",
    "alembic_version",
}
WRITTEN_FROM_TWO = {
    "installation": "one row: domain/limits counts switches and maintenance, app records the secret key's id at start",
}
PAST_RETENTION = {"imports", "sessions", "contents"}
"""Upkeep drops old rows of these over every tenant; the audit log only through `audit.prune`, which keeps its chain."""
SQL_IN_CODE = {
    "outrider/data/server_settings.py": "SHOW takes no parameters and no table",
    "outrider/data/embedded_postgres/health.py": "SHOW takes no parameters and no table",
    "outrider/data/db.py": "one message that begins every unit of work: role and tenant",
    "outrider/data/listen.py": "LISTEN takes no parameters and no table",
    "outrider/migrations": "migrations are the schema",
    "outrider/plugins/gates": "a gate declares its one question; it is in the contracts above",
}
_SQL = re.compile(
    r"""^\s*(
        select\b.+(\bfrom\b|set_config|pg_|now\(|exists) | with\s+\w+\s+as\s*\( | insert\s+into\b | update\s+\w+\s+set\b
      | delete\s+from\s+\w+(\s+where|\s+using|\s*$) | truncate\s+\w+\s*(,|$) | copy\s+\w+\s*(\(|(?-i:FROM|TO)\b)
      | (create|alter|drop)\s+(table|index|role|database|schema|policy|view|function|sequence|user|type|extension)\b
      | (listen|notify|unlisten)\s+\w+\s*$ | (grant|revoke)\s+.+\b(on|to|from)\b
      | set\s+(local\s+|session\s+)?(role|search_path)\b
      | lock\s+table\b | vacuum\b | reindex\b | checkpoint\s*$ | (?-i:SHOW)\s+\w+\s*$ | explain\b | prepare\s+\w+\s+as\b
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


@pytest.fixture
async def connection(contract_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(contract_url)
    yield connection
    await connection.close()


@EACH
async def test_a_statement_fits_the_migrated_schema_and_a_role_may_run_it(
    statement: Named, connection: asyncpg.Connection
) -> None:
    await connection.prepare(statement.sql)
    refusals = []
    roles = (Role.ENGINE, Role.APP, *((Role.OWNER,) if "engine/maintenance" in statement.where else ()))
    for role in roles:
        try:
            await _plan(connection, statement.sql, role)
        except asyncpg.InsufficientPrivilegeError as error:
            refusals.append(f"{role}: {error}")
    assert len(refusals) < len(roles), refusals


@EACH
async def test_a_statement_is_bound_to_a_tenant_or_says_why_not(
    statement: Named, connection: asyncpg.Connection
) -> None:
    if statement.exception:
        return
    tables = await _tenant_tables(connection)
    plan = await _plan(connection, statement.sql, Role.OWNER)
    loose = sorted(set(_scans_without_tenant(plan, tables, above="")))
    assert not loose, f"reads {loose} of every tenant; bind tenant_id or write `-- tenant: none, because …`"
    for insert in re.finditer(r"INSERT INTO (\w+)(?:\s+AS\s+\w+)?\s*\(\s*(\w+)", statement.sql):
        assert insert[1] in WITHOUT_TENANT or insert[2] == "tenant_id", f"{insert[0]} … does not begin with tenant_id"
    assert re.search(r"\$1\b", statement.sql), "has no parameter: nothing can bind it to a tenant"


def test_an_exception_gives_its_reason() -> None:
    for statement in STATEMENTS:
        if statement.exception:
            assert re.match(r"none, because \w+", statement.exception), statement.where


def test_every_table_is_written_from_one_folder_only() -> None:
    writers: dict[str, set[str]] = defaultdict(set)
    for statement in STATEMENTS:
        for table in statement.written_tables:
            if statement.folder != "outrider/engine/maintenance" or table not in PAST_RETENTION:
                writers[table].add(statement.folder)
    for path, table in _orm_writes():
        writers[table].add(path)
    assert {"queue", "messages", "switches", "audit_log"} <= set(writers), "the scan finds nothing"
    shared = {
        table: folders for table, folders in writers.items() if len(folders) > 1 and table not in WRITTEN_FROM_TWO
    }
    assert not shared, f"a table's statements live in one folder; compose transactions from verbs instead: {shared}"


def test_every_sql_file_is_loaded_by_the_module_beside_it() -> None:
    for path in SQL_FILES:
        where = str(path.relative_to(ROOT))
        if where in NOT_NAMED:
            continue
        found = {
            match["file"] or "queries.sql"
            for module in path.parent.glob("*.py")
            for match in LOADER.finditer(module.read_text(encoding="utf-8"))
        }
        assert path.name in found, f"nothing loads {where}"


def test_a_loaded_statement_is_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    unused = [
        statement.where
        for statement in STATEMENTS
        if not statement.where.startswith("gate ") and not re.search(rf"\.{statement.where.rpartition(' ')[2]}\b", code)
    ]
    assert not unused, f"statements that nothing runs: {unused}"


def test_sql_is_written_in_sql_files_only() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip()[:60]!r}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not any(str(path.relative_to(ROOT)).startswith(place) for place in SQL_IN_CODE)
        for line, text in _texts(path)
        if _SQL.match(text)
    ]
    assert not found, "move it into a `.sql` file, or give its reason in SQL_IN_CODE:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM b",
        "\n  select x\n from y",
        "DELETE FROM queue WHERE x",
        "update messages set state",
        "LISTEN outrider_switch",
        "SET LOCAL ROLE x",
    ],
)
def test_the_scan_for_sql_recognises_it(text: str) -> None:
    assert _SQL.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "select a template",
        "Update the sender set for it",
        "delete from the list",
        "with care",
        "show more",
        "copy it to",
    ],
)
def test_the_scan_for_sql_leaves_prose_alone(text: str) -> None:
    assert not _SQL.match(text)


@pytest.mark.parametrize(
    ("sql", "loose"),
    [
        ("SELECT id FROM senders WHERE tenant_id = $1", []),
        ("SELECT id FROM senders WHERE id = $1::uuid", ["senders"]),
        ("SELECT 1 FROM messages m JOIN lanes l ON l.id = m.lane_id WHERE m.tenant_id = $1", ["lanes"]),
        ("SELECT 1 FROM messages m JOIN lanes l USING (tenant_id, lane_id) WHERE m.tenant_id = $1", None),
        ("UPDATE queue SET state = 0 WHERE message_id = $1", ["queue"]),
        ("DELETE FROM lists l USING list_members m WHERE l.tenant_id = $1 AND m.list_id = l.id", ["list_members"]),
    ],
)
async def test_the_check_for_tenants_finds_what_is_not_bound(
    sql: str, loose: list[str] | None, connection: asyncpg.Connection
) -> None:
    if loose is None:
        with pytest.raises(asyncpg.UndefinedColumnError):
            await connection.prepare(sql)
        return
    plan = await _plan(connection, sql, Role.OWNER)
    assert sorted(set(_scans_without_tenant(plan, await _tenant_tables(connection), above=""))) == loose


async def _plan(connection: asyncpg.Connection, sql: str, role: Role) -> dict[str, Any]:
    """The generic plan as a role gets it; making it checks the role's rights on every table and column."""
    count = len((await connection.prepare(sql)).get_parameters())
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"PREPARE contract AS {sql}")
    try:
        await connection.execute(f"SET LOCAL ROLE {role}; SET LOCAL plan_cache_mode = force_generic_plan")
        # loops put the condition of a join into the scan, and no partition may be pruned out of sight
        for setting in ("enable_hashjoin", "enable_mergejoin", "enable_partition_pruning"):
            await connection.execute(f"SET LOCAL {setting} = off")
        answer = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE contract{arguments}")
    finally:
        await transaction.rollback()
        await connection.execute("DEALLOCATE contract")
    found: dict[str, Any] = json.loads(answer)[0]["Plan"]
    return found


async def _tenant_tables(connection: asyncpg.Connection) -> dict[str, tuple[str, str]]:
    """Table or partition -> (its parent or itself, the column that names the tenant)."""
    rows = await connection.fetch(
        """
        SELECT c.relname AS name, coalesce(p.relname, c.relname) AS parent, a.attname AS tenant_column
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid
         AND a.attname = CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        """
    )
    return {row["name"]: (row["parent"], row["tenant_column"]) for row in rows}


def _scans_without_tenant(plan: dict[str, Any], tables: dict[str, tuple[str, str]], above: str) -> Iterator[str]:
    """Tables that a plan reads without a condition on their tenant, in the scan itself or in a join around it."""
    conditions = " ".join(str(value) for key, value in plan.items() if key.endswith(("Cond", "Filter")))
    table, column = tables.get(plan.get("Relation Name", ""), ("", ""))
    if table and plan["Node Type"] != "ModifyTable" and not re.search(rf"\b{column}\b", f"{conditions} {above}"):
        yield table
    around = f"{above} {conditions}" if plan["Node Type"] == "Nested Loop" else ""
    for inner in plan.get("Plans", ()):
        yield from _scans_without_tenant(inner, tables, around)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """String literals of a module with their lines; docstrings are prose."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def _orm_writes() -> Iterator[tuple[str, str]]:
    """(folder, table) of every `insert(Model)`, `update(Model)`, `delete(Model)` and `session.add(Model(…))`."""
    models = {mapper.class_.__name__: str(mapper.local_table) for mapper in _mappers()}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0].func if isinstance(node.args[0], ast.Call) else node.args[0]
            model = first.attr if isinstance(first, ast.Attribute) else getattr(first, "id", "")
            if name in {"insert", "update", "delete", "add"} and model in models:
                yield str(path.parent.relative_to(ROOT)), models[model]


def _mappers() -> Iterator[Any]:
    declared()
    return iter(Base.registry.mappers)

"""Tenants never see each other: what pg_class says of every table, and what the real roles then see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.data.db import Role
from tests.kit.rows import fill_every_table

OTHER = UUID("00000000-0000-7000-8000-0000000000aa")
OF_NOBODY = {
    "job_queues": "queues serve every tenant",
    "job_workers": "processes serve every tenant",
    "installation": "one row about all of it; the app role may read some columns",
    "workers": "processes serve every tenant",
    "alembic_version": "the revision of the schema",
    "event_clocks": "how positions of events are counted in each cluster; tells nothing of any tenant",
    "login_attempts": "guesses are counted before anybody knows a tenant; engine only",
}
SHOWS_NIL = {"suppressions", "do_not_contact", "switches", "prices", "destination_rates"}
READERS = {Role.OPS, Role.READONLY, Role.BACKUP}
TABLES = """
    SELECT c.relname AS name, c.relkind::text AS kind, c.relispartition AS is_partition, c.relrowsecurity AS is_secured,
           c.relforcerowsecurity AS is_forced, c.reloptions::text AS options, c.relowner::regrole::text AS owner,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
           OR c.relname = 'tenants' AS has_tenant
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    ORDER BY c.relname
"""


@pytest.fixture
async def connection(contract_superuser_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to the migrated database; every test takes back what it did."""
    connection = await asyncpg.connect(contract_superuser_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_every_table_with_a_tenant_forces_row_level_security_and_has_policies(
    connection: asyncpg.Connection,
) -> None:
    tables = [row for row in await connection.fetch(TABLES) if row["kind"] in "rp" and not row["is_partition"]]
    assert len(tables) > 30, "the walk finds nothing"
    for table in tables:
        name = table["name"]
        assert table["has_tenant"] or name in OF_NOBODY, f"{name} has no tenant_id; say in OF_NOBODY why"
        if name in OF_NOBODY:
            continue
        assert table["is_secured"], f"{name} has no row-level security"
        assert table["is_forced"], f"{name} does not force it on its owner"
        policies = await connection.fetch(
            "SELECT roles, cmd, qual, with_check FROM pg_policies WHERE tablename = $1", name
        )
        unbound = [
            policy
            for policy in policies
            if set(policy["roles"]) & {Role.APP, "public"}
            and any(
                clause is not None and "current_setting('app.tenant'" not in clause
                for clause in (policy["qual"], policy["with_check"])
            )
        ]
        assert {role for policy in policies for role in policy["roles"]} >= {Role.APP, Role.ENGINE, Role.OWNER}, name
        assert not unbound, f"{name}: a policy of the app role does not look at the tenant: {unbound}"


async def test_nobody_has_rights_on_a_partition(connection: asyncpg.Connection) -> None:
    granted = await connection.fetch(
        """
        SELECT c.relname, a.grantee::regrole::text AS grantee, a.privilege_type
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE c.relispartition AND c.relkind = 'r' AND a.grantee <> c.relowner
        """
    )
    partitions = await connection.fetchval("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'")
    assert partitions >= 10
    assert granted == [], "partitions inherit no policies: whoever has rights on one sees every tenant"


async def test_every_view_asks_as_the_caller(connection: asyncpg.Connection) -> None:
    views = [row for row in await connection.fetch(TABLES) if row["kind"] in "vm"]
    assert views
    for view in views:
        assert view["kind"] == "v", f"{view['name']}: a materialized view keeps rows of every tenant"
        assert "security_invoker=true" in (view["options"] or ""), f"{view['name']} runs with its owner's rights"


async def test_nothing_is_granted_to_everybody(connection: asyncpg.Connection) -> None:
    granted = await connection.fetch(
        """
        SELECT c.relname, a.privilege_type FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = 0
        """
    )
    assert granted == []


async def test_no_role_is_superuser_or_bypasses_policies(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles "
        "WHERE rolname LIKE 'outrider\\_%'"
    )
    assert {row["rolname"] for row in rows} >= set(Role)
    for row in rows:
        assert not any(value for name, value in row.items() if name != "rolname"), f"{row['rolname']} may too much"


async def test_the_login_role_sees_nothing_until_it_takes_a_role(contract_url: str) -> None:
    connection = await asyncpg.connect(contract_url)
    try:
        for table in ("messages", "tenants", "audit_log", "users"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {table}")
    finally:
        await connection.close()


async def test_the_app_role_sees_no_row_of_another_tenant_in_any_table(connection: asyncpg.Connection) -> None:
    filled = await fill_every_table(connection, (DEFAULT_TENANT, OTHER, NIL))
    relations = [row for row in await connection.fetch(TABLES) if row["kind"] in "rpv" and not row["is_partition"]]
    assert filled >= {row["name"] for row in relations if row["kind"] in "rp"} - set(OF_NOBODY)
    for table in relations:
        name = table["name"]
        if name in OF_NOBODY or not await _may(connection, Role.APP, name, "SELECT"):
            assert name in OF_NOBODY, f"the app role cannot read {name}"
            continue
        tenant = "id" if name == "tenants" else "tenant_id"
        for mine in (DEFAULT_TENANT, OTHER):
            await _become(connection, Role.APP, mine)
            seen = {row[0] for row in await connection.fetch(f"SELECT DISTINCT {tenant} FROM {name}")}
            assert seen == ({mine, NIL} if name in SHOWS_NIL else {mine}), f"{name}: tenant {mine} sees {seen}"
        await _become(connection, Role.APP, None)
        seen = {row[0] for row in await connection.fetch(f"SELECT DISTINCT {tenant} FROM {name}")}
        assert seen <= ({NIL} if name in SHOWS_NIL else set()), f"{name}: without a tenant one sees {seen}"
        await connection.execute("RESET ROLE")


async def test_the_app_role_can_neither_change_nor_take_over_rows_of_another_tenant(
    connection: asyncpg.Connection,
) -> None:
    await fill_every_table(connection, (DEFAULT_TENANT, OTHER, NIL))
    tried = 0
    for table in await connection.fetch(TABLES):
        name = table["name"]
        if table["kind"] not in "rp" or table["is_partition"] or name in OF_NOBODY:
            continue
        tenant = "id" if name == "tenants" else "tenant_id"
        for verb, statement in (
            ("UPDATE", f"UPDATE {name} SET {tenant} = {tenant} WHERE {tenant} <> $1"),
            ("DELETE", f"DELETE FROM {name} WHERE {tenant} <> $1"),
        ):
            if await _may(connection, Role.APP, name, verb):
                await _become(connection, Role.APP, DEFAULT_TENANT)
                touched = await connection.execute(statement, DEFAULT_TENANT)
                assert touched.endswith(" 0"), f"{statement}: {touched}"
                tried += 1
        if await _may(connection, Role.APP, name, "UPDATE"):
            await _become(connection, Role.APP, DEFAULT_TENANT)
            savepoint = connection.transaction()
            await savepoint.start()
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.execute(f"UPDATE {name} SET {tenant} = $1 WHERE {tenant} = $2", OTHER, DEFAULT_TENANT)
            await savepoint.rollback()
            assert isinstance(
                refused.value,
                (asyncpg.InsufficientPrivilegeError, asyncpg.ForeignKeyViolationError, asyncpg.UniqueViolationError),
            ), name
            tried += 1
        await connection.execute("RESET ROLE")
    assert tried > 40


@pytest.mark.parametrize("role", sorted(READERS))
async def test_readers_see_every_tenant_and_change_nothing(role: Role, connection: asyncpg.Connection) -> None:
    await fill_every_table(connection, (DEFAULT_TENANT, OTHER, NIL))
    for table in await connection.fetch(TABLES):
        if table["kind"] not in "rp" or table["is_partition"]:
            continue
        for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            assert not await _may(connection, role, table["name"], verb), f"{role} may {verb} {table['name']}"
    await _become(connection, role, None)
    assert await connection.fetchval("SELECT count(DISTINCT tenant_id) FROM messages") == 3
    await connection.execute("RESET ROLE")


@pytest.mark.parametrize("role", [Role.APP, Role.ENGINE, Role.OPS, Role.READONLY])
async def test_no_working_role_can_change_the_schema(role: Role, connection: asyncpg.Connection) -> None:
    for statement in (
        "CREATE TABLE mine (n int)",
        "ALTER TABLE queue DISABLE ROW LEVEL SECURITY",
        "DROP TABLE audit_log",
        "CREATE ROLE mine",
        "ALTER TABLE messages OWNER TO CURRENT_USER",
        "DROP POLICY app_reads ON messages",
    ):
        await _become(connection, role, DEFAULT_TENANT)
        savepoint = connection.transaction()
        await savepoint.start()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        await savepoint.rollback()


@pytest.mark.parametrize("role", [Role.OPS, Role.READONLY, Role.APP])
async def test_secrets_at_rest_are_read_by_those_who_need_them_only(role: Role, connection: asyncpg.Connection) -> None:
    secret = {
        "users": "password_hash",
        "sessions": "token_hash",
        "api_keys": "key_hash",
        "connections": "sealed_secrets",
    }
    for table, column in secret.items():
        may = await connection.fetchval("SELECT has_column_privilege($1, $2, $3, 'SELECT')", str(role), table, column)
        assert may == (role is Role.APP), f"{role} and {table}.{column}"
    assert not await connection.fetchval(
        "SELECT has_column_privilege($1, 'installation', 'key_check', 'SELECT')", "outrider_app"
    )


async def test_the_audit_log_is_append_only_for_everybody_who_works(connection: asyncpg.Connection) -> None:
    for role in (Role.APP, Role.OPS, Role.READONLY, Role.BACKUP):
        for verb in ("UPDATE", "DELETE", "TRUNCATE"):
            assert not await _may(connection, role, "audit_log", verb), f"{role} may {verb}"
    assert not await _may(connection, Role.ENGINE, "audit_log", "TRUNCATE")


async def _become(connection: asyncpg.Connection, role: Role, tenant_id: UUID | None) -> None:
    """What `Database.uow` does at the beginning of every unit of work."""
    await connection.execute("RESET ROLE")
    tenant = str(tenant_id) if tenant_id else ""
    await connection.fetch("SELECT set_config('role', $1, true), set_config('app.tenant', $2, true)", str(role), tenant)


async def _may(connection: asyncpg.Connection, role: Role, table: str, verb: str) -> bool:
    may: bool = await connection.fetchval("SELECT has_table_privilege($1, $2, $3)", str(role), table, verb)
    return may

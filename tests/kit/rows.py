"""One row in every table for several tenants, made from the catalogue alone, so that a new table is never forgotten.

API
    fill_every_table(connection, tenants) -> set[str]     the tables that got a row for each tenant
Needs a superuser's connection inside a transaction that is rolled back: foreign keys and checks of triggers are off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

import asyncpg

_COLUMNS = """
    SELECT c.relname AS "table", a.attname AS name, format_type(a.atttypid, NULL) AS type, a.atthasdef AS has_default,
           a.attnotnull AS is_required, a.attidentity <> '' AS is_identity
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY c.relname, a.attnum
"""
_CHECKS = """
    SELECT conrelid::regclass::text AS "table", pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'c'
"""


async def fill_every_table(connection: asyncpg.Connection, tenants: Sequence[UUID]) -> set[str]:
    """Insert one row per tenant into every table that has a tenant."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    columns: dict[str, list[asyncpg.Record]] = {}
    for row in await connection.fetch(_COLUMNS):
        columns.setdefault(row["table"], []).append(row)
    checks = await connection.fetch(_CHECKS)
    filled = set()
    for table, all_columns in columns.items():
        tenant = "id" if table == "tenants" else "tenant_id"
        if tenant not in {column["name"] for column in all_columns}:
            continue
        definitions = [check["definition"] for check in checks if check["table"] == table]
        needed = [
            c
            for c in all_columns
            if (c["is_required"] and not c["has_default"] and not c["is_identity"])
            or any(f"num_nonnulls({c['name']}," in definition for definition in definitions)
        ]
        names = [c["name"] for c in needed if c["name"] != tenant]
        for number, tenant_id in enumerate(tenants):
            values = [_value(c, number, definitions) for c in needed if c["name"] != tenant]
            marks = ", ".join(f"${at + 2}" for at in range(len(names)))
            listed = ", ".join([tenant, *names])
            await connection.execute(
                f"INSERT INTO {table} ({listed}) VALUES ($1{', ' if marks else ''}{marks}) ON CONFLICT DO NOTHING",
                tenant_id,
                *values,
            )
        filled.add(table)
    await connection.execute("SET LOCAL session_replication_role = origin")
    return filled


def _value(column: asyncpg.Record, number: int, checks: Sequence[str]) -> object:
    """Something of the column's type that its checks allow, different for each tenant where it is text."""
    for definition in checks:
        if f"({column['name']} = ANY (ARRAY['" in definition:
            return definition.split("ARRAY['")[1].split("'")[0]
    if column["name"] == "country":
        return "DE"
    if any(re.search(rf"\(\w+ < {column['name']}\)", definition) for definition in checks):
        return number + 2
    made: dict[str, object] = {
        "date": date(2026, 1, number + 1),
        "uuid": UUID(f"00000000-0000-7000-8000-00000000000{number}"),
        "text": f"{column['name']} {number}",
        "integer": number + 1,
        "bigint": number + 1,
        "smallint": number + 1,
        "double precision": float(number + 1),
        "boolean": False,
        "bytea": bytes([number]),
        "timestamp with time zone": datetime(2026, 1, 1, tzinfo=UTC),
        "jsonb": json.dumps({}),
    }
    return made[column["type"]]  # a KeyError here: teach this function a value of the new type

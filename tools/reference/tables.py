"""docs/reference/tables.md: every table with its purpose, how long rows stay, and its columns.

Purpose and retention are written in docs/reference/tables.toml; columns and rights are read from a migrated database.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from tools.reference.markdown import page, table

SOURCE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "tables.toml"
_INTRODUCTION = """
The schema of this release, for people who read it with `psql` as role `outrider_ops` and for whoever answers questions
about data protection. Rows of a tenant are guarded by row-level security: the role `outrider_app` sees one tenant at a
time. Nothing here is an interface for writing: use the API or the command line.
"""
_COLUMNS = """
    SELECT c.relname AS name, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AS is_required
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY c.relname, a.attnum
"""
_RIGHTS = """
    SELECT c.relname AS name,
           string_agg(DISTINCT lower(x.privilege_type), ', ' ORDER BY lower(x.privilege_type)) AS rights
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND x.grantee = 'outrider_app'::regrole
    GROUP BY 1
"""


def described() -> Mapping[str, Mapping[str, str]]:
    """Table -> purpose and how long it is kept."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


async def render(url: str) -> str:
    """The page, from a migrated database."""
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(_COLUMNS)
        rights = {row["name"]: row["rights"] for row in await connection.fetch(_RIGHTS)}
    finally:
        await connection.close()
    by_table: dict[str, list[Any]] = defaultdict(list)
    for row in columns:
        by_table[row["name"]].append(row)
    facts = described()
    overview = [
        (f"[`{name}`](#{name})", facts[name]["purpose"], _settings(facts[name]["kept"])) for name in sorted(by_table)
    ]
    parts = [table(("table", "what it holds", "kept"), overview)]
    for name in sorted(by_table):
        listed = ", ".join(
            f"`{c['column']}` {c['type']}{'' if c['is_required'] else ' or null'}" for c in by_table[name]
        )
        may = f"The app role may: {rights[name]}." if name in rights else "The app role may do nothing with it."
        parts.append(
            f"## {name}\n\n{facts[name]['purpose']} Kept: {_settings(facts[name]['kept'])}. {may}\n\n{listed}."
        )
    return page("Tables", _INTRODUCTION, *parts)


def _settings(text: str) -> str:
    """Settings are set as code."""
    return " ".join(
        f"`{word.rstrip(',;')}`{word[len(word.rstrip(',;')) :]}" if word.startswith("OUTRIDER_") else word
        for word in text.split()
    )

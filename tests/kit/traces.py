"""A search for a word in everything an installation keeps: every table of every schema, every file below some folders.

API
    in_database(connection, *words) -> [(table, word)]    also where it stands as bytes
    in_files(*folders, words=…) -> [(file, word)]         journals, exports, imports, logs: whatever is there
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import asyncpg

_TABLES = (
    "SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name, "
    "quote_ident(pg_get_userbyid(relowner)) AS owner "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') "
    "AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'"
)
_LEAST = 60
"""So many tables there are at least: a search that sees fewer sees nothing."""


async def in_database(connection: asyncpg.Connection, *words: str) -> list[tuple[str, str]]:
    """Tables with a row that holds a word, as text or as bytes; each is read as its owner, who sees every row."""
    tables = await connection.fetch(_TABLES)
    assert len(tables) >= _LEAST, tables
    found = []
    for table in tables:
        await connection.execute(f"SET ROLE {table['owner']}")
        for word in words:
            sql = (
                f"SELECT 1 FROM {table['name']} t WHERE strpos(lower(t::text), lower($1)) > 0 "
                "OR strpos(lower(t::text), encode(convert_to($1, 'UTF8'), 'hex')) > 0 LIMIT 1"
            )
            if await connection.fetchval(sql, word):
                found.append((table["name"], word))
        await connection.execute("RESET ROLE")
    return found


def in_files(*places: Path, words: Iterable[str]) -> list[tuple[str, str]]:
    """Files, below folders or named, whose bytes hold a word, upper and lower case alike."""
    wanted = [word.lower() for word in words]
    found = []
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes().lower()
                found += [(str(path), word) for word in wanted if word.encode() in content]
    return found

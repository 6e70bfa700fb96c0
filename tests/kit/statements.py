"""Every named statement of the product and every gate's question to the database, for the contracts over all of them.

API
    every_statement() -> list[Named]     of every `.sql` file under outrider/ and every gate, with where it stands
    SQL_FILES, NOT_NAMED                 the files, and those that hold no named statements, with the reason
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from outrider.base.registry import discover
from outrider.data.sql import parse

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "outrider"
SQL_FILES = sorted(PACKAGE.rglob("*.sql"))
NOT_NAMED = {
    "outrider/data/embedded_postgres/first_start.sql": "given to `postgres --single` while a cluster is made",
}
_WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|MERGE INTO|COPY)\s+(?:ONLY\s+)?(?P<table>[a-z_]+)")


@dataclass(frozen=True, slots=True)
class Named:
    """One statement. `where` is file (or gate) and name; `exception` why it may do without a tenant."""

    where: str
    folder: str
    sql: str
    exception: str

    @property
    def written_tables(self) -> set[str]:
        """The tables it inserts into, updates or deletes from."""
        plain = re.sub(r"\b(?:FOR (?:NO KEY )?UPDATE|DO UPDATE|ON UPDATE)\b", "", _without_text(self.sql))
        return {found["table"] for found in _WRITES.finditer(plain)}


@cache
def every_statement() -> list[Named]:
    """All of them, in the order of their files."""
    found = [
        Named(
            f"{path.relative_to(ROOT)}: {statement.name}",
            str(path.parent.relative_to(ROOT)),
            statement.sql,
            statement.exception,
        )
        for path in SQL_FILES
        if str(path.relative_to(ROOT)) not in NOT_NAMED
        for statement in parse(path.read_text(encoding="utf-8"), str(path))
    ]
    for key, gate in discover("outrider.plugins.gates", "GATE").items():
        for kind in ("facts", "lane_facts"):
            sql = getattr(gate, kind)
            if sql:
                found.append(Named(f"gate {key}: {kind}", "outrider/plugins/gates", sql, ""))
    return found


def _without_text(sql: str) -> str:
    """The statement without its comments and string literals."""
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r"--[^\n]*", "", sql))

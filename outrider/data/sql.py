"""Named SQL: statements live in `.sql` files, each with a name, a kind and a purpose, and are loaded here.

Owns parsing; never builds SQL from strings. Format:

    -- name: claim_pick :many
    -- What it is for, in a sentence or two.
    -- tenant: none, because …        (only where a statement does not bind tenant_id: the written exception)
    SELECT …;
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import asyncpg

from outrider.base.errors import Broken

Kind = Literal["many", "one", "value", "run"]
_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*) :(?P<kind>many|one|value|run)$")


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement, run on a raw asyncpg connection inside the caller's transaction."""

    name: str
    kind: Kind
    purpose: str
    sql: str
    exception: str = ""
    """Why it may do without `tenant_id`; empty for all others."""

    async def many(self, connection: asyncpg.Connection, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await connection.fetch(self.sql, *args)
        return rows

    async def one(self, connection: asyncpg.Connection, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        return await connection.fetchrow(self.sql, *args)

    async def value(self, connection: asyncpg.Connection, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await connection.fetchval(self.sql, *args)

    async def run(self, connection: asyncpg.Connection, *args: Any) -> int:
        """Run it; gives the number of rows touched."""
        status: str = await connection.execute(self.sql, *args)
        return int(status.rpartition(" ")[2] or 0) if status[-1:].isdigit() else 0

    async def each(self, connection: asyncpg.Connection, rows: Iterable[Sequence[Any]]) -> None:
        """Run it once per row of arguments in one pipelined exchange; all or nothing."""
        await connection.executemany(self.sql, rows)


class Statements:
    """The statements of one file, as attributes."""

    def __init__(self, source: str, statements: Iterable[Statement]) -> None:
        self.source = source
        self._by_name = {statement.name: statement for statement in statements}

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._by_name[name]
        except KeyError:
            raise AttributeError(f"{self.source} has no statement named {name}") from None

    def __iter__(self) -> Iterator[Statement]:
        """All statements, in the order of the file."""
        return iter(self._by_name.values())


def load(package: str, file: str = "queries.sql") -> Statements:
    """Read the `.sql` file of a package.

    Raises:  Broken when the file or a header is malformed: found by the first test that imports it.
    """
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    source = f"{package}/{file}"
    return Statements(source, parse(text, source))


def parse(text: str, source: str) -> list[Statement]:
    """Split a file into its statements."""
    result: list[Statement] = []
    seen: set[str] = set()
    for block in re.split(r"^(?=-- name: )", text, flags=re.MULTILINE)[1:]:
        head, _, rest = block.partition("\n")
        match = _HEADER.match(head.strip())
        if not match:
            raise Broken("sql_header", f"{source}: malformed header: {head}")
        lines = rest.splitlines()
        comments: list[str] = []
        while lines and lines[0].startswith("--"):
            comments.append(lines.pop(0)[2:].strip())
        exception = " ".join(line.removeprefix("tenant: ") for line in comments if line.startswith("tenant: "))
        purpose = " ".join(line for line in comments if not line.startswith("tenant: "))
        sql = "\n".join(lines).strip().rstrip(";").strip()
        if not purpose or not sql or match["name"] in seen:
            raise Broken("sql_statement", f"{source}: {match['name']} is empty, doubled or has no purpose")
        seen.add(match["name"])
        result.append(Statement(match["name"], match["kind"], purpose, sql, exception))  # type: ignore[arg-type]  # the pattern admits only kinds
    return result

from __future__ import annotations

from typing import Any

import pytest

from outrider.base.errors import Broken
from outrider.data.sql import Statement, Statements, parse

GOOD = """-- A file may begin with prose.

-- name: one_thing :one
-- What it is for,
-- in two lines.
SELECT 1 -- why
FROM t WHERE tenant_id = $1;

-- name: all_things :many
-- Everything.
-- tenant: none, because it is a test
-- tenant: of parsing
SELECT ';' AS text;
"""


def test_a_file_is_its_statements_with_their_purpose_and_exception() -> None:
    one, everything = parse(GOOD, "x.sql")
    assert one == Statement(
        "one_thing", "one", "What it is for, in two lines.", "SELECT 1 -- why\nFROM t WHERE tenant_id = $1"
    )
    assert (everything.kind, everything.sql) == ("many", "SELECT ';' AS text")
    assert everything.exception == "none, because it is a test of parsing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-- name: x :lots\n-- Why.\nSELECT 1;", "malformed header"),
        ("-- name: X :one\n-- Why.\nSELECT 1;", "malformed header"),
        ("-- name: x\n-- Why.\nSELECT 1;", "malformed header"),
        ("-- name: x :one\nSELECT 1;", "empty, doubled or has no purpose"),
        ("-- name: x :one\n-- Why.\n", "empty, doubled or has no purpose"),
        ("-- name: x :one\n-- Why.\n;", "empty, doubled or has no purpose"),
        ("-- name: x :one\n-- Why.\nSELECT 1;\n-- name: x :one\n-- Why.\nSELECT 1;", "empty, doubled"),
        ("-- name: x :one\n-- tenant: none, because\nSELECT 1;", "has no purpose"),
    ],
)
def test_a_malformed_file_is_a_bug_that_names_its_place(text: str, said: str) -> None:
    with pytest.raises(Broken, match=said) as broken:
        parse(text, "x.sql")
    assert "x.sql" in broken.value.message


def test_statements_are_attributes_and_a_wrong_name_names_the_file() -> None:
    statements = Statements("x.sql", parse(GOOD, "x.sql"))
    assert statements.one_thing.kind == "one"
    assert [statement.name for statement in statements] == ["one_thing", "all_things"]
    with pytest.raises(AttributeError, match=r"x\.sql has no statement named other"):
        _ = statements.other


class Connection:
    """Answers with a command tag."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.given: tuple[Any, ...] = ()

    async def execute(self, sql: str, *args: Any) -> str:
        self.given = (sql, *args)
        return self.tag


@pytest.mark.parametrize(("tag", "count"), [("UPDATE 12", 12), ("INSERT 0 3", 3), ("DELETE 0", 0), ("BEGIN", 0)])
async def test_running_a_statement_gives_the_number_of_rows_touched(tag: str, count: int) -> None:
    connection = Connection(tag)
    assert await Statement("x", "run", "Why.", "UPDATE t").run(connection, 1, "a") == count
    assert connection.given == ("UPDATE t", 1, "a")

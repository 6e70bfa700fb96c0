"""The suite that every gate passes, those of third parties included: what it declares, and what it may do."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import AsyncIterator
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.fields import check
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.registry import discover
from outrider.contracts.gate import Candidate, Gate, Lane

GATES: dict[str, Gate] = discover("outrider.plugins.gates", "GATE")
EACH = pytest.mark.parametrize("gate", GATES.values(), ids=list(GATES))
WITH_FACTS = pytest.mark.parametrize(
    "gate", [g for g in GATES.values() if g.facts], ids=[k for k in GATES if GATES[k].facts]
)
WITH_LANE_FACTS = pytest.mark.parametrize(
    "gate", [g for g in GATES.values() if g.lane_facts], ids=[k for k in GATES if GATES[k].lane_facts]
)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
MESSAGE = Candidate(UUID(int=1), None, "a@example.org", "marketing", None, 0)
LANE = Lane(DEFAULT_TENANT, 1, "email", UUID(int=3), None, "bulk")
PURE = {"datetime", "timedelta", "dataclasses", "typing", "collections", "uuid", "math", "zoneinfo", "__future__"}


@pytest.fixture
async def connection(contract_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(contract_url)
    await connection.execute("SET ROLE outrider_engine")
    yield connection
    await connection.close()


def test_there_are_gates() -> None:
    known = {"kill_switch", "maintenance", "do_not_contact", "consent", "expiry", "quiet_hours", "frequency_cap"}
    assert known <= set(GATES)


@EACH
def test_its_key_is_the_name_of_its_file(gate: Gate) -> None:
    assert (
        Path(inspect.getfile(type(gate))).stem == gate.key or Path(inspect.getfile(type(gate))).parent.name == gate.key
    )


def test_every_place_in_the_order_is_taken_once() -> None:
    orders = [gate.order for gate in GATES.values()]
    assert len(set(orders)) == len(orders), "who decides first must not depend on a file's name"


@EACH
def test_it_says_what_it_does_and_what_can_be_set(gate: Gate) -> None:
    assert gate.help.endswith(".")
    assert inspect.getdoc(type(gate))
    assert all(field.help for field in gate.fields)


@EACH
def test_it_cannot_be_changed_while_it_runs(gate: Gate) -> None:
    for field in fields(gate):
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            setattr(gate, field.name, None)


@EACH
def test_it_decides_something(gate: Gate) -> None:
    judges, allows = type(gate).judge is not Gate.judge, type(gate).allow is not Gate.allow
    assert judges or allows
    assert not gate.facts or judges, "facts that nobody judges"
    assert bool(gate.lane_facts) == allows, "a lane is allowed by facts about it"
    assert not gate.is_switch or gate.lane_facts


@EACH
def test_its_presets_are_settings_it_can_be_made_of(gate: Gate) -> None:
    check(gate.fields, {field.name: field.default for field in gate.fields})
    made = gate.configured({field.name: field.default for field in gate.fields})
    assert (made.key, made.order, made.facts) == (gate.key, gate.order, gate.facts)
    assert made == gate.configured({field.name: field.default for field in gate.fields})
    assert isinstance(made.concerns(LANE), bool)


@EACH
def test_a_text_setting_with_a_form_has_an_example_of_it(gate: Gate) -> None:
    for field in gate.fields:
        if field.pattern:
            check([field], {field.name: field.example})


@EACH
def test_what_may_change_while_a_message_waits_can_be_asked_again(gate: Gate) -> None:
    assert not gate.is_asked_again or gate.facts


@EACH
def test_it_imports_nothing_that_reads_clocks_files_or_nets(gate: Gate) -> None:
    tree = ast.parse(Path(inspect.getfile(type(gate))).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    tables = {"outrider.data.countries", "outrider.data.holiday_calendar"}  # what is known of countries, nothing else
    ours = {"outrider.base.fields", "outrider.base.windows", "outrider.contracts.gate", *tables}
    allowed = PURE | ours
    assert {name for name in imported if name not in allowed and name.split(".")[0] not in PURE} == set()
    calls = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"now", "utcnow", "today", "monotonic", "random"}, "the clock is handed in"


@EACH
def test_its_judgement_is_a_function_of_its_arguments(gate: Gate) -> None:
    if type(gate).judge is Gate.judge:
        return
    fact = _fact_of(gate)
    first = gate.judge(fact, MESSAGE, NOW)
    before = replace(MESSAGE)
    assert all(gate.judge(fact, MESSAGE, NOW) == first for _ in range(3))
    assert replace(MESSAGE) == before, "it changed the message"


@EACH
def test_it_never_allows_more_than_was_asked_nor_less_than_nothing(gate: Gate) -> None:
    if type(gate).allow is Gate.allow:
        return
    for facts in ([], [_lane_fact_of(gate)]):
        for asked in (1, 500):
            allowance = gate.allow(LANE, facts, asked)
            assert 0 <= allowance.count <= asked
            assert allowance.count == asked or allowance.reason


@WITH_FACTS
async def test_its_question_takes_the_seven_arguments_and_answers_by_message(
    gate: Gate, connection: asyncpg.Connection
) -> None:
    prepared = await connection.prepare(gate.facts)
    kinds = [kind.name for kind in prepared.get_parameters()]
    assert kinds == ["uuid", "uuid[]", "uuid[]", "text[]", "text", "text", "text[]"]
    names = [column.name for column in prepared.get_attributes()]
    assert names[0] == "message_id"
    assert prepared.get_attributes()[0].type.name == "uuid"


@WITH_LANE_FACTS
async def test_its_question_about_a_lane_takes_the_four_arguments(gate: Gate, connection: asyncpg.Connection) -> None:
    prepared = await connection.prepare(gate.lane_facts)
    assert [kind.name for kind in prepared.get_parameters()] == ["uuid", "text", "uuid", "uuid"]


@WITH_FACTS
async def test_it_answers_about_a_message_once_at_most_and_about_no_other(
    gate: Gate, connection: asyncpg.Connection
) -> None:
    ids = [UUID(int=n) for n in range(1, 50)]
    for message_class in ("bulk", "transactional"):
        rows = await connection.fetch(gate.facts, *_arguments(ids, message_class))
        answered = [row["message_id"] for row in rows]
        assert len(set(answered)) == len(answered)
        assert set(answered) <= set(ids)


@WITH_FACTS
async def test_it_only_looks(gate: Gate, connection: asyncpg.Connection) -> None:
    for sql in filter(None, (gate.facts, gate.lane_facts)):
        assert not re.search(
            r"\b(INSERT|UPDATE|DELETE|FOR\s+(UPDATE|SHARE)|nextval|pg_sleep|NOTIFY)\b", sql, re.IGNORECASE
        )
    async with connection.transaction(readonly=True):
        await connection.fetch(gate.facts, *_arguments([UUID(int=1)], "bulk"))


@WITH_FACTS
async def test_an_empty_batch_is_no_mistake(gate: Gate, connection: asyncpg.Connection) -> None:
    assert await connection.fetch(gate.facts, *_arguments([], "bulk")) == []


def _arguments(ids: list[UUID], message_class: str) -> tuple[Any, ...]:
    count = len(ids)
    return (
        DEFAULT_TENANT, ids, [None] * count, [f"p{n}@example.org" for n in range(count)], "email", message_class,
        ["marketing"] * count,
    )  # fmt: skip


class _AnyFact(dict[str, Any]):
    """Has every column."""

    def __missing__(self, key: str) -> str:
        return f"some {key}"


def _fact_of(gate: Gate) -> dict[str, Any]:
    return _AnyFact(message_id=MESSAGE.id) if gate.facts else {}


def _lane_fact_of(gate: Gate) -> dict[str, Any]:
    del gate
    return _AnyFact()

"""Single calls over HTTP share transactions: each is accepted or refused for itself, durably before its answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.clock import utc_now
from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.messages import singles
from outrider.domain.messages.draft import Draft
from outrider.domain.messages.singles import Single
from outrider.interfaces.api import gathering
from tests.kit.api import Answer, Api, Caller, api_of

SENDS = "/api/v1/messages"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), db_pool_size=20, db_pool_wait_s=30.0) as running:
        async with running.engine() as uow:
            connection = await uow.raw.fetchval(
                "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id",
                DEFAULT_TENANT,
            )
            await uow.raw.execute(
                "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
                "VALUES ($1, 'news', 'email', $2, 'news@example.org')",
                DEFAULT_TENANT, connection,
            )  # fmt: skip
        office = running.caller(await running.key("templates:write", role="operator"))
        for version in ("one", "two"):
            made = await office.post("/api/v1/templates", {"name": version, "subject": "Hello", "text": version})
            assert made.status == 201, made.text
        yield running


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("messages:read", "messages:write", role="operator"))


class Groups(list[int]):
    """How many calls each transaction got; the first is held until `wanted` calls have come, and others share one."""

    wanted = 1
    come = 0


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Groups:
    sizes = Groups()
    accept, enter = singles.accept, gathering.Gathering.accept

    async def watched(raw: Any, tenant_id: UUID, channels: Any, calls: Sequence[Single], **more: Any) -> Any:
        sizes.append(len(calls))
        answers = await accept(raw, tenant_id, channels, calls, **more)
        while len(sizes) == 1 and sizes.come < sizes.wanted:  # noqa: ASYNC110 - calls set no event
            await asyncio.sleep(0.005)
        return answers

    async def counted(self: gathering.Gathering, tenant_id: UUID, call: Single) -> Any:
        sizes.come += 1
        return await enter(self, tenant_id, call)

    monkeypatch.setattr(singles, "accept", watched)
    monkeypatch.setattr(gathering.Gathering, "accept", counted)
    return sizes


def letter(number: int = 0, **more: Any) -> dict[str, Any]:
    return {"to": f"r{number}@example.org", "template": "one", **more}


async def rows(api: Api, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    async with api.engine() as uow:
        return [tuple(row) for row in await uow.raw.fetch(sql, *args)]


async def post(caller: Caller, body: dict[str, Any], key: str | None = None) -> Answer:
    return await caller.post(SENDS, body, headers={"Idempotency-Key": key} if key else {})


async def test_calls_that_come_together_share_a_transaction_and_each_gets_its_own_message(
    api: Api, caller: Caller, groups: Groups
) -> None:
    groups.wanted = 30
    answers = await asyncio.gather(*(post(caller, letter(n), f"share-{n}") for n in range(30)))
    assert {answer.status for answer in answers} == {202}
    assert (sum(groups), len(groups) <= 2) == (30, True), groups
    ids = [UUID(answer.json["id"]) for answer in answers]
    found = dict(await rows(api, "SELECT id, address FROM messages WHERE id = ANY($1)", ids))
    assert found == {message_id: f"r{n}@example.org" for n, message_id in enumerate(ids)}
    queued = await rows(api, "SELECT count(*) FROM queue WHERE message_id = ANY($1)", ids)
    assert queued == [(30,)]
    again = await asyncio.gather(*(post(caller, letter(n), f"share-{n}") for n in range(30)))
    assert [(answer.status, answer.json, answer.headers["Idempotent-Replayed"]) for answer in again] == [
        (202, answer.json, "true") for answer in answers
    ]


async def test_a_call_that_is_refused_refuses_nobody_else(api: Api, caller: Caller, groups: Groups) -> None:
    bodies = {
        "good": letter(),
        "address": letter(to="no at sign"),
        "sender": letter(sender="nobody"),
        "template": letter(template="none"),
        "version": letter(template_version=9),
        "both": letter(text="x"),
        "time": letter(send_at="2026-01-01T00:00:00"),
        "channel": letter(channel="pigeon"),
        "good too": letter(1, sender="news", template="two", template_version=1, priority=0, **{"class": "bulk"}),
    }
    groups.wanted = 1 + len(bodies)
    first = asyncio.create_task(post(caller, letter(99)))
    while not groups:  # noqa: ASYNC110 - the first group is held, so that the others share the next
        await asyncio.sleep(0.01)
    told_in_order = await asyncio.gather(*(post(caller, body, f"mixed-{name}") for name, body in bodies.items()))
    answers = dict(zip(bodies, told_in_order, strict=True))
    assert (await first).status == 202
    assert groups[1:] == [len(bodies)]
    told = {
        name: (answer.status, answer.json.get("errors", [{}])[0].get("pointer")) for name, answer in answers.items()
    }
    assert told == {
        "good": (202, None),
        "address": (422, "/to"),
        "sender": (422, "/sender"),
        "template": (422, "/template"),
        "version": (422, "/template"),
        "both": (422, "/template"),
        "time": (422, "/send_at"),
        "channel": (422, "/channel"),
        "good too": (202, None),
    }
    placed = await rows(
        api,
        "SELECT l.message_class, m.purpose, m.priority, c.text FROM messages m JOIN lanes l ON l.id = m.lane_id "
        "JOIN contents c ON c.id = m.content_id WHERE m.id = $1",
        UUID(answers["good too"].json["id"]),
    )
    assert placed == [("bulk", "marketing", 0, "two")]
    kept = await rows(api, "SELECT key FROM idempotency_keys WHERE key LIKE 'mixed-%' ORDER BY 1")
    assert kept == [("mixed-good",), ("mixed-good too",)]


async def test_a_mistake_reads_as_it_does_for_a_message_with_its_own_content(caller: Caller) -> None:
    inline = {"subject": "Hello", "text": "Hello."}
    for field in (
        {"to": "no at sign"},
        {"sender": "nobody"},
        {"send_at": "2026-01-01T00:00:00"},
        {"channel": "pigeon"},
    ):
        of_template = await post(caller, letter() | field)
        of_its_own = await post(caller, {"to": "ann@example.org"} | inline | field)
        assert {**of_template.json, "request_id": ""} == {**of_its_own.json, "request_id": ""}


async def test_the_same_key_with_another_body_is_refused(caller: Caller) -> None:
    assert (await post(caller, letter(), "other-body")).status == 202
    other = await post(caller, letter(1), "other-body")
    assert (other.status, other.code) == (422, "idempotency_mismatch")


async def test_while_a_call_runs_its_key_is_taken_here_and_elsewhere(api: Api, caller: Caller, groups: Groups) -> None:
    groups.wanted = 2
    running = asyncio.create_task(post(caller, letter(), "taken"))
    while not groups:  # noqa: ASYNC110 - the first group is held
        await asyncio.sleep(0.01)
    here = await post(caller, letter(), "taken")
    assert (here.status, here.code) == (409, "idempotency_in_progress")
    assert (await running).status == 202
    assert (await post(caller, letter(), "taken")).headers["Idempotent-Replayed"] == "true"
    async with api.engine() as uow:
        await uow.raw.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text || $2::text, 0))", DEFAULT_TENANT, "elsewhere"
        )
        elsewhere = await post(caller, letter(), "elsewhere")
    assert (elsewhere.status, elsewhere.code) == (409, "idempotency_in_progress")


async def test_a_hundred_parallel_calls_with_one_key_make_one_message(api: Api, caller: Caller) -> None:
    key = f"hundred-{uuid4()}"
    answers = await asyncio.gather(*(post(caller, letter(77), key) for _ in range(100)))
    by_status = Counter(answer.status for answer in answers)
    assert set(by_status) <= {202, 409}, by_status
    accepted = {answer.json["id"] for answer in answers if answer.status == 202}
    assert len(accepted) == 1
    assert await rows(api, "SELECT count(*) FROM messages WHERE address = 'r77@example.org'") == [(1,)]


@asynccontextmanager
async def _answered_elsewhere(api: Api, key: str) -> AsyncIterator[asyncpg.Transaction]:
    """Another process that has kept an answer under a key, not committed yet, and holds its lock no more."""
    raw = await asyncpg.connect(api.runtime.database_url)
    try:
        await raw.execute("SET ROLE outrider_engine")
        transaction = raw.transaction()
        await transaction.start()
        await raw.execute(
            "INSERT INTO idempotency_keys (tenant_id, key, request_hash, status, body) VALUES ($1, $2, $3, 202, '{}')",
            DEFAULT_TENANT, key, b"another body",
        )  # fmt: skip
        yield transaction
    finally:
        await raw.close()


async def test_an_answer_kept_elsewhere_in_the_same_moment_is_found_and_the_others_of_the_group_are_accepted(
    api: Api, caller: Caller, groups: Groups
) -> None:
    groups.wanted = 4
    first = asyncio.create_task(post(caller, letter(99)))
    while not groups:  # noqa: ASYNC110 - the first group is held, so that the others share the next
        await asyncio.sleep(0.01)
    async with _answered_elsewhere(api, "race-1") as elsewhere:
        calls = [asyncio.create_task(post(caller, letter(n), f"race-{n}")) for n in range(3)]
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        watcher = await asyncpg.connect(api.runtime.database_url)
        while not await watcher.fetchval(waits):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
        await watcher.close()
        await elsewhere.commit()
        answers = await asyncio.gather(first, *calls)
    assert [(answer.status, answer.json.get("code")) for answer in answers] == [
        (202, None), (202, None), (422, "idempotency_mismatch"), (202, None),
    ]  # fmt: skip
    assert groups == [1, 3, 1, 1, 1], "each for itself after the group failed"
    assert await rows(api, "SELECT count(*) FROM idempotency_keys WHERE key LIKE 'race-%'") == [(3,)]


async def test_a_bug_that_one_call_meets_is_told_to_that_caller_alone(
    caller: Caller, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = singles.accept

    async def broken(raw: Any, tenant_id: UUID, channels: Any, calls: Sequence[Single], **more: Any) -> Any:
        if any(call.draft.to == "r13@example.org" for call in calls):
            raise RuntimeError("a bug")
        return await accept(raw, tenant_id, channels, calls, **more)

    monkeypatch.setattr(singles, "accept", broken)
    groups.wanted = 4
    first = asyncio.create_task(post(caller, letter(99)))
    while not groups:  # noqa: ASYNC110 - the first group is held, so that the others share the next
        await asyncio.sleep(0.01)
    answers = await asyncio.gather(first, *(post(caller, letter(n)) for n in range(12, 15)))
    assert [answer.status for answer in answers] == [202, 202, 500, 202]


async def test_without_the_database_every_caller_is_told_to_try_again(
    caller: Caller, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        groups.append(0)
        raise Unavailable("database_unavailable", "the database is not reachable; try again")

    monkeypatch.setattr(singles, "accept", away)
    answers = await asyncio.gather(*(post(caller, letter(n), f"away-{n}") for n in range(5)))
    assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}
    monkeypatch.undo()
    answers = await asyncio.gather(*(post(caller, letter(n), f"away-{n}") for n in range(5)))
    assert {answer.status for answer in answers} == {202}, "the keys are free again"


async def test_whoever_has_gone_is_not_waited_for_and_frees_the_key(api: Api, groups: Groups) -> None:
    calls = gathering.Gathering(api.runtime)
    draft = Draft("", "gone@example.org", template="one")
    groups.wanted = 2
    first = asyncio.create_task(calls.accept(DEFAULT_TENANT, Single(draft, "first", b"")))
    while not groups:  # noqa: ASYNC110 - the first group is held
        await asyncio.sleep(0.01)
    gone = asyncio.create_task(calls.accept(DEFAULT_TENANT, Single(draft, "gone", b"")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    await first
    await calls.close()
    assert calls._keys == set()
    assert not await rows(api, "SELECT 1 FROM idempotency_keys WHERE key = 'gone'")


async def test_a_group_costs_as_many_statements_as_one_call(api: Api) -> None:
    raw = await asyncpg.connect(api.runtime.database_url)
    asked: list[str] = []
    seen: list[int] = []
    try:
        await raw.execute("SET ROLE outrider_engine")
        raw.add_query_logger(lambda record: asked.append(record.query))
        for turn, count in enumerate((1, 1, 50)):  # in the first the driver asks for the types too
            asked.clear()
            drafts = [Draft("", f"c{n}@example.org", template="one") for n in range(count)]
            calls = [Single(draft, f"statements-{turn}-{n}", b"") for n, draft in enumerate(drafts)]
            answers = await singles.accept(raw, DEFAULT_TENANT, api.runtime.channels, calls, now=utc_now())
            assert all(isinstance(answer, UUID) for answer in answers)
            seen.append(len(asked))
    finally:
        await raw.close()
    assert seen[1:] == [3, 3]

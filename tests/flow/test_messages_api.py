"""Messages over HTTP: accepted all or none, once per key, found again, and decided about when their answer was lost."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.outcome import CAUSES, Uncertain
from outrider.data.db import Database, Role
from outrider.engine.dispatch import record
from outrider.engine.dispatch.claim import Claimer
from tests.kit.api import Answer, Api, Caller, api_of
from tests.kit.dispatch import GATES, lanes_of

SENDS = "/api/v1/messages"
LETTER: dict[str, Any] = {"to": "ann@example.org", "subject": "Hello", "text": "Hello."}


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), db_pool_size=20, db_pool_wait_s=30.0) as running:
        async with running.engine() as uow:
            connection = await uow.raw.fetchval(
                "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id",
                DEFAULT_TENANT,
            )
            await uow.raw.execute(
                "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, transactional_guarantee) "
                "VALUES ($1, 'news', 'email', $2, 'news@example.org', 'at_most_once')",
                DEFAULT_TENANT, connection,
            )  # fmt: skip
        yield running


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("messages:read", "messages:write", role="operator"))


async def rows(api: Api, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    async with api.engine() as uow:
        return [tuple(row) for row in await uow.raw.fetch(sql, *args)]


async def count(api: Api) -> int:
    return int((await rows(api, "SELECT count(*) FROM messages"))[0][0])


# accepting


async def test_one_message_is_accepted_with_its_id_and_is_durable_then(api: Api, caller: Caller) -> None:
    answer = await caller.post(SENDS, LETTER)
    assert answer.status == 202, answer.text
    message_id = UUID(answer.json["id"])
    found = await rows(api, "SELECT address, state, purpose, priority FROM messages WHERE id = $1", message_id)
    assert found == [("ann@example.org", "queued", "transactional", 5)]
    assert set(answer.json) == {"id"}


async def test_many_messages_share_what_stands_beside_them_and_may_say_otherwise(api: Api, caller: Caller) -> None:
    body = {
        "subject": "Hello", "text": "Hello {{ name }}", "class": "bulk", "purpose": "offers", "priority": 7,
        "variables": {"name": "all"},
        "messages": [
            {"to": "b0@example.org"},
            {"to": "b1@example.org", "class": "transactional", "priority": 0, "variables": {"name": "One"}},
            {"to": "b2@example.org", "purpose": "news"},
        ],
    }  # fmt: skip
    answer = await caller.post(SENDS, body)
    assert answer.status == 202, answer.text
    ids = [UUID(item["id"]) for item in answer.json["items"]]
    found = await rows(
        api,
        "SELECT m.address, l.message_class, m.purpose, m.priority, m.variables "
        "FROM messages m JOIN lanes l ON l.id = m.lane_id WHERE m.id = ANY($1) ORDER BY m.address",
        ids,
    )
    assert found == [
        ("b0@example.org", "bulk", "offers", 7, '{"name": "all"}'),
        ("b1@example.org", "transactional", "offers", 0, '{"name": "One"}'),
        ("b2@example.org", "bulk", "news", 7, '{"name": "all"}'),
    ]
    placed = await rows(api, "SELECT id, address FROM messages WHERE id = ANY($1)", ids)
    assert dict(placed) == {each: f"b{n}@example.org" for n, each in enumerate(ids)}, "in the order of the request"


async def test_one_mistake_refuses_all_and_every_mistake_is_named(api: Api, caller: Caller) -> None:
    before = await count(api)
    messages = [
        {"to": "good@example.org"},
        {"to": "no at sign"},
        {"to": "x@example.org", "sender": "nobody"},
        {"to": "@"},
    ]
    answer = await caller.post(SENDS, {"text": "x", "messages": messages})
    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [
        "/messages/1/to",
        "/messages/2/sender",
        "/messages/3/to",
    ]
    assert await count(api) == before


async def test_a_flood_of_mistakes_is_cut_at_a_hundred(api: Api, caller: Caller) -> None:
    answer = await caller.post(SENDS, {"text": "x", "messages": [{"to": "bad"}] * 300})
    assert (answer.status, len(answer.json["errors"])) == (422, 100)


HOUR = timedelta(hours=1)


def moment(delta: timedelta) -> str:
    return (datetime.now(UTC) + delta).isoformat()


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"to": None}, "/to", "required"),
        ({"channel": "pigeon"}, "/channel", "unknown_channel"),
        ({"sender": "nobody"}, "/sender", "unknown_sender"),
        ({"template": "none", "text": None, "subject": None}, "/template", "unknown_template"),
        ({"template": "none"}, "/template", "template_or_content"),
        ({"text": None}, "/text", "content_required"),
        ({"text": "a\ufffe"}, "/text", "invalid_character"),
        ({"send_at": "2020-01-01T00:00:00Z"}, "/send_at", "out_of_range"),
        ({"send_at": moment(timedelta(days=400))}, "/send_at", "out_of_range"),
        ({"send_at": "2026-11-20T09:00:00"}, "/send_at", None),
        ({"expires_at": moment(-HOUR)}, "/expires_at", "out_of_range"),
        ({"send_at": moment(2 * HOUR), "expires_at": moment(HOUR)}, "/expires_at", "out_of_range"),
        ({"variables": {"x": "y" * 70_000}}, "/variables", "too_long"),
        ({"priority": 10}, "/priority", None),
        ({"purpose": "Not A Word"}, "/purpose", None),
        ({"class": "spam"}, "/class", None),
        ({"attachments": [{"name": "a.txt", "content": "not base64!"}]}, "/attachments/0", None),
        ({"cc": "b@example.org"}, "/cc", "unknown_field"),
        ({"messages": [{"to": "b@example.org"}]}, "/to", "one_or_many"),
        ({"messages": []}, "/messages", None),
    ],
)
async def test_a_mistake_is_refused_by_its_field(
    api: Api, caller: Caller, change: dict[str, Any], pointer: str, code: str | None
) -> None:
    before = await count(api)
    body = {name: value for name, value in {**LETTER, **change}.items() if value is not None}
    answer = await caller.post(SENDS, body)
    assert answer.status in {400, 422}, answer.text
    errors = answer.json.get("errors") or [answer.json]
    assert errors[0]["pointer"].startswith(pointer), answer.text
    if code:
        assert errors[0]["code"] == code
    assert await count(api) == before


async def test_a_message_for_later_is_scheduled_and_its_file_is_kept(api: Api, caller: Caller) -> None:
    file = {"name": "a.txt", "content": base64.b64encode(b"file").decode(), "content_type": "text/plain"}
    answer = await caller.post(SENDS, {**LETTER, "send_at": moment(HOUR), "attachments": [file]})
    assert answer.status == 202, answer.text
    shown = await caller.get(f"{SENDS}/{answer.json['id']}")
    assert shown.json["message"]["state"] == "scheduled"
    assert shown.json["message"]["next_at"] == shown.json["message"]["due_at"]
    kept = await rows(
        api,
        "SELECT a.name, a.content FROM messages m JOIN content_attachments a ON a.content_id = m.content_id "
        "WHERE m.id = $1",
        UUID(answer.json["id"]),
    )
    assert kept == [("a.txt", b"file")]


async def test_equal_content_is_stored_once(api: Api, caller: Caller) -> None:
    body = {"subject": f"once {uuid4()}", "html": "<p>once</p>"}
    ids = [(await caller.post(SENDS, {**body, "to": f"{n}@example.org"})).json["id"] for n in range(3)]
    found = await rows(api, "SELECT DISTINCT content_id FROM messages WHERE id = ANY($1)", [UUID(each) for each in ids])
    assert len(found) == 1


async def test_a_message_is_tied_to_the_contact_behind_its_address(api: Api, caller: Caller) -> None:
    async with api.engine() as uow:
        contact = await uow.raw.fetchval("INSERT INTO contacts (tenant_id) VALUES ($1) RETURNING id", DEFAULT_TENANT)
        await uow.raw.execute(
            "INSERT INTO addresses (tenant_id, channel, address, contact_id) VALUES ($1, 'email', $2, $3)",
            DEFAULT_TENANT, "known@example.org", contact,
        )  # fmt: skip
    answer = await caller.post(SENDS, {**LETTER, "to": "known@example.org"})
    shown = await caller.get(f"{SENDS}/{answer.json['id']}")
    assert shown.json["message"]["contact_id"] == str(contact)


# idempotency


async def test_a_repeat_gets_the_same_answer_and_says_that_it_is_one(api: Api, caller: Caller) -> None:
    headers = {"Idempotency-Key": "repeat-1"}
    first = await caller.post(SENDS, LETTER, headers=headers)
    before = await count(api)
    second = await caller.post(SENDS, LETTER, headers=headers)
    assert (first.status, second.status) == (202, 202)
    assert second.json == first.json
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert await count(api) == before


async def test_the_same_key_with_another_body_is_refused_and_a_refused_request_uses_no_key(
    api: Api, caller: Caller
) -> None:
    headers = {"Idempotency-Key": "mismatch-1"}
    assert (await caller.post(SENDS, {**LETTER, "to": "bad"}, headers=headers)).status == 422
    assert (await caller.post(SENDS, LETTER, headers=headers)).status == 202
    other = await caller.post(SENDS, {**LETTER, "to": "bob@example.org"}, headers=headers)
    assert (other.status, other.code) == (422, "idempotency_mismatch")


async def test_while_a_request_is_running_its_key_is_taken(api: Api, caller: Caller) -> None:
    async with api.engine() as uow:
        await uow.raw.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text || $2::text, 0))", DEFAULT_TENANT, "running-1"
        )
        answer = await caller.post(SENDS, LETTER, headers={"Idempotency-Key": "running-1"})
    assert (answer.status, answer.code) == (409, "idempotency_in_progress")


async def test_a_hundred_parallel_calls_with_one_key_make_one_message(api: Api, caller: Caller) -> None:
    before = await count(api)
    headers = {"Idempotency-Key": f"hundred-{uuid4()}"}
    answers = await asyncio.gather(*(caller.post(SENDS, LETTER, headers=headers) for _ in range(100)))
    by_status = Counter(answer.status for answer in answers)
    assert set(by_status) <= {202, 409}, by_status
    accepted = {answer.json["id"] for answer in answers if answer.status == 202}
    assert len(accepted) == 1
    assert await count(api) == before + 1
    last = await caller.post(SENDS, LETTER, headers=headers)
    assert last.json["id"] in accepted


@pytest.mark.parametrize("key", ["x" * 257, "ümlaut", "tab\there"])
async def test_a_key_that_is_none_is_refused(caller: Caller, key: str) -> None:
    answer = await caller.post(SENDS, LETTER, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (400, "bad_idempotency_key")


# who may


@pytest.mark.parametrize(
    ("scope", "write_status", "read_status"),
    [("messages:write", 202, 403), ("messages:read", 403, 200), ("contacts:read", 403, 403)],
)
async def test_the_scope_decides_what_a_key_may(api: Api, scope: str, write_status: int, read_status: int) -> None:
    caller = api.caller(await api.key(scope, role="operator"))
    assert (await caller.post(SENDS, LETTER)).status == write_status
    assert (await caller.get(SENDS)).status == read_status
    assert (await caller.get("/api/v1/uncertain")).status == read_status
    decision = await caller.post("/api/v1/uncertain/resend", {"reason": "x", "ids": [str(uuid4())]})
    assert decision.status == (200 if write_status == 202 else 403)


async def test_another_tenants_messages_do_not_exist(api: Api, caller: Caller) -> None:
    async with api.engine(None) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    stranger = api.caller(await api.key("messages:read", "messages:write", role="operator", tenant_id=other))
    mine = (await caller.post(SENDS, LETTER)).json["id"]
    assert (await stranger.get(f"{SENDS}/{mine}")).status == 404
    assert (await stranger.get(SENDS)).json["items"] == []
    assert (await stranger.get(f"{SENDS}?to=ann@example.org")).json["items"] == []
    refused = await stranger.post(SENDS, LETTER)
    assert refused.json["errors"][0]["code"] == "sender_required"


# looking up


async def test_messages_are_listed_newest_first_page_by_page_and_by_filter(caller: Caller) -> None:
    address = f"{uuid4()}@example.org"
    ids = [(await caller.post(SENDS, {**LETTER, "to": address})).json["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await caller.get(f"{SENDS}?to={address}&limit=2&cursor={cursor}")).json
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == list(reversed(ids))
    assert [item["to"] for item in (await caller.get(f"{SENDS}?limit=5")).json["items"]] == [address] * 5
    assert (await caller.get(f"{SENDS}?state=sent&to={address}")).json["items"] == []
    assert (await caller.get(f"{SENDS}?state=teleported")).code == "unknown_state"
    assert (await caller.get(f"{SENDS}?campaign_id={uuid4()}")).json["items"] == []
    assert (await caller.get(f"{SENDS}?cursor=nonsense")).status == 422
    assert (await caller.get(f"{SENDS}?limit=0")).status in {400, 422}


@pytest.mark.parametrize("name", ["x", str(uuid4()), "00000000-0000-0000-0000-000000000000"])
async def test_a_message_that_does_not_exist_is_not_found(caller: Caller, name: str) -> None:
    answer = await caller.get(f"{SENDS}/{name}")
    assert (answer.status, answer.code) == (404, "not_found")


# uncertain messages


async def doubtful(api: Api, caller: Caller, count_: int) -> list[str]:
    """Messages whose answer was lost, by the product's own claim and record."""
    body = {"text": "x", "messages": [{"to": f"{uuid4()}@example.org"} for _ in range(count_)]}
    ids = [item["id"] for item in (await caller.post(SENDS, body)).json["items"]]
    database = Database(api.runtime.database_url, pool_size=2, role=Role.ENGINE)
    wanted = {UUID(each) for each in ids}
    try:
        claimer = Claimer(database, GATES, lease_s=60)
        for lane in await lanes_of(database, DEFAULT_TENANT):
            claim = await claimer.claim(lane, 900_000 + len(wanted), limit=1000)
            if claim.batch is None:
                continue
            settings = api.runtime.settings
            made = [
                record.row_for(
                    each,
                    claim.batch.token,
                    Uncertain("answer_lost", "cut"),
                    attempt=1,
                    may_repeat=False,
                    settings=settings,
                )
                for each in claim.batch.messages
                if each in wanted
            ]
            async with database.transaction() as raw:
                await record.write(raw, DEFAULT_TENANT, made)
                await raw.execute("DELETE FROM queue WHERE token = $1", claim.batch.token)
    finally:
        await database.close()
    return ids


async def states(caller: Caller, ids: list[str]) -> list[str]:
    return [(await caller.get(f"{SENDS}/{each}")).json["message"]["state"] for each in ids]


async def test_uncertain_messages_are_listed_sent_again_or_settled_by_hand(api: Api, caller: Caller) -> None:
    ids = await doubtful(api, caller, 3)
    listed = (await caller.get("/api/v1/uncertain?limit=1000")).json["items"]
    assert [(item["id"], item["cause"], item["attempts"]) for item in listed] == [
        (each, "answer_lost", 1) for each in ids
    ]
    words = {"title": "Answer lost", "why": CAUSES["answer_lost"].why, "remedy": CAUSES["answer_lost"].remedy}
    assert all({name: item[name] for name in words} == words for item in listed)
    shown = (await caller.get(f"{SENDS}/{ids[0]}")).json
    assert shown["message"]["cause"] == shown["events"][0]["cause"] == {"code": "answer_lost", **words}
    resent = await caller.post("/api/v1/uncertain/resend", {"reason": "not in their log", "ids": ids[:1]})
    assert (resent.status, resent.json) == (200, {"count": 1, "ids": ids[:1]})
    for message_id, state in zip(ids[1:], ("sent", "failed"), strict=True):
        marked = await caller.post("/api/v1/uncertain/mark", {"reason": "asked", "ids": [message_id], "state": state})
        assert marked.json == {"count": 1, "ids": [message_id]}
    assert await states(caller, ids) == ["queued", "sent", "failed"]
    told = [(await caller.get(f"{SENDS}/{each}")).json["message"]["cause"] for each in ids]
    assert told[:2] == [None, None]
    assert told[2]["title"] == "Answer lost"
    assert "uncertain" not in told[2]["remedy"], "it is settled"
    again = await caller.post("/api/v1/uncertain/resend", {"reason": "twice", "ids": ids})
    assert again.json == {"count": 0, "ids": []}
    shown = await caller.get(f"{SENDS}/{ids[0]}")
    assert [(event["kind"], event["data"].get("reason")) for event in shown.json["events"]] == [
        ("uncertain", None),
        ("resent", "not in their log"),
    ]


async def test_deciding_about_all_of_them_needs_the_number_one_has_seen(api: Api, caller: Caller) -> None:
    ids = await doubtful(api, caller, 3)
    for body in ({"reason": "all"}, {"reason": "all", "count": 2}):
        refused = await caller.post("/api/v1/uncertain/resend", body)
        assert (refused.status, refused.code) == (409, "count_differs")
        assert "count=3" in refused.json["detail"]
    assert await states(caller, ids) == ["uncertain"] * 3
    nothing = await caller.post(
        "/api/v1/uncertain/mark", {"reason": "x", "count": 0, "campaign_id": str(uuid4()), "state": "sent"}
    )
    assert nothing.json["count"] == 0
    done = await caller.post("/api/v1/uncertain/mark", {"reason": "all", "count": 3, "state": "failed"})
    assert sorted(done.json["ids"]) == sorted(ids)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("resend", {"ids": []}),
        ("resend", {"reason": "", "ids": [str(uuid4())]}),
        ("resend", {"reason": "two\nlines", "ids": [str(uuid4())]}),
        ("mark", {"reason": "a\u0007bell", "ids": [str(uuid4())], "state": "sent"}),
        ("resend", {"reason": "x", "ids": ["x"]}),
        ("mark", {"reason": "x", "ids": [str(uuid4())]}),
        ("mark", {"reason": "x", "ids": [str(uuid4())], "state": "lost"}),
        ("resend", {"reason": "x", "state": "sent"}),
    ],
)
async def test_a_decision_that_is_none_is_refused(caller: Caller, path: str, body: dict[str, Any]) -> None:
    answer = await caller.post(f"/api/v1/uncertain/{path}", body)
    assert 400 <= answer.status < 500
    assert json.loads(answer.text)["code"]


def _is_problem(answer: Answer) -> bool:
    return answer.headers["Content-Type"] == "application/problem+json"


async def test_a_refusal_is_a_problem_document(caller: Caller) -> None:
    assert _is_problem(await caller.post(SENDS, {"to": "x"}))

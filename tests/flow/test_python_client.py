"""The Python client on a running API: both kinds give the same, nothing is sent twice, errors say where."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from outrider_client import ApiError, AsyncOutrider, Attachment, Cause, Event, Message, MessageInfo, NotNow, Outrider
from outrider_client.calls import Attempts, Call, campaign_path, message

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.outcome import CAUSES
from outrider.domain.messages import events
from tests.kit.api import Api, api_of

SENDER = (
    "WITH account AS (INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id) "
    "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
    "SELECT $1, 'news', 'email', id, 'news@example.org' FROM account"
)
HELLO = Message(to="ann@example.org", sender="news", subject="Hello", text="Hello.")


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        async with running.engine() as uow:
            await uow.raw.execute(SENDER, DEFAULT_TENANT)
        yield running


@pytest.fixture
async def client(api: Api) -> AsyncIterator[AsyncOutrider]:
    async with AsyncOutrider(api.url, await api.key("messages:read", "messages:write")) as made:
        yield made


async def test_a_message_is_sent_and_found_again(client: AsyncOutrider) -> None:
    now = datetime.now(UTC)
    full = Message(
        to="full@example.org", sender="news", subject="All of it", html="<p>x</p>", text="x", preheader="p",
        attachments=(Attachment("a.txt", b"file", "text/plain"),), message_class="bulk", purpose="news", priority=3,
        send_at=now + timedelta(hours=1), expires_at=now + timedelta(hours=2),
    )  # fmt: skip
    found = await client.message(await client.send(full))
    assert (found.to, found.state, found.channel, found.attempts) == ("full@example.org", "scheduled", "email", 0)
    assert abs(found.accepted_at - now) < timedelta(seconds=30)
    assert found.raw["purpose"] == "news"


async def test_the_synchronous_client_does_the_same(api: Api) -> None:
    key = await api.key("messages:read", "messages:write")

    def use() -> tuple[str, list[str], str, list[str]]:
        with Outrider(api.url, key) as client:
            one = client.send(HELLO, idempotency_key="sync-1")
            again = client.send(HELLO, idempotency_key="sync-1")
            assert one == again
            many = client.send_many([HELLO, HELLO])
            listed = [message.id for message in client.messages(to="ann@example.org", page_size=2)]
            return one, many, client.message(one).state, listed

    one, many, state, listed = await asyncio.to_thread(use)
    assert state == "queued"
    assert {one, *many} <= set(listed)
    assert len(listed) == len(set(listed))


async def test_why_a_message_failed_and_what_to_do_is_typed(api: Api, client: AsyncOutrider) -> None:
    fine = await client.message(await client.send(HELLO))
    assert (fine.cause, fine.timeline) == (None, ())
    message_id = await client.send(HELLO)
    async with api.engine() as uow:
        for kind in ("deferred", "failed"):
            facts = {"cause": "mailbox_unavailable", "detail": "550 5.1.1"}
            await events.append(uow.raw, DEFAULT_TENANT, UUID(message_id), kind, facts)
        await uow.raw.execute(
            "UPDATE messages SET state = 'failed', code = 'mailbox_unavailable' WHERE id = $1", UUID(message_id)
        )
    found = await client.message(message_id)
    known = CAUSES["mailbox_unavailable"]
    assert found.cause == Cause(known.code, known.title, known.why, known.remedy)
    assert [(entry.kind, entry.cause) for entry in found.timeline] == [
        ("deferred", found.cause),
        ("failed", found.cause),
    ]
    assert found.timeline[0].data["detail"] == "550 5.1.1"
    older = {name: value for name, value in found.raw.items() if name != "cause"}
    assert MessageInfo.read(older).cause is None, "a server that does not tell"


async def test_every_mistake_of_a_batch_is_told_with_its_place(client: AsyncOutrider) -> None:
    with pytest.raises(ApiError) as refused:
        await client.send_many(
            [HELLO, Message(to="nobody", sender="news", text="x"), Message(to="x@y.org", sender="z")]
        )
    error = refused.value
    assert error.status == 422
    assert [mistake.pointer for mistake in error.errors] == ["/messages/1/to", "/messages/2/sender"]
    assert len(error.request_id) == 32
    assert error.code in str(error)


async def test_a_wrong_key_is_an_error_at_once(api: Api) -> None:
    async with AsyncOutrider(api.url, "or_live_nothing") as client:
        with pytest.raises(ApiError) as refused:
            await client.message(str(DEFAULT_TENANT))
    assert (refused.value.status, refused.value.code) == (401, "unauthenticated")


async def test_events_are_followed_to_the_last_and_beyond(api: Api, client: AsyncOutrider) -> None:
    message_id = await client.send(HELLO)
    begin = await client.events(start="latest")
    seen: list[Event] = []

    async def follow() -> None:
        async for page in client.follow(begin.next_cursor, poll_s=0.01):
            seen.extend(page.items)
            if len(seen) == 3:
                return

    following = asyncio.create_task(follow())
    for kind in ("deferred", "held", "sent"):
        async with api.engine() as uow:
            await events.append(uow.raw, DEFAULT_TENANT, UUID(message_id), kind, {"n": kind})
    async with asyncio.timeout(90):
        await following
    assert [(event.kind, event.message_id, event.channel, event.data) for event in seen] == [
        (kind, message_id, "email", {"n": kind}) for kind in ("deferred", "held", "sent")
    ]
    assert (await client.events(begin.next_cursor, kinds=["held"])).items == [seen[1]]


async def test_anything_else_is_asked_by_its_path(client: AsyncOutrider) -> None:
    with pytest.raises(ApiError, match="forbidden"):
        await client.request("GET", "/api/v1/campaigns")
    assert (await client.request("GET", "/openapi.json"))["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("which", "part"),
    [("../campaigns", "..%2Fcampaigns"), ("a/b", "a%2Fb"), ("x?limit=1", "x%3Flimit%3D1"), ("x#y", "x%23y")],
)
async def test_an_id_leads_nowhere_else_whatever_it_holds(client: AsyncOutrider, which: str, part: str) -> None:
    assert message(which).path == f"/api/v1/messages/{part}"
    assert campaign_path(which, "progress") == f"/api/v1/campaigns/{part}/progress"
    with pytest.raises(ApiError) as refused:
        await client.message(which)
    assert refused.value.status in {404, 422}, refused.value


@pytest.mark.parametrize("which", ["", " ", ".", ".."])
async def test_no_id_is_no_list(client: AsyncOutrider, which: str) -> None:
    with pytest.raises(ValueError, match="an id is wanted"):
        await client.message(which)


# when it does not work


class Flaky(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Answers one after the other; an exception is raised in its turn."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self._answers: Iterator[httpx.Response | httpx.TransportError] = iter(answers)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "", "status": status}, headers=headers)


def accepted() -> httpx.Response:
    return httpx.Response(202, json={"id": "m"})


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ReadError("cut off"),
        httpx.ConnectError("nobody there"),
        problem(429, "rate_limited", **{"Retry-After": "0"}),
        problem(503, "database_unavailable"),
        problem(409, "idempotency_in_progress"),
        httpx.Response(502, text="a proxy's page"),
    ],
    ids=str,
)
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(trouble: Any) -> None:
    transport = Flaky(trouble, accepted())
    async with AsyncOutrider("http://x", "k", transport=transport) as client:
        assert await client.send(HELLO) == "m"
    keys = [request.headers["Idempotency-Key"] for request in transport.asked]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_two_sends_have_two_keys() -> None:
    transport = Flaky(accepted(), accepted())
    with Outrider("http://x", "k", transport=transport) as client:
        client.send(HELLO)
        client.send(HELLO)
    assert len({request.headers["Idempotency-Key"] for request in transport.asked}) == 2


@pytest.mark.parametrize(
    "trouble", [httpx.ReadError("cut off"), problem(503, "x"), httpx.Response(504, text="")], ids=str
)
def test_what_may_have_been_done_is_not_repeated_without_a_key(trouble: Any) -> None:
    transport = Flaky(trouble)
    with Outrider("http://x", "k", transport=transport) as client, pytest.raises(NotNow):
        client.request("POST", "/api/v1/campaigns/1/launch")
    assert len(transport.asked) == 1


def test_patience_ends_and_a_refusal_is_never_repeated() -> None:
    with Outrider("http://x", "k", patience_s=0.0, transport=Flaky(problem(503, "away"))) as client:
        with pytest.raises(NotNow) as failure:
            client.send(HELLO)
        assert failure.value.code == "away"
    transport = Flaky(problem(422, "idempotency_mismatch"))
    with Outrider("http://x", "k", transport=transport) as client, pytest.raises(ApiError) as refused:
        client.send(HELLO)
    assert not isinstance(refused.value, NotNow)
    assert len(transport.asked) == 1


def test_the_pause_that_the_server_names_is_kept() -> None:
    attempts = Attempts(Call("GET", "/"), patience_s=100)
    pause_s = attempts.judge(problem(429, "rate_limited", **{"Retry-After": "7"}))
    assert pause_s is not None
    assert pause_s >= 7


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def shape(client: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert shape(Outrider) == shape(AsyncOutrider)
    known = {"send", "send_many", "measure", "message", "messages", "events", "follow", "request", "close"}
    assert known == set(shape(Outrider))

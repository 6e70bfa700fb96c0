"""The table of bad inputs for the HTTP API, what routes decide: one test per id; the door's are in the file beside."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.tenants.roles import SCOPES
from outrider.plugins.channels.email import CHANNEL
from tests.kit.api import Api, Caller, api_of, raw
from tests.kit.worlds import World, world_of

SENDS = "/api/v1/messages"


@pytest.fixture(scope="module")
async def world(new_database: Callable[..., str]) -> AsyncIterator[World]:
    settings: dict[str, Any] = {"api_rate_per_s": 100_000, "allow_localhost_links": True, "db_pool_size": 20}
    async with api_of(new_database("migrated"), **settings) as running:
        cast("dict[str, Any]", running.runtime.channels)["email"] = CHANNEL
        yield await world_of(running, DEFAULT_TENANT, "odd")


@pytest.fixture(scope="module")
def api(world: World) -> Api:
    return world.api


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    return api.caller(await api.key(*SCOPES))


@pytest.fixture(scope="module")
def letter(world: World) -> dict[str, Any]:
    return {"to": "ann@example.org", "sender": world.ids["sender"], "subject": "Hello", "text": "Hello."}


async def count(api: Api) -> int:
    async with api.engine() as uow:
        return int(await uow.raw.fetchval("SELECT count(*) FROM messages"))


@pytest.mark.parametrize(
    "path", ["/api/v1/users/{user}/password-reset", "/api/v1/campaigns/{campaign}/preflight", "/api/v1/auth/me"]
)
async def test_h43_no_link_is_made_from_the_host_of_a_request(api: Api, world: World, path: str) -> None:
    await api.user("host@example.org", is_installation_admin=True)
    person = await api.signed_in("host@example.org")
    for noun, value in world.ids.items():
        path = path.replace(f"{{{noun}}}", value)
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    if path.endswith("me"):
        answer = await person.get(path, headers=headers)
    else:
        answer = await person.post(path, {}, headers=headers)
    assert answer.status < 500
    assert "evil.example" not in answer.text
    assert "evil.example" not in str(answer.headers)
    async with api.engine() as uow:
        await uow.raw.execute("DELETE FROM users WHERE email = 'host@example.org'")


async def test_h48_endless_ranges_of_a_file_are_passed_over(caller: Caller, world: World) -> None:
    path = f"/api/v1/imports/{world.ids['import']}/errors.csv"
    whole = await caller.get(path)
    ranges = "bytes=" + "0-," * 4000 + "0-"
    answer = await caller.get(path, headers={"Range": ranges})
    assert (answer.status, answer.text) == (200, whole.text)
    assert "Content-Range" not in answer.headers


def nested(levels: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"kind": "all", "rules": []}
    for _ in range(levels):
        rule = {"kind": "not", "rule": rule}
    return rule


TERM = {"kind": "field", "field": "name", "op": "is", "value": "x"}
TOO_MUCH = {
    "ten thousand terms": {"kind": "any", "rules": [TERM] * 10_000},
    "a hundred times fifty": {"kind": "any", "rules": [{"kind": "any", "rules": [TERM] * 50}] * 50},
    "two hundred deep": nested(200),
}


@pytest.mark.parametrize("rules", TOO_MUCH.values(), ids=TOO_MUCH)
@pytest.mark.parametrize("path", ["/api/v1/segments/count", "/api/v1/contacts/search", "/api/v1/segments"])
async def test_h55_filters_without_measure_are_refused(caller: Caller, path: str, rules: dict[str, Any]) -> None:
    body = {"rules": rules, **({"name": "odd"} if path.endswith("segments") else {})}
    answer = await caller.post(path, body)
    assert answer.status == 422, answer.text
    assert len(answer.text) < 20_000


@pytest.mark.parametrize("text", ["%%%%", "_", "\\", "(a+)+$" + "a" * 190, "%' OR 1=1 --", "a" * 200])
async def test_h57_what_is_searched_for_is_text_and_no_pattern(caller: Caller, text: str) -> None:
    found = await caller.post("/api/v1/contacts/search", {"text": text})
    assert (found.status, found.json["items"]) == (200, [])
    for path in ("/api/v1/messages?to=", "/api/v1/contacts?external_id=", "/api/v1/audit?actor="):
        escaped = text.replace("%", "%25").replace("#", "%23").replace("+", "%2B").replace("&", "%26")
        answer = await caller.get(path + escaped)
        assert answer.status in {200, 422}
        assert answer.status == 422 or answer.json["items"] == []
    long = await caller.post("/api/v1/contacts/search", {"text": "(a+)+$" * 40_000})
    assert long.status == 422


ODD_MOMENTS = ["2026-02-30T00:00:00Z", "0000-00-00", "infinity", "-infinity", "300000-01-01T00:00:00Z", "now"]
ODD_MOMENTS += ["2026-11-01T01:30", "2026-11-01T01:30:00", "1e3", "0", "99999999999999999999", "2026-01-01T24:00:00Z"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
async def test_h58_a_moment_at_an_end_of_the_calendar_is_refused_by_its_name(caller: Caller, moment: str) -> None:
    for path, name in (("results/hours", "since"), ("results/hours", "until"), ("callbacks", "since")):
        answer = await caller.get(f"/api/v1/{path}?{name}={moment}")
        assert (answer.status, answer.code, answer.json["parameter"]) == (422, "out_of_range", name), path
    price = {"channel": "email", "micros": 1, "valid_from": moment.replace("%2B", "+")}
    answer = await caller.post("/api/v1/prices", price)
    assert (answer.status, answer.code, answer.json["pointer"]) == (422, "out_of_range", "/valid_from")


@pytest.mark.parametrize("moment", ODD_MOMENTS)
async def test_h58_moments_that_are_none_are_refused(caller: Caller, letter: dict[str, Any], moment: str) -> None:
    for path in ("/api/v1/jobs?since=", "/api/v1/jobs/count?until=", "/api/v1/results/hours?since="):
        assert (await caller.get(path + moment)).status == 422, path
    for name in ("send_at", "expires_at"):
        assert (await caller.post(SENDS, {**letter, name: moment})).status == 422, name


@pytest.mark.parametrize("key", ["", "k" * 257, "k\x7f", "k\ttab", "ключ", "🐘"], ids=repr)
async def test_h60_a_key_that_is_none_is_refused(api: Api, caller: Caller, letter: dict[str, Any], key: str) -> None:
    before = await count(api)
    body = json.dumps(letter).encode()
    head = (
        f"POST {SENDS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: {caller.headers['Authorization']}\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
    )
    received = await raw(api.url, head.encode() + key.encode() + b"\r\n\r\n" + body)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b'"bad_idempotency_key"' in received or b'"malformed_request"' in received
    assert await count(api) == before


async def test_h61_a_key_used_for_another_body_is_refused(caller: Caller, letter: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "h61"}
    assert (await caller.post(SENDS, letter, headers=headers)).status == 202
    answer = await caller.post(SENDS, {**letter, "text": "other"}, headers=headers)
    assert (answer.status, answer.code) == (422, "idempotency_mismatch")


async def test_h62_a_hundred_at_once_under_one_key_make_one_message(
    api: Api, caller: Caller, letter: dict[str, Any]
) -> None:
    before = await count(api)
    headers = {"Idempotency-Key": "h62"}
    answers = await asyncio.gather(*(caller.post(SENDS, letter, headers=headers) for _ in range(100)))
    accepted = [answer for answer in answers if answer.status == 202]
    assert {answer.status for answer in answers} <= {202, 409}
    assert sum("Idempotent-Replayed" not in answer.headers for answer in accepted) == 1
    assert len({answer.json["id"] for answer in accepted}) == 1
    assert await count(api) == before + 1


@pytest.mark.parametrize("subject", ["hi\r\nBcc: v@x", "hi\nBcc: v@x", "hi\rX", "hi\u2028X", "hi\x85X"], ids=ascii)
async def test_h68_a_line_break_in_a_subject_is_refused(caller: Caller, letter: dict[str, Any], subject: str) -> None:
    answer = await caller.post(SENDS, {**letter, "subject": subject})
    assert (answer.status, answer.code, answer.json["pointer"]) == (422, "header_newline", "/subject")


@pytest.mark.parametrize(
    "subject", ["=?utf-8?q?hello=0D=0ABcc:_victim=40example.com?=", "=?utf-8?b?DQpCY2M6IHZAeA==?=", "a =?x?= b"]
)
async def test_h69_an_encoded_word_in_a_subject_is_refused(
    api: Api, caller: Caller, letter: dict[str, Any], subject: str
) -> None:
    before = await count(api)
    assert (await caller.post(SENDS, {**letter, "subject": subject})).status == 422
    assert await count(api) == before


NAMES = ["../../x", 'a"\r\nX: 1', "con.txt", "n" * 300, "gpj.\u202etxt.exe", "", "a\0b", "C:\\x", ".hidden "]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_h71_a_file_name_that_is_none_is_refused(caller: Caller, letter: dict[str, Any], name: str) -> None:
    file = {"name": name, "content": base64.b64encode(b"x").decode(), "content_type": "text/plain"}
    answer = await caller.post(SENDS, {**letter, "attachments": [file]})
    assert answer.status == 422, answer.text


@pytest.mark.parametrize("content", ["aGVsbG8=\n", "aGVs bG8=", "aGVsbG8", "a", "aGVsbG8=%%%%", "-_-_"])
async def test_h72_content_that_is_no_base64_is_refused(caller: Caller, letter: dict[str, Any], content: str) -> None:
    answer = await caller.post(SENDS, {**letter, "attachments": [{"name": "a.txt", "content": content}]})
    assert answer.status in {400, 422}, answer.text


async def test_h72_forty_megabytes_are_refused_before_they_are_read(api: Api, caller: Caller) -> None:
    head = (
        f"POST {SENDS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {caller.headers['Authorization']}\r\nContent-Length: {40 * 2**20}\r\n\r\n"
    )
    assert (await raw(api.url, head.encode() + b"{")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("2020-01-01T00:00:00Z", "out_of_range"),
        ("2500-01-01T00:00:00Z", "out_of_range"),
        ("2026-03-08T02:30:00", "offset_required"),
        ("2026-11-01T01:30:00", "offset_required"),
    ],
)
async def test_h73_a_time_of_sending_is_an_instant_within_reach(
    caller: Caller, letter: dict[str, Any], moment: str, code: str
) -> None:
    answer = await caller.post(SENDS, {**letter, "send_at": moment})
    assert (answer.status, answer.code, answer.json["pointer"]) == (422, code, "/send_at")


@pytest.mark.parametrize("path", ["/api/v1/messages", "/health", "/api/v1/auth/me?token=x", "/ws", "/"])
@pytest.mark.parametrize("origin", ["", "Origin: https://evil.example\r\n"])
async def test_h76_no_upgrade_to_websocket_is_granted(api: Api, path: str, origin: str) -> None:
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\n{origin}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    received = await raw(api.url, head.encode())
    assert received.startswith(b"HTTP/1.1 ")
    assert not received.startswith(b"HTTP/1.1 101")
    assert b"sec-websocket-accept" not in received.lower()

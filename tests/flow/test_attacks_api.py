"""Attacks on the API that a table of routes and roles does not show, each as it worked or was tried."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import jwt
import pytest
from structlog.testing import capture_logs

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.base.secret import Keyring, new_key
from outrider.domain.tenants import tenants
from outrider.interfaces.api.tokens import Claim, Tokens
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit.api import PASSWORD, TESTER, Api, Caller, api_of, refill_nothing
from tests.kit.worlds import World, session_of, world_of

WRONG = "not the password at all"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    settings: dict[str, Any] = {"api_rate_per_s": 100_000, "allow_localhost_links": True, "data_dir": folder}
    async with api_of(new_database("migrated"), **settings) as running:
        plugged: Any = running.runtime
        plugged.channels["email"], plugged.providers["smtp"] = CHANNEL, PROVIDER
        yield running


@pytest.fixture(scope="module")
async def mine(api: Api) -> World:
    return await world_of(api, DEFAULT_TENANT, "mineword")


@pytest.fixture(scope="module")
async def theirs(api: Api) -> World:
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, "theirs")
    return await world_of(api, other.id, "theirword")


@pytest.fixture(scope="module")
async def root(api: Api) -> Caller:
    user = await api.user("root@example.org", is_installation_admin=True)
    return Caller(api.url, cookies={"session_id": (await session_of(api, DEFAULT_TENANT, user.id)).token})


# --- signing in


async def sign_in(api: Api, email: str, password: str, tenant: str) -> int:
    body = {"email": email, "password": password, "tenant": tenant}
    return (await api.caller().post("/api/v1/auth/login", body)).status


async def test_an_account_in_another_tenant_gives_no_more_guesses_at_a_password(api: Api, theirs: World) -> None:
    """Its right passwords, its administrator's unlocking and its own resets count for itself alone."""
    await api.user("shared@example.org")
    twin = await api.user("shared@example.org", tenant_id=theirs.tenant_id)
    chief = await api.user("chief@example.org", tenant_id=theirs.tenant_id)
    begun = await session_of(api, theirs.tenant_id, chief.id)
    admin = Caller(api.url, cookies={"session_id": begun.token})
    most = api.runtime.settings.login_attempts
    looked_at = 0
    for number in range(3 * most):
        looked_at += await sign_in(api, "shared@example.org", WRONG, "default") == 401
        if number % (most - 1) == most - 2:
            await sign_in(api, "shared@example.org", PASSWORD, "theirs")
            await admin.post(f"/api/v1/users/{twin.id}/unlock")
    assert looked_at <= most


async def test_right_passwords_of_a_shared_address_do_not_lock_it(api: Api, theirs: World) -> None:
    await api.user("both@example.org")
    await api.user("both@example.org", tenant_id=theirs.tenant_id)
    for _ in range(api.runtime.settings.login_attempts + 2):
        assert await sign_in(api, "both@example.org", PASSWORD, "theirs") == 200


async def test_a_session_that_was_planted_is_worth_nothing_after_signing_in(api: Api) -> None:
    """Fixation: neither a token of the attacker's choice nor the one a browser came with lives on."""
    user = await api.user("fixed@example.org")
    planted = (await session_of(api, DEFAULT_TENANT, user.id)).token
    for token in (planted, "A" * 43):
        body = {"email": "fixed@example.org", "password": PASSWORD}
        answer = await Caller(api.url, cookies={"session_id": token}).post("/api/v1/auth/login", body)
        assert answer.cookies["session_id"] not in {token, ""}
        assert (await Caller(api.url, cookies={"session_id": token}).get("/api/v1/auth/me")).status == 401


async def test_tokens_of_another_make_are_refused(api: Api) -> None:
    user = await api.user("jwt@example.org")
    begun = await session_of(api, DEFAULT_TENANT, user.id)
    claim = Claim(DEFAULT_TENANT, user.id, begun.token_hash)
    tokens = Tokens(api.runtime.keyring)
    good = tokens.issue(claim)
    payload = jwt.decode(good, options={"verify_signature": False})
    key = api.runtime.keyring.derive("session-jwt")
    forged = {
        "none": jwt.encode(payload, "", algorithm="none"),
        "HS512": jwt.encode(payload, key * 2, algorithm="HS512"),
        "other key": jwt.encode(payload, Keyring(new_key()).derive("session-jwt"), algorithm="HS256"),
        "unsubscribe key": jwt.encode(payload, api.runtime.keyring.derive("unsubscribe"), algorithm="HS256"),
        "other audience": jwt.encode({**payload, "aud": "other"}, key, algorithm="HS256"),
        "audience left out": jwt.encode({k: v for k, v in payload.items() if k != "aud"}, key, algorithm="HS256"),
        "other issuer": jwt.encode({**payload, "iss": "other"}, key, algorithm="HS256"),
        "ended": tokens.issue(claim, lasts_s=-60),
        "without an end": jwt.encode({k: v for k, v in payload.items() if k != "exp"}, key, algorithm="HS256"),
        "no such session": tokens.issue(Claim(DEFAULT_TENANT, user.id, bytes(32))),
        "no hash": jwt.encode({**payload, "sid": "zz"}, key, algorithm="HS256"),
        "a number": jwt.encode({**payload, "sid": 7}, key, algorithm="HS256"),
        "a session token": begun.token,
        "cut": good[:-2],
        "double": f"{good}.{good}",
    }
    for name, token in forged.items():
        assert (await api.caller(token).get("/api/v1/auth/me")).status == 401, name
    assert (await api.caller(good).get("/api/v1/auth/me")).status == 200
    assert (await api.caller(good).post("/api/v1/auth/logout")).status == 204
    assert (await api.caller(good).get("/api/v1/auth/me")).status == 401


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
async def test_keys_cannot_be_tried_without_limit_where_everything_else_is(
    new_database: Callable[..., str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    async with api_of(new_database("migrated"), api_rate_per_s=5) as slow:
        key = await slow.key("queue:read")
        guesses = [slow.caller(f"or_live_{number:043d}").get(path) for number in range(60)]
        assert {answer.status for answer in await asyncio.gather(*guesses)} == {200}, "monitors are always answered"
        assert "version" not in (await slow.caller(key).get(path)).json, "but nobody is identified any more"


# --- bodies


@pytest.mark.parametrize("path", ["/api/v1/auth/login", "/api/v1/auth/password-reset"])
async def test_who_is_not_signed_in_cannot_have_large_bodies_parsed(api: Api, path: str) -> None:
    """30 MB of `{},` became more than a gigabyte of objects before anybody had signed in."""
    body = b'{"email":[' + b"{}," * 500_000 + b"{}]}"
    headers = {"Content-Type": "application/json"}
    answer = await api.caller().ask("POST", path, data=io.BytesIO(body), headers=headers)
    assert (answer.status, answer.code) == (413, "too_large")


# --- switches


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/tenants/{NIL}/pause", None),
        (f"/tenants/{NIL}/resume", None),
        ("/api/v1/switches/pause", {"scope": "tenant", "tenant_id": str(NIL)}),
        ("/api/v1/switches/pause", {"scope": "tenant", "everywhere": True}),
        ("/api/v1/switches/pause", {"scope": "sender", "id": str(NIL), "everywhere": True}),
        ("/api/v1/switches/resume", {"scope": "campaign", "id": str(NIL), "everywhere": True}),
    ],
)
async def test_the_tenant_that_stands_for_all_is_none(root: Caller, path: str, body: Any) -> None:
    answer = await root.post(path, body)
    assert (answer.status, answer.code) == (404, "not_found")


# --- what belongs to the installation


async def test_tenants_learn_of_the_installation_s_decisions_but_not_whose_they_were(
    api: Api, theirs: World, root: Caller
) -> None:
    user = await api.user("reader@example.org", "support", tenant_id=theirs.tenant_id)
    reader = Caller(api.url, cookies={"session_id": (await session_of(api, theirs.tenant_id, user.id)).token})
    entry = {"address": "nobody@example.org", "is_installation": True, "note": "told by ann@secret.example"}
    await root.post("/api/v1/suppressions", entry)
    await root.post("/api/v1/switches/pause", {"scope": "channel", "id": "email", "everywhere": True})
    await root.post("/api/v1/maintenance/on", {"reason": "moving"})
    try:
        (found,) = (await reader.post("/api/v1/suppressions/lookup", {"address": "nobody@example.org"})).json["items"]
        assert (found["is_installation"], found["scope"], found["note"]) == (True, "all", "")
        switches = (await reader.get("/api/v1/switches")).text
        state = (await reader.get("/api/v1/maintenance")).text
        assert "email" in switches
        assert "moving" in state
        for text in (json.dumps(found), switches, state):
            assert "root@" not in text
        assert "root@" in (await root.get("/api/v1/switches")).text
        assert "root@" in (await root.get("/api/v1/maintenance")).text
    finally:
        await root.post("/api/v1/maintenance/off", {})
        await root.post("/api/v1/switches/resume", {"scope": "channel", "id": "email", "everywhere": True})


# --- unsubscribe links


async def test_no_changed_link_unsubscribes_anybody(api: Api, mine: World, theirs: World) -> None:
    """Each byte flipped, another tenant's id put in, another purpose's key, and methods that only look."""
    token = mine.ids["token"]
    raw = base64.urlsafe_b64decode(token)
    flipped = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode() for at in range(len(raw))
    ]
    swapped = base64.urlsafe_b64encode(theirs.tenant_id.bytes + raw[16:]).decode()
    other = Keyring.derive(api.runtime.keyring, "session-jwt")
    resigned = type(api.runtime.unsubscribe_links)(other).sign(mine.tenant_id, UUID(mine.ids["message"]))
    form = {"data": b"List-Unsubscribe=One-Click", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    callers = {at: Caller(api.url) for at in range(2)}
    for number, link in enumerate((*flipped, swapped, resigned, token + "A", token[:-1], token.lower())):
        answer = await callers[number % 2].ask("POST", f"/u/{link}", **form)
        assert answer.status in {404, 429}, link
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        headers = {"Purpose": "prefetch", "Sec-Purpose": "prefetch;prerender"}
        await api.caller().ask(method, f"/u/{token}", headers=headers)
    async with api.engine() as uow:
        assert not await uow.raw.fetchval("SELECT count(*) FROM suppressions WHERE reason = 'unsubscribe'")
    assert (await api.caller().ask("POST", f"/u/{token}", **form)).status == 200
    async with api.engine() as uow:
        owners = await uow.raw.fetch("SELECT tenant_id, scope FROM suppressions WHERE reason = 'unsubscribe'")
    assert [tuple(row) for row in owners] == [(mine.tenant_id, "bulk")]


# --- what one tenant sends never meets another's


async def test_an_idempotency_key_is_a_tenant_s_own(api: Api, mine: World, theirs: World) -> None:
    answers = []
    for world in (mine, theirs):
        key = await api.key("messages:write", tenant_id=world.tenant_id)
        body = {"to": "a@example.org", "sender": world.word, "subject": "s", "text": "t"}
        answer = await api.caller(key).post("/api/v1/messages", body, headers={"Idempotency-Key": "the same"})
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (202, None), answer.text
        answers.append(answer.json["id"])
    assert len(set(answers)) == 2


_PAGED = ("users", "keys", "contacts", "lists", "imports", "messages", "uncertain", "suppressions", "audit", "tenants")
_CURSORS = (
    '["\\ud800"]', '["\\u0000"]', "[1]", "[null]", "{}", '[["a"]]', "[-1]", "[1e400]", "[99999999999999999999999]",
    f'["{NIL}"]', '["ffffffff-ffff-ffff-ffff-ffffffffffff"]', '["email", "zz"]',
    json.dumps(["email", "a" * 64 + "\n"]), json.dumps(["\0", "a" * 64]), '["\' OR 1=1--"]', "[true]", '""', "[" * 500,
)  # fmt: skip


@pytest.mark.parametrize("noun", _PAGED)
async def test_a_forged_cursor_shows_nothing_of_another_tenant(mine: World, theirs: World, noun: str, api: Api) -> None:
    owner = await _owner(api, mine)
    for text in (*_CURSORS, *(f'["{value}"]' for value in theirs.ids.values())):
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        answer = await owner.get(f"/api/v1/{noun}?limit=1000&cursor={cursor}")
        assert answer.status in {200, 422}, text
        assert theirs.word not in answer.text


async def _owner(api: Api, world: World) -> Caller:
    async with api.engine(world.tenant_id) as uow:
        user_id = await uow.raw.fetchval(
            "SELECT id FROM users WHERE tenant_id = $1 AND email = $2", world.tenant_id, f"maker@{world.word}.example"
        )
    return Caller(api.url, cookies={"session_id": (await session_of(api, world.tenant_id, user_id)).token})


_SQL = (
    "'; DROP TABLE users;--",
    "' OR '1'='1",
    "1) OR 1=1--",
    "$1",
    "%s",
    "{}",
    "\\",
    '"',
    "a'||pg_sleep(9)||'",
    "x'/*",
)
_PLACES = ("audit?action=", "audit?actor=", "audit?target_id=", "contacts?external_id=", "suppressions?channel=",
           "suppressions?reason=", "messages?channel=", "messages?state=", "messages?to=", "messages?campaign_id=",
           "campaigns?state=", "uncertain?campaign_id=")  # fmt: skip


@pytest.mark.parametrize("place", _PLACES)
async def test_sql_in_a_filter_is_a_value(api: Api, mine: World, place: str) -> None:
    owner = await _owner(api, mine)
    for text in _SQL:
        answer = await owner.get(f"/api/v1/{place}{quote(text)}")
        assert answer.status == 422 or answer.json["items"] == [], text


async def test_sql_in_a_name_comes_back_as_it_was(api: Api, mine: World) -> None:
    owner = await _owner(api, mine)
    for text in _SQL:
        made = await owner.post("/api/v1/lists", {"name": text})
        assert (made.status, made.json["name"]) == (201, text)
        person = await owner.post("/api/v1/contacts", {"name": text, "external_id": text, "attributes": {"a": text}})
        assert (person.json["name"], person.json["attributes"]) == (text, {"a": text})


# --- one line stays one line


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/contacts/{contact}/consents", {"channel": "email", "purpose": "news\n", "status": "granted", "source": "x"}),
        ("/contacts/{contact}", {"attributes": {"key\n": 1}}),
        ("/messages", {"to": "a@example.org", "sender": "mineword", "subject": "s", "text": "t", "purpose": "news\n"}),
        ("/contacts/{contact}/consents", {"channel": "email", "purpose": "x", "status": "granted", "source": "a\r\nb"}),
        (
            "/contacts/{contact}/consents",
            {"channel": "email", "purpose": "x", "status": "granted", "source": "x", "ip": "192.0.2.7\r\nb"},
        ),
        (
            "/callbacks/exceptions",
            {"connection_id": str(NIL), "network": "192.0.2.7", "minutes": 5, "reason": "a\r\nb"},
        ),
        ("/lists", {"name": "a\r\nb"}),
        ("/senders", {"name": "n", "connection_id": str(NIL), "from_address": "a@example.org\r\nBcc: b@example.org"}),
        ("/switches/pause", {"scope": "tenant", "reason": "a\x1b[31m\r\n2026 ERROR forged"}),
        ("/keys", {"name": "a\nb", "scopes": ["queue:read"]}),
        ("/users", {"email": "a@example.org\nb", "role": "viewer"}),
        ("/users", {"email": "ok@example.org", "role": "viewer", "name": "a\x1b[31m"}),
        ("/connections", {"name": "x\x00", "provider": "smtp", "settings": {"host": "h"}}),
        ("/connections", {"name": "x", "provider": "smtp", "settings": {"host": "h\r\nRSET"}}),
        ("/connections", {"name": "x", "provider": "smtp", "settings": {"host": "h", "ehlo_name": "h\r\nRSET"}}),
        ("/templates", {"name": "t", "subject": "s\r\nBcc: b@example.org", "text": "t"}),
        (
            "/templates",
            {"name": "t", "subject": "s", "text": "t", "attachments": [{"name": "a\r\nb: c", "content": "YQ=="}]},
        ),
        (
            "/templates",
            {
                "name": "t",
                "subject": "s",
                "text": "t",
                "attachments": [{"name": "a", "content": "YQ==", "content_type": "text/plain\r\nX: y"}],
            },
        ),
    ],
)
async def test_a_line_end_in_what_is_one_line_is_refused(api: Api, mine: World, path: str, body: Any) -> None:
    method = "PATCH" if path.endswith("{contact}") else "POST"
    if "connection_id" in body:
        body = {**body, "connection_id": mine.ids["connection"]}
    answer = await (await _owner(api, mine)).ask(method, f"/api/v1{path}".format(**mine.ids), body=body)
    assert answer.status == 422, answer.text


_INSIDE = (
    "127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "::1",
    "0", "::", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "fe80::1%lo", "64:ff9b::7f00:1",
    "2002:7f00:1::", "①②⑦.0.0.1", "127.0.0.1%00",
    "user@127.0.0.1", "127.0.0.1:25", "::127.0.0.1", "fd00::1", "100.64.0.1",
    "224.0.0.1", "127.0.0.1.", "127\u30020\u30020\u30021", "LOCALHOST",
)  # fmt: skip


async def test_no_spelling_of_an_inner_address_is_dialled_by_an_examination(api: Api, mine: World) -> None:
    """A server listens on the port asked for: it must never hear from us."""
    heard: list[Any] = []

    def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(writer)
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    owner = await _owner(api, mine)
    made = await owner.post(
        "/api/v1/connections", {"name": "inner", "provider": "smtp", "settings": {"host": "x", "tls": "off"}}
    )
    path = f"/api/v1/connections/{made.json['id']}"
    try:
        for host in _INSIDE:
            changed = await owner.patch(path, {"settings": {"host": host, "port": port}})
            if changed.status != 200:
                continue
            answer = await owner.post(f"{path}/examine")
            (stage,) = answer.json["stages"]
            assert (stage["name"], stage["is_ok"]) == ("dns", False), host
            assert "127" not in stage["detail"], "an answer about the inside is an oracle"
    finally:
        server.close()
        await server.wait_closed()
    assert not heard


# --- secrets


async def test_a_connection_s_secret_is_shown_nowhere(api: Api, mine: World) -> None:
    """Not in answers, refusals, the audit log, the list, an examination or the log."""
    canary = "canary-s3cret-Passw0rd"
    owner = await _owner(api, mine)
    with capture_logs() as lines:
        good = {"host": "mail.example.org", "username": "u", "password": canary}
        made = await owner.post("/api/v1/connections", {"name": "sealed", "provider": "smtp", "settings": good})
        path = f"/api/v1/connections/{made.json['id']}"
        answers = [
            made,
            await owner.get(path),
            await owner.get("/api/v1/connections"),
            await owner.patch(path, {"settings": {"host": "127.0.0.1"}}),
            await owner.post(f"{path}/examine"),
            await owner.patch(path, {"settings": {"port": canary}}),
            await owner.patch(path, {"settings": {"ehlo_name": "-bad", "password": canary}}),
            await owner.patch(path, {"settings": {"password": [canary]}}),
            await owner.patch(path, {"settings": {"nope": canary}}),
            await owner.post("/api/v1/connections", {"name": "sealed", "provider": "smtp", "settings": good}),
            await owner.get("/api/v1/audit?limit=1000"),
            await api.caller().get("/openapi.json"),
            await owner.delete(path),
            await owner.get("/api/v1/audit?limit=1000"),
        ]
    assert made.status == 201
    for answer in answers:
        assert canary not in answer.text
    assert canary not in str(lines)
    async with api.engine() as uow:
        rows = await uow.raw.fetch("SELECT c::text AS row FROM connections c UNION ALL SELECT a::text FROM audit_log a")
    assert canary not in str(rows)


async def test_deep_json_and_numbers_without_end_are_refused_at_once(api: Api) -> None:
    key = await api.key("contacts:write", "messages:write")
    for body in (
        b'{"attributes":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"attributes":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        b'{"attributes":{"a":' + b"9" * 1_000_000 + b"}}",
        b'{"attributes":{"a":1e' + b"9" * 1_000 + b"}}",
        b'{"name":"' + b"\\u0041" * 300_000 + b'"}',
    ):
        headers = {"Content-Type": "application/json"}
        answer = await api.caller(key).ask("POST", "/api/v1/contacts", data=io.BytesIO(body), headers=headers)
        assert answer.status in {400, 422}, body[:40]

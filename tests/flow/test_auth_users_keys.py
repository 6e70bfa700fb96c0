"""Users, keys and tenants over HTTP: who may do what to whom, and how fast it is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from outrider.base.clock import utc_now
from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.audit.listing import listed as audited
from outrider.domain.tenants import tenants
from outrider.domain.tenants.keys import PREFIX
from outrider.interfaces.api.middleware import entry
from tests.kit.api import PASSWORD, TESTER, Api, Caller, api_of

ME = "/api/v1/auth/me"
NEW = "quite another unusual phrase 8"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        for role in ("owner", "admin", "operator", "support", "viewer"):
            await running.user(f"{role}@example.org", role)
        await running.user("root@example.org", "owner", is_installation_admin=True)
        yield running


@pytest.fixture(scope="module")
async def people(api: Api) -> dict[str, Caller]:
    roles = ("owner", "admin", "operator", "support", "viewer", "root")
    return {role: await api.signed_in(f"{role}@example.org") for role in roles}


async def made(caller: Caller, email: str, role: str = "viewer", **more: Any) -> dict[str, Any]:
    answer = await caller.post("/api/v1/users", {"email": email, "role": role, **more})
    assert answer.status == 201, answer.text
    found: dict[str, Any] = answer.json
    return found


async def test_a_new_user_sets_a_password_with_a_token_that_works_once(api: Api, people: dict[str, Caller]) -> None:
    created = await made(people["admin"], "new@example.org", "operator")
    assert "password" not in created["user"]
    nobody = api.caller()
    assert (await nobody.post("/api/v1/auth/login", {"email": "new@example.org", "password": "!"})).status == 401
    reset = {"token": created["password_token"], "new_password": NEW}
    weak = await nobody.post("/api/v1/auth/password-reset", {**reset, "new_password": "password1"})
    assert weak.code == "password_too_common"
    assert (await nobody.post("/api/v1/auth/password-reset", reset)).status == 204
    again = await nobody.post("/api/v1/auth/password-reset", reset)
    assert (again.status, again.code) == (401, "invalid_token")
    assert (await nobody.post("/api/v1/auth/login", {"email": "new@example.org", "password": NEW})).status == 200


async def test_a_reset_ends_every_session_and_every_other_token_of_the_user(
    api: Api, people: dict[str, Caller]
) -> None:
    user = await api.user("lost@example.org", "operator")
    session = await api.signed_in("lost@example.org")
    tokens = [(await people["admin"].post(f"/api/v1/users/{user.id}/password-reset")).json["token"] for _ in range(2)]
    assert (await session.get(ME)).status == 200
    body = {"token": tokens[1], "new_password": NEW}
    assert (await api.caller().post("/api/v1/auth/password-reset", body)).status == 204
    assert (await session.get(ME)).status == 401
    assert (await api.caller().post("/api/v1/auth/password-reset", {**body, "token": tokens[0]})).status == 401


async def test_a_reset_token_is_bound_to_its_user_and_to_every_byte(api: Api, people: dict[str, Caller]) -> None:
    created = await made(people["admin"], "bound@example.org")
    token = created["password_token"]
    for position in range(0, len(token), 9):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        answer = await api.caller().post("/api/v1/auth/password-reset", {"token": changed, "new_password": NEW})
        assert answer.status == 401, position
    for nonsense in ("", "x", "=" * 400, "ä" * 96):
        answer = await api.caller().post("/api/v1/auth/password-reset", {"token": nonsense, "new_password": NEW})
        assert answer.status == 401


async def test_a_reset_token_ends_after_an_hour(
    api: Api, people: dict[str, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await made(people["admin"], "late@example.org"))["password_token"]
    monkeypatch.setattr("outrider.domain.tenants.resets.utc_now", lambda: utc_now() + timedelta(minutes=61))
    answer = await api.caller().post("/api/v1/auth/password-reset", {"token": token, "new_password": NEW})
    assert answer.status == 401


async def test_nobody_gives_a_role_or_touches_a_person_above_their_own(api: Api, people: dict[str, Caller]) -> None:
    victim = await api.user("second-owner@example.org", "owner")
    admin = people["admin"]
    refused = [
        await admin.post("/api/v1/users", {"email": "x@example.org", "role": "owner"}),
        await admin.patch(f"/api/v1/users/{victim.id}", {"is_active": False}),
        await admin.patch(f"/api/v1/users/{victim.id}", {"role": "viewer"}),
        await admin.post(f"/api/v1/users/{victim.id}/password-reset"),
        await admin.delete(f"/api/v1/users/{victim.id}/sessions"),
        await people["owner"].post(
            "/api/v1/users", {"email": "x@example.org", "role": "viewer", "is_installation_admin": True}
        ),
        await people["owner"].patch(f"/api/v1/users/{victim.id}", {"is_installation_admin": True}),
    ]
    assert [answer.status for answer in refused] == [403] * len(refused)
    assert (await people["owner"].patch(f"/api/v1/users/{victim.id}", {"role": "viewer"})).status == 200


async def test_an_owner_does_not_touch_an_administrator_of_the_installation(
    api: Api, people: dict[str, Caller]
) -> None:
    root_id = (await people["root"].get(ME)).json["user_id"]
    assert (await people["owner"].post(f"/api/v1/users/{root_id}/password-reset")).status == 403
    assert (await people["owner"].patch(f"/api/v1/users/{root_id}", {"is_active": False})).status == 403


async def test_the_last_owner_stays(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as lone:
        owner = await lone.user("only@example.org")
        caller = await lone.signed_in("only@example.org")
        for change in ({"role": "admin"}, {"is_active": False}):
            answer = await caller.patch(f"/api/v1/users/{owner.id}", change)
            assert (answer.status, answer.code) == (409, "last_owner")
        second = await lone.user("other@example.org")
        both = await asyncio.gather(
            *(caller.patch(f"/api/v1/users/{user.id}", {"role": "admin"}) for user in (owner, second))
        )
        async with lone.engine() as uow:
            left = await uow.raw.fetchval("SELECT count(*) FROM users WHERE role = 'owner'")
        assert left == 1, [answer.status for answer in both]


async def test_users_are_listed_in_pages(people: dict[str, Caller]) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        answer = (await people["admin"].get(f"/api/v1/users?limit=2&cursor={cursor}")).json
        seen.extend(user["email"] for user in answer["items"])
        if answer["next_cursor"] is None:
            break
        cursor = answer["next_cursor"]
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) >= 6


async def test_an_address_is_taken_once_per_tenant_in_any_case_of_letters(people: dict[str, Caller]) -> None:
    await made(people["admin"], "twice@example.org")
    answer = await people["admin"].post("/api/v1/users", {"email": "Twice@Example.org", "role": "viewer"})
    assert (answer.status, answer.code, answer.json["pointer"]) == (409, "email_taken", "/email")


async def test_mass_assignment_is_refused(people: dict[str, Caller]) -> None:
    body = {"email": "mass@example.org", "role": "viewer", "password_hash": "x", "is_admin": True}
    answer = await people["admin"].post("/api/v1/users", body)
    assert (answer.status, answer.code) == (422, "unknown_field")


async def test_a_key_is_shown_once_and_works_within_its_scopes(api: Api, people: dict[str, Caller]) -> None:
    body = {"name": "importer", "scopes": ["switches:read", "keys:read"], "role": "admin"}
    created = (await people["admin"].post("/api/v1/keys", body)).json
    assert created["key"].startswith(PREFIX)
    program = api.caller(created["key"])
    assert (await program.get("/api/v1/switches")).status == 200
    assert (await program.post("/api/v1/switches/pause", {"scope": "tenant"})).status == 403
    assert (await program.post("/api/v1/auth/password", {"current_password": "a", "new_password": "b"})).status == 403
    assert (await program.get("/api/v1/auth/sessions")).status == 403
    one = await program.get(f"/api/v1/keys/{created['details']['id']}")
    assert created["key"] not in one.text
    assert one.json["last_used_at"] is not None
    assert one.json["prefix"] == created["key"][: len(one.json["prefix"])]
    assert (await program.get(ME)).json["scopes"] == ["keys:read", "switches:read"]


async def test_a_revoked_key_is_refused_at_once_here_and_within_a_second_elsewhere(
    api: Api, people: dict[str, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [monotonic()]
    monkeypatch.setattr(entry, "monotonic", lambda: now_s[0])
    created = (await people["admin"].post("/api/v1/keys", {"name": "k", "scopes": ["switches:read"]})).json
    async with api_of(api.runtime.database_url) as other:
        here, there = api.caller(created["key"]), other.caller(created["key"])
        assert [(await one.get(ME)).status for one in (here, there)] == [200, 200]
        revoked = await people["admin"].delete(f"/api/v1/keys/{created['details']['id']}")
        assert revoked.json["revoked_at"] is not None
        assert (await here.get(ME)).status == 401
        assert (await there.get(ME)).status == 200, "it is remembered: this is what has to end"
        now_s[0] += 1.0
        assert (await there.get(ME)).status == 401
    again = await people["admin"].delete(f"/api/v1/keys/{created['details']['id']}")
    assert again.json["revoked_at"] == revoked.json["revoked_at"]


async def test_an_expired_key_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [monotonic()]
    monkeypatch.setattr(entry, "monotonic", lambda: now_s[0])
    key = await api.key("switches:read", expires_at=utc_now() + timedelta(hours=1))
    assert (await api.caller(key).get(ME)).status == 200
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE api_keys SET expires_at = now() WHERE expires_at IS NOT NULL")
    now_s[0] += 1.0
    assert (await api.caller(key).get(ME)).status == 401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "", "scopes": ["messages:read"]}, "invalid_name"),
        ({"name": "a\nb", "scopes": ["messages:read"]}, "invalid_name"),
        ({"name": "k", "scopes": []}, "scopes_missing"),
        ({"name": "k", "scopes": ["all"]}, "unknown_scope"),
        ({"name": "k", "scopes": ["users:write"], "role": "operator"}, "scope_beyond_role"),
        ({"name": "k", "scopes": ["messages:read"], "role": "root"}, "unknown_role"),
        ({"name": "k", "scopes": ["messages:read"], "expires_at": "2020-01-01T00:00:00Z"}, "invalid_expiry"),
        ({"name": "k", "scopes": ["messages:read"], "expires_at": "2099-01-01T00:00:00"}, "invalid_value"),
        ({"name": "k", "scopes": ["messages:read"], "expires_at": "9999-12-31T23:59:59-14:00"}, "out_of_range"),
    ],
)
async def test_keys_that_make_no_sense_are_refused(people: dict[str, Caller], body: dict[str, Any], code: str) -> None:
    answer = await people["admin"].post("/api/v1/keys", body)
    assert (answer.status, answer.code) == (422, code)


async def test_a_key_never_makes_a_stronger_key(api: Api, people: dict[str, Caller]) -> None:
    key = await api.key("keys:write", "messages:read", role="admin")
    program = api.caller(key)
    stronger = await program.post("/api/v1/keys", {"name": "k", "scopes": ["messages:write"]})
    owner = await program.post("/api/v1/keys", {"name": "k", "scopes": ["messages:read"], "role": "owner"})
    same = await program.post("/api/v1/keys", {"name": "k", "scopes": ["messages:read"]})
    assert [stronger.status, owner.status, same.status] == [403, 403, 201]


async def test_tenants_settings_are_known_ones_and_changes_are_audited(api: Api, people: dict[str, Caller]) -> None:
    path = f"/api/v1/tenants/{DEFAULT_TENANT}"
    usual = {field.name: field.default for field in tenants.FIELDS}
    assert usual["consent_required"] is True
    assert (await people["viewer"].get(path)).json["settings"] == usual
    changed = await people["admin"].patch(path, {"timezone": "Europe/Berlin", "settings": {"consent_required": False}})
    assert (changed.json["timezone"], changed.json["settings"]) == (
        "Europe/Berlin",
        {**usual, "consent_required": False},
    )
    async with api.app() as uow:
        newest = (await audited(uow, limit=1))[0]
    assert newest.details == {"timezone": ["UTC", "Europe/Berlin"], "settings.consent_required": [True, False]}
    for body, code in (
        ({"settings": {"colour": "red"}}, "no_such_setting"),
        ({"settings": {"colour": None}}, "no_such_setting"),
        ({"settings": {"consent_required": "no"}}, "invalid_setting"),
        ({"timezone": "../../etc/passwd"}, "unknown_timezone"),
        ({"name": "x\u202e"}, "invalid_name"),
    ):
        refused = await people["admin"].patch(path, body)
        assert (refused.status, refused.code) == (422, code)
    back = await people["admin"].patch(path, {"timezone": "UTC", "settings": {"consent_required": None}})
    assert back.json["settings"] == usual


async def test_only_administrators_of_the_installation_see_and_make_other_tenants(
    api: Api, people: dict[str, Caller]
) -> None:
    assert (await people["owner"].post("/api/v1/tenants", {"name": "North"})).status == 403
    north = (await people["root"].post("/api/v1/tenants", {"name": "North", "timezone": "Asia/Tokyo"})).json
    taken = await people["root"].post("/api/v1/tenants", {"name": "North"})
    assert (taken.status, taken.code) == (409, "name_taken")
    assert (await people["owner"].get(f"/api/v1/tenants/{north['id']}")).status == 404
    assert (await people["owner"].patch(f"/api/v1/tenants/{north['id']}", {"name": "Mine"})).status == 404
    assert [one["name"] for one in (await people["owner"].get("/api/v1/tenants")).json["items"]] == ["default"]
    assert "North" in [one["name"] for one in (await people["root"].get("/api/v1/tenants")).json["items"]]
    body = {"email": "north@example.org", "role": "owner", "tenant_id": north["id"]}
    assert (await people["owner"].post("/api/v1/users", body)).status == 404
    created = (await people["root"].post("/api/v1/users", body)).json
    reset = {"token": created["password_token"], "new_password": NEW}
    assert (await api.caller().post("/api/v1/auth/password-reset", reset)).status == 204
    login = await api.caller().post("/api/v1/auth/login", {"email": "north@example.org", "password": NEW})
    assert login.json["tenant_id"] == north["id"]


async def test_nothing_of_another_tenant_is_reached_by_its_id(api: Api, people: dict[str, Caller]) -> None:
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, "Elsewhere")
    stranger = await api.user("stranger@elsewhere.example", "owner", tenant_id=other.id)
    key = await api.key("messages:read", tenant_id=other.id)
    key_id = (await api.caller(key).get(ME)).json["key_id"]
    owner = people["owner"]
    answers = [
        await owner.get(f"/api/v1/users/{stranger.id}"),
        await owner.patch(f"/api/v1/users/{stranger.id}", {"name": "x"}),
        await owner.post(f"/api/v1/users/{stranger.id}/password-reset"),
        await owner.post(f"/api/v1/users/{stranger.id}/unlock"),
        await owner.get(f"/api/v1/keys/{key_id}"),
        await owner.delete(f"/api/v1/keys/{key_id}"),
        await owner.post(f"/tenants/{other.id}/pause"),
        await owner.post("/api/v1/switches/pause", {"scope": "tenant", "tenant_id": str(other.id)}),
        await owner.put(f"/api/v1/limits/tenant/{other.id}", {"rate_per_s": 1}),
    ]
    assert [answer.status for answer in answers] == [404] * len(answers)
    for path in ("/api/v1/users", "/api/v1/keys", "/api/v1/audit"):
        assert "elsewhere" not in (await owner.get(f"{path}?limit=1000")).text.lower()


async def test_the_audit_log_is_read_and_verified_over_http(people: dict[str, Caller]) -> None:
    first = (await people["admin"].get("/api/v1/audit?limit=3")).json
    rest = (await people["admin"].get(f"/api/v1/audit?limit=3&cursor={first['next_cursor']}")).json
    seqs = [entry["seq"] for entry in first["items"] + rest["items"]]
    assert seqs == sorted(seqs, reverse=True)
    assert len(set(seqs)) == 6
    verified = (await people["admin"].get("/api/v1/audit/verify")).json
    assert (verified["is_whole"], verified["problem"]) == (True, "")
    assert (await people["operator"].get("/api/v1/audit")).status == 403


async def test_rates_are_set_and_cleared_over_http(people: dict[str, Caller]) -> None:
    path = f"/api/v1/limits/tenant/{DEFAULT_TENANT}"
    assert (await people["operator"].put(path, {"rate_per_s": 5})).status == 403
    assert (await people["admin"].put(path, {"rate_per_s": 5})).json["burst"] == 5
    assert (await people["viewer"].get("/api/v1/limits")).json["items"][0]["rate_per_s"] == 5
    refused = await people["admin"].put(path, {"rate_per_s": 0})
    assert (refused.status, refused.json["pointer"]) == (422, "/rate_per_s")
    assert (await people["admin"].delete(path)).status == 204


async def test_passwords_are_the_persons_own_business(people: dict[str, Caller]) -> None:
    for body in ({"email": "p@example.org", "role": "viewer", "password": PASSWORD},):
        assert (await people["root"].post("/api/v1/users", body)).code == "unknown_field"
    root_id = (await people["root"].get(ME)).json["user_id"]
    assert (await people["root"].patch(f"/api/v1/users/{root_id}", {"password": NEW})).code == "unknown_field"

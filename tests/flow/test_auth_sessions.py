"""Sessions over HTTP: limits, signing out, listing, passwords, and what other sites cannot do with a cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from outrider.domain.tenants import sessions
from tests.kit.api import PASSWORD, Api, Caller, api_of

ME = "/api/v1/auth/me"
NEW = "quite another unusual phrase 8"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), session_idle_s=600, session_absolute_s=3600) as running:
        yield running


async def browser(api: Api, email: str, role: str = "owner") -> Caller:
    await api.user(email, role)
    return await api.signed_in(email)


async def aged(api: Api, email: str, **columns: timedelta) -> None:
    """Move the instants of a user's sessions into the past."""
    async with api.engine() as uow:
        for column, by in columns.items():
            await uow.raw.execute(
                f"UPDATE sessions SET {column} = {column} - $1::interval "
                "WHERE user_id = (SELECT id FROM users WHERE email = $2)",
                by,
                email,
            )


async def test_signing_out_ends_cookie_and_tokens_at_once_and_clears_the_browser(api: Api) -> None:
    await api.user("out@example.org")
    answer = await api.caller().post("/api/v1/auth/login", {"email": "out@example.org", "password": PASSWORD})
    person, program = Caller(api.url, cookies=answer.cookies), api.caller(answer.json["token"])
    fresh = api.caller((await program.post("/api/v1/auth/token")).json["token"])
    assert [(await one.get(ME)).status for one in (person, program, fresh)] == [200] * 3
    done = await person.post("/api/v1/auth/logout")
    assert done.status == 204
    assert "cookies" in done.headers["Clear-Site-Data"]
    assert "Max-Age=0" in done.headers["Set-Cookie"]
    assert [(await one.get(ME)).status for one in (person, program, fresh)] == [401] * 3


async def test_a_session_ends_after_its_idle_limit_and_use_keeps_it(api: Api) -> None:
    person = await browser(api, "idle@example.org")
    await aged(api, "idle@example.org", seen_at=timedelta(seconds=590))
    assert (await person.get(ME)).status == 200
    await aged(api, "idle@example.org", seen_at=timedelta(seconds=590))
    assert (await person.get(ME)).status == 200
    await aged(api, "idle@example.org", seen_at=timedelta(seconds=601))
    assert (await person.get(ME)).status == 401


async def test_a_session_ends_at_its_absolute_limit_however_much_it_is_used(api: Api) -> None:
    person = await browser(api, "absolute@example.org")
    assert (await person.get(ME)).status == 200
    await aged(api, "absolute@example.org", expires_at=timedelta(seconds=3601))
    assert (await person.get(ME)).status == 401


async def test_ended_sessions_are_taken_away_by_the_upkeep(api: Api) -> None:
    await browser(api, "pruned@example.org")
    alive = await browser(api, "kept@example.org")
    await aged(api, "pruned@example.org", seen_at=timedelta(seconds=601))
    async with api.engine(None) as uow:
        assert await sessions.prune(uow, idle_s=600) >= 1
    assert (await alive.get(ME)).status == 200


async def test_people_list_their_sessions_and_end_one_or_all_others(api: Api) -> None:
    first = await browser(api, "many@example.org")
    second, third = await api.signed_in("many@example.org"), await api.signed_in("many@example.org")
    listed = (await first.get("/api/v1/auth/sessions")).json["items"]
    assert [one["is_current"] for one in listed].count(True) == 1
    assert first.cookies["session_id"] not in str(listed)
    current = next(one["id"] for one in listed if one["is_current"])
    ended = next(one["id"] for one in (await second.get("/api/v1/auth/sessions")).json["items"] if one["is_current"])
    assert ended != current
    assert (await first.delete(f"/api/v1/auth/sessions/{ended}")).status == 204
    assert [(await one.get(ME)).status for one in (first, second, third)] == [200, 401, 200]
    assert (await first.delete("/api/v1/auth/sessions")).status == 204
    assert [(await one.get(ME)).status for one in (first, third)] == [200, 401]


async def test_nobody_ends_another_persons_session(api: Api) -> None:
    victim, other = await browser(api, "victim@example.org"), await browser(api, "other@example.org")
    target = (await victim.get("/api/v1/auth/sessions")).json["items"][0]["id"]
    assert (await other.delete(f"/api/v1/auth/sessions/{target}")).status == 204
    assert (await victim.get(ME)).status == 200
    assert (await other.delete("/api/v1/auth/sessions/zz")).status == 404


async def test_changing_the_password_ends_every_other_session_and_the_old_password(api: Api) -> None:
    here = await browser(api, "change@example.org")
    elsewhere = await api.signed_in("change@example.org")
    wrong = await here.post("/api/v1/auth/password", {"current_password": "no", "new_password": NEW})
    assert (wrong.status, wrong.code, wrong.json["pointer"]) == (403, "wrong_password", "/current_password")
    weak = await here.post("/api/v1/auth/password", {"current_password": PASSWORD, "new_password": "password1"})
    assert (weak.status, weak.code, weak.json["pointer"]) == (422, "password_too_common", "/new_password")
    done = await here.post("/api/v1/auth/password", {"current_password": PASSWORD, "new_password": NEW})
    assert done.status == 204
    assert [(await one.get(ME)).status for one in (here, elsewhere)] == [200, 401]
    old = await api.caller().post("/api/v1/auth/login", {"email": "change@example.org", "password": PASSWORD})
    new = await api.caller().post("/api/v1/auth/login", {"email": "change@example.org", "password": NEW})
    assert (old.status, new.status) == (401, 200)


async def test_a_stolen_session_cannot_guess_the_password(api: Api) -> None:
    stolen = await browser(api, "stolen@example.org")
    body = {"current_password": "guess", "new_password": NEW}
    statuses = [(await stolen.post("/api/v1/auth/password", body)).status for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2


async def test_a_changed_role_holds_from_the_next_sign_in_and_ends_the_sessions_of_the_old_one(api: Api) -> None:
    owner = await browser(api, "boss@example.org")
    person = await browser(api, "promoted@example.org", "admin")
    user_id = (await person.get(ME)).json["user_id"]
    assert (await owner.patch(f"/api/v1/users/{user_id}", {"role": "viewer"})).status == 200
    assert (await person.get(ME)).status == 401
    again = await api.signed_in("promoted@example.org")
    assert (await again.get("/api/v1/users")).status == 403


async def test_a_deactivated_user_is_out_at_once(api: Api) -> None:
    owner = await browser(api, "boss2@example.org")
    person = await browser(api, "fired@example.org", "admin")
    user_id = (await person.get(ME)).json["user_id"]
    assert (await owner.patch(f"/api/v1/users/{user_id}", {"is_active": False})).json["is_active"] is False
    assert (await person.get(ME)).status == 401
    login = await api.caller().post("/api/v1/auth/login", {"email": "fired@example.org", "password": PASSWORD})
    assert login.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_another_site_can_read_nothing_new_and_change_nothing_with_the_cookie(
    api: Api, headers: dict[str, str]
) -> None:
    await api.user(f"csrf{abs(hash(str(headers)))}@example.org")
    person = await api.signed_in(f"csrf{abs(hash(str(headers)))}@example.org")
    person.headers.update(headers)
    for path in ("/api/v1/auth/logout", "/tenants/00000000-0000-0000-0000-000000000001/pause"):
        answer = await person.post(path)
        assert (answer.status, answer.code) == (403, "cross_site")
    assert (await person.get(ME)).status == 200
    assert (await person.get("/api/v1/switches")).json["items"] == []


async def test_a_program_with_a_token_is_not_a_browser_and_needs_no_origin(api: Api) -> None:
    await api.user("program@example.org")
    answer = await api.caller().post("/api/v1/auth/login", {"email": "program@example.org", "password": PASSWORD})
    caller = api.caller(answer.json["token"], Origin="https://elsewhere.example")
    assert (await caller.post("/api/v1/auth/token")).status == 200


async def test_no_answer_allows_another_origin_to_read_it(api: Api) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await api.caller(**headers).ask(method, "/health")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]

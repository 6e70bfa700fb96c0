"""Signing in over HTTP: what a right password gives, what a wrong one tells, and when an address is locked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from argon2 import PasswordHasher

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.audit.listing import listed as audited
from outrider.domain.tenants import passwords, tenants
from tests.kit.api import PASSWORD, TESTER, Answer, Api, Caller, api_of, hashed_once, refill_nothing

LOGIN = "/api/v1/auth/login"
ME = "/api/v1/auth/me"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), login_attempts=4, login_lock_s=600) as running:
        await running.user("ann@example.org")
        yield running


async def login(api: Api, email: str, password: str = PASSWORD, **more: str) -> Answer:
    return await api.caller().post(LOGIN, {"email": email, "password": password, **more})


async def test_a_fresh_installation_has_nobody_who_could_sign_in(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as fresh:
        async with fresh.engine(None) as uow:
            assert await uow.raw.fetchval("SELECT count(*) FROM users") == 0
        for email, password in (("admin@example.org", "admin"), ("admin", "admin"), ("root@localhost", "password1")):
            assert (await login(fresh, email, password)).status == 401


async def test_a_right_password_gives_a_cookie_and_a_token_that_both_work(api: Api) -> None:
    answer = await login(api, " ANN@Example.org ")
    assert answer.status == 200
    assert set(answer.cookies) == {"session_id"}
    by_cookie = await Caller(api.url, cookies=answer.cookies).get(ME)
    by_token = await api.caller(answer.json["token"]).get(ME)
    assert (by_cookie.json["via"], by_token.json["via"]) == ("session", "jwt")
    assert by_cookie.json["name"] == by_token.json["name"] == "ann@example.org"
    assert by_cookie.json["tenant_name"] == "default"
    assert answer.json["expires_in"] == 900


async def test_the_sign_in_is_audited_with_the_address_it_came_from(api: Api) -> None:
    await login(api, "ann@example.org")
    async with api.app() as uow:
        newest = (await audited(uow, limit=1))[0]
    assert (newest.action, newest.actor, newest.ip) == ("user.login", "ann@example.org", "127.0.0.1")


async def test_wrong_password_unknown_address_and_inactive_user_get_the_same_answer(api: Api) -> None:
    inactive = await api.user("gone@example.org")
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE users SET is_active = false WHERE id = $1", inactive.id)
    answers = [
        await login(api, "ann@example.org", "wrong password"),
        await login(api, "nobody@example.org", "wrong password"),
        await login(api, "nobody@example.org", PASSWORD),
        await login(api, "gone@example.org", PASSWORD),
        await login(api, "not an address", PASSWORD),
        await login(api, "ann@example.org", PASSWORD, tenant="no such tenant"),
    ]
    bodies = [{**answer.json, "request_id": ""} for answer in answers]
    assert [answer.status for answer in answers] == [401] * 6
    assert all(body == bodies[0] for body in bodies)
    assert len({frozenset(answer.headers) for answer in answers}) == 1


async def test_every_sign_in_hashes_once_whoever_is_meant(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    verify = passwords._verify

    def counting(password_hash: str, password: str) -> bool:
        hashed.append(password_hash)
        return verify(password_hash, password)

    monkeypatch.setattr(passwords, "_verify", counting)
    for email in ("ann@example.org", "nobody2@example.org", "not an address 2"):
        await login(api, email, "wrong password 2")
    assert len(hashed) == 3
    assert len({text.rpartition("$")[0].rpartition("$")[0] for text in hashed}) == 1


@pytest.mark.parametrize("email", ["locked@example.org", "unknown-locked@example.org"])
async def test_too_many_wrong_passwords_lock_known_and_unknown_addresses_alike(api: Api, email: str) -> None:
    if not email.startswith("unknown"):
        await api.user(email)
    answers = [await login(api, email, f"wrong {number}") for number in range(4)]
    answers.append(await login(api, email))
    answers.append(await login(api, email))
    assert [answer.status for answer in answers] == [401, 401, 401, 401, 429, 429]
    assert answers[-1].code == "too_many_attempts"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 600


async def test_parallel_guesses_are_counted_before_they_are_looked_at(api: Api) -> None:
    await api.user("storm@example.org")
    guesses = (login(api, "storm@example.org", f"guess {number}") for number in range(20))
    statuses = [answer.status for answer in await asyncio.gather(*guesses)]
    assert statuses.count(401) == 4
    assert statuses.count(429) == 16


async def test_a_right_password_forgets_the_wrong_ones_before_it(api: Api) -> None:
    await api.user("typo@example.org")
    for _ in range(3):
        for number in range(3):
            assert (await login(api, "typo@example.org", f"wrong {number}")).status == 401
        assert (await login(api, "typo@example.org")).status == 200


async def test_a_lock_ends_by_itself_and_old_wrong_passwords_are_forgotten(api: Api) -> None:
    await api.user("later@example.org")
    for number in range(5):
        last = await login(api, "later@example.org", f"wrong {number}")
    assert last.status == 429
    async with api.engine(None) as uow:
        await uow.raw.execute("UPDATE login_attempts SET ends_at = now() - interval '1 second'")
    assert (await login(api, "later@example.org", "wrong again")).status == 401
    assert (await login(api, "later@example.org")).status == 200


async def test_counts_that_have_ended_do_not_pile_up(api: Api) -> None:
    async with api.engine(None) as uow:
        await uow.raw.execute(
            "INSERT INTO login_attempts "
            "SELECT sha256(n::text::bytea), 1, now() - interval '1 day' FROM generate_series(1, 30) n"
        )
    for number in range(4):
        await login(api, f"sweep{number}@example.org")
    async with api.engine(None) as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM login_attempts WHERE ends_at < now()") == 0


async def test_an_administrator_unlocks_an_address(api: Api) -> None:
    user = await api.user("unlock@example.org", "viewer")
    for number in range(5):
        await login(api, "unlock@example.org", f"wrong {number}")
    ann = await api.signed_in("ann@example.org")
    assert (await ann.post(f"/api/v1/users/{user.id}/unlock")).status == 200
    assert (await login(api, "unlock@example.org")).status == 200


async def test_one_address_in_two_tenants_needs_the_tenants_name(api: Api) -> None:
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, "Second")
    await api.user("both@example.org")
    await api.user("both@example.org", "viewer", tenant_id=other.id)
    assert (await login(api, "both@example.org")).status == 401
    first = await login(api, "both@example.org", tenant="default")
    second = await login(api, "both@example.org", tenant=str(other.id))
    assert (first.json["tenant_id"], second.json["tenant_id"]) == (str(DEFAULT_TENANT), str(other.id))
    assert (await login(api, "both@example.org", tenant="Second")).json["role"] == "viewer"


async def test_a_session_brought_to_a_sign_in_ends_with_it(api: Api) -> None:
    first = await login(api, "ann@example.org")
    browser = Caller(api.url, cookies=first.cookies)
    second = await browser.post(LOGIN, {"email": "ann@example.org", "password": PASSWORD})
    assert second.cookies["session_id"] != first.cookies["session_id"]
    assert (await browser.get(ME)).status == 401
    assert (await Caller(api.url, cookies=second.cookies).get(ME)).status == 200


async def test_a_token_chosen_by_somebody_else_is_never_taken_over(api: Api) -> None:
    fixed = Caller(api.url, cookies={"session_id": "f" * 43})
    answer = await fixed.post(LOGIN, {"email": "ann@example.org", "password": PASSWORD})
    assert answer.cookies["session_id"] != "f" * 43
    assert (await fixed.get(ME)).status == 401


async def test_a_password_of_an_older_cost_is_hashed_anew_at_the_sign_in(api: Api) -> None:
    user = await api.user("old@example.org")
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE users SET password_hash = $1 WHERE id = $2", cheap, user.id)
    assert (await login(api, "old@example.org")).status == 200
    async with api.engine() as uow:
        stored = await uow.raw.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id)
    assert not passwords.is_outdated(stored)
    assert (await login(api, "old@example.org")).status == 200


async def test_the_database_holds_neither_passwords_nor_tokens_nor_keys(api: Api) -> None:
    answer = await login(api, "ann@example.org")
    key = await api.key("messages:read")
    async with api.engine(None) as uow:
        rows = [
            str(tuple(row))
            for table in ("users", "sessions", "api_keys", "audit_log", "login_attempts")
            for row in await uow.raw.fetch(f"SELECT to_jsonb(t) FROM {table} t")
        ]
    everything = "\n".join(rows)
    for secret in (PASSWORD, answer.cookies["session_id"], answer.json["token"], key):
        assert secret not in everything


async def test_a_cross_site_page_cannot_sign_a_browser_in(api: Api) -> None:
    body = {"email": "ann@example.org", "password": PASSWORD}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = await api.caller(**headers).post(LOGIN, body)
        assert (answer.status, answer.code) == (403, "cross_site")
        assert not answer.cookies


async def test_one_source_cannot_spray_passwords_over_many_addresses(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    async with api_of(new_database("migrated")) as sprayed:
        answers = await asyncio.gather(*(login(sprayed, f"u{number}@example.org", "x" * 300) for number in range(130)))
        assert [answer.status for answer in answers].count(422) == 100
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) == 30
        assert refused[0].code == "rate_limited"
        assert int(refused[0].headers["Retry-After"]) >= 1


async def test_the_cookie_on_https_is_secure_and_bound_to_the_host(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), public_url="https://mail.example.org") as secure:
        await secure.user("ann@example.org")
        answer = await login(secure, "ann@example.org")
        header = answer.headers["Set-Cookie"]
        assert header.startswith("__Host-session_id=")
        assert "Secure" in header
        assert "HttpOnly" in header
        assert "SameSite=lax" in header
        assert (await Caller(secure.url, cookies=answer.cookies).get(ME)).status == 200
        plain = {"session_id": answer.cookies["__Host-session_id"]}
        assert (await Caller(secure.url, cookies=plain).get(ME)).status == 401


async def test_a_password_changed_in_the_instant_of_a_sign_in_wins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await api.user("race@example.org")
    other_hash = await hashed_once("another quite unusual phrase")
    matches = passwords.matches

    async def changed_meanwhile(password_hash: str, password: str) -> bool:
        found = await matches(password_hash, password)
        async with api.engine() as uow:
            await uow.raw.execute("UPDATE users SET password_hash = $1 WHERE id = $2", other_hash, user.id)
        return found

    monkeypatch.setattr(passwords, "matches", changed_meanwhile)
    assert (await login(api, "race@example.org")).status == 401
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", user.id) == 0

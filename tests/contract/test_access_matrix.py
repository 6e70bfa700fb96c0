"""Who may reach what: every route, as everybody, with one's own and with another tenant's ids, against a table.

A route without a line in CASES fails here. Nothing of another tenant is ever shown or changed; looking changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from structlog.testing import capture_logs

from outrider.base.clock import utc_now
from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.tenants import tenants
from outrider.domain.tenants.roles import ROLES, SCOPES, includes
from outrider.engine.maintenance.upkeep import Upkeep
from outrider.interfaces.api import visits
from outrider.interfaces.api.application import routes
from outrider.interfaces.api.middleware.buckets import Buckets
from outrider.interfaces.api.strictness import is_public
from outrider.interfaces.api.tokens import Claim, Tokens
from outrider.interfaces.auth import Needs, needs_installation_admin
from tests.contract.access_table import ANYBODY, CASES, PEOPLE, PUBLIC, Case
from tests.kit.api import TESTER, Api, api_of
from tests.kit.names import Table, serving
from tests.kit.worlds import FRESH, World, jobs_ended, session_of, world_of

SAFE = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True)
class Route:
    """A route of the application."""

    method: str
    path: str
    handler: HTTPRouteHandler

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+):\w+\}", self.path)


def _routes() -> list[Route]:
    app = routes()
    return [
        Route(method, route.path, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in sorted(route.route_handler_map.items())
        if method != "OPTIONS"
    ]


ROUTES = _routes()


@dataclass(frozen=True)
class Person:
    """A caller: `headers` are the credential, `role` is empty for nobody, `kind` is session, jwt, key or none."""

    name: str
    kind: str
    role: str
    headers: dict[str, str] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset()
    user_id: UUID | None = None

    def status(self, case: Case, noun: str | None) -> int:
        """What the table says about a request; `noun` is the one that is another tenant's."""
        if case.scope != PUBLIC:
            if not self.role:
                return 401
            wanted = {case.scope, *filter(None, [case.also])}
            is_short = self.kind == "key" and case.scope != ANYBODY and not wanted <= self.scopes
            is_root = self.name == "root"
            if is_short or not includes(self.role, case.least) or (case.is_installation and not is_root):
                return 403
            if noun is not None and is_root and case.root_other is not None:
                return case.root_other
        return case.own if noun is None else case.other_status(noun)


@dataclass
class Matrix:
    """Two worlds, everybody who may try, and one client."""

    api: Api
    mine: World
    theirs: World
    people: dict[str, Person]
    keys: dict[str, dict[str, Person]]
    pairs: dict[str, list[Person]]
    client: aiohttp.ClientSession
    count: int = 0

    async def ask(self, route: Route, case: Case, person: Person, foreign: str | None) -> tuple[int, str, str]:
        """One request; gives its status, what was sent and what was answered."""
        self.count += 1
        picked: dict[str, str] = {}
        used_up = nouns_of(route, case) & FRESH.keys() - {foreign} if route.method not in SAFE else ()
        fresh = {noun: await self.mine.fresh(noun) for noun in used_up}

        def pick(noun: str) -> str:
            picked[noun] = (self.theirs.ids if noun == foreign else {**self.mine.ids, **fresh})[noun]
            return picked[noun]

        path = route.path
        for parameter in route.parameters:
            noun = noun_of(case, parameter)
            value = noun[1:] if noun.startswith("=") else pick(noun)
            path = re.sub(rf"\{{{parameter}:\w+\}}", value, path)
        if case.query is not None:
            path += f"?{case.query(pick)}"
        body = case.body(pick, self.count) if case.body else None
        headers = dict(person.headers)
        if body is not None:
            headers["Content-Type"] = case.kind
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if case.is_last and person.user_id is not None and person.role:
            headers |= await credential(self.api, person.kind, person.user_id)
        async with self.client.request(route.method, self.api.url + path, headers=headers, data=body) as answer:
            return answer.status, f"{path} {(body or b'').decode()}", await answer.text()

    def callers(self, case: Case) -> Iterator[Person]:
        """Everybody in turn; keys with exactly the scope, with every scope but it; both where two are needed."""
        yield from self.people.values()
        if case.also:
            yield from self.pairs[f"{case.scope} {case.also}"]
        scope = case.scope if case.scope in SCOPES else "queue:read"
        yield from self.keys[scope].values()


def noun_of(case: Case, parameter: str) -> str:
    return case.nouns.get(parameter, parameter.removesuffix("_id"))


def nouns_of(route: Route, case: Case) -> set[str]:
    """What a request names, literal parts of the path aside."""
    found = {noun for parameter in route.parameters if not (noun := noun_of(case, parameter)).startswith("=")}

    def note(noun: str) -> str:
        found.add(noun)
        return noun

    if case.query is not None:
        case.query(note)
    if case.body is not None:
        case.body(note, 0)
    return found


async def credential(api: Api, kind: str, user_id: UUID) -> dict[str, str]:
    """The header of a new session."""
    begun = await session_of(api, DEFAULT_TENANT, user_id)
    if kind == "session":
        return {"Cookie": f"session_id={begun.token}"}
    token = Tokens(api.runtime.keyring).issue(Claim(DEFAULT_TENANT, user_id, begun.token_hash))
    return {"Authorization": f"Bearer {token}"}


async def _people(api: Api) -> dict[str, Person]:
    people = {"nobody": Person("nobody", "none", "")}
    for name, kind, role in (
        *((role, "session", role) for role in ROLES),
        ("root", "session", "owner"),
        ("token", "jwt", "owner"),
    ):
        user = await api.user(f"{name}@people.example", role, is_installation_admin=name == "root")
        headers = await credential(api, kind, user.id)
        people[name] = Person(name, kind, role, headers, user_id=user.id)
    gone = await api.user("gone@people.example", "owner")
    headers = await credential(api, "session", gone.id)
    async with api.engine() as uow:
        await uow.raw.execute("DELETE FROM sessions WHERE user_id = $1", gone.id)
    return people | {"signed out": Person("signed out", "session", "", headers)}


async def _keys(api: Api) -> dict[str, dict[str, Person]]:
    """Per scope a key that has only it and one that has all others, both of an owner."""
    keys: dict[str, dict[str, Person]] = {}
    for scope in SCOPES:
        keys[scope] = {}
        for name, scopes in (("key with it", {scope}), ("key without it", SCOPES.keys() - {scope})):
            header = {"Authorization": f"Bearer {await api.key(*scopes)}"}
            keys[scope][name] = Person(name, "key", "owner", header, frozenset(scopes))
    newest = "(SELECT id FROM api_keys ORDER BY created_at DESC LIMIT 1)"
    for name, column in (("expired key", "expires_at"), ("revoked key", "revoked_at")):
        header = {"Authorization": f"Bearer {await api.key('queue:read')}"}
        async with api.engine() as uow:
            past = utc_now() - timedelta(seconds=1)
            await uow.raw.execute(f"UPDATE api_keys SET {column} = $1 WHERE id = {newest}", past)
        for scope in SCOPES:
            keys[scope][name] = Person(name, "key", "", header)
    return keys


async def _pairs(api: Api) -> dict[str, list[Person]]:
    """Where a route needs two scopes: a key that has exactly them, and one that has all but the second."""
    pairs: dict[str, list[Person]] = {}
    for case in (case for cases in CASES.values() for case in cases if case.also):
        both = {case.scope, case.also}
        pairs[f"{case.scope} {case.also}"] = [
            Person(name, "key", "owner", {"Authorization": f"Bearer {await api.key(*scopes)}"}, frozenset(scopes))
            for name, scopes in (("key with both", both), ("key without the second", SCOPES.keys() - {case.also}))
        ]
    return pairs


class Unhurried(visits.Rates):
    """Public pages that nobody comes to too often: everybody here comes from one address, and many of them."""

    def __init__(self) -> None:
        super().__init__()
        self.guesses = self.looks = self.posts = self.signups = Buckets(1e6, 1e6)


@pytest.fixture(scope="module")
async def matrix(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    settings = {"api_rate_per_s": 100_000, "allow_localhost_links": True, "data_dir": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visits, "Rates", Unhurried)
        async with _matrix(new_database("migrated"), settings) as made:
            yield made


@asynccontextmanager
async def _matrix(url: str, settings: dict[str, Any]) -> AsyncIterator[Matrix]:
    async with (
        serving(Table()) as names,
        api_of(url, dns_servers=[names], **settings) as api,
    ):
        async with api.engine(None) as uow:
            other = await tenants.create(uow, TESTER, "theirs")
        mine = await world_of(api, DEFAULT_TENANT, "mineword")
        theirs = await world_of(api, other.id, "theirword")
        for world in (mine, theirs):
            world.ids["external_id"] = world.word
        people, keys, pairs = await _people(api), await _keys(api), await _pairs(api)
        await Upkeep(api.runtime).fold()  # what a loop of the API would fold a moment later
        jar = aiohttp.DummyCookieJar()
        with capture_logs():  # some thousand lines
            async with aiohttp.ClientSession(cookie_jar=jar, skip_auto_headers=["Content-Type"]) as client:
                yield Matrix(api, mine, theirs, people, keys, pairs, client)


def test_every_route_has_its_line_and_every_line_its_route() -> None:
    assert {str(route) for route in ROUTES} == CASES.keys()


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_what_a_route_declares_is_what_the_table_says(route: Route) -> None:
    declared = [guard for guard in route.handler.guards or () if isinstance(guard, Needs)]
    for case in CASES[str(route)]:
        if case.scope == PUBLIC:
            assert is_public(route.handler)
            assert not declared
        else:
            assert not is_public(route.handler)
            (rule,) = declared
            scope = PEOPLE if rule.people_only else rule.scope or ANYBODY
            assert (rule.role, scope, rule.also or "") == (case.least, case.scope, case.also)
            if needs_installation_admin in (route.handler.guards or ()):
                assert case.is_installation


async def test_looking_changes_nothing_whoever_looks(matrix: Matrix) -> None:
    """GET, HEAD and OPTIONS of every path: not one row is written, not even with the values it had."""
    paths = {route.path: route for route in ROUTES}
    for person in matrix.callers(Case("", "queue:read")):
        await matrix.ask(paths["/api/v1/auth/me"], Case("", ANYBODY), person, None)
    async with matrix.api.engine(None) as uow:  # "last used" is not due within this test, however long it takes
        await uow.raw.execute("UPDATE api_keys SET last_used_at = now() + interval '1 h'")
        await uow.raw.execute("UPDATE sessions SET seen_at = now() + interval '1 h'")
    before = await written(matrix.api)
    for route in ROUTES:
        if route.method == "GET":
            for case in CASES[str(route)]:
                for person in (*matrix.people.values(), *matrix.keys["queue:read"].values()):
                    status, sent, _ = await matrix.ask(route, case, person, None)
                    assert status < 500, sent
    for path, route in paths.items():
        for method in ("HEAD", "OPTIONS"):
            other = Route(method, path, route.handler)
            status, sent, text = await matrix.ask(other, Case("", PUBLIC, nouns=_nouns(route)), _root(matrix), None)
            looks = {200, 405, CASES[str(route)][0].own}
            assert status == 204 if method == "OPTIONS" else status in looks, (status, method, sent)
            assert not text
    assert await written(matrix.api) == before


def _nouns(route: Route) -> dict[str, str]:
    return CASES[str(route)][0].nouns


def _root(matrix: Matrix) -> Person:
    return matrix.people["root"]


async def test_everybody_gets_what_the_table_says_and_nobody_anything_of_another_tenant(matrix: Matrix) -> None:
    untouched = await rows_of(matrix.api, matrix.theirs.tenant_id)
    wrong: list[str] = []
    reaching: list[tuple[Route, Case, str]] = []
    for route in ROUTES:
        for case in CASES[str(route)]:
            for noun in (None, *sorted(nouns_of(route, case))):
                for person in matrix.callers(case):
                    if person.name == "root" and noun is not None and case.root_other is not None:
                        reaching.append((route, case, noun))
                        continue
                    wrong += await _compare(matrix, route, case, person, noun)
    assert not wrong, "\n".join([f"{len(wrong)} of {matrix.count} cells", *wrong])
    await jobs_ended(matrix.api)
    assert await rows_of(matrix.api, matrix.theirs.tenant_id) == untouched
    for route, case, noun in reaching:
        wrong += await _compare(matrix, route, case, _root(matrix), noun)
    assert not wrong, "\n".join(wrong)
    assert matrix.count > 2_500


async def _compare(matrix: Matrix, route: Route, case: Case, person: Person, noun: str | None) -> list[str]:
    status, sent, text = await matrix.ask(route, case, person, noun)
    expected = person.status(case, noun)
    where = f"{route} [{sent[:120]}] as {person.name}, foreign: {noun}"
    found = [] if status == expected else [f"{where}: {status} instead of {expected}: {text[:200]}"]
    if person.name != "root":
        secrets = (matrix.theirs.word, *matrix.theirs.ids.values())
        shown = {word for word in secrets if word in text and word not in sent}
        if shown and noun != "token":  # whoever has a recipient's link is that recipient
            found.append(f"{where}: shows {shown}")
    return found


async def rows_of(api: Api, tenant_id: UUID) -> dict[str, str]:
    """A digest per table of everything a tenant has, but for when its sessions and keys were last used."""
    return await _digests(api, "(to_jsonb(t) - 'seen_at' - 'last_used_at')::text", tenant_id)


async def written(api: Api) -> dict[str, str]:
    """A digest per table of which transaction wrote which row where: a write that changes no value shows too."""
    return await _digests(api, "concat_ws(' ', t.tableoid, t.ctid, t.xmin, to_jsonb(t))", None)


async def _digests(api: Api, text: str, tenant_id: UUID | None) -> dict[str, str]:
    found = {}
    async with api.engine(None) as uow:
        tables = await uow.raw.fetch(
            "SELECT c.relname AS name, CASE c.relname WHEN 'tenants' THEN 'id' ELSE a.attname END AS tenant "
            "FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND has_table_privilege(c.oid, 'SELECT')"
        )
        for table in tables:
            if tenant_id is None or table["tenant"]:
                where = f"WHERE {table['tenant']} = '{tenant_id}'" if tenant_id else ""
                rows = await uow.raw.fetch(f"SELECT {text} AS row FROM {table['name']} t {where}")
                digest = "\n".join(sorted(row["row"] for row in rows))
                found[table["name"]] = hashlib.sha256(digest.encode()).hexdigest()
    assert len(found) > 30
    return found


async def test_a_revoked_key_and_an_ended_session_are_refused_within_a_second(matrix: Matrix) -> None:
    key = await matrix.api.key("tenant:read")
    caller = matrix.api.caller(key)
    assert (await caller.get("/api/v1/roles")).status == 200
    async with matrix.api.engine() as uow:  # as another process does it
        await uow.raw.execute("UPDATE api_keys SET revoked_at = now() WHERE prefix = $1", key[:14])
    revoked_s = asyncio.get_running_loop().time()
    async with asyncio.timeout(90):
        while True:
            asked_s = asyncio.get_running_loop().time()
            if (await caller.get("/api/v1/roles")).status == 401:
                break
            assert asked_s < revoked_s + 1, "what is asked a second later is refused, however long it is under way"
            await asyncio.sleep(0.02)

"""Rules over every route of the API, found by walking the application: nobody has to remember to add a route here."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.tenants.roles import ROLES, SCOPES, includes
from outrider.interfaces.api.application import routes
from outrider.interfaces.api.strictness import is_public, strict
from outrider.interfaces.auth import Needs, needs_installation_admin
from tests.kit.api import Api, Caller, api_of

SAFE = {"GET", "HEAD"}
PUBLIC = {
    "/health": "monitors have no key",
    "/api/health": "monitors have no key",
    "/api/v1/health": "monitors have no key",
    "/livez": "supervisors have no key",
    "/readyz": "load balancers have no key",
    "/metrics": "decides by network, else by key",
    "/api/v1/metrics": "decides by network, else by key",
    "/api/v1/queue/stats": "decides by network, else by key",
    "/hangfire/stats": "decides by network, else by key",
    "/": "says what this is and where to go on",
    "/openapi.json": "says nothing about this installation",
    "/api/v1/auth/login": "is the sign-in",
    "/api/v1/auth/password-reset": "the token is the credential",
    "/u/{token:str}": "the signed link in a mail is the credential",
    "/w/{token:str}": "the signed link in a mail is the credential",
    "/s/{token:str}": "a tenant's form is for everybody",
    "/c/{token:str}": "the signed link in a mail is the credential",
    "/p/{token:str}": "the signed link in a mail is the credential",
    "/v/{token:str}": "the unguessable address of a published campaign is the credential",
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    handler: HTTPRouteHandler

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def guards(self) -> list[Any]:
        return [guard for guard in self.handler.guards or () if guard is not strict]

    @property
    def needs(self) -> list[Needs]:
        return [guard for guard in self.guards if isinstance(guard, Needs)]

    def with_ids(self, value: str | None = None) -> str:
        """The path with something in place of each parameter."""
        parts = [(value or str(uuid4())) if part.startswith("{") else part for part in self.path.split("/")]
        return "/".join(parts)


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
SIGNED_IN = [route for route in ROUTES if not is_public(route.handler)]
CHANGING = [route for route in SIGNED_IN if route.method not in SAFE]
each = pytest.mark.parametrize("route", ROUTES, ids=str)
each_signed_in = pytest.mark.parametrize("route", SIGNED_IN, ids=str)
each_changing = pytest.mark.parametrize("route", CHANGING, ids=str)


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), api_rate_per_s=100_000) as running:
        for role in ROLES:
            await running.user(f"{role}@example.org", role)
        await running.user("root@example.org", "owner", is_installation_admin=True)
        yield running


@pytest.fixture(scope="module")
async def people(api: Api) -> dict[str, Caller]:
    return {role: await api.signed_in(f"{role}@example.org") for role in (*ROLES, "root")}


def test_the_walk_finds_the_routes() -> None:
    paths = {route.path for route in ROUTES}
    assert {"/tenants/{tenant_id:str}/pause", "/api/v1/switches/pause", "/health", "/api/v1/auth/me"} <= paths


@each
def test_a_route_declares_exactly_one_kind_of_access(route: Route) -> None:
    if is_public(route.handler):
        assert route.path in PUBLIC, "say in PUBLIC why nobody has to sign in"
        assert not route.guards
    else:
        assert len(route.needs) == 1
        assert {guard for guard in route.guards if not isinstance(guard, Needs)} <= {needs_installation_admin}
        assert route.needs[0].scope is not None or route.path.startswith("/api/v1/auth/"), "keys need a scope here"


ONLY_LOOK = {
    "POST /api/v1/campaigns/{campaign_id:str}/preview": "values travel in bodies; it renders and stores nothing",
    "POST /api/v1/messages/measure": "a text travels in a body; it counts and stores nothing",
    "POST /api/v1/consents/verify": "a proof travels in a body; it checks and stores nothing",
    "POST /api/v1/contacts/search": "addresses and rules travel in bodies; it reads and stores nothing",
    "POST /api/v1/schedules/preview": "an expression travels in a body; it stores nothing",
    "POST /api/v1/segments/count": "rules travel in bodies; it counts and stores nothing",
    "POST /api/v1/senders/{sender_id:str}/dns/check": "it asks name servers and stores nothing",
    "POST /api/v1/templates/{template_id:str}/links": "it reads and stores nothing",
    "POST /api/v1/templates/{template_id:str}/preview": "values travel in bodies; it renders and stores nothing",
}


@each_signed_in
def test_what_changes_something_needs_more_than_a_reader(route: Route) -> None:
    (rule,) = route.needs
    if route.method in SAFE or rule.scope is None or needs_installation_admin in route.guards:
        return
    if f"{route.method} {route.path}" in ONLY_LOOK:
        assert rule.scope.endswith(":read")
        return
    assert rule.scope.endswith(":write")
    assert includes(rule.role, SCOPES[rule.scope].role)
    assert rule.role != "viewer"


@each_signed_in
async def test_nobody_in_particular_gets_nothing(api: Api, route: Route) -> None:
    answer = await api.caller().ask(route.method, route.with_ids())
    assert answer.status == 401
    if route.method != "HEAD":
        assert answer.code == "unauthenticated"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@each_signed_in
async def test_a_role_below_the_one_needed_is_refused_and_one_above_reads(
    api: Api, people: dict[str, Caller], route: Route
) -> None:
    (rule,) = route.needs
    for role in ROLES:
        if not includes(role, rule.role):
            answer = await people[role].ask(route.method, route.with_ids(), body={})
            assert answer.status == 403, role
        elif route.method == "GET" and needs_installation_admin not in route.guards:
            assert (await people[role].get(route.with_ids())).status not in {401, 403, 500}, role


@each_signed_in
async def test_a_key_without_the_scope_is_refused_whatever_its_role(api: Api, route: Route) -> None:
    (rule,) = route.needs
    key = await api.key(*(name for name in SCOPES if name != rule.scope))
    if rule.scope is not None or rule.people_only:
        assert (await api.caller(key).ask(route.method, route.with_ids(), body={})).status == 403


@each_changing
async def test_a_page_of_another_site_changes_nothing(api: Api, people: dict[str, Caller], route: Route) -> None:
    browser = Caller(api.url, {"Sec-Fetch-Site": "cross-site"}, people["root"].cookies)
    answer = await browser.ask(route.method, route.with_ids(), body={})
    assert (answer.status, answer.code) == (403, "cross_site")


@each_changing
async def test_a_form_of_another_type_is_refused(api: Api, people: dict[str, Caller], route: Route) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": kind} if kind else {}
        answer = await people["root"].ask(route.method, route.with_ids(), data=b"{}", headers=headers)
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), kind


@each
async def test_head_and_options_are_answered(api: Api, route: Route) -> None:
    assert (await api.caller().ask("OPTIONS", route.with_ids())).status == 204
    head = await api.caller().ask("HEAD", route.with_ids())
    is_link = route.path.startswith(("/u/", "/v/", "/w/", "/s/", "/c/", "/p/"))  # no link has a made-up token
    assert head.status in ({404} if is_link else {200, 401, 405})
    assert head.text == ""


ODD_IDS = ["0", "-1", "9" * 20, "1.0", "0x10", "1e3", "' OR 1=1--", "null", "NaN", "%F0%9F%98%80", "%00", "a" * 1000]
ODD_IDS += [f"{{{DEFAULT_TENANT}}}", f"urn:uuid:{DEFAULT_TENANT}", "ABCDEFAB-CDEF-4ABC-8DEF-ABCDEFABCDEF"]


# those of /tenants/ would pause the tenant under its other spellings, as they should: flow/test_switches_api.py
WITH_IDS = [route for route in SIGNED_IN if "{" in route.path and not route.path.startswith("/tenants/")]


@pytest.mark.parametrize("route", WITH_IDS, ids=str)
async def test_odd_ids_are_not_found_or_refused(people: dict[str, Caller], route: Route) -> None:
    for odd in ODD_IDS:
        answer = await people["root"].ask(route.method, route.with_ids(odd), body={})
        assert answer.status in {200, 204, 400, 404, 405, 415, 422}, odd


@pytest.mark.parametrize("route", [route for route in SIGNED_IN if route.method == "GET"], ids=str)
async def test_parameters_nobody_named_are_refused(people: dict[str, Caller], route: Route) -> None:
    answer = await people["root"].get(route.with_ids() + "?surely_nobody_named_this=1")
    assert (answer.status, answer.code, answer.json["parameter"]) == (
        422,
        "unknown_parameter",
        "surely_nobody_named_this",
    )


PAGED = [route for route in SIGNED_IN if "limit" in route.handler.parsed_fn_signature.parameters]


ODD_PAGES = ["limit=0", "limit=-1", "limit=1001", "limit=1e9", "limit=abc", "limit=", "limit=10&limit=20", "limit=1.5"]
ODD_PAGES += ["limit=99999999999999999999", "cursor=x", "cursor=%00", "cursor=" + "A" * 3000, "offset=1"]


@pytest.mark.parametrize("route", PAGED, ids=str)
@pytest.mark.parametrize("query", ODD_PAGES)
async def test_pages_are_1_to_1000_long_and_cursors_are_ours(
    people: dict[str, Caller], route: Route, query: str
) -> None:
    assert (await people["root"].get(f"{route.with_ids()}?{query}")).status == 422


@pytest.mark.parametrize("route", PAGED, ids=str)
async def test_a_page_has_items_and_a_cursor(people: dict[str, Caller], route: Route) -> None:
    answer = await people["root"].get(f"{route.with_ids()}?limit=1000")
    assert answer.status in {200, 404}
    if answer.status == 200:
        assert set(answer.json) >= {"items", "next_cursor"}


async def test_reading_every_route_changes_nothing(api: Api, people: dict[str, Caller]) -> None:
    before = await _digests(api)
    for route in ROUTES:
        if route.method == "GET":
            for caller in (api.caller(), people["root"]):
                assert (await caller.get(route.with_ids())).status < 500, route
    assert await _digests(api) == before


async def _digests(api: Api) -> dict[str, str]:
    """A digest of every table's rows, but for the marks of when somebody was last seen."""
    async with api.engine(None) as uow:
        tables = [
            row["relname"]
            for row in await uow.raw.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
                "AND NOT relispartition AND has_table_privilege(oid, 'SELECT') ORDER BY 1"
            )
        ]
        found = {}
        for table in tables:
            rows = await uow.raw.fetch(
                f"SELECT (to_jsonb(t) - 'seen_at' - 'last_used_at')::text AS row FROM {table} t ORDER BY 1"
            )
            found[table] = hashlib.sha256("\n".join(row["row"] for row in rows).encode()).hexdigest()
    assert len(found) > 15
    return found

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.interfaces.auth import Principal, needs, needs_installation_admin, principal_of


def principal(role: str, via: str = "session", scopes: tuple[str, ...] = (), *, admin: bool = False) -> Principal:
    return Principal(UUID(int=1), Actor("user", "ann"), role, frozenset(scopes), admin, cast("Any", via))


class Connection:
    def __init__(self, user: Any) -> None:
        self.scope = {"user": user}


async def passes(guard: Any, user: Any) -> int:
    try:
        await guard(Connection(user), None)
    except Refused as refused:
        return refused.http_status
    return 200


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200), ("owner", 200)])
async def test_a_person_needs_the_role_alone(role: str, status: int) -> None:
    assert await passes(needs("operator", "messages:write"), principal(role)) == status


@pytest.mark.parametrize(
    ("role", "scopes", "status"),
    [
        ("operator", ("messages:write",), 200),
        ("operator", ("messages:read",), 403),
        ("viewer", ("messages:write",), 403),
        ("owner", (), 403),
    ],
)
async def test_a_key_needs_role_and_scope(role: str, scopes: tuple[str, ...], status: int) -> None:
    assert await passes(needs("operator", "messages:write"), principal(role, "key", scopes)) == status


async def test_what_is_for_people_refuses_keys_of_any_scope() -> None:
    assert await passes(needs("viewer", people_only=True), principal("owner", "key")) == 403
    assert await passes(needs("viewer", people_only=True), principal("viewer", "jwt")) == 200


@pytest.mark.parametrize("nobody", [None, "ann", {"role": "owner"}])
async def test_nobody_is_refused(nobody: Any) -> None:
    assert await passes(needs("viewer"), nobody) == 401
    with pytest.raises(Refused):
        principal_of(cast("Any", Connection(nobody)))


async def test_owners_of_a_tenant_do_not_administer_the_installation() -> None:
    assert await passes(needs_installation_admin, principal("owner")) == 403
    assert await passes(needs_installation_admin, principal("viewer", admin=True)) == 200


@pytest.mark.parametrize(("role", "scope"), [("root", None), ("owner", "everything:write")])
def test_a_guard_for_a_role_or_scope_that_does_not_exist_cannot_be_made(role: str, scope: str | None) -> None:
    with pytest.raises(Broken):
        needs(role, scope)

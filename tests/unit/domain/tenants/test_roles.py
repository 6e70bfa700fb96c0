from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.domain.tenants.roles import ROLE_HELP, ROLES, SCOPES, check_role, check_scopes, includes


def test_every_role_includes_the_ones_before_it_and_no_other() -> None:
    for position, role in enumerate(ROLES):
        assert [other for other in ROLES if includes(role, other)] == list(ROLES[: position + 1])


def test_a_word_that_is_no_role_includes_nothing_and_is_included_by_nobody() -> None:
    assert not includes("root", "viewer")
    assert not includes("owner", "root")
    assert not includes("root", "root")


def test_every_role_is_explained() -> None:
    assert list(ROLE_HELP) == list(ROLES)


def test_every_scope_needs_a_role_that_exists_and_is_named_noun_and_verb() -> None:
    for name, scope in SCOPES.items():
        assert scope.role in ROLES
        assert name.partition(":")[2] in {"read", "write"}


def test_scopes_are_given_back_in_the_tables_order_and_once() -> None:
    assert check_scopes(["metrics:read", "messages:read", "metrics:read"], "viewer") == [
        "messages:read",
        "metrics:read",
    ]


def test_an_unknown_scope_is_refused_with_its_place() -> None:
    with pytest.raises(Refused) as caught:
        check_scopes(["messages:read", "everything"], "owner")
    assert (caught.value.code, caught.value.field) == ("unknown_scope", "/scopes/1")


def test_a_scope_beyond_the_role_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        check_scopes(["users:write"], "operator")
    assert caught.value.code == "scope_beyond_role"


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(Refused):
        check_role("root")

"""Who is calling and what they may do: the principal of a request and the guards of its route.

Owns the rules of roles and scopes at the door; never reads the database: the API's middleware establishes who it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.domain.tenants.roles import ROLES, SCOPES, includes

PUBLIC = "public"
"""Value of a route's `opt={"auth": PUBLIC}`: it needs no sign-in. A route without guard and without this is refused."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential was checked.

    `scopes` is empty for people (their role decides) and the key's for keys. `session_hash` names the session behind a
    cookie or token, never the token itself; `user_id` is the person's, `key_id` the key's.
    """

    tenant_id: UUID
    actor: Actor
    role: str
    scopes: frozenset[str]
    is_installation_admin: bool
    via: Literal["session", "key", "jwt"]
    user_id: UUID | None = None
    key_id: UUID | None = None
    session_hash: bytes | None = None

    def may(self, role: str, scope: str | None = None) -> bool:
        """Whether this caller may do what needs `role` and, for keys, `scope`."""
        if not includes(self.role, role):
            return False
        return self.via != "key" or scope is None or scope in self.scopes


@dataclass(frozen=True, slots=True)
class Needs:
    """A guard of a route, whose rule can be read (by tests and documentation)."""

    role: str
    scope: str | None
    people_only: bool
    also: str | None = None

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Let the caller pass. Raises Refused(unauthenticated, 401) or Refused(forbidden, 403)."""
        principal = principal_of(connection)
        if self.people_only and principal.via == "key":
            raise Refused("forbidden", "only a signed-in person may do this", status=403)
        if not includes(principal.role, self.role):
            raise Refused("forbidden", f"needs at least role {self.role}; you are {principal.role}", status=403)
        for scope in self.scopes:
            if not principal.may(self.role, scope):
                raise Refused("forbidden", f"this key needs the scope {scope}", status=403)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope that a key needs."""
        return tuple(scope for scope in (self.scope, self.also) if scope is not None)


def needs(role: str, scope: str | None = None, *, people_only: bool = False, also: str | None = None) -> Needs:
    """A guard: the caller must have at least this role and, when it is a key, this scope.

    Takes:   also: a second scope, where a route of one noun shows what belongs to another;
             people_only: refuse keys whatever their scopes (changing a password, ending sessions).
    Raises:  at import Broken for a role or scope that does not exist.
    """
    made = Needs(role, scope, people_only, also)
    if role not in ROLES or not SCOPES.keys() >= set(made.scopes):
        raise Broken("unknown_guard", f"no such role or scope: {role}, {', '.join(made.scopes)}")
    return made


async def needs_installation_admin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: only people who administer the installation, whatever their role in a tenant."""
    if not principal_of(connection).is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)


def principal_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """The caller of a request.

    Raises:  Refused(unauthenticated) when nobody signed in.
    """
    principal = connection.scope.get("user")
    if not isinstance(principal, Principal):
        raise Refused("unauthenticated", "sign in, or send a key as `Authorization: Bearer …`", status=401)
    return principal

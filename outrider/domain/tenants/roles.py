"""Roles of people and scopes of keys: the one table from which guards, API, CLI and docs draw their words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from outrider.base.errors import Refused

ROLES = ("viewer", "support", "operator", "admin", "owner")
"""In rising order: each may do everything the ones before it may."""

ROLE_HELP = MappingProxyType(
    {
        "viewer": "reads everything of the tenant but secrets",
        "support": "also looks after single contacts, messages and suppressions",
        "operator": "also sends, imports, launches, pauses and resumes",
        "admin": "also manages users, keys, senders and settings",
        "owner": "also makes other owners",
    }
)


@dataclass(frozen=True, slots=True)
class Scope:
    """One thing a key may be allowed to do, and the least role whose holder may grant it."""

    name: str
    help: str
    role: str


SCOPES: dict[str, Scope] = {
    scope.name: scope
    for scope in (
        Scope("messages:read", "look up messages and their history", "viewer"),
        Scope("messages:write", "send, cancel and resend messages", "operator"),
        Scope("campaigns:read", "read campaigns and their progress", "viewer"),
        Scope("campaigns:write", "create, launch, pause and cancel campaigns", "operator"),
        Scope("contacts:read", "read contacts, consent and lists", "viewer"),
        Scope("contacts:write", "change contacts, consent and lists", "support"),
        Scope("imports:read", "read imports and their rejected rows", "viewer"),
        Scope("imports:write", "import contacts", "operator"),
        Scope("suppressions:read", "read the do-not-contact list", "viewer"),
        Scope("suppressions:write", "change the do-not-contact list", "support"),
        Scope("templates:read", "read templates", "viewer"),
        Scope("templates:write", "change templates", "operator"),
        Scope("senders:read", "read senders and connections, never their secrets", "viewer"),
        Scope("senders:write", "change senders and connections", "admin"),
        Scope("switches:read", "see what is paused", "viewer"),
        Scope("switches:write", "pause and resume sending", "operator"),
        Scope("limits:read", "read send rates", "viewer"),
        Scope("limits:write", "change send rates", "admin"),
        Scope("queue:read", "read queue statistics", "viewer"),
        Scope("jobs:read", "read jobs, their progress, results and errors", "viewer"),
        Scope("jobs:write", "retry, cancel and delete jobs", "operator"),
        Scope("schedules:read", "read schedules and their runs", "viewer"),
        Scope("schedules:write", "create, change, pause and trigger schedules", "operator"),
        Scope("metrics:read", "read metrics from any network", "viewer"),
        Scope("audit:read", "read and verify the audit log", "admin"),
        Scope("users:read", "read users", "admin"),
        Scope("users:write", "create and change users", "admin"),
        Scope("keys:read", "read keys, never the keys themselves", "admin"),
        Scope("keys:write", "create and revoke keys", "admin"),
        Scope("tenant:read", "read the tenant's own settings", "viewer"),
        Scope("tenant:write", "change the tenant's own settings", "admin"),
    )
}


def rank(role: str) -> int:
    """Where a role stands in the order; -1 for a word that is no role."""
    return ROLES.index(role) if role in ROLES else -1


def includes(role: str, needed: str) -> bool:
    """Whether `role` may do what `needed` may."""
    return rank(role) >= rank(needed) >= 0


def check_role(role: str, *, field: str = "/role") -> str:
    """A role as given by a person. Raises Refused(unknown_role)."""
    if role not in ROLES:
        raise Refused("unknown_role", f"must be one of {', '.join(ROLES)}", field=field)
    return role


def check_scopes(scopes: list[str], role: str, *, field: str = "/scopes") -> list[str]:
    """Scopes of a key, in the table's order, each once.

    Raises:  Refused(unknown_scope) for a word that is none; Refused(scope_beyond_role) for what the role may not do.
    """
    for position, name in enumerate(scopes):
        scope = SCOPES.get(name)
        if scope is None:
            raise Refused("unknown_scope", f"must be one of {', '.join(SCOPES)}", field=f"{field}/{position}")
        if not includes(role, scope.role):
            raise Refused("scope_beyond_role", f"{name} needs at least role {scope.role}", field=f"{field}/{position}")
    return [name for name in SCOPES if name in set(scopes)]

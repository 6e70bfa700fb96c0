"""The table behind test_access_matrix.py: what every route answers to whom. A route without a line here fails there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PUBLIC, PEOPLE, ANYBODY = "public", "people", "anybody"
"""In place of a scope: nobody signs in; people only, no keys; every key whatever its scopes."""

JSON, CSV, FORM = "application/json", "text/csv", "application/x-www-form-urlencoded"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQAY3Y2wAAAAAElFTkSuQmCC"
"""The smallest PNG."""

Pick = Callable[[str], str]
Body = Callable[[Pick, int], Any]


@dataclass(frozen=True)
class Case:
    """One request to a route, and what it is answered.

    least   the least role; scope   what a key needs beside it, or PUBLIC, PEOPLE, ANYBODY; also  what it needs besides
    own     status with the caller's own ids, for whoever may; other  the same with one id of another tenant (404 unless
            another status is named: then the answer must be empty of it)
    """

    least: str
    scope: str
    own: int = 200
    other: int | dict[str, int] = 404
    body: Body | None = None
    kind: str = JSON
    query: Callable[[Pick], str] | None = None
    nouns: dict[str, str] = field(default_factory=dict)
    also: str = ""
    is_installation: bool = False
    is_last: bool = False
    root_other: int | None = None

    def other_status(self, noun: str) -> int:
        return self.other if isinstance(self.other, int) else self.other.get(noun, 404)


def read(least: str, scope: str, **more: Any) -> list[Case]:
    return [Case(least, scope, **more)]


def write(least: str, scope: str, body: Body | None = None, **more: Any) -> list[Case]:
    return [Case(least, scope, body=body, **more)]


def _reason(_: Pick, __: int) -> Any:
    return {"reason": "matrix"}


def _ids(noun: str) -> Body:
    return lambda pick, _: {"ids": [pick(noun)]}


def _campaign(pick: Pick, n: int) -> Any:
    wanted = {"sender_id": pick("sender"), "template_id": pick("template"), "list_id": pick("list")}
    return {"name": f"matrix {n}", **wanted}


def _variants(template_id: str) -> list[dict[str, Any]]:
    one = {"name": "a", "share_percent": 50, "template_id": template_id}
    return [one, {**one, "name": "b", "subject": "Another subject"}]


def _schedule(_: Pick, n: int) -> Any:
    arguments = {"import_id": "00000000-0000-0000-0000-000000000009"}
    return {
        "name": f"matrix {n}",
        "job_type": "import_contacts",
        "arguments": arguments,
        "cron": "0 2 * * *",
        "timezone": "UTC",
    }


def _proof() -> Any:
    """What looks like the proof of a consent and is none."""
    nobody = "00000000-0000-0000-0000-000000000009"
    words = ("tenant", "name", "channel", "purpose", "status", "head", "exported_at", "exported_by", "reason")
    rest: dict[str, Any] = {"external_id": None, "addresses": [], "entries": [], "audit": {"seq": 1, "hash": ""}}
    signed = {"format": "", "public_key": "", "signature": ""}
    return {"tenant_id": nobody, "contact_id": nobody, **dict.fromkeys(words, ""), **rest, **signed}


def _sender(pick: Pick, n: int) -> Any:
    return {"name": f"matrix {n}", "connection_id": pick("connection"), "from_address": "a@example.org"}


_HEALTH = {
    f"{method} {path}": [Case("", PUBLIC)]
    for path in ("/health", "/api/health", "/api/v1/health", "/livez", "/readyz")
    for method in ("GET", "HEAD")
}
CASES: dict[str, list[Case]] = {
    **_HEALTH,
    "GET /metrics": read("", PUBLIC),
    "GET /api/v1/metrics": read("", PUBLIC),
    "GET /api/v1/queue/stats": read("", PUBLIC),
    "GET /": read("", PUBLIC),
    "HEAD /": read("", PUBLIC),
    "GET /openapi.json": read("", PUBLIC),
    "GET /u/{token:str}": read("", PUBLIC, other=200),
    "HEAD /u/{token:str}": read("", PUBLIC, other=200),
    "POST /u/{token:str}": write("", PUBLIC, own=400, other=400),
    "GET /w/{token:str}": read("", PUBLIC, own=404, nouns={"token": "view_token"}),
    "HEAD /w/{token:str}": read("", PUBLIC, own=404, nouns={"token": "view_token"}),
    "GET /v/{token:str}": read("", PUBLIC, own=404, nouns={"token": "public_token"}),
    "HEAD /v/{token:str}": read("", PUBLIC, own=404, nouns={"token": "public_token"}),
    **{  # whose token is genuine is let in whoever they are: so the subject is one that there is not
        f"{method} /{path}/{{token:str}}": read("", PUBLIC, own=404, nouns={"token": f"{noun}_token"})
        for path, noun in (("s", "form"), ("c", "confirm"), ("p", "preferences"))
        for method in ("GET", "HEAD")
    },
    "POST /s/{token:str}": write(
        "", PUBLIC, lambda _, __: b"do=save", kind=FORM, nouns={"token": "form_token"}, own=404
    ),
    "POST /c/{token:str}": write(
        "", PUBLIC, lambda _, __: b"do=confirm", kind=FORM, nouns={"token": "confirm_token"}, own=404
    ),
    "POST /p/{token:str}": write(
        "", PUBLIC, lambda _, __: b"do=save", kind=FORM, nouns={"token": "preferences_token"}, own=404
    ),
    "POST /api/v1/auth/login": write("", PUBLIC, lambda _, __: {}, own=422),
    "POST /api/v1/auth/password-reset": write("", PUBLIC, lambda _, __: {"token": "x", "new_password": "y"}, own=401),
    "POST /api/v1/auth/token": write("viewer", PEOPLE),
    "POST /api/v1/auth/logout": write("viewer", PEOPLE, own=204, is_last=True),
    "GET /api/v1/auth/me": read("viewer", ANYBODY),
    "GET /api/v1/auth/sessions": read("viewer", PEOPLE),
    "DELETE /api/v1/auth/sessions": write("viewer", PEOPLE, own=204),
    "DELETE /api/v1/auth/sessions/{session_id:str}": write("viewer", PEOPLE, own=204, other=204),
    "POST /api/v1/auth/password": write(
        "viewer", PEOPLE, lambda _, __: {"current_password": "x" * 2000, "new_password": "y"}, own=422
    ),
    "GET /api/v1/audit": read("admin", "audit:read"),
    "GET /api/v1/audit/verify": read("admin", "audit:read"),
    "GET /api/v1/users": read("admin", "users:read"),
    "POST /api/v1/users": write(
        "admin",
        "users:write",
        lambda pick, n: {"email": f"matrix{n}@example.org", "role": "viewer", "tenant_id": pick("tenant")},
        own=201,
        root_other=201,
    ),
    "GET /api/v1/users/{user_id:str}": read("admin", "users:read"),
    "PATCH /api/v1/users/{user_id:str}": write("admin", "users:write", lambda _, n: {"name": f"matrix {n}"}),
    "POST /api/v1/users/{user_id:str}/password-reset": write("admin", "users:write", own=201),
    "POST /api/v1/users/{user_id:str}/unlock": write("admin", "users:write"),
    "DELETE /api/v1/users/{user_id:str}/sessions": write("admin", "users:write", own=204),
    "GET /api/v1/keys": read("admin", "keys:read"),
    "POST /api/v1/keys": write(
        "admin", "keys:write", lambda _, n: {"name": f"matrix {n}", "scopes": ["keys:write"], "role": "admin"}, own=201
    ),
    "GET /api/v1/keys/{key_id:str}": read("admin", "keys:read"),
    "DELETE /api/v1/keys/{key_id:str}": write("admin", "keys:write"),
    "GET /api/v1/roles": read("viewer", "tenant:read"),
    "GET /api/v1/tenants": read("viewer", "tenant:read"),
    "POST /api/v1/tenants": write(
        "admin", "tenant:write", lambda _, n: {"name": f"matrix {n}"}, own=201, is_installation=True
    ),
    "GET /api/v1/tenants/{tenant_id:str}": read("viewer", "tenant:read", root_other=200),
    "PATCH /api/v1/tenants/{tenant_id:str}": write(
        "admin", "tenant:write", lambda _, __: {"timezone": "Europe/Berlin"}, root_other=200
    ),
    "POST /tenants/{tenant_id:str}/pause": write("operator", "switches:write", root_other=200),
    "POST /tenants/{tenant_id:str}/resume": write("operator", "switches:write", root_other=200),
    "GET /api/v1/switches": read("viewer", "switches:read"),
    **{
        f"POST /api/v1/switches/{verb}": [
            Case(
                "operator",
                "switches:write",
                body=lambda pick, _: {"scope": "tenant", "tenant_id": pick("tenant")},
                root_other=200,
            ),
            Case(
                "operator",
                "switches:write",
                body=lambda pick, _: {"scope": "sender", "id": pick("sender")},
                other=other,
            ),
            Case(
                "operator",
                "switches:write",
                body=lambda pick, _: {"scope": "campaign", "id": pick("campaign")},
                other=other,
            ),
            Case("operator", "switches:write", body=lambda _, __: {"scope": "installation"}, is_installation=True),
        ]
        for verb, other in (("pause", 404), ("resume", 200))  # what is gone may be resumed: it changes nothing
    },
    "GET /api/v1/maintenance": read("viewer", "switches:read"),
    "POST /api/v1/maintenance/on": write("viewer", "switches:write", _reason, is_installation=True),
    "POST /api/v1/maintenance/off": write("viewer", "switches:write", _reason, is_installation=True),
    "GET /api/v1/limits": read("viewer", "limits:read"),
    "PUT /api/v1/limits/{kind:str}/{scope_id:str}": write(
        "admin", "limits:write", lambda _, __: {"rate_per_s": 5}, nouns={"kind": "=sender", "scope_id": "sender"}
    ),
    "DELETE /api/v1/limits/{kind:str}/{scope_id:str}": write(
        "admin", "limits:write", own=204, other=204, nouns={"kind": "=sender", "scope_id": "sender"}
    ),
    "GET /api/v1/limits/destinations": read("viewer", "limits:read"),
    "PUT /api/v1/limits/destinations/{channel:str}/{destination:str}": write(
        "admin",
        "limits:write",
        lambda _, __: {"rate_per_s": 5},
        nouns={"channel": "=email", "destination": "=example.net"},
    ),
    "DELETE /api/v1/limits/destinations/{channel:str}/{destination:str}": write(
        "admin", "limits:write", own=204, nouns={"channel": "=email", "destination": "=example.net"}
    ),
    "GET /api/v1/warm-ups": read("viewer", "limits:read"),
    "GET /api/v1/senders/{sender_id:str}/warm-up": read("viewer", "limits:read", nouns={"sender_id": "sender"}),
    "PUT /api/v1/senders/{sender_id:str}/warm-up": write(
        "admin", "limits:write", lambda _, __: {"plan": "standard"}, nouns={"sender_id": "sender"}
    ),
    "PATCH /api/v1/senders/{sender_id:str}/warm-up": write(
        "admin", "limits:write", lambda _, __: {"step": 2}, nouns={"sender_id": "sender"}
    ),
    "POST /api/v1/senders/{sender_id:str}/warm-up/restart": write(
        "admin", "limits:write", lambda _, __: {"reason": "test"}, nouns={"sender_id": "sender"}
    ),
    "GET /api/v1/budgets": read("viewer", "limits:read"),
    "GET /api/v1/budgets/events": read("viewer", "limits:read"),
    "PUT /api/v1/budgets/{kind:str}/{scope_id:str}": write(
        "admin",
        "limits:write",
        lambda _, __: {"daily_cents": 100_000, "monthly_cents": None},
        nouns={"kind": "=campaign", "scope_id": "campaign"},
    ),
    "POST /api/v1/budgets/{kind:str}/{scope_id:str}/reset": write(
        "admin", "limits:write", lambda _, __: {"period": "both"}, nouns={"kind": "=campaign", "scope_id": "campaign"}
    ),
    "GET /api/v1/quota": read("viewer", "limits:read"),
    "GET /api/v1/quotas": read("admin", "limits:read", is_installation=True),
    "PUT /api/v1/quotas/installation": write(
        "admin", "limits:write", lambda _, __: {"tenant_most": None}, is_installation=True
    ),
    "PUT /api/v1/quotas/tenants/{tenant_id:str}": write(
        "admin", "limits:write", lambda _, __: {"most": None}, is_installation=True, root_other=200
    ),
    "GET /api/v1/prices": read("viewer", "limits:read"),
    "POST /api/v1/prices": write(
        "admin", "limits:write", lambda _, __: {"channel": "email", "country": "DE", "micros": 79_000}, own=201
    ),
    "DELETE /api/v1/prices/{channel:str}/{country:str}": write(
        "admin", "limits:write", own=204, nouns={"channel": "=email", "country": "=DE"}
    ),
    "GET /api/v1/providers": read("viewer", "senders:read"),
    "GET /api/v1/connections": read("viewer", "senders:read"),
    "POST /api/v1/connections": write(
        "admin", "senders:write", lambda _, n: {"name": f"matrix {n}", "provider": "glass"}, own=201
    ),
    "GET /api/v1/connections/{connection_id:str}": read("viewer", "senders:read"),
    "PATCH /api/v1/connections/{connection_id:str}": write("admin", "senders:write", lambda _, __: {"settings": {}}),
    "DELETE /api/v1/connections/{connection_id:str}": write(
        "admin", "senders:write", own=204, nouns={"connection_id": "unused_connection"}
    ),
    "POST /api/v1/connections/{connection_id:str}/examine": write("admin", "senders:write"),
    "GET /api/v1/connections/{connection_id:str}/circuit": read("viewer", "senders:read"),
    "POST /api/v1/connections/{connection_id:str}/circuit/reset": write(  # nothing is known against it
        "admin", "senders:write", lambda _, __: {}, own=409
    ),
    "GET /api/v1/senders/{sender_id:str}/fallbacks": read("viewer", "senders:read"),
    "PUT /api/v1/senders/{sender_id:str}/fallbacks": write(
        "admin", "senders:write", lambda _, __: {"fallback_ids": []}
    ),
    "GET /api/v1/callbacks": read("viewer", "senders:read"),
    "GET /api/v1/callbacks/refusals": read("viewer", "senders:read"),
    "POST /api/v1/callbacks/replay": write(
        "admin", "senders:write", lambda pick, _: {"ids": [pick("event")]}, other=200
    ),
    "GET /api/v1/callbacks/exceptions": read("viewer", "senders:read"),
    "POST /api/v1/callbacks/exceptions": write(
        "admin",
        "senders:write",
        lambda pick, _: {"connection_id": pick("connection"), "network": "192.0.2.1", "minutes": 5, "reason": "matrix"},
        own=201,
    ),
    "DELETE /api/v1/callbacks/exceptions/{exception_id:str}": write("admin", "senders:write", own=204),
    # the world's provider does not report: refused, but only for whoever may look
    "GET /api/v1/connections/{connection_id:str}/callback": read("viewer", "senders:read", own=422),
    "GET /api/v1/inbound": read("viewer", "messages:read"),
    "GET /api/v1/contacts/{contact_id:str}/conversation": read("viewer", "messages:read", also="contacts:read"),
    "GET /api/v1/numbers": read("viewer", "senders:read"),
    "POST /api/v1/numbers": write(  # the world's senders are of email: refused, but only for whoever may
        "admin", "senders:write", lambda pick, _: {"number": "+14155550100", "sender_id": pick("sender")}, own=422
    ),
    "PATCH /api/v1/numbers/{number_id:str}": write("admin", "senders:write", lambda _, __: {"is_active": True}),
    "DELETE /api/v1/numbers/{number_id:str}": write("admin", "senders:write", own=204),
    "POST /api/v1/messages/measure": write(
        "viewer", "messages:read", lambda _, __: {"text": "x", "channel": "email"}, own=422
    ),
    "GET /api/v1/senders": read("viewer", "senders:read"),
    "POST /api/v1/senders": write("admin", "senders:write", _sender, own=201),
    "GET /api/v1/senders/{sender_id:str}": read("viewer", "senders:read"),
    "PATCH /api/v1/senders/{sender_id:str}": write(
        "admin", "senders:write", lambda pick, _: {"connection_id": pick("connection")}
    ),
    "POST /api/v1/senders/{sender_id:str}/archive": write("admin", "senders:write"),
    "POST /api/v1/senders/{sender_id:str}/restore": write("admin", "senders:write"),
    "GET /api/v1/senders/{sender_id:str}/dns": read("viewer", "senders:read"),
    "POST /api/v1/senders/{sender_id:str}/dns/check": write("operator", "senders:read"),
    "GET /api/v1/templates": read("viewer", "templates:read"),
    "POST /api/v1/templates": write(
        "operator", "templates:write", lambda _, n: {"name": f"matrix {n}", "subject": "s", "text": "t"}, own=201
    ),
    "GET /api/v1/templates/{template_id:str}": read("viewer", "templates:read"),
    "GET /api/v1/templates/{template_id:str}/versions": read("viewer", "templates:read"),
    "POST /api/v1/templates/{template_id:str}/versions": write(
        "operator", "templates:write", lambda _, __: {"subject": "s", "text": "t"}, own=201
    ),
    "GET /api/v1/templates/{template_id:str}/versions/{version:str}": read(
        "viewer", "templates:read", nouns={"version": "=1"}
    ),
    "POST /api/v1/templates/{template_id:str}/versions/{version:str}/restore": write(
        "operator", "templates:write", own=201, nouns={"version": "=1"}
    ),
    "GET /api/v1/templates/{template_id:str}/versions/{version:str}/difference": read(
        "viewer", "templates:read", nouns={"version": "=1"}
    ),
    "POST /api/v1/templates/{template_id:str}/preview": write("operator", "templates:read", lambda _, __: {}),
    "GET /api/v1/templates/{template_id:str}/preview": read("operator", "templates:read"),
    "POST /api/v1/templates/{template_id:str}/links": write("viewer", "templates:read", lambda _, __: {}),
    "POST /api/v1/templates/{template_id:str}/test": write(
        "operator", "messages:write", lambda _, __: {"to": ["nobody@elsewhere.example"]}, own=422
    ),
    "POST /api/v1/templates/{template_id:str}/archive": write("operator", "templates:write"),
    "POST /api/v1/templates/{template_id:str}/restore": write("operator", "templates:write"),
    "GET /api/v1/campaigns": read("viewer", "campaigns:read"),
    "POST /api/v1/campaigns": write("operator", "campaigns:write", _campaign, own=201),
    "GET /api/v1/campaigns/{campaign_id:str}": read("viewer", "campaigns:read"),
    "PATCH /api/v1/campaigns/{campaign_id:str}": write(
        "operator", "campaigns:write", lambda pick, _: {"list_id": pick("list"), "sender_id": pick("sender")}
    ),
    "DELETE /api/v1/campaigns/{campaign_id:str}": write(
        "operator", "campaigns:write", own=204, nouns={"campaign_id": "draft"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/preflight": write("operator", "campaigns:write", lambda _, __: {}),
    "POST /api/v1/campaigns/{campaign_id:str}/preview": write("operator", "campaigns:read", lambda _, __: {}),
    "POST /api/v1/campaigns/{campaign_id:str}/test": write(
        "operator", "campaigns:write", lambda _, __: {"to": ["nobody@elsewhere.example"]}, own=422
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/launch": write(
        "operator", "campaigns:write", own=202, nouns={"campaign_id": "draft"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/undo": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "running"}
    ),
    "GET /api/v1/campaigns/{campaign_id:str}/retry": read("viewer", "campaigns:read"),
    "POST /api/v1/campaigns/{campaign_id:str}/retry": write(
        "operator", "campaigns:write", lambda _, __: {"count": 1}, own=409, nouns={"campaign_id": "running"}
    ),
    "GET /api/v1/campaigns/{campaign_id:str}/sheet": read("viewer", "campaigns:read"),
    "GET /api/v1/approvals": [
        Case("viewer", "campaigns:read"),
        Case("viewer", "campaigns:read", query=lambda pick: f"campaign_id={pick('campaign')}", other=200),
    ],
    "POST /api/v1/campaigns/{campaign_id:str}/approval/request": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "draft"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/approval/withdraw": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "draft"}
    ),
    **{
        f"POST /api/v1/campaigns/{{campaign_id:str}}/approval/{verb}": write(
            "admin", PEOPLE, _reason, own=409, nouns={"campaign_id": "draft"}
        )
        for verb in ("approve", "reject")
    },
    "POST /api/v1/campaigns/{campaign_id:str}/schedule": write(
        "operator",
        "campaigns:write",
        lambda _, __: {"launch_at": "2000-01-01T00:00:00Z"},
        own=422,
        nouns={"campaign_id": "draft"},
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/unschedule": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "draft"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/pause": write(
        "operator", "campaigns:write", _reason, nouns={"campaign_id": "running"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/resume": write(
        "operator", "campaigns:write", _reason, nouns={"campaign_id": "running"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/cancel": write(
        "operator", "campaigns:write", _reason, nouns={"campaign_id": "draft"}
    ),
    "GET /api/v1/campaigns/{campaign_id:str}/progress": read("viewer", "campaigns:read"),
    "GET /api/v1/campaigns/{campaign_id:str}/delivery": read("viewer", "campaigns:read"),
    "PUT /api/v1/campaigns/{campaign_id:str}/delivery": write(
        "operator",
        "campaigns:write",
        lambda pick, _: {"ab_test": {"variants": _variants(pick("template")), "audience_percent": 100}},
        nouns={"campaign_id": "draft"},
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/go-on": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "running"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/stop": write(
        "operator", "campaigns:write", _reason, own=409, nouns={"campaign_id": "running"}
    ),
    "POST /api/v1/campaigns/{campaign_id:str}/winner": write(
        "operator", "campaigns:write", lambda _, __: {"variant": "a"}, own=409, nouns={"campaign_id": "running"}
    ),
    "PUT /api/v1/campaigns/{campaign_id:str}/pace": write(
        "operator", "campaigns:write", lambda _, __: {"pacing": {"per_hour": 60}}, nouns={"campaign_id": "running"}
    ),
    "GET /api/v1/tracking": read("viewer", "tenant:read"),
    "PATCH /api/v1/tracking": write("admin", "tenant:write", lambda _, __: {"clicks": False}),
    "GET /api/v1/senders/{sender_id:str}/tracking": read("viewer", "senders:read"),
    "PATCH /api/v1/senders/{sender_id:str}/tracking": write("admin", "senders:write", lambda _, __: {"opens": False}),
    "GET /api/v1/campaigns/{campaign_id:str}/tracking": read("viewer", "campaigns:read"),
    "PATCH /api/v1/campaigns/{campaign_id:str}/tracking": write(
        "operator", "campaigns:write", lambda _, __: {"opens": False}
    ),
    "GET /api/v1/campaigns/{campaign_id:str}/gates": read("viewer", "campaigns:read"),
    "PATCH /api/v1/campaigns/{campaign_id:str}/gates": write(
        "operator", "campaigns:write", lambda _, __: {"settings": {}}
    ),
    "GET /api/v1/campaigns/{campaign_id:str}/web-version": read("viewer", "campaigns:read", own=404),
    "PUT /api/v1/campaigns/{campaign_id:str}/web-version": write(
        "operator", "campaigns:write", lambda _, __: {"variables": {"name": "you"}}, nouns={"campaign_id": "running"}
    ),
    "DELETE /api/v1/campaigns/{campaign_id:str}/web-version": write("operator", "campaigns:write", own=404),
    **{
        f"GET /api/v1/campaigns/{{campaign_id:str}}/results{part}": read("viewer", "campaigns:read")
        for part in ("", "/hours", "/links", "/domains", "/contents", "/variants")
    },
    "GET /api/v1/results/hours": read("viewer", "campaigns:read"),
    "GET /api/v1/messages/{message_id:str}/responses": read("viewer", "messages:read"),
    "GET /api/v1/messages/{message_id:str}/variant": read("viewer", "messages:read"),
    "GET /api/v1/contacts": [
        Case("viewer", "contacts:read"),
        Case("viewer", "contacts:read", query=lambda pick: f"external_id={pick('external_id')}", other=200),
    ],
    "POST /api/v1/contacts": write("support", "contacts:write", lambda _, n: {"name": f"matrix {n}"}, own=201),
    "POST /api/v1/contacts/lookup": write(
        "support", "contacts:write", lambda pick, _: {"address": pick("address")}, other=200
    ),
    "GET /api/v1/contacts/{contact_id:str}": read("viewer", "contacts:read"),
    "PATCH /api/v1/contacts/{contact_id:str}": write("support", "contacts:write", lambda _, __: {"locale": "de"}),
    "POST /api/v1/contacts/{contact_id:str}/addresses": write(
        "support", "contacts:write", lambda _, __: {"channel": "email", "address": "second@example.org"}
    ),
    "POST /api/v1/contacts/{contact_id:str}/addresses/remove": write(
        "support", "contacts:write", lambda pick, _: {"channel": "email", "address": pick("spare_address")}
    ),
    "GET /api/v1/contacts/{contact_id:str}/consents": read("viewer", "contacts:read"),
    "GET /api/v1/contacts/{contact_id:str}/soft-bounces": read("viewer", "contacts:read"),
    "POST /api/v1/contacts/{contact_id:str}/consents/proof": write("operator", "contacts:write", lambda _, __: {}),
    "POST /api/v1/contacts/{contact_id:str}/consents/proof.html": write("operator", "contacts:write", lambda _, __: {}),
    "GET /api/v1/consents/key": read("viewer", "contacts:read", other=200),
    "POST /api/v1/consents/verify": write("viewer", "contacts:read", lambda _, __: _proof(), other=200),
    "POST /api/v1/contacts/{contact_id:str}/consents": write(
        "support",
        "contacts:write",
        lambda _, __: {"channel": "email", "purpose": "news", "status": "granted", "source": "matrix"},
    ),
    "POST /api/v1/contacts/search": [
        Case("viewer", "contacts:read", body=lambda pick, _: {"text": pick("address")}, other=200),
        Case(
            "viewer",
            "contacts:read",
            body=lambda pick, _: {"rules": {"kind": "list", "list_ids": [pick("list")]}},
            other=422,
        ),
    ],
    "POST /api/v1/contacts/{contact_id:str}/merge": write(
        "operator",
        "contacts:write",
        lambda pick, _: {"contact_id": pick("spare_contact")},
    ),
    "POST /api/v1/contacts/{contact_id:str}/export": write(
        "operator", "contacts:write", own=202, nouns={"contact_id": "spare_contact"}
    ),
    "POST /api/v1/contacts/{contact_id:str}/erase": write(
        "admin", "contacts:write", _reason, own=202, nouns={"contact_id": "spare_contact"}
    ),
    "GET /api/v1/exports": read("operator", "contacts:read"),
    "GET /api/v1/exports/{export_id:str}": read("operator", "contacts:read"),
    "POST /api/v1/exports/{export_id:str}/file.json": write("operator", "contacts:write", own=409),
    "POST /api/v1/exports/{export_id:str}/file.csv": write("operator", "contacts:write", own=404),
    "POST /api/v1/exports": write("operator", "contacts:write", lambda _, __: {"kind": "lists"}, own=202),
    "GET /api/v1/erasures": read("operator", "contacts:read"),
    "GET /api/v1/erasures/{erasure_id:str}": read("operator", "contacts:read"),
    "GET /api/v1/tags": read("viewer", "contacts:read"),
    **{
        f"POST /api/v1/tags/{verb}": write(
            "support",
            "contacts:write",
            lambda pick, _: {"contact_ids": [pick("contact")], "tags": ["matrix"]},
            other=200,  # a contact of another tenant is an unknown one
        )
        for verb in ("add", "remove")
    },
    "POST /api/v1/tags/delete": write("operator", "contacts:write", lambda pick, _: {"tag": pick("tag")}, other=404),
    "GET /api/v1/attributes": read("viewer", "contacts:read"),
    "PUT /api/v1/attributes/{key:str}": write(
        "operator", "contacts:write", lambda _, __: {"type": "text"}, nouns={"key": "=matrix"}
    ),
    "DELETE /api/v1/attributes/{key:str}": write(
        "operator", "contacts:write", own=204, nouns={"key": "spare_attribute"}
    ),
    "GET /api/v1/attributes/{key:str}/values": read("viewer", "contacts:read", nouns={"key": "=matrix"}),
    "GET /api/v1/segments": read("viewer", "contacts:read"),
    "POST /api/v1/segments": write(
        "operator",
        "contacts:write",
        lambda pick, n: {"name": f"matrix {n}", "rules": {"kind": "list", "list_ids": [pick("list")]}},
        own=201,
        other=422,
    ),
    "POST /api/v1/segments/count": write(
        "viewer",
        "contacts:read",
        lambda pick, _: {"rules": {"kind": "segment", "segment_id": pick("segment")}},
        other=422,
    ),
    "GET /api/v1/segments/{segment_id:str}": read("viewer", "contacts:read"),
    "PATCH /api/v1/segments/{segment_id:str}": write(
        "operator", "contacts:write", lambda _, n: {"description": f"matrix {n}"}
    ),
    "DELETE /api/v1/segments/{segment_id:str}": write(
        "operator", "contacts:write", own=204, nouns={"segment_id": "spare_segment"}
    ),
    "POST /api/v1/segments/{segment_id:str}/count": write("support", "contacts:write"),
    "GET /api/v1/segments/{segment_id:str}/contacts": read("viewer", "contacts:read"),
    "GET /api/v1/offers": read("viewer", "contacts:read"),
    "PUT /api/v1/lists/{list_id:str}/offer": write("operator", "contacts:write", lambda _, __: {"title": "matrix"}),
    "DELETE /api/v1/lists/{list_id:str}/offer": write(
        "operator", "contacts:write", own=204, nouns={"list_id": "offered_list"}
    ),
    "GET /api/v1/forms": read("viewer", "contacts:read"),
    "POST /api/v1/forms": write(
        "operator",
        "contacts:write",
        lambda pick, n: {
            "name": f"matrix {n}",
            "title": "t",
            "consent_text": "c",
            "list_ids": [pick("public_list")],
            "sender": pick("sender"),
        },
        own=201,
        other=422,
    ),
    "GET /api/v1/forms/{form_id:str}": read("viewer", "contacts:read"),
    "PATCH /api/v1/forms/{form_id:str}": write("operator", "contacts:write", lambda _, __: {"title": "matrix"}),
    "DELETE /api/v1/forms/{form_id:str}": write("operator", "contacts:write", own=204, nouns={"form_id": "spare_form"}),
    "POST /api/v1/forms/{form_id:str}/signups": write(
        "support",
        "contacts:write",
        lambda _, n: {"address": f"signup{n}@example.org", "agreed": True},
        own=202,
    ),
    "GET /api/v1/look": read("viewer", "tenant:read"),
    "PATCH /api/v1/look": write("admin", "tenant:write", lambda _, __: {"footer": "matrix"}),
    "PUT /api/v1/look/logo": write("admin", "tenant:write", lambda _, __: {"picture": PIXEL}),
    "DELETE /api/v1/look/logo": write("admin", "tenant:write"),
    "GET /api/v1/lists": read("viewer", "contacts:read"),
    "POST /api/v1/lists": write("support", "contacts:write", lambda _, n: {"name": f"matrix {n}"}, own=201),
    "GET /api/v1/lists/{list_id:str}": read("viewer", "contacts:read"),
    "PATCH /api/v1/lists/{list_id:str}": write("support", "contacts:write", lambda _, n: {"name": f"renamed {n}"}),
    "DELETE /api/v1/lists/{list_id:str}": write("operator", "contacts:write", own=204, nouns={"list_id": "empty_list"}),
    "GET /api/v1/lists/{list_id:str}/members": read("viewer", "contacts:read"),
    **{
        f"POST /api/v1/lists/{{list_id:str}}/members{verb}": write(
            "support",
            "contacts:write",
            lambda pick, _: {"contact_ids": [pick("contact")]},
            other={"list": 404, "contact": 200},  # a contact of another tenant is an unknown one
        )
        for verb in ("", "/remove")
    },
    "GET /api/v1/imports": read("viewer", "imports:read"),
    "POST /api/v1/imports": write(
        "operator",
        "imports:write",
        lambda _, n: f"email\nmatrix{n}@example.org\n".encode(),
        own=202,
        kind=CSV,
        query=lambda pick: f"list_id={pick('list')}",
    ),
    "POST /api/v1/imports/examine": write(
        "operator", "imports:write", lambda _, __: b"email\na@example.org\n", kind=CSV
    ),
    "GET /api/v1/imports/{import_id:str}": read("viewer", "imports:read"),
    "GET /api/v1/imports/{import_id:str}/errors": read("viewer", "imports:read"),
    "GET /api/v1/imports/{import_id:str}/errors.csv": read("viewer", "imports:read"),
    "POST /api/v1/imports/{import_id:str}/cancel": write("operator", "imports:write", own=409),
    "GET /api/v1/imports/{import_id:str}/changes": read("operator", "imports:read"),
    "GET /api/v1/imports/{import_id:str}/undo": read("operator", "imports:write"),
    "POST /api/v1/imports/{import_id:str}/undo": write(
        "operator", "imports:write", lambda _, __: {"count": 999_999}, own=409
    ),
    "GET /api/v1/schedules": [
        Case("viewer", "schedules:read"),
        Case("viewer", "schedules:read", query=lambda _: "is_installation=true", is_installation=True),
    ],
    "POST /api/v1/schedules": write("operator", "schedules:write", _schedule, own=201),
    "POST /api/v1/schedules/preview": write(
        "viewer", "schedules:read", lambda _, __: {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}
    ),
    "GET /api/v1/schedules/{schedule_id:str}": read("viewer", "schedules:read"),
    "PATCH /api/v1/schedules/{schedule_id:str}": write(
        "operator", "schedules:write", lambda _, __: {"cron": "0 3 * * *"}
    ),
    "DELETE /api/v1/schedules/{schedule_id:str}": write(
        "operator", "schedules:write", own=204, nouns={"schedule_id": "spare_schedule"}
    ),
    "POST /api/v1/schedules/{schedule_id:str}/pause": write("operator", "schedules:write", _reason),
    "POST /api/v1/schedules/{schedule_id:str}/resume": write("operator", "schedules:write", _reason),
    "POST /api/v1/schedules/{schedule_id:str}/trigger": write(
        "operator", "schedules:write", _reason, own=202, nouns={"schedule_id": "spare_schedule"}
    ),
    "GET /api/v1/schedules/{schedule_id:str}/runs": read("viewer", "schedules:read"),
    "GET /api/v1/suppressions": [
        Case("viewer", "suppressions:read"),
        Case("viewer", "suppressions:read", query=lambda _: "is_installation=true", is_installation=True),
    ],
    "POST /api/v1/suppressions": [
        Case("support", "suppressions:write", body=lambda _, n: {"address": f"no{n}@example.org"}),
        Case(
            "support",
            "suppressions:write",
            body=lambda _, n: {"address": f"no{n}@example.org", "is_installation": True},
            is_installation=True,
        ),
    ],
    "POST /api/v1/suppressions/batch": [
        Case("support", "suppressions:write", body=lambda _, n: {"entries": [{"address": f"many{n}@example.org"}]}),
        Case(
            "support",
            "suppressions:write",
            body=lambda _, __: {"entries": [{"address": "everywhere2@example.org"}], "is_installation": True},
            is_installation=True,
        ),
    ],
    "POST /api/v1/suppressions/lookup": write(
        "support", "suppressions:write", lambda pick, _: {"address": pick("suppressed")}, other=200
    ),
    "POST /api/v1/suppressions/remove": write(
        "support", "suppressions:write", lambda pick, _: {"address": pick("suppressed")}, own=204
    ),
    "GET /hangfire/stats": read("", PUBLIC),
    "GET /api/v1/queues": read("viewer", "queue:read"),
    **{
        f"{method} /api/v1/queues/{{name:str}}/{verb}": write(
            "viewer", "jobs:write", body, nouns={"name": "=export"}, is_installation=True
        )
        for method, verb, body in (
            ("POST", "pause", _reason),
            ("POST", "drain", _reason),
            ("POST", "resume", _reason),
            ("PUT", "concurrency", lambda _, __: {"concurrency": 5}),
        )
    },
    **{
        f"GET /api/v1/jobs{path}": [
            Case("viewer", "jobs:read"),
            Case("viewer", "jobs:read", query=lambda _: "is_installation=true", is_installation=True),
        ]
        for path in ("", "/count", "/stats")
    },
    "GET /api/v1/jobs/{job_id:str}": [
        Case("viewer", "jobs:read"),
        Case("viewer", "jobs:read", query=lambda _: "is_installation=true", is_installation=True, own=404),
    ],
    **{
        f"POST /api/v1/jobs/{{job_id:str}}/{verb}": [
            Case("operator", "jobs:write", body=_reason, nouns={"job_id": noun}),
            Case(
                "operator",
                "jobs:write",
                body=_reason,
                nouns={"job_id": noun},
                own=404,
                is_installation=True,
                query=lambda _: "is_installation=true",
            ),
        ]
        for verb, noun in (("retry", "failed_job"), ("cancel", "job"), ("delete", "job"))
    },
    **{
        f"POST /api/v1/jobs/{verb}": [
            Case("operator", "jobs:write", body=_ids(noun), other=200),
            Case("operator", "jobs:write", body=lambda _, __: {"filter": {"text": "matrix none"}, "count": 0}),
            Case(
                "operator",
                "jobs:write",
                body=lambda _, __: {"filter": {}, "is_installation": True},
                own=409,
                is_installation=True,
            ),
        ]
        for verb, noun in (("retry", "failed_job"), ("cancel", "job"), ("delete", "job"))
    },
    "GET /api/v1/messages": [
        Case("viewer", "messages:read"),
        Case("viewer", "messages:read", query=lambda pick: f"campaign_id={pick('running')}", other=200),
        Case("viewer", "messages:read", query=lambda pick: f"to={pick('address')}", other=200),
    ],
    "POST /api/v1/messages": [
        Case(
            "operator",
            "messages:write",
            202,
            422,
            body=lambda pick, _: {"to": "a@example.org", "sender": pick("sender"), "text": "t", "subject": "s"},
        ),
        Case(
            "operator",
            "messages:write",
            202,
            422,
            body=lambda pick, _: {"to": "a@example.org", "sender": pick("sender"), "template": pick("template")},
        ),
    ],
    "GET /api/v1/events": [
        Case("viewer", "messages:read"),
        Case("viewer", "messages:read", query=lambda _: "kind=sent&from=latest"),
    ],
    "GET /api/v1/messages/{message_id:str}": read("viewer", "messages:read"),
    "GET /api/v1/messages/stats": read("viewer", "messages:read"),
    "GET /api/v1/poison": [
        Case("viewer", "messages:read"),
        Case("viewer", "messages:read", query=lambda pick: f"campaign_id={pick('running')}", other=200),
    ],
    "POST /api/v1/poison/requeue": write(
        "operator", "messages:write", lambda pick, _: {"reason": "matrix", "ids": [pick("doubt")]}, other=200
    ),
    "GET /api/v1/uncertain": [
        Case("viewer", "messages:read"),
        Case("viewer", "messages:read", query=lambda pick: f"campaign_id={pick('running')}", other=200),
    ],
    "POST /api/v1/uncertain/resend": [
        Case(
            "operator", "messages:write", body=lambda pick, _: {"reason": "matrix", "ids": [pick("doubt")]}, other=200
        ),
        Case(
            "operator",
            "messages:write",
            body=lambda pick, _: {"reason": "matrix", "campaign_id": pick("running"), "count": 0},
            other=200,
        ),
    ],
    "POST /api/v1/uncertain/reconcile": write(
        "operator", "messages:write", lambda pick, _: {"reason": "matrix", "ids": [pick("doubt")]}, other=200
    ),
    "POST /api/v1/uncertain/mark": write(
        "operator",
        "messages:write",
        lambda pick, _: {"reason": "matrix", "state": "sent", "ids": [pick("doubt")]},
        other=200,
    ),
}

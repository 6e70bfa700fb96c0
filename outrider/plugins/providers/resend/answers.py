"""What Resend's answers mean: for one message, for a batch, and whether a request may be made again.

Owns the reading of a finished answer; never touches a socket. Text of the server is made printable and cut before it
is kept, because it is shown to people and logged.

Source:  resend.com/docs/api-reference/errors, …/emails/send-batch-emails, …/dashboard/emails/idempotency-keys
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain
from outrider.data.http_account import detail_of, not_the_api, object_in, wish_s
from outrider.data.http_out import Reply

_CAUSES: Final[dict[str, str]] = {
    "missing_api_key": "authentication_failed", "restricted_api_key": "authentication_failed",
    "invalid_api_key": "authentication_failed", "suspended_api_key": "account_suspended",
    "rate_limit_exceeded": "rate_limited", "daily_quota_exceeded": "daily_quota",
    "monthly_quota_exceeded": "daily_quota", "service_unavailable": "provider_down",
    "invalid_from_address": "sender_not_usable", "security_error": "message_rejected",
    "not_found": "sender_unusable", "method_not_allowed": "sender_unusable",
}  # fmt: skip
"""Names that stand for one thing; `validation_error` stands for several, which the status tells apart."""
_BY_STATUS: Final[dict[int, str]] = {
    401: "authentication_failed", 403: "domain_not_verified", 404: "sender_unusable", 405: "sender_unusable",
    413: "too_large", 429: "rate_limited",
}  # fmt: skip
_ID: Final = re.compile(r"[0-9A-Za-z_-]{8,64}")
_OK: Final = frozenset({200, 201, 202})
_CONFLICT, _BUSY, _UNAVAILABLE, _SERVER = 409, 429, 503, range(500, 600)
_NOT_SIGNED_IN: Final = frozenset({401, 403})
_AT_FAULT: Final = frozenset({400, 413, 422})
_PLAIN: Final = frozenset({401, 404, 405, 413, 429})
"""What these say is plain whoever says it; the API names every other error."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of each message of its request."""

    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Unsure:
    """Nobody knows whether the request was taken: it may be made again with its key, not sooner than `after_s`."""

    detail: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request as a whole was refused. `is_at_fault`: because of something in it, perhaps in one message of many."""

    outcome: Outcome
    is_at_fault: bool = False


Read = Told | Unsure | Refusal


def is_id(text: object) -> bool:
    """Whether something is the id of an email."""
    return isinstance(text, str) and bool(_ID.fullmatch(text))


def read(reply: Reply, count: int) -> Read:
    """What the answer to a request with `count` messages means; a request with one is no batch."""
    said = object_in(reply.body)
    if reply.status in _OK:
        strange = not_the_api(reply)
        return _taken(said or {}, count) if strange is None else Unsure(strange)
    name = (said or {}).get("name")
    name = name if isinstance(name, str) else None
    detail = detail_of(reply.status, name, (said or {}).get("message"))
    if reply.status == _CONFLICT:
        return _conflict(name, detail, reply)
    if name is None and reply.status not in _PLAIN and reply.status not in _SERVER:
        # its words are left out: it may say the key back
        return Unsure(f"HTTP {reply.status}: somebody on the way answered, not the API", wish_s(reply))
    cause = _CAUSES.get(name or "") or _BY_STATUS.get(reply.status)
    if reply.status in _NOT_SIGNED_IN and cause in {"authentication_failed", "account_suspended"}:
        detail = detail_of(reply.status, name, "")  # left out: a proxy may say the key back
    if reply.status in _SERVER and not (reply.status == _UNAVAILABLE and cause == "provider_down"):
        # the request was written: only one that the API turns away by name is known not to have been taken
        return Unsure(detail, wish_s(reply))
    cause = cause or "request_refused"
    if CAUSES[cause].retry == "never":
        return Refusal(Rejected(cause, detail), is_at_fault=reply.status in _AT_FAULT)
    return Refusal(Deferred(cause, detail, wish_s(reply)))


def _taken(said: dict[str, Any], count: int) -> Read:
    if count == 1:
        return Told([Accepted(said["id"])]) if is_id(said.get("id")) else Unsure("an answer of success without an id")
    listed, errors = said.get("data"), said.get("errors") or []
    if not isinstance(listed, list) or not isinstance(errors, list) or len(listed) + len(errors) != count:
        return Unsure("an answer of success that does not name every message")
    refused: dict[int, Outcome] = {}
    for each in errors:
        at = each.get("index") if isinstance(each, dict) else None
        if not isinstance(at, int) or at in refused or not 0 <= at < count:
            return Unsure("an answer whose errors name no message")
        refused[at] = Rejected("request_refused", detail_of(200, "validation_error", each.get("message")))
    ids = iter(each.get("id") if isinstance(each, dict) else None for each in listed)
    outcomes: list[Outcome] = []
    for at in range(count):
        found = None if at in refused else next(ids, None)
        if at not in refused and not is_id(found):
            return Unsure("an answer of success without ids")
        outcomes.append(refused[at] if at in refused else Accepted(found))
    return Told(outcomes)


def _conflict(name: str | None, detail: str, reply: Reply) -> Read:
    """The key is known: for this very request, which is still under way, or for another one [F54]."""
    if name == "invalid_idempotent_request":
        # whatever went out under the key before may have been this message: it is not made again by itself
        return Refusal(Uncertain("idempotency_conflict", detail, is_keyed=True))
    return Unsure(detail, wish_s(reply))

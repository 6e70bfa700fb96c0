"""What Twilio's answers and error codes mean: one table from code to cause, for requests and for callbacks alike.

Owns the reading of a finished answer; never touches a socket. Text of the server is made printable and cut before it
is kept, because it is shown to people and logged.
"""

from __future__ import annotations

import re
from typing import Any, Final

from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain, told_late
from outrider.data.http_account import detail_of, not_the_api, object_in, wish_s
from outrider.data.http_out import Reply

_CODES: Final[dict[int, str]] = {
    14107: "rate_limited", 20003: "authentication_failed", 20005: "account_suspended", 20008: "authentication_failed",
    20403: "authentication_failed", 20404: "request_refused", 20429: "rate_limited", 20500: "provider_down",
    20503: "provider_down", 21211: "number_invalid", 21212: "sender_not_usable", 21214: "number_invalid",
    21217: "number_invalid", 21265: "number_invalid", 21408: "region_not_allowed", 21601: "sender_not_usable",
    21603: "sender_not_usable", 21604: "number_invalid", 21606: "sender_not_usable", 21608: "region_not_allowed",
    21610: "opted_out", 21611: "queue_overflow", 21612: "region_not_allowed", 21614: "number_landline",
    21617: "too_large", 21635: "number_landline", 21659: "sender_not_usable", 21660: "sender_not_usable",
    21661: "sender_not_usable", 21701: "sender_not_usable", 21703: "sender_not_usable", 21704: "sender_not_usable",
    21705: "sender_not_usable", 21712: "sender_not_usable", 30001: "queue_overflow", 30002: "account_suspended",
    30003: "handset_unreachable", 30004: "message_blocked", 30005: "handset_unknown", 30006: "number_landline",
    30007: "content_filtered", 30008: "carrier_unknown_error", 30022: "rate_limited", 30023: "daily_quota",
    30024: "sender_not_usable", 30034: "sender_not_registered", 30035: "sender_not_registered",
    30036: "validity_expired", 30038: "content_filtered", 30410: "provider_down", 30453: "region_not_allowed",
    30500: "provider_down", 63016: "request_refused", 63017: "sender_not_usable", 63018: "rate_limited",
}  # fmt: skip
"""Source: twilio.com/docs/api/errors."""

_SUPPRESSED: Final = {"opted_out": "stop", "handset_unknown": "invalid", "number_invalid": "invalid"}
_SOFT: Final = frozenset({"handset_unreachable", "carrier_unknown_error"})
"""What concerns the provider or the sender (its queue, its registration) says nothing about a number."""
_SID = re.compile(r"(?:SM|MM)[0-9a-f]{32}")
_CREATED: Final = frozenset({200, 201, 202})
_ENDED: Final = frozenset({"failed", "undelivered", "canceled"})
_NOT_SIGNED_IN: Final = frozenset({401, 403})
_SIGN_IN_CAUSES: Final = {20005: "account_suspended"}
_BUSY: Final = 429
SERVER: Final = range(500, 600)
_TURNED_AWAY: Final = frozenset({14107, 20429, 20503})
"""What the API says before it takes anything. 20500 says that it failed in the middle: a message may have gone, and
twilio.com/docs/api/errors/20500 warns of sending it again."""


def cause_of(code: int | None) -> str:
    """The cause a code stands for; a code that is not known is a refusal."""
    return _CODES.get(code or 0, "request_refused")


def suppression_of(cause: str) -> str:
    """For which reason a cause puts the address on the do-not-contact list; empty: it does not."""
    return _SUPPRESSED.get(cause, "")


def is_soft(cause: str) -> bool:
    """Whether a handset could not be reached for now, so that it counts towards soft bounces."""
    return cause in _SOFT


def is_sid(text: str) -> bool:
    """Whether a text is the id of a message."""
    return bool(_SID.fullmatch(text))


def outcome_of(reply: Reply) -> Outcome:
    """What an answer to a posted message means.

    Gives:   Uncertain for every answer that does not say plainly whether the message was taken.
    """
    said = object_in(reply.body) or {}
    if reply.status in _CREATED:
        strange = not_the_api(reply)
        return _taken(said) if strange is None else Uncertain("answer_lost", strange)
    code = said.get("code") if isinstance(said.get("code"), int) else None
    detail = detail_of(reply.status, code, said.get("message"))
    asked_s = wish_s(reply)
    if reply.status in _NOT_SIGNED_IN:  # what it says is left out: a proxy may say the credentials back
        return Deferred(_SIGN_IN_CAUSES.get(code or 0, "authentication_failed"), detail_of(reply.status, code, ""))
    if reply.status == _BUSY:
        return Deferred("rate_limited", detail, asked_s)
    if reply.status in SERVER:
        if code in _TURNED_AWAY:
            return Deferred(cause_of(code), detail, asked_s)
        who = "" if code is not None else ": a gateway answered, not the API"
        return Uncertain("answer_lost", f"{detail}{who}")
    cause = cause_of(code)
    if CAUSES[cause].retry in {"never", "by_hand"}:
        return Rejected(cause, detail, suppression_of(cause), is_soft(cause))
    return Deferred(cause, detail, asked_s)


def _taken(said: dict[str, Any]) -> Outcome:
    sid = said.get("sid")
    if not isinstance(sid, str) or not is_sid(sid):
        return Uncertain("answer_lost", "an answer of success without the id of a message")
    if str(said.get("status")) in _ENDED:
        code = said.get("error_code") if isinstance(said.get("error_code"), int) else None
        cause = told_late(cause_of(code))
        return Rejected(cause, detail_of(201, code, said.get("error_message")), suppression_of(cause), is_soft(cause))
    return Accepted(sid)

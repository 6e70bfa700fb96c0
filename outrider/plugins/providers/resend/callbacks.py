"""Resend's events: verified by our own reading of the scheme of their webhooks, then read.

Owns the signature, its window of time, and what each event means for a message. Events of other systems of the same
account come by the same address: they name no message of ours.

Source:  docs.svix.com/receiving/verifying-payloads/how-manual; resend.com/docs/webhooks/event-types
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from outrider.base.errors import Refused
from outrider.contracts.callbacks import CallbackRequest, Report, State, Told, Unread
from outrider.contracts.outcome import told_late
from outrider.data.http_account import object_in
from outrider.plugins.providers.resend.answers import is_id
from outrider.plugins.providers.resend.finding import message_of, moment_of
from outrider.plugins.providers.resend.settings import SECRETS, signing_key

TOLERANCE_S: Final = 300.0
"""An event signed longer ago, or as much ahead, is not taken: somebody may have kept it."""
_NAMES: Final = ("id", "timestamp", "signature")
_MOST_SIGNATURES: Final = 8
_LONGEST_HEADER: Final = 1_000
_LONGEST_DETAIL: Final = 240
_STATES: Final[dict[str, State | None]] = {
    "email.scheduled": "sent", "email.sent": "sent", "email.delivered": "delivered", "email.delivery_delayed": None,
    "email.bounced": "bounced", "email.failed": "failed", "email.suppressed": "failed", "email.complained": None,
    "email.opened": None, "email.clicked": None,
}  # fmt: skip
_ABOUT_THE_MESSAGE: Final = {
    "contentrejected": "message_rejected", "attachmentrejected": "message_rejected", "messagetoolarge": "too_large",
}  # fmt: skip
"""Bounces that say nothing of the mailbox."""
_WORD: Final = re.compile(r"[a-z_.]{1,60}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


class ResendCallbacks:
    """Implements `contracts.callbacks.Callbacks`."""

    needs: tuple[str, ...] = SECRETS

    def glance(self, headers: Mapping[str, str], at_s: float) -> str | None:
        """Whether there is anything that could be a signature; how old it is counts only once it is one."""
        del at_s
        named, at, given = (headers.get(f"svix-{name}", "") for name in _NAMES)
        if not (named and at and given):
            return "unsigned"
        if not _ID.fullmatch(named) or len(given) > _LONGEST_HEADER or not _SECONDS.fullmatch(at):
            return "wrong_signature"
        if any(
            headers.get(f"webhook-{name}", said) != said for name, said in zip(_NAMES, (named, at, given), strict=True)
        ):
            return "wrong_signature"  # the same scheme has two sets of names: what says two things says nothing
        return None if _signatures(given) else "wrong_signature"

    def verify(
        self, request: CallbackRequest, base: str, settings: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> str | None:
        """Whether it was signed with one of the webhook's secrets, and just now."""
        del base, settings
        wrong = self.glance(request.headers, request.at_s)
        if wrong is not None:
            return wrong
        named, at, given = (request.headers[f"svix-{name}"] for name in _NAMES)
        signed = f"{named}.{at}.".encode() + request.body
        keys = [key for name in SECRETS if secrets.get(name) and (key := signing_key(secrets[name])) is not None]
        is_genuine = False
        for signature in _signatures(given):
            for key in keys:
                is_genuine |= hmac.compare_digest(hmac.digest(key, signed, "sha256"), signature)
        if not is_genuine:
            return "wrong_signature"
        return None if abs(request.at_s - int(at)) <= TOLERANCE_S else "stale"

    def read(self, request: CallbackRequest, settings: Mapping[str, Any]) -> Sequence[Told]:
        """One report, or something that is no news of an email.

        Raises:  Refused(unsupported_media_type, 415; invalid_callback, 400).
        """
        del settings
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
            raise Refused("unsupported_media_type", "must be application/json, not compressed", status=415)
        said = object_in(request.body)
        if said is None:
            raise Refused("invalid_callback", "must be a JSON object", status=400)
        given = request.headers.get("svix-id", "")  # what is taken unsigned for a while may have none
        key = given if _ID.fullmatch(given) else f"unsigned:{hashlib.sha256(request.body).hexdigest()[:32]}"
        word, data = said.get("type"), said.get("data")
        if not isinstance(word, str) or not _WORD.fullmatch(word) or word not in _STATES or not isinstance(data, dict):
            return [Unread(key, word if isinstance(word, str) and _WORD.fullmatch(word) else "unknown")]
        if not is_id(data.get("email_id")):
            raise Refused("invalid_callback", "email_id is not the id of an email", status=400)
        return [_report(key, word, data, said.get("created_at"))]

    def answer(self, reply: str) -> tuple[str, bytes]:
        """Taken; nobody is answered by email here."""
        del reply
        return "application/json", b"{}"


def _signatures(header: str) -> list[bytes]:
    """The signatures of the version we know, of several of which one must fit; too many are none."""
    found: list[bytes] = []
    listed = header.split(" ")
    for each in listed if len(listed) <= _MOST_SIGNATURES else ():
        version, _, text = each.partition(",")
        if version != "v1":
            continue
        try:
            signature = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(signature) == hashlib.sha256().digest_size:
            found.append(signature)
    return found


def _report(key: str, word: str, data: Mapping[str, Any], created_at: object) -> Report:
    cause, suppress, is_soft, detail = "", "", False, ""
    match word:
        case "email.bounced":
            cause, suppress, is_soft, detail = _bounced(_object(data, "bounce"))
        case "email.suppressed":
            cause, suppress, detail = _suppressed(_object(data, "suppressed"))
        case "email.failed":
            reason = _text(_object(data, "failed").get("reason"))
            cause = told_late("daily_quota") if "quota" in reason else "request_refused"
            detail = reason
        case "email.complained":
            suppress = "complaint"
    return Report(
        key=key,
        provider_id=data["email_id"],
        word=word.removeprefix("email."),
        state=_STATES[word],
        message_id=message_of(data.get("tags")),
        at=moment_of(created_at),
        cause=cause,
        detail=detail,
        suppress=suppress,
        is_soft=is_soft,
    )


def _bounced(bounce: Mapping[str, Any]) -> tuple[str, str, bool, str]:
    """Cause, reason for the do-not-contact list, whether it may pass, detail."""
    kind, sub = _text(bounce.get("type")).lower(), _text(bounce.get("subType"))
    codes = bounce.get("diagnosticCode")
    said = _text(codes[0]) if isinstance(codes, list) and codes else _text(bounce.get("message"))
    detail = f"{sub}: {said}"[:_LONGEST_DETAIL].strip(": ")
    about = _ABOUT_THE_MESSAGE.get(sub.lower())
    if about is not None:
        return about, "", False, detail
    if kind == "permanent":
        return "bounced_permanently", "hard_bounce", False, detail
    return "bounced_for_now", "", True, detail


def _suppressed(told: Mapping[str, Any]) -> tuple[str, str, str]:
    """Resend did not send, because of what came back before."""
    detail = _text(told.get("message"))
    if told.get("reason") == "previous_complaint":
        return "complained", "complaint", detail
    return "bounced_permanently", "hard_bounce", detail


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", value).split())[:_LONGEST_DETAIL] if isinstance(value, str) else ""

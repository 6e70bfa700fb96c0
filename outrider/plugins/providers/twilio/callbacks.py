"""Twilio's callbacks: verified by our own reading of its rules, then read; names and values as bytes until then.

Owns the signature and the form. Never fetches media and never trusts a Host header.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, Final
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlsplit
from uuid import UUID

from outrider.base.errors import Refused
from outrider.contracts.callbacks import CallbackRequest, Inbound, Report, State, Told, Unread
from outrider.contracts.outcome import told_late
from outrider.plugins.providers.twilio.answers import cause_of, is_sid, is_soft, suppression_of
from outrider.plugins.providers.twilio.bills import bill_of

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_PARAMETERS: Final = 200
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{27}=")
"""Twenty bytes of HMAC-SHA1 in base64."""
_STATES: Final[dict[str, State]] = {
    "accepted": "sent", "scheduled": "sent", "queued": "sent", "sending": "sent", "sent": "sent",
    "delivered": "delivered", "undelivered": "bounced", "failed": "failed", "canceled": "failed",
}  # fmt: skip
_KNOWN: Final = frozenset(
    {
        "AccountSid", "ApiVersion", "Body", "ErrorCode", "From", "FromCity", "FromCountry", "FromState", "FromZip",
        "MessageSid", "MessageStatus", "MessagingServiceSid", "NumMedia", "NumSegments", "OptOutType", "Price",
        "PriceUnit", "RawDlrDoneDate", "SmsMessageSid", "SmsSid", "SmsStatus", "To", "ToCity", "ToCountry", "ToState",
        "ToZip",
    }
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,60}")
_WORD: Final = re.compile(r"[a-z_]{1,40}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
Pairs = tuple[tuple[bytes, bytes], ...]


class TwilioCallbacks:
    """Implements `contracts.callbacks.Callbacks`."""

    needs: tuple[str, ...] = ("auth_token", "previous_auth_token")

    def glance(self, headers: Mapping[str, str], at_s: float) -> str | None:
        """Whether there is anything that could be a signature."""
        del at_s
        given = headers.get("x-twilio-signature", "")
        if not given:
            return "unsigned"
        return None if _SIGNATURE.fullmatch(given) else "wrong_signature"

    def verify(
        self, request: CallbackRequest, base: str, settings: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> str | None:
        """Whether it was signed with one of the account's tokens over the address it is configured with."""
        del settings
        wrong = self.glance(request.headers, request.at_s)
        if wrong is not None:
            return wrong
        given = request.headers["x-twilio-signature"].encode()
        signed = _signed(_pairs(request.body)) if _media_type(request) == _FORM else _signed_hash(request)
        if signed is None:
            return "wrong_signature"
        is_genuine = False
        rest = request.target.encode() + signed
        for name in self.needs:
            token = secrets.get(name)
            if token:
                for start in _spellings(base):
                    made = hmac.digest(token.encode(), start + rest, "sha1")
                    is_genuine |= hmac.compare_digest(base64.b64encode(made), given)
        return None if is_genuine else "wrong_signature"

    def read(self, request: CallbackRequest, settings: Mapping[str, Any]) -> Sequence[Told]:
        """One report, one inbound text, or something unknown.

        Raises:  Refused(unsupported_media_type, 415; invalid_callback, 400; other_account, 403).
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused("unsupported_media_type", "must not be compressed", status=415)
        if _media_type(request) != _FORM:
            raise Refused("unsupported_media_type", f"must be {_FORM}", status=415)
        pairs = _pairs(request.body)
        if len(pairs) > _MOST_PARAMETERS:
            raise Refused("invalid_callback", f"has more than {_MOST_PARAMETERS} parameters", status=400)
        values = _values(pairs)
        if values.get("AccountSid", settings["account_sid"]) != settings["account_sid"]:
            raise Refused("other_account", "is about another account", status=403)
        sid = values.get("MessageSid") or values.get("SmsSid") or ""
        if not _is_sound(values) or not sid:
            digest = hashlib.sha256(request.body).hexdigest()[:32]
            return [Unread(f"unknown:{digest}", "unknown")]
        if not is_sid(sid):
            raise Refused("invalid_callback", "MessageSid is not the id of a message", status=400)
        status = values.get("MessageStatus") or values.get("SmsStatus") or ""
        if status == "received" or ("Body" in values and "MessageStatus" not in values):
            return [_inbound(sid, values)]
        return [_report(sid, status, values, request.target)]

    def answer(self, reply: str) -> tuple[str, bytes]:
        """TwiML: an empty response, or one message to whoever wrote."""
        inner = f"<Message>{escape(reply, quote=False)}</Message>" if reply else ""
        return "text/xml; charset=utf-8", f'<?xml version="1.0" encoding="UTF-8"?><Response>{inner}</Response>'.encode()


def _report(sid: str, status: str, values: Mapping[str, str], target: str) -> Told:
    if not _WORD.fullmatch(status):
        return Unread(f"{sid}:?", "unknown")
    state = _STATES.get(status)
    cause, detail = "", ""
    if state in ("failed", "bounced"):
        code = values.get("ErrorCode", "")
        cause = cause_of(int(code)) if code.isdecimal() and len(code) < 8 else "carrier_unknown_error"  # noqa: PLR2004 - digits of any code
        cause = "cancelled_at_provider" if status == "canceled" else told_late(cause)
        detail = f"{status} {code}".strip()[:60]
    bill = bill_of(values.get("Price"), values.get("PriceUnit"))
    message_id = _message_id(target)
    return Report(
        # one id for two messages must not make the second one's report a repetition of the first one's [F62]
        key=f"{sid}:{status}" if message_id is None else f"{sid}:{status}:{message_id}",
        provider_id=sid,
        word=status,
        state=state,
        message_id=message_id,
        cause=cause,
        detail=detail if detail.isprintable() else status,
        suppress=suppression_of(cause),
        is_soft=is_soft(cause),
        price=None if bill is None else bill.amount,
        currency="" if bill is None else bill.currency,
    )


def _inbound(sid: str, values: Mapping[str, str]) -> Inbound:
    media = values.get("NumMedia", "0")
    return Inbound(
        key=f"{sid}:received",
        provider_id=sid,
        sender=values.get("From", ""),
        to=values.get("To", ""),
        text=values.get("Body", ""),
        media_count=min(int(media), 100) if media.isdecimal() and len(media) < 8 else 0,  # noqa: PLR2004 - digits of any count
        is_answered=bool(values.get("OptOutType")),
    )


def _message_id(target: str) -> UUID | None:
    """Our id of the message, which is part of what was signed."""
    for part in target.partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        if name == "m":
            try:
                return UUID(unquote(value))
            except ValueError:
                return None
    return None


def _is_sound(values: Mapping[str, str]) -> bool:
    """Whether every name is one of Twilio's, or could be a new one.

    The signature does not say where a name ends and its value begins: `A=B=1` and `AB==1` are signed alike. A name that
    is the beginning of a known one, or begins with one without being known, is taken for such a cut.
    """
    for name in values:
        if name in _KNOWN or re.fullmatch(r"Media(?:Url|ContentType)\d{1,2}", name):
            continue
        if not _NAME.fullmatch(name):
            return False
        if any(known.startswith(name) or (len(known) > 4 and name.startswith(known)) for known in _KNOWN):  # noqa: PLR2004 - To and From begin too much
            return False
    return True


@lru_cache(1)
def _pairs(body: bytes) -> Pairs:
    """The form; the same one is asked for twice in a row, to be verified and to be read."""
    found: list[tuple[bytes, bytes]] = []
    for part in body.replace(b"+", b" ").split(b"&", _MOST_PARAMETERS + 1)[: _MOST_PARAMETERS + 1]:
        if part:
            name, _, value = part.partition(b"=")
            is_quoted = b"%" in part
            found.append((unquote_to_bytes(name), unquote_to_bytes(value)) if is_quoted else (name, value))
    return tuple(found)


def _values(pairs: Pairs) -> dict[str, str]:
    """The first value of each name as text; what is not UTF-8 is replaced, NUL taken out."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name.decode(errors="replace"), value.decode(errors="replace").replace("\0", ""))
    return values


def _signed(pairs: Pairs) -> bytes:
    """Names in order, each with its different values in order."""
    return b"".join(name + value for name, value in sorted(set(pairs)))


def _signed_hash(request: CallbackRequest) -> bytes | None:
    """Of bodies that are no form only the hash in the query is signed, with the rest of the address."""
    given = parse_qs(urlsplit(request.target).query).get("bodySHA256", [""])[0]
    made = hashlib.sha256(request.body).hexdigest()
    is_same = hmac.compare_digest(made.encode(), given.encode(errors="replace"))
    return b"" if _HEX.fullmatch(given) and is_same else None


@lru_cache(1024)
def _spellings(base: str) -> tuple[bytes, ...]:
    """How an address as configured begins, with the port of its scheme and without: Twilio signs what it was given."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    preset = 443 if parts.scheme == "https" else 80
    netlocs = dict.fromkeys([parts.netloc, host, f"{host}:{parts.port or preset}"])
    if parts.port not in (None, preset):
        netlocs = {parts.netloc: None}
    return tuple(f"{parts.scheme}://{netloc}{parts.path}".encode() for netloc in netlocs)


def _media_type(request: CallbackRequest) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()

"""What a server's answers mean: one table from step, code and enhanced code to an outcome.

Owns the reading of a finished reply; never touches a socket. Text of the server is made printable and cut before it
is kept, because it is shown to people and logged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from outrider.contracts.outcome import Accepted, Deferred, Rejected


class Step(IntEnum):
    """What an awaited reply answers; also the index of its handler."""

    ASK = 0
    MAIL = 1
    RCPT = 2
    DATA = 3
    DOT = 4
    NULL_DOT = 5
    RSET = 6
    QUIT = 7


READY: Final = 220
SIGNED_IN: Final = 235
DONE: Final = 250
CHALLENGE: Final = 334
GO_AHEAD: Final = 354
CLOSING: Final = 421
OK: Final = range(200, 300)
TRANSIENT: Final = range(400, 500)
PERMANENT: Final = range(500, 600)
REFUSED: Final = range(400, 600)


class Reply(NamedTuple):
    """A complete reply: its code and its text as received, lines joined by LF, codes included."""

    code: int
    text: bytes


@dataclass(frozen=True, slots=True)
class _Rule:
    """First match decides. `enhanced` is a pattern for RFC 3463 codes; empty sets match everything."""

    steps: frozenset[Step]
    codes: frozenset[int]
    enhanced: str
    cause: str
    is_permanent: bool


def _rule(cause: str, *, is_permanent: bool, steps: str = "", codes: str = "", enhanced: str = "") -> _Rule:
    return _Rule(
        frozenset(Step[name] for name in steps.split()),
        frozenset(int(code) for code in codes.split()),
        enhanced,
        cause,
        is_permanent,
    )


_RULES: Final = (
    _rule("server_busy", is_permanent=False, codes="421"),
    _rule("authentication_failed", is_permanent=False, codes="530 534 535 538"),
    _rule("server_deferred", is_permanent=False, codes=" ".join(map(str, range(400, 500)))),
    _rule("smtputf8_unsupported", is_permanent=True, enhanced=r"5\.6\.7\Z"),
    _rule("eight_bit_unsupported", is_permanent=True, enhanced=r"5\.6\.3\Z"),
    _rule("too_large", is_permanent=True, enhanced=r"5\.(?:3\.4|2\.3)\Z"),
    # An address or mailbox that is wrong is wrong at whichever step the server says so.
    _rule("mailbox_unavailable", is_permanent=True, steps="RCPT DATA DOT", enhanced=r"5\.(?:1|2)\.\d+\Z"),
    _rule("message_rejected", is_permanent=True, enhanced=r"5\.7\.\d+\Z"),
    _rule("too_large", is_permanent=True, steps="MAIL DATA DOT", codes="552"),
    # The server did not understand us or is out of step: says nothing about this message.
    _rule("protocol_error", is_permanent=False, codes="500 502 503"),
    _rule("message_rejected", is_permanent=True, steps="RCPT", codes="554"),
    _rule("mailbox_unavailable", is_permanent=True, steps="RCPT"),
    _rule("message_rejected", is_permanent=True),
)

_GONE: Final = re.compile(r"5\.(?:1\.(?:1|2|3|6|10)|2\.1)\Z")
"""No such mailbox or domain, no address at all, moved away, takes no mail, closed. All else (undefined, an address
that fits several, a full mailbox, the route, content, policy, the sender's address) says nothing for ever."""
_OF_SENDER: Final = re.compile(r"[45]\.(?:[67]\.\d+|1\.[78])\Z")
_OF_MAILBOX: Final = re.compile(r"[45]\.2\.\d+\Z")
_MAILBOX_CAUSES: Final = frozenset({"mailbox_unavailable", "server_deferred"})
_ENHANCED: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=\s|\Z)")
_WISH: Final = re.compile(rb"\b(?:in|after|for)\s+(\d{1,5})\s*(s\b|sec|m\b|min|h\b|hour)", re.IGNORECASE)
_QUEUE_ID: Final = re.compile(rb"(?:queued as |\bid=)<?([!-;=?-~]{1,64})|\A250 Ok ([0-9A-Za-z-]{20,64})\r?\Z")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_LONGEST_DETAIL: Final = 240
_LONGEST_WISH_S: Final = 86_400.0
_UNITS_S: Final = {b"s": 1.0, b"m": 60.0, b"h": 3600.0}

_ACCEPTED: Final = Accepted()


def accepted(text: bytes) -> Accepted:
    """The outcome of a 2xx after the final dot, with the server's queue id where it is recognisable."""
    match = _QUEUE_ID.search(text)
    return Accepted((match[1] or match[2]).decode("ascii")) if match else _ACCEPTED


def judge(step: Step, reply: Reply) -> Deferred | Rejected:
    """What a refusal means for the message it concerns.

    Takes:   a reply that is not the awaited success; codes outside 400..599 are taken as a server out of step.
    Source:  RFC 5321 4.2, RFC 3463, RFC 4954 6; runbook rows S0-34 to S0-38.
    """
    if reply.code not in REFUSED:
        return Deferred("protocol_error", f"{step.name}: answered {reply.code}, out of step")
    detail, enhanced = describe(step.name, reply), enhanced_code(reply)
    for rule in _RULES:
        if (
            (not rule.steps or step in rule.steps)
            and (not rule.codes or reply.code in rule.codes)
            and (not rule.enhanced or re.match(rule.enhanced, enhanced))
        ):
            is_soft = is_about_mailbox(step, rule.cause, enhanced)
            if rule.is_permanent:
                is_hard = rule.cause == "mailbox_unavailable" and is_gone(enhanced)
                return Rejected(rule.cause, detail, "hard_bounce" if is_hard else "", is_soft and not is_hard)
            return Deferred(rule.cause, detail, _wish_s(reply), is_soft)
    raise AssertionError("the last rule matches everything")


def is_gone(enhanced: str) -> bool:
    """Whether an enhanced code says that the address will never work."""
    return _GONE.match(enhanced) is not None


def is_about_mailbox(step: Step, cause: str, enhanced: str) -> bool:
    """Whether a refusal says something about the recipient's mailbox, so that it counts towards soft bounces.

    What concerns the sender or what is written (policy, greylisting, reputation: x.7; size and form: x.6) does not: a
    sender that is on a blocklist for a day must not lose everybody for it.
    """
    if cause not in _MAILBOX_CAUSES:
        return False
    if step is Step.RCPT:
        return _OF_SENDER.match(enhanced) is None
    return step in (Step.DATA, Step.DOT) and _OF_MAILBOX.match(enhanced) is not None


def enhanced_code(reply: Reply) -> str:
    """The enhanced status code of a reply (RFC 3463), or empty; one that contradicts the reply's class is dropped."""
    match = _ENHANCED.match(reply.text, 4)
    if match is None or match[0][:1] != b"%d" % (reply.code // 100):
        return ""
    return match[0].decode("ascii")


def describe(what: str, reply: Reply) -> str:
    """One printable ASCII line: what was asked, then the reply's code and text."""
    text = b" ".join(line[4:].strip() for line in reply.text.split(b"\n"))
    printable = _UNPRINTABLE.sub("?", text.decode("ascii", "replace"))
    return f"{what}: {reply.code} {printable}".rstrip()[:_LONGEST_DETAIL]


def _wish_s(reply: Reply) -> float | None:
    """How long the server asks to wait, as greylisting servers do in words; bounded to a day."""
    match = _WISH.search(reply.text) if reply.code in TRANSIENT else None
    if match is None:
        return None
    return min(int(match[1]) * _UNITS_S[match[2][:1].lower()], _LONGEST_WISH_S)

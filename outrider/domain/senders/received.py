"""What a receiver found about a mail that arrived: SPF, DKIM and DMARC, and whether it was taken for spam. Pure.

Owns the reading of a saved mail's header. Only the topmost Authentication-Results count: the receiver put them there,
and whoever wrote the mail could have written any below.
Source:  requirements S0-42, S0-43; RFC 8601
"""

from __future__ import annotations

import re
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from outrider.base.errors import Refused
from outrider.domain.senders.dns_check import Check, Verdict

MOST_BYTES: Final = 1_000_000
_METHODS: Final = ("spf", "dkim", "dmarc")
_RESULT = re.compile(
    r"\s*(?P<method>[a-z][a-z0-9-]*)(?:/[0-9]+)?\s*=\s*(?P<result>[a-z]+)(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_COMMENT = re.compile(r"\([^()]*\)")
_PROPERTY = re.compile(r"\b(?:smtp|header|policy)\.[a-z-]+\s*=\s*\S+", re.IGNORECASE)
_LONGEST: Final = 300
_LONGEST_HEADER: Final = 10_000
_REMEDIES: Final = {
    "spf": "set the SPF record of the Return-Path's domain: `outrider sender dns NAME` shows it",
    "dkim": "give the sender a DKIM key and set its record: `outrider sender dns NAME` shows it",
    "dmarc": "the domain proven by SPF or DKIM must be the From domain's: see `outrider sender dns NAME`",
}
_SPAM: Final = ("x-spam-flag", "x-spam-status", "x-spam")


def checked(mail: bytes) -> list[Check]:
    """One check for each proof, and one for what a spam filter wrote.

    Takes:   a mail as it was received, or its header alone.
    Raises:  Refused(too_large, no_header, no_results).
    """
    if len(mail) > MOST_BYTES:
        raise Refused("too_large", f"at most {MOST_BYTES:,} bytes: the header alone will do", field="file")
    header = BytesHeaderParser(policy=compat32).parsebytes(mail.lstrip())
    if not header.keys():
        raise Refused("no_header", "begins with no header: save the mail with its source", field="file")
    said = header.get_all("Authentication-Results")
    if not said:
        why = "has no Authentication-Results: its receiver checks nothing, or it is no received mail"
        raise Refused("no_results", why, field="file")
    by, found = _results(_plain(str(said[0])[:_LONGEST_HEADER]))
    return [*(_judged(method, found.get(method, []), by) for method in _METHODS), _spam(header.items())]


def _judged(method: str, found: list[tuple[str, str]], by: str) -> Check:
    """The best of several results of a method: one signature that holds is enough."""
    if not found:
        return Check(method, by, "warn", "was not looked at by the receiver", [], _REMEDIES[method])
    passed = next((each for each in found if each[0] == "pass"), None)
    result, rest = passed or found[0]
    shown = [f"{method}={word} {about}".strip() for word, about in found]
    if passed is not None:
        return Check(method, by, "ok", rest or "pass", shown)
    verdict: Verdict = "unknown" if result in {"temperror", "permerror"} else "fail"
    return Check(method, by, verdict, f"{result} {rest}".strip(), shown, _REMEDIES[method])


def _spam(headers: list[tuple[str, str]]) -> Check:
    found = [f"{name}: {_plain(str(value))}"[:_LONGEST] for name, value in headers if name.lower() in _SPAM]
    if any(re.search(r":\s*yes\b", each, re.IGNORECASE) for each in found):
        return Check(
            "spam", "", "fail", "a filter took it for spam", found, "see what its words or links are marked for"
        )
    detail = "no filter says so; look whether it lies among the spam, and say there that it is none"
    return Check("spam", "filter", "ok", detail, found)


def _results(text: str) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """Who says it, and result and properties by method."""
    by, *parts = text.split(";")
    found: dict[str, list[tuple[str, str]]] = {}
    for part in parts:
        match = _RESULT.fullmatch(part)
        if match is not None:
            about = " ".join(_PROPERTY.findall(match["rest"]))[:_LONGEST]
            found.setdefault(match["method"].lower(), []).append((match["result"].lower(), about))
    return (by.split() or [""])[0][:_LONGEST], found


def _plain(text: str) -> str:
    """Without comments, on one line, printable."""
    while (less := _COMMENT.sub("", text)) != text:
        text = less
    return "".join(each if each.isprintable() else " " for each in text).strip()

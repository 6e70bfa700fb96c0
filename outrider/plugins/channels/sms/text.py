"""The text of an SMS: what content may say, its compiled form, and the words that show the way out.

Owns every reason for which a content is refused before anybody is a recipient. Never sends.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Content, Identity, Renderer
from outrider.data.slots import Piece, from_json, pieces, to_json
from outrider.data.template_syntax import problems
from outrider.plugins.channels.sms.number import is_number

LONGEST = 1600
"""Characters of a message; providers refuse longer ones (Twilio 21617)."""
UNSUBSCRIBE = "unsubscribe_url"
_VERSION = 1
_LONGEST_SOURCE = 20_000
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_SHOWS_WORD = re.compile(r"\b(?:STOP|ARRET|UNSUBSCRIBE)\b")


def problem_of(text: str) -> str | None:
    """Why a finished text cannot be sent, or None."""
    if not text.strip():
        return "the text is empty"
    if len(text) > LONGEST:
        return f"has {len(text):,} characters, at most {LONGEST:,} are possible"
    bad = _UNSENDABLE.search(text)
    return f"has U+{ord(bad[0]):04X}, which cannot be sent" if bad else None


def with_lf(text: str) -> str:
    """Every kind of line end as LF, the only one of the GSM alphabet that phones agree on."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


async def compile_content(content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
    """Check content and compile it; see `contracts.channel.Channel.compile`.

    Raises:  RefusedMany naming subject, html, text, preheader or attachments; Refused naming text with its line.
    """
    refusals = [
        Refused("not_for_channel", "an SMS has a text and nothing else", field=name)
        for name, value in (
            ("subject", content.subject),
            ("html", content.html),
            ("preheader", content.preheader),
            ("attachments", content.attachments),
        )
        if value
    ]
    source = with_lf(content.text or "")
    if not source.strip():
        refusals.append(Refused("required", "the text is empty", field="text"))
    elif not content.is_template and (problem := problem_of(source)):
        refusals.append(Refused("invalid_text", problem, field="text"))
    elif len(source) > _LONGEST_SOURCE:
        refusals.append(Refused("too_long", f"has more than {_LONGEST_SOURCE:,} characters", field="text"))
    if refusals:
        raise RefusedMany(refusals)
    if not content.is_template:
        return _to_json(source, [source])
    bad = _UNSENDABLE.search(source)
    if bad:
        raise Refused("invalid_character", f"U+{ord(bad[0]):04X} cannot be sent", field="text")
    await _check_syntax(source, content.version_key, renderer)
    split = pieces(source)
    return None if split is None else _to_json(source, split)


async def _check_syntax(source: str, version_key: str, renderer: Renderer) -> None:
    found = problems(source)
    if not found:
        found = [(each.line, each.detail) for each in await renderer.check({"text": source}, version_key)]
    if found:
        raise RefusedMany(
            [Refused("invalid_template", f"line {line}: {detail}", field="text", line=line) for line, detail in found]
        )


def read_compiled(content: Content) -> list[Piece] | None:
    """The pieces of compiled content; None when they are of another version or of another source."""
    source = with_lf(content.text or "")
    compiled = content.compiled
    if not compiled or compiled.get("version") != _VERSION or compiled.get("of") != _fingerprint(source):
        return None if content.is_template else [source]
    return from_json(compiled["text"])


def way_out(source: str, identity: Identity, url: str) -> str:
    """What is added to a bulk message so that it shows how to get no more of them; empty where it shows that already.

    Whoever can be answered is told the word; a name cannot be answered, so the link stands there.
    """
    if not url or not identity.opt_out_line or UNSUBSCRIBE in source or _SHOWS_WORD.search(source):
        return ""
    if is_number(identity.from_address):
        return f"\n{identity.opt_out_line}"
    return f"\nOpt out: {url}"


def _to_json(source: str, parts: list[Piece]) -> Mapping[str, Any]:
    return {"version": _VERSION, "of": _fingerprint(source), "text": to_json(parts)}


def _fingerprint(source: str) -> str:
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:32]

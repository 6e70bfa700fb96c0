"""Checking content when it is saved, and compiling it when it only substitutes variables.

Owns every reason for which content is refused before anybody is a recipient, and the proof that a compiled template
gives what the engine gives. Never sends.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Attachment, Content, Renderer
from outrider.data.slots import (
    Piece,
    Slot,
    fill,
    from_json,
    pieces,
    slots_of,
    to_json,
)
from outrider.data.template_syntax import TemplateSyntaxProblem, problems
from outrider.plugins.channels.email import headers, html_policy
from outrider.plugins.channels.email.body import sources_of
from outrider.plugins.channels.email.encoding import UNSENDABLE

_VERSION = 1
_LONGEST_SOURCE_BYTES = 1024 * 1024
_LONGEST_SUBJECT = 998
_LONGEST_PREHEADER = 500
_LONGEST_NAME = 255
_BAD_NAME = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_SENTINELS: tuple[Any, ...] = ("\u27e6{}\u27e7<&>\"'/ é", 7, True, "plain{}")

Compiled = dict[str, list[Piece]]


async def compile_content(content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
    """Check content and compile it; see `contracts.channel.Channel.compile`."""
    refusals = _content_refusals(content)
    if refusals:
        raise RefusedMany(refusals)
    try:
        sources = sources_of(content)
    except TemplateSyntaxProblem as problem:
        raise Refused("invalid_template", f"line {problem.line}: {problem.detail}", field="preheader") from None
    if content.is_template:
        await check_syntax(sources, content.version_key, renderer)
    places = check_html(sources, is_template=content.is_template)
    if not content.is_template:
        return _to_json(sources, {part: [source] for part, source in sources.items()})
    compiled: Compiled = {}
    for part, source in sources.items():
        split = pieces(source, places if part == "html" else ())
        if split is None:
            return None
        compiled[part] = split
    if not await _is_proven(compiled, sources, content.version_key, renderer):
        return None
    return _to_json(sources, compiled)


def read_compiled(content: Content) -> Compiled | None:
    """The pieces of compiled content; None when they are of another version or another source than the content's."""
    compiled = content.compiled
    if not compiled or compiled.get("version") != _VERSION:
        return None
    sources = sources_of(content)
    if compiled.get("of") != _fingerprint(sources):
        return None
    return {part: from_json(compiled["parts"][part]) for part in sources}


def _to_json(sources: Mapping[str, str], compiled: Compiled) -> Mapping[str, Any]:
    parts = {part: to_json(split) for part, split in compiled.items()}
    return {"version": _VERSION, "of": _fingerprint(sources), "parts": parts}


def _fingerprint(sources: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(sources.items())).encode()).hexdigest()[:32]


def _content_refusals(content: Content) -> list[Refused]:
    """What can be said about content without reading its templates."""
    found = []
    if content.html is None and content.text is None:
        found.append(Refused("required", "an email needs html, text or both", field="html"))
    if not content.subject.strip():
        found.append(Refused("required", "the subject is empty", field="subject"))
    elif len(content.subject) > _LONGEST_SUBJECT:
        found.append(Refused("too_long", f"has more than {_LONGEST_SUBJECT} characters", field="subject"))
    else:
        problem = headers.text_problem(content.subject)
        if problem:
            found.append(Refused(headers.text_code(content.subject), problem, field="subject"))
    if len(content.preheader) > _LONGEST_PREHEADER:
        found.append(Refused("too_long", f"has more than {_LONGEST_PREHEADER} characters", field="preheader"))
    for part, source in (("html", content.html), ("text", content.text), ("preheader", content.preheader)):
        found += _source_refusals(part, source)
    for index, attachment in enumerate(content.attachments):
        found += _attachment_refusals(attachment, f"attachments.{index}")
    return found


def _source_refusals(part: str, source: str | None) -> list[Refused]:
    if source is None:
        return []
    bad = UNSENDABLE.search(source)
    if bad:
        line = source.count("\n", 0, bad.start()) + 1
        return [Refused("invalid_character", f"line {line}: has U+{ord(bad[0]):04X}, which cannot be sent", field=part)]
    if len(source.encode()) > _LONGEST_SOURCE_BYTES:
        return [Refused("too_long", f"has more than {_LONGEST_SOURCE_BYTES:,} bytes", field=part)]
    if part != "preheader" and not source.strip():
        return [Refused("required", "is empty; leave it out instead", field=part)]
    return []


def _attachment_refusals(attachment: Attachment, field: str) -> list[Refused]:
    found = []
    name = attachment.name
    if not name.strip(" .") or len(name.encode(errors="replace")) > _LONGEST_NAME or _BAD_NAME.search(name):
        detail = f"must be a file name of at most {_LONGEST_NAME} bytes without path, quotes or control characters"
        found.append(Refused("invalid_attachment", detail, field=f"{field}.name"))
    if not headers.is_content_type(attachment.content_type):
        found.append(
            Refused("invalid_attachment", "must be a media type such as application/pdf", field=f"{field}.content_type")
        )
    return found


async def check_syntax(sources: Mapping[str, str], version_key: str, renderer: Renderer) -> None:
    """Refuse templates that the engine cannot read, each with its line."""
    found = [(part, line, detail) for part, source in sources.items() for line, detail in problems(source)]
    if not found:
        found = [(problem.part, problem.line, problem.detail) for problem in await renderer.check(sources, version_key)]
    if found:
        raise RefusedMany(
            [
                Refused("invalid_template", f"line {line}: {detail}", field=part, line=line)
                for part, line, detail in found
            ]
        )


def check_html(sources: Mapping[str, str], *, is_template: bool) -> Sequence[str]:
    """Refuse what the HTML of an email may not hold; gives the place of each expression."""
    if "html" not in sources:
        return ()
    scan = html_policy.scan(sources["html"], is_template=is_template)
    if scan.problems:
        raise RefusedMany(
            [
                Refused("unsafe_html", f"line {line}: {detail}", field="html", line=line)
                for line, detail in scan.problems
            ]
        )
    return scan.places


async def _is_proven(compiled: Compiled, sources: Mapping[str, str], version_key: str, renderer: Renderer) -> bool:
    """Whether the engine gives exactly what the pieces give, for values with every special character."""
    slots = [slot for split in compiled.values() for slot in slots_of(split)]
    contexts = [_sentinels(slots, sentinel, is_complete) for sentinel in _SENTINELS for is_complete in (True, False)]
    if any(context is None for context in contexts):
        return False
    texts = [json.dumps(context) for context in contexts]
    answers = await renderer.render(sources, f"{version_key}/proof", texts)
    return all(
        answer == {part: fill(split, context or {}, is_html=part == "html") for part, split in compiled.items()}
        for context, answer in zip(contexts, answers, strict=True)
    )


def _sentinels(slots: Sequence[Slot], sentinel: Any, is_complete: bool) -> dict[str, Any] | None:  # noqa: FBT001  inner
    """Variables in which every slot has a value of its own, those with a default only if `is_complete`.

    Gives:   None when one slot is inside another (`a` and `a.b`), which no data can fill.
    """
    context: dict[str, Any] = {}
    leaves = {slot.path for slot in slots}
    for number, slot in enumerate(slots):
        here = context
        for depth, key in enumerate(slot.path[:-1]):
            if slot.path[: depth + 1] in leaves:
                return None
            here = here.setdefault(key, {})
        if is_complete or slot.default is None:
            here[slot.path[-1]] = sentinel.format(number) if isinstance(sentinel, str) else sentinel
    return context

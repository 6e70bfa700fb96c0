"""From what an author wrote to the parts of an email: MJML to HTML, styles into elements, text from HTML.

Owns keeping template syntax out of the sight of foreign parsers: every run of it is a mark while they work, and stands
in its place again afterwards, or the author is told which could not. The parsers run in a process of their own
(data/letters.py), at save time only: what is sent stays a pure function of what was saved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from outrider.base.errors import Refused
from outrider.contracts.channel import Manuscript, Renderer, Written
from outrider.data import letters
from outrider.data.template_syntax import Segment, split
from outrider.plugins.channels.email.compile import check_html, check_syntax
from outrider.plugins.channels.email.html_policy import Scanner

_LONGEST_SOURCE_BYTES = 1024 * 1024
_MARK = re.compile(r"<!--otr(\d+)x-->|otr(\d+)x")
_STYLED = re.compile(r"<style[\s>]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Run:
    """Template syntax between two stretches of literal text. `is_plain`: nothing but expressions and comments."""

    source: str
    line: int
    is_plain: bool


@dataclass(frozen=True, slots=True)
class _Marked:
    """A source without template syntax. `obstacle`: the line where it stands in a place that no parser would keep."""

    source: str
    runs: tuple[_Run, ...]
    obstacle: int = 0


async def written(manuscript: Manuscript, renderer: Renderer) -> Written:
    """Make the parts; see `contracts.channel.Channel.write`.

    Gives:   HTML unchanged, to the character, where it has no styles to put in or where that could change what its
             template does; a warning says so then.
    """
    if manuscript.mjml is not None and manuscript.html is not None:
        raise Refused("mjml_or_html", "give mjml or html, not both", field="html")
    if manuscript.mjml is not None:
        return await _from_mjml(manuscript, manuscript.mjml, renderer)
    if manuscript.html is None or not manuscript.html.strip():
        return Written(manuscript.html, manuscript.text)
    return await _from_html(manuscript, manuscript.html, renderer)


async def _from_mjml(manuscript: Manuscript, source: str, renderer: Renderer) -> Written:
    marked = await _checked(source, renderer, field="mjml")
    wants_text = manuscript.auto_text and manuscript.text is None
    request = {"mjml": marked.source, "inline": manuscript.inline_css, "text": wants_text}
    made = await letters.asked(request, field="mjml")
    if "problem" in made:
        line = _restored(marked.source[: made["at"]], marked).count("\n") + 1
        raise Refused("invalid_mjml", f"line {line}: {made['problem']}", field="mjml", line=line)
    lost = _lost(made["html"], marked)
    if lost is not None:
        detail = (
            f"line {lost.line}: {lost.source[:40]!r} cannot stand here: put it into mj-text, mj-raw or around a section"
        )
        raise Refused("invalid_mjml", detail, field="mjml", line=lost.line)
    text, warnings = await _text(manuscript, made, marked, renderer)
    return Written(_restored(made["html"], marked), text, warnings)


async def _from_html(manuscript: Manuscript, source: str, renderer: Renderer) -> Written:
    wants_text = manuscript.auto_text and manuscript.text is None
    wants_inline = manuscript.inline_css and bool(_STYLED.search(source))
    if not wants_text and not wants_inline:
        return Written(source, manuscript.text)
    marked = await _checked(source, renderer, field="html")
    check_html({"html": source}, is_template=True)  # here, so that lines are the author's
    warnings: tuple[str, ...] = ()
    if wants_inline and marked.obstacle:
        wants_inline = False
        warnings = (f"styles stay where they are: line {marked.obstacle} has template syntax inside a tag or style",)
    made = await letters.asked({"html": marked.source, "inline": wants_inline, "text": wants_text}, field="html")
    if "problem" in made:
        raise Refused("invalid_html", made["problem"], field="html")
    html = source
    if wants_inline:
        lost = _lost(made["html"], marked)
        if lost is None:
            html = _restored(made["html"], marked)
        else:
            warnings = (f"styles stay where they are: line {lost.line} has template syntax that would move",)
    text, more = await _text(manuscript, made, marked, renderer)
    return Written(html, text, warnings + more)


async def _checked(source: str, renderer: Renderer, *, field: str) -> _Marked:
    """The source with marks.

    Raises:  Refused naming `field` for what is too long, cannot be read as a template, or holds a mark of ours.
    """
    if len(source.encode(errors="replace")) > _LONGEST_SOURCE_BYTES:
        raise Refused("too_long", f"has more than {_LONGEST_SOURCE_BYTES:,} bytes", field=field)
    if _MARK.search(source):
        raise Refused("invalid_template", "holds text like otr1x, which is kept for ourselves", field=field)
    await check_syntax({field: source}, f"writing/{field}", renderer)
    return _marked(source, is_mjml=field == "mjml")


def _marked(source: str, *, is_mjml: bool) -> _Marked:
    """Put a mark in the place of each run of template syntax."""
    scanner, runs, out = Scanner(), list[_Run](), list[str]()
    at, obstacle = 0, 0
    pending: list[Segment] = []

    def settle(end: int) -> None:
        nonlocal obstacle
        if not pending:
            return
        is_plain = all(each.kind in ("print", "comment") for each in pending)
        runs.append(_Run(source[at:end], pending[0].line, is_plain))
        name = f"otr{len(runs)}x"
        is_between = scanner.mode == "data" and not (is_mjml and is_plain)
        out.append(f"<!--{name}-->" if is_between else name)
        if scanner.mode not in ("data", "quoted", "comment") and not (scanner.mode == "raw" and scanner.tag == "title"):
            obstacle = obstacle or pending[0].line
        for each in pending:
            scanner.take(each)
        pending.clear()

    for segment in split(source):
        if segment.kind != "text":
            pending.append(segment)
            continue
        settle(segment.start)
        scanner.take(segment)
        out.append(segment.text)
        at = segment.start + len(segment.text)
    settle(len(source))
    return _Marked("".join(out), tuple(runs), obstacle)


def _lost(made: str, marked: _Marked) -> _Run | None:
    """The first run that is no longer there, or a statement that is not where it was among the others."""
    seen = [int(found[1] or found[2]) - 1 for found in _MARK.finditer(made)]
    for number, run in enumerate(marked.runs):
        if number not in seen:
            return run
    statements = [number for number in dict.fromkeys(seen) if not marked.runs[number].is_plain]
    return next(
        (
            marked.runs[number]
            for number, before in zip(statements, sorted(statements), strict=True)
            if number != before
        ),
        None,
    )


def _restored(made: str, marked: _Marked) -> str:
    def run(found: re.Match[str]) -> str:
        number = int(found[1] or found[2]) - 1
        return marked.runs[number].source if number < len(marked.runs) else found[0]

    return _MARK.sub(run, made)


async def _text(
    manuscript: Manuscript, made: dict[str, Any], marked: _Marked, renderer: Renderer
) -> tuple[str | None, tuple[str, ...]]:
    """The text part: the author's own, else the one made, unless its template no longer holds together."""
    if manuscript.text is not None or not manuscript.auto_text:
        return manuscript.text, ()
    text = _restored(made["text"] or "", marked)
    if not text.strip():
        return None, ("no text part was made: the HTML has no words outside images",)
    if any(not run.is_plain for run in marked.runs) and await renderer.check({"text": text}, "auto-text"):
        return None, ("no text part was made: statements of the template stand in what text does not show",)
    return text, ()

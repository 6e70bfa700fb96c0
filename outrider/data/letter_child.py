"""Turns what an author wrote into the HTML and text of a message, and compares versions: one request, then it ends.

Runs as a process of its own with limits, because parsers of other people's markup can be made to run out of stack,
memory or time. Owns MJML to HTML, styles into elements, HTML to text, and differences. Never loads anything that the
markup names: no style sheets, no includes, no fonts. Imports nothing of Outrider's.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
import sys
from html.parser import HTMLParser
from typing import Any

ADDRESS_SPACE_BYTES = 512 * 1024 * 1024
CPU_S = 5
_MOST_LINES = 4_000
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt", "figcaption", "figure",
        "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section",
        "table", "tr", "ul",
    }
)  # fmt: skip
_SILENT = frozenset({"head", "style", "script", "title"})
_VOID = frozenset({"area", "br", "col", "hr", "img", "link", "meta", "wbr"})
_APART = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "table", "pre"})
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_WHERE = re.compile(r"\s*in root template(?: at position (\d+):(\d+))?")
_MARK = re.compile(r"otr\d+x")


def main() -> None:
    """Argument: the folder of the libraries. Standard input: one JSON request; standard output: one JSON answer."""
    sys.path.append(sys.argv[1])
    request = json.load(sys.stdin.buffer)
    if "compare" in request:
        limit_self()
        answer: dict[str, Any] = {"parts": {name: compared(*pair) for name, pair in request["compare"].items()}}
    else:
        import css_inline  # noqa: PLC0415  found only through the argument: the child runs without site-packages
        import mrml  # noqa: PLC0415  the same

        limit_self()
        answer = made(request, mrml, css_inline)
    sys.stdout.buffer.write(json.dumps(answer).encode())


def limit_self() -> None:
    """Give up what is not needed. What goes over a limit ends the process, never the machine."""
    os.chdir("/")
    os.nice(5)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
    ):
        hard = resource.getrlimit(what)[1]
        lowered = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (lowered, lowered))


def made(request: dict[str, Any], mrml: Any, css_inline: Any) -> dict[str, Any]:
    """HTML and text.

    Takes:   mjml or html; inline: put styles into elements; text: also make the text.
    Gives:   html, title and text; or problem and at (characters from the beginning) when it cannot be read.
    """
    html, title = request.get("html") or "", ""
    if request.get("mjml") is not None:
        try:
            output = mrml.to_html(
                request["mjml"],
                mrml.ParserOptions(include_loader=mrml.noop_loader()),
                mrml.RenderOptions(social_icon_origin="", fonts={}),
            )
        except (OSError, ValueError) as error:
            found = _WHERE.search(str(error))
            return {"problem": _WHERE.sub("", str(error)), "at": int(found[1] or 0) if found else 0}
        html, title = output.content, output.title or ""
    if request.get("inline") and "<style" in html.lower():
        inliner = css_inline.CSSInliner(
            load_remote_stylesheets=False, keep_style_tags=True, keep_link_tags=True, remove_inlined_selectors=True
        )
        try:
            html = inliner.inline(html)
        except ValueError as error:
            return {"problem": f"its styles cannot be read: {error}", "at": 0}
    return {"html": html, "title": title, "text": text_of(html) if request.get("text") else None}


class _Reader(HTMLParser):
    """Collects what a reader sees: words, line ends, and addresses of links behind their words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.silent: list[str] = []
        self.links: list[tuple[str, int]] = []
        self.lists: list[int | None] = []
        self.pre_count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        given = {name: value or "" for name, value in attrs}
        if self.silent or tag in _SILENT or _HIDDEN.search(given.get("style", "")):
            if tag not in _VOID:
                self.silent.append(tag)
            return
        if tag == "br":
            self.out.append("\n")
        elif tag == "img" and given.get("alt", "").strip():
            self.out.append(given["alt"])
        elif tag == "a":
            self.links.append((given.get("href", ""), len(self.out)))
        elif tag in ("td", "th"):
            self.out.append(" ")
        elif tag in _BLOCKS:
            self._block(tag)
        if tag == "hr":
            self.out.append("-----\n")

    def _block(self, tag: str) -> None:
        self.out.append("\n\n" if tag in _APART else "\n")
        if tag in ("ul", "ol"):
            self.lists.append(0 if tag == "ol" else None)
        elif tag == "pre":
            self.pre_count += 1
        elif tag == "li":
            number = self.lists[-1] if self.lists else None
            if number is not None:
                self.lists[-1] = number + 1
            self.out.append("- " if number is None else f"{number + 1}. ")

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        if self.silent:
            if tag in self.silent:
                while self.silent.pop() != tag:
                    pass
            return
        if tag == "a" and self.links:
            href, start = self.links.pop()
            words = "".join(self.out[start:]).strip()
            if href and not href.startswith("#") and href.removeprefix("mailto:") != words:
                self.out.append(f" ({href})" if words else href)
        elif tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag == "pre":
            self.pre_count = max(0, self.pre_count - 1)
        if tag in _BLOCKS:
            self.out.append("\n\n" if tag in _APART else "\n")

    def handle_data(self, data: str) -> None:
        """Take words."""
        if not self.silent:
            self.out.append(data if self.pre_count else re.sub(r"[ \t\r\n\f]+", " ", data))

    def handle_comment(self, data: str) -> None:
        """A comment is nothing, unless it is a mark that stands for template syntax."""
        if not self.silent and _MARK.fullmatch(data):
            self.out.append(f"<!--{data}-->")


def text_of(html: str) -> str:
    """HTML as text: paragraphs apart, lists marked, addresses of links in brackets, hidden elements left out."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = [re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in "".join(reader.out).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def compared(before: str | None, after: str | None) -> str | None:
    """A unified difference; None when there is none. Beyond some thousand lines only where it begins is said."""
    if before == after:
        return None
    old, new = (before or "").splitlines(), (after or "").splitlines()
    if max(len(old), len(new)) > _MOST_LINES:
        pairs = enumerate(zip(old, new, strict=False), 1)
        first = next((at for at, (a, b) in pairs if a != b), min(len(old), len(new)) + 1)
        return f"@@ too long to compare: {len(old)} and {len(new)} lines, different from line {first} on @@"
    return "\n".join(difflib.unified_diff(old, new, lineterm="", n=3)) or "@@ only line ends differ @@"


if __name__ == "__main__":
    main()

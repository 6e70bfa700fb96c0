"""What stands in a body besides the author's text: the hidden preheader and the footer of bulk messages.

Owns where both go. The footer is added to each part of a bulk message that does not show the unsubscribe link [T52];
never to a transactional one. Beside that link it shows the one to the preference centre, where the identity has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from outrider.contracts.channel import Content
from outrider.data.slots import Piece, Slot, slots_of
from outrider.data.template_syntax import split

UNSUBSCRIBE = "unsubscribe_url"
"""The variable that every template has; empty in transactional messages unless the caller gave one."""

WEB_VERSION = "web_version_url"
"""The variable for the address of the message's web version; empty where there is none."""

PREFERENCES = "preferences_url"
"""The variable for the address of the recipient's preference centre; empty where there is none."""

_BREAK = re.compile(r"\r\n?")
_BODY_TAG = re.compile(r"<body", re.IGNORECASE)
_IN_BODY_TAG = re.compile(r"""\{\{.*?\}\}|\{%.*?%\}|"[^"]*"|'[^']*'|[^>"'{]+""", re.DOTALL)
"""One step through a tag. Steps are taken one by one: as one expression they could be divided in 2^n ways."""
_PROLOGUE = re.compile(
    r"\s*(?:<!doctype[^>]*>\s*)?(?:<html[^>]*>\s*)?(?:<head.*?</head\s*>)?", re.IGNORECASE | re.DOTALL
)
_BODY_CLOSES = re.compile(r"</body\s*>", re.IGNORECASE)
_BODY_END = re.compile(r"</body\s*>|</html\s*>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)

_PREHEADER = (
    '<span style="display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;opacity:0;overflow:hidden;'
    'mso-hide:all">{}</span>'
)
_FOOTER_BOX = '<div style="margin:24px 0 0;padding:12px 0;font:12px/1.5 sans-serif;color:#666;text-align:center">'
_FOOTER_LINK = ('<a href="', '" style="color:#666">{}</a>')
_LEAVE, _CHOOSE = "Unsubscribe", "Choose what you get"


class Footer(NamedTuple):
    """What stands below a part that does not show the unsubscribe link: the sender's address, and which links."""

    postal_address: str
    has_preferences: bool


def sources_of(content: Content) -> dict[str, str]:
    """The template source of each part, the preheader already in its place."""
    sources = {"subject": content.subject}
    if content.html is not None:
        sources["html"] = _BREAK.sub("\n", _with_preheader(content))
    if content.text is not None:
        sources["text"] = _BREAK.sub("\n", content.text)
    return sources


def _with_preheader(content: Content) -> str:
    """The HTML with the preheader directly after <body>, or where the body begins when there is no such tag."""
    html = content.html or ""
    if not content.preheader.strip():
        return html
    at = _end_of_body_tag(html)
    if at is None:
        found = _PROLOGUE.match(html)
        at = found.end() if found else 0
    shown = _escaped_source(content.preheader) if content.is_template else escape(content.preheader)
    return f"{html[:at]}{_PREHEADER.format(shown)}{html[at:]}"


def _end_of_body_tag(html: str) -> int | None:
    """Where the body begins, template syntax in the tag's values passed over; None without such a tag."""
    opening = _BODY_TAG.search(html)
    at = opening.end() if opening else len(html)
    while step := _IN_BODY_TAG.match(html, at):
        at = step.end()
    return at + 1 if html[at : at + 1] == ">" else None


def _escaped_source(source: str) -> str:
    """A template source whose literal text is escaped for HTML; expressions are escaped by the engine."""
    done = []
    for segment in split(source):
        match segment.kind:
            case "text":
                done.append(escape(segment.text))
            case "raw":
                done.append(f"{{% raw %}}{escape(segment.text)}{{% endraw %}}")
            case "print":
                done.append(f"{{{{{segment.text}}}}}")
            case "block":
                done.append(f"{{%{segment.text}%}}")
            case "comment":
                pass
    return "".join(done)


def shows_link(parts: Sequence[Piece], name: str = UNSUBSCRIBE) -> bool:
    """Whether pieces show a link of ours to a reader; inside an HTML comment they do not."""
    return any(slot.path == (name,) and slot.place != "comment" for slot in slots_of(parts))


def html_shows(html: str, url: str, escaped_url: str) -> bool:
    """Whether a rendered HTML part shows the link outside comments."""
    visible = _COMMENT.sub("", html) if "<!--" in html else html
    return escaped_url in visible or url in visible


def html_footer(footer: Footer) -> list[Piece]:
    """The footer of an HTML part as pieces."""
    lines = "".join(f"{escape(line)}<br>" for line in footer.postal_address.splitlines())
    made: list[Piece] = [f"{_FOOTER_BOX}{lines}", *_html_link(UNSUBSCRIBE, _LEAVE)]
    if footer.has_preferences:
        made += [" |\n", *_html_link(PREFERENCES, _CHOOSE)]
    return [*made, "</div>"]


def _html_link(name: str, shown: str) -> list[Piece]:
    before, after = _FOOTER_LINK
    return [before, Slot((name,), place="attribute"), after.format(shown)]


def text_footer(footer: Footer) -> list[Piece]:
    """The footer of a text part as pieces."""
    address = "".join(f"{line}\n" for line in footer.postal_address.splitlines())
    made: list[Piece] = [f"\n--\n{_LEAVE}: ", Slot((UNSUBSCRIBE,))]
    if footer.has_preferences:
        made += [f"\n{_CHOOSE}: ", Slot((PREFERENCES,))]
    return [*made, f"\n{address}"]


def end_of_body(html: str) -> int:
    """Where a footer goes in HTML: before the last </body>, else before </html>, else at the end."""
    ends = [found.start() for found in _BODY_CLOSES.finditer(html)]
    ends = ends or [found.start() for found in _BODY_END.finditer(html)]
    return ends[-1] if ends else len(html)


def with_html_footer(parts: Sequence[Piece], footer: Sequence[Piece]) -> list[Piece]:
    """Pieces of an HTML part with the footer where `end_of_body` puts it in the whole."""
    for end in (_BODY_CLOSES, _BODY_END):
        for index in range(len(parts) - 1, -1, -1):
            piece = parts[index]
            if isinstance(piece, str) and end.search(piece):
                at = end_of_body(piece)
                return [*parts[:index], piece[:at], *footer, piece[at:], *parts[index + 1 :]]
    return [*parts, *footer]

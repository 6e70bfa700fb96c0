"""The inbox as HTML: a list and a message, without scripts, everything escaped.

Owns the pages' text and their content security policies. What a message says runs nowhere: its HTML is served for a
sandboxed frame that may load nothing from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

from outrider.interfaces.sandbox import inbox_style, letter
from outrider.interfaces.sandbox.ledger import Record
from outrider.interfaces.sandbox.letter import Attachment, Letter

MOST_HEADER_BYTES: Final = 1 << 16
STYLE: Final = inbox_style.STYLE
_MOST_TEXT_CHARACTERS: Final = 200_000
_SHORT_CHARACTERS, _MIDDLING_CHARACTERS = 600, 3_000
"""Up to so much HTML, a smaller frame will do: without a script a frame does not know its content's height."""

PAGE_CSP: Final = (
    "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
MESSAGE_CSP: Final = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'"
)

_OUTCOME_WORDS: Final[Mapping[str, str]] = {
    "accepted": "accepted",
    "refused": "refused",
    "deferred": "deferred",
    "dropped_before_dot": "dropped before the dot",
    "dropped_after_dot": "taken, answer lost",
}
_COUNTERS: Final = ("accepted", "refused", "deferred", "dropped", "sessions", "bytes")
_COLUMNS: Final = (
    ("when", "Time (UTC)"),
    ("outcome", "Outcome"),
    ("to", "To"),
    ("about", "Subject"),
    ("from", "From"),
    ("size", "Bytes"),
)
_NOT_KEPT: Final = "The bytes of this message were not kept: start the sandbox with --keep-bodies (keeps_bodies)."


def list_page(
    rows: Sequence[tuple[Record, str | None]], stats: Mapping[str, Any], *, rcpt_to: str, is_live: bool
) -> bytes:
    """The inbox: the latest records with their subjects (None: bytes are not kept), and the counters."""
    refresh = '<meta http-equiv="refresh" content="3">' if is_live else ""
    counters = "".join(f"<div><dt>{name.capitalize()}</dt><dd>{stats[name]:,}</dd></div>" for name in _COUNTERS)
    heads = "".join(f'<th scope="col" role="columnheader" class="{name}">{text}</th>' for name, text in _COLUMNS)
    body = "".join(_row(record, subject) for record, subject in rows) or _no_rows(rcpt_to)
    return _page(
        f"Inbox: {rcpt_to}" if rcpt_to else "Inbox",
        f"""<header><h1>Outrider sandbox</h1><p>Takes every message, delivers none.</p></header>
<main><dl class="counters">{counters}</dl>
{_filter(rcpt_to, is_live=is_live)}
<table role="table"><caption class="hidden">Messages, newest first</caption>
<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{body}</tbody></table>
{_list_note(rows, stats)}</main>""",
        head=refresh,
    )


def message_page(record: Record, body: bytes | None) -> bytes:
    """One record: what became of it, the HTML in its frame, the text, the attachments, then everything else."""
    if body is None:
        title = record.message_id or f"Record {record.seq}"
        note = _NOT_KEPT if record.is_taken else "The sandbox did not take this message, so there is nothing to read."
        content, more = f'<p class="note">{note}</p>', ""
    else:
        found = letter.read(body)
        title = letter.subject_of(body) or "(no subject)"
        content = _content(record, found)
        headers = _facts((name, escape(value)) for name, value in found.headers)
        more = (
            f"<details><summary>Headers</summary>{headers}</details>"
            f'<p><a href="/messages/{record.seq}/raw">The bytes as they came</a></p>'
        )
    rest = [(name, escape(str(value))) for name, value in _from_ledger(record) if value not in {None, ""}]
    is_open = " open" if body is None else ""
    return _page(
        title,
        f"""<nav aria-label="Back"><a href="/">← Inbox</a></nav>
<header><h1 dir="auto">{escape(title)}</h1></header>
<main>{_facts(_summary(record))}{content}
<details{is_open}><summary>Everything in the ledger</summary>{_facts(rest)}</details>{more}</main>""",
    )


def html_part(body: bytes) -> bytes:
    """The HTML of a message as it came, in UTF-8; only ever served with MESSAGE_CSP."""
    html = letter.read(body).html
    return (html if html is not None else "<!doctype html><p>This message has no HTML part.").encode("utf-8", "replace")


def subject_of(head: bytes) -> str:
    """The decoded subject of a message whose beginning is given."""
    return letter.subject_of(head)


def _filter(rcpt_to: str, *, is_live: bool) -> str:
    wanted = {"rcpt": rcpt_to, "live": "" if is_live else "1"}
    other = urlencode({name: value for name, value in wanted.items() if value})
    live = '<input type="hidden" name="live" value="1">' if is_live else ""
    everyone = f'<a href="/{"?live=1" if is_live else ""}">Show all</a>' if rcpt_to else ""
    return (
        f'<form method="get" action="/" role="search"><label for="rcpt">Recipient</label>'
        f'<input id="rcpt" name="rcpt" type="search" inputmode="email" autocapitalize="none" autocomplete="off"'
        f' spellcheck="false" value="{escape(rcpt_to)}" placeholder="ana@example.org">{live}'
        f'<button>Filter</button>{everyone}<a href="/?{escape(other)}">'
        f"{'Stop refreshing' if is_live else 'Refresh every 3 seconds'}</a></form>"
    )


def _row(record: Record, subject: str | None) -> str:
    return (
        f'<tr role="row"><td role="cell" class="when">{_time(record)}</td>'
        f'<td role="cell" class="outcome">{_tag(record)}</td>'
        f'<td role="cell" class="to"><a href="/inbox/{record.seq}">{_address(record.rcpt_to or "(none)")}</a></td>'
        f'<td role="cell" class="about" dir="auto">{_about(record, subject)}</td>'
        f'<td role="cell" class="from">{_address(_sender(record))}</td>'
        f'<td role="cell" class="size">{record.size_bytes:,}</td></tr>'
    )


def _about(record: Record, subject: str | None) -> str:
    """The subject; for a message that was not taken, the answer that says why."""
    if subject:
        return escape(subject)
    if not record.is_taken:
        return f'<span class="faint">{escape(record.reply)}</span>'
    if subject is None:
        return f'<span class="faint">{_address(record.message_id or "")}</span>'
    return '<span class="faint">(no subject)</span>'


def _no_rows(rcpt_to: str) -> str:
    nothing = (
        f"Nothing for {escape(rcpt_to)} yet."
        if rcpt_to
        else "Nothing has arrived yet. Send something to the sandbox's SMTP port, then reload this page."
    )
    return f'<tr role="row" class="none"><td role="cell" colspan="{len(_COLUMNS)}" class="empty">{nothing}</td></tr>'


def _list_note(rows: Sequence[tuple[Record, str | None]], stats: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    total = sum(stats[name] for name in ("accepted", "refused", "deferred", "dropped"))
    count = f"The latest {len(rows):,} records" if len(rows) > 1 else "One record"
    older = ", newest first; older ones by recipient, or in the ledger file" if total > len(rows) else ", newest first"
    unkept = any(subject is None and record.is_taken for record, subject in rows)
    kept = " Subjects and texts are shown when the sandbox runs with --keep-bodies." if unkept else ""
    return f'<p class="note">{count}{older if len(rows) > 1 else ""}.{kept}</p>'


def _summary(record: Record) -> list[tuple[str, str]]:
    """What one wants to know first; values are HTML."""
    return [
        ("Outcome", f"{_tag(record)} {escape(record.reply)}"),
        ("To", _address(record.rcpt_to or "(none)")),
        ("From", _address(_sender(record))),
        ("Time (UTC)", _time(record)),
    ]


def _from_ledger(record: Record) -> list[tuple[str, object]]:
    return [
        ("Stage", record.stage),
        ("Message-ID", record.message_id),
        *((f"X-Outrider-{name.title()}", value) for name, value in record.outrider_ids.items()),
        ("Size", f"{record.size_bytes:,} bytes"),
        ("SHA-256", record.sha256),
        ("TLS", "yes" if record.is_tls else "no"),
        ("User", record.auth_user),
        ("Fault rule", record.fault),
        ("Session", record.session),
    ]


def _content(record: Record, found: Letter) -> str:
    parts = []
    if found.html is not None:
        size = len(found.html)
        shape = "short" if size <= _SHORT_CHARACTERS else "middling" if size <= _MIDDLING_CHARACTERS else "long"
        parts.append(
            f'<h2>HTML</h2><iframe sandbox="" src="/inbox/{record.seq}/html" class="{shape}"'
            ' title="HTML part of the message"></iframe>'
            '<p class="note">Nothing runs and nothing is loaded from elsewhere: remote pictures stay empty.'
            f' <a href="/inbox/{record.seq}/html">Open it alone</a></p>'
        )
    if found.text is not None:
        parts.append(f"<h2>Text</h2><pre>{escape(found.text[:_MOST_TEXT_CHARACTERS]) or '(empty)'}</pre>")
    if found.attachments:
        listed = "".join(map(_attachment, found.attachments))
        parts.append(f"<h2>Attachments</h2><ul>{listed}</ul>")
    return "".join(parts) or '<p class="note">This message has neither text nor HTML.</p>'


def _attachment(part: Attachment) -> str:
    name = escape(part.name) or "(no name)"
    return f'<li><bdi>{name}</bdi> <span class="faint">{escape(part.kind)}, {part.size_bytes:,} bytes</span></li>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values, the values being HTML."""
    rows = "".join(f'<div><dt>{escape(name)}</dt><dd dir="auto">{value}</dd></div>' for name, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _tag(record: Record) -> str:
    return f'<span class="tag {escape(record.outcome)}">{escape(_OUTCOME_WORDS[record.outcome])}</span>'


def _address(text: str) -> str:
    """An address that may be broken after its @ before it is broken anywhere."""
    return escape(text).replace("@", "@<wbr>")


def _sender(record: Record) -> str:
    return "" if record.mail_from is None else (record.mail_from or "<>")


def _time(record: Record) -> str:
    moment = datetime.fromtimestamp(record.at_ns / 1e9, UTC)
    shown = moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f'<time datetime="{shown.replace(" ", "T")}Z">{shown}</time>'


def _page(title: str, content: str, head: str = "") -> bytes:
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">{head}
<title>{escape(title)} · Outrider sandbox</title><link rel="stylesheet" href="/style.css"></head>
<body>{content}</body></html>
"""
    return text.encode("utf-8", "replace")

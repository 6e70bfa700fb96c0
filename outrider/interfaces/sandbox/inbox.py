"""The inbox as HTML: a list and a message, without scripts, everything escaped.

Owns the pages' text and their content security policies. What a message says runs nowhere: its HTML is served for a
sandboxed frame that may load nothing from anywhere.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.policy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

from outrider.interfaces.sandbox.ledger import Record

MOST_HEADER_BYTES: Final = 1 << 16
_MOST_TEXT_CHARACTERS: Final = 200_000

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


def list_page(
    rows: Sequence[tuple[Record, str | None]], stats: Mapping[str, Any], *, rcpt_to: str, is_live: bool
) -> bytes:
    """The inbox: the latest records with their subjects (None: bytes are not kept), and the counters."""
    refresh = '<meta http-equiv="refresh" content="3">' if is_live else ""
    other = urlencode({key: value for key, value in (("rcpt", rcpt_to), ("live", "" if is_live else "1")) if value})
    counters = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{stats[name]:,}</dd></div>"
        for name in ("accepted", "refused", "deferred", "dropped", "sessions", "bytes")
    )
    body = "".join(_row(record, subject) for record, subject in rows)
    if not rows:
        nothing = f"Nothing for {rcpt_to} yet." if rcpt_to else "Nothing has arrived yet."
        body = f'<tr><td colspan="6" class="empty">{escape(nothing)}</td></tr>'
    return _page(
        "Inbox",
        f"""<header><h1>Outrider sandbox</h1><p>Takes every message, delivers none.</p></header>
<dl class="counters">{counters}</dl>
<form method="get" action="/" role="search"><label for="rcpt">Recipient</label>
<input id="rcpt" name="rcpt" type="search" value="{escape(rcpt_to)}" placeholder="ana@example.org">
<button>Filter</button><a href="/">All</a>
<a href="/?{escape(other)}">{"Stop refreshing" if is_live else "Refresh every 3 seconds"}</a></form>
<div class="scroll"><table><thead><tr><th scope="col">Time (UTC)</th><th scope="col">Outcome</th><th scope="col">To</th>
<th scope="col">From</th><th scope="col">Subject</th><th scope="col">Bytes</th></tr></thead>
<tbody>{body}</tbody></table></div><p class="note">The latest {len(rows)} records, newest first.</p>""",
        head=refresh,
    )


def message_page(record: Record, body: bytes | None) -> bytes:
    """One record: what the ledger says, the headers, the text, and the HTML in its frame."""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in _facts(record)
        if value not in {None, ""}
    )
    if body is None:
        content = '<p class="note">The bytes of this message were not kept (option keeps_bodies).</p>'
        title = record.message_id or f"Record {record.seq}"
    else:
        message = _parse(body)
        title = _header(message, "Subject") or "(no subject)"
        content = _content(record, message)
    return _page(
        title,
        f"""<header><p><a href="/">Inbox</a></p><h1>{escape(title)}</h1></header>
<dl class="facts">{facts}</dl>{content}""",
    )


def html_part(body: bytes) -> bytes:
    """The HTML of a message as it came, in UTF-8; only ever served with MESSAGE_CSP."""
    html, _ = _parts(_parse(body))
    return (html if html is not None else "<!doctype html><p>This message has no HTML part.").encode("utf-8", "replace")


def subject_of(head: bytes) -> str:
    """The decoded subject of a message whose beginning is given."""
    return _header(_parse(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), "Subject")


def _row(record: Record, subject: str | None) -> str:
    label = subject if subject is not None else (record.message_id or "")
    return (
        f"<tr><td><time>{_time(record)}</time></td>"
        f'<td><span class="tag {escape(record.outcome)}">{escape(_OUTCOME_WORDS[record.outcome])}</span></td>'
        f'<td><a href="/inbox/{record.seq}">{escape(record.rcpt_to or "(none)")}</a></td>'
        f"<td>{escape(_sender(record))}</td><td>{escape(label)}</td>"
        f'<td class="number">{record.size_bytes:,}</td></tr>'
    )


def _facts(record: Record) -> list[tuple[str, object]]:
    return [
        ("Outcome", f"{_OUTCOME_WORDS[record.outcome]} at {record.stage}"),
        ("Answer", record.reply),
        ("Time (UTC)", _time(record)),
        ("Envelope from", _sender(record)),
        ("Envelope to", record.rcpt_to),
        ("Message-ID", record.message_id),
        *((f"X-Outrider-{name.title()}", value) for name, value in record.outrider_ids.items()),
        ("Size", f"{record.size_bytes:,} bytes"),
        ("SHA-256", record.sha256),
        ("TLS", "yes" if record.is_tls else "no"),
        ("User", record.auth_user),
        ("Fault rule", record.fault),
        ("Session", record.session),
    ]


def _content(record: Record, message: Message) -> str:
    html, text = _parts(message)
    headers = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_decoded(str(value)))}</dd></div>" for name, value in message.items()
    )
    frame = (
        f'<h2>HTML</h2><iframe sandbox="" src="/inbox/{record.seq}/html" title="HTML part of the message"></iframe>'
        '<p class="note">Nothing is loaded from elsewhere: remote pictures stay empty.</p>'
        if html is not None
        else ""
    )
    plain = f"<h2>Text</h2><pre>{escape(text[:_MOST_TEXT_CHARACTERS])}</pre>" if text is not None else ""
    return (
        f'{frame}{plain}<details><summary>Headers</summary><dl class="facts">{headers}</dl></details>'
        f'<p><a href="/messages/{record.seq}/raw">Bytes as they came</a></p>'
    )


def _parse(body: bytes) -> Message:
    return email.message_from_bytes(body, policy=email.policy.compat32)  # the tolerant one: it never raises


def _parts(message: Message) -> tuple[str | None, str | None]:
    """The first HTML part and the first text part that is no attachment."""
    html: str | None = None
    text: str | None = None
    for part in message.walk():
        if part.is_multipart() or part.get_content_disposition() == "attachment":
            continue
        kind = part.get_content_type()
        if kind == "text/html" and html is None:
            html = _decoded_part(part)
        elif kind == "text/plain" and text is None:
            text = _decoded_part(part)
    return html, text


def _decoded_part(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    return "" if value is None else _decoded(str(value))


def _decoded(value: str) -> str:
    """Encoded words made readable; what cannot be decoded stays as it is."""
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return value


def _sender(record: Record) -> str:
    return "" if record.mail_from is None else (record.mail_from or "<>")


def _time(record: Record) -> str:
    moment = datetime.fromtimestamp(record.at_ns / 1e9, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _page(title: str, content: str, head: str = "") -> bytes:
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">{head}
<title>{escape(title)} · Outrider sandbox</title><link rel="stylesheet" href="/style.css"></head>
<body><main>{content}</main></body></html>
"""
    return text.encode("utf-8", "replace")


STYLE: Final = b"""
:root { color-scheme: light dark; --ground: #f6f7f9; --paper: #fff; --ink: #1b1f24; --faint: #5b6470; --line: #dfe3e8;
  --link: #0b5cad; --good: #17693a; --good-ground: #e0f3e6; --bad: #9d2020; --bad-ground: #fbe5e5; --wait: #7a5200;
  --wait-ground: #fdf0d3; }
@media (prefers-color-scheme: dark) { :root { --ground: #111418; --paper: #1a1f25; --ink: #e6e9ed; --faint: #9aa5b1;
  --line: #2c333c; --link: #7ab8f5; --good: #8fdcab; --good-ground: #16341f; --bad: #f3a3a3; --bad-ground: #3d1a1a;
  --wait: #f0cd84; --wait-ground: #3a2d10; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 28px 0 8px; }
header p { margin: 4px 0; color: var(--faint); }
a { color: var(--link); }
.counters { display: flex; flex-wrap: wrap; gap: 8px 32px; margin: 20px 0; }
.counters dt { color: var(--faint); font-size: .85rem; }
.counters dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
form { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; margin: 0 0 16px; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line);
  border-radius: 6px; padding: 6px 10px; }
input { min-width: 16rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 8px 12px; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--faint); font-weight: 600; font-size: .85rem; white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
time, .number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.number, th:last-child { text-align: right; }
.empty { color: var(--faint); text-align: center; padding: 40px; }
.tag { border-radius: 999px; padding: 1px 9px; font-size: .85rem; white-space: nowrap; background: var(--wait-ground);
  color: var(--wait); }
.accepted { background: var(--good-ground); color: var(--good); }
.refused, .dropped_before_dot { background: var(--bad-ground); color: var(--bad); }
.note { color: var(--faint); font-size: .9rem; }
.facts { display: grid; gap: 4px; margin: 16px 0; }
.facts div { display: grid; grid-template-columns: 11rem 1fr; gap: 12px; }
.facts dt { color: var(--faint); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: 0; }
iframe { width: 100%; height: 70vh; border: 1px solid var(--line); border-radius: 8px; background: #fff; }
details { margin: 20px 0; }
@media (max-width: 40rem) { .facts div { grid-template-columns: 1fr; gap: 0; } input { min-width: 0; flex: 1; } }
"""

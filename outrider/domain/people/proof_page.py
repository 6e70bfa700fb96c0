"""The proof of a consent as a page to be read, printed and kept: one file without scripts, nothing from elsewhere.

Owns how the page looks and what stands on it: the facts of the signed document, its digest, and the document itself, of
which the page is made, so that both can be checked. A page that does not say what its document says is told apart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape, unescape
from typing import Final

import msgspec

from outrider.base.errors import Refused
from outrider.domain.people.proof import ConsentProof, ProofEntry, decode, digest_of

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #525b67; --ground: #fff; --quiet: #f1f3f6; --line: #c3cad3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9ecef; --faint: #a3adb8; --ground: #14181d; --quiet: #20262d; --line: #3d4650; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; background: var(--ground); color: var(--ink); }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p { margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .4rem 1rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; }
ol { list-style: none; margin: 0; padding: 0; }
li { margin: 0 0 1rem; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .5rem;
  break-inside: avoid; }
li > strong { display: block; margin: 0 0 .5rem; }
blockquote { margin: 0; padding: .5rem .75rem; border-radius: .35rem; background: var(--quiet); white-space: pre-wrap; }
code, pre { font: .8125rem/1.5 ui-monospace, monospace; }
pre { margin: 0; padding: .75rem 1rem; border-radius: .5rem; background: var(--quiet); white-space: pre-wrap; }
.note { margin-top: 1rem; color: var(--faint); }
@media (max-width: 32rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin: 0 0 .6rem; }
}
@media print { main { max-width: none; padding: 0; } }
"""
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "form-action 'none'; base-uri 'none'"
)
_DOCUMENT: Final = re.compile(r'<pre id="document">(.*?)</pre>', re.DOTALL)
_START: Final = "<!doctype html>"
_SAID: Final = {"granted": "Consent given", "withdrawn": "Consent withdrawn"}


def as_page(proof: ConsentProof) -> str:
    """The page of a proof: the same page for the same proof."""
    about = f"{proof.channel}, {proof.purpose}"
    document = json.dumps(msgspec.to_builtins(proof), indent=2)  # in ASCII: a stranger's text turns nothing around
    entries = "".join(_entry(each) for each in proof.entries)
    return (
        f'{_START}\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        f"<title>Proof of consent: {_plain(about)}</title><style>{STYLE}</style></head>\n<body><main>"
        f"<h1>Proof of consent: {_plain(about)}</h1>\n"
        f"<p>What one person said about it, oldest first; it holds now: <strong>{_plain(proof.status)}</strong>.</p>\n"
        f"{_facts(_about(proof))}\n<h2>What was said</h2>\n<ol>{entries}</ol>\n"
        f"<h2>How this can be checked</h2>\n{_facts(_marks(proof), is_code=True)}\n"
        '<p class="note">'
        "This page is made of the signed document below and nothing else. Whoever holds this file or the "
        "document can check both without a database: <code>outrider consents verify FILE --key '…'</code>, with the "
        "public key as the controller names it. The digest is the SHA-256 of the document with its names in order, no "
        "spaces, in ASCII.</p>\n"
        f'<h2>The signed document</h2>\n<pre id="document">{escape(document)}</pre>\n</main></body></html>\n'
    )


def is_page(text: str) -> bool:
    """Whether something looks like such a page, and not like the document alone."""
    return text.lstrip().startswith(_START)


def document_of(text: str) -> ConsentProof:
    """The signed document of a page.

    Raises:  Refused(invalid_proof) for a page without one, and for one that says something else than its document.
    """
    found = _DOCUMENT.search(text)
    if found is None:
        raise Refused("invalid_proof", "is no page of a proof: it holds no signed document", field="file")
    proof = decode(unescape(found[1]))
    if "".join(text.split()) != "".join(as_page(proof).split()):
        raise Refused("invalid_proof", "the page says something else than its signed document", field="file")
    return proof


def _about(proof: ConsentProof) -> dict[str, str]:
    people = ", ".join(each.address for each in proof.addresses) or "no address any more"
    return {
        "Controller": f"{proof.tenant} ({proof.tenant_id})",
        "Person": f"{proof.name or '(no name)'}, {people}",
        "Contact": f"{proof.contact_id}" + (f"; elsewhere {proof.external_id}" if proof.external_id else ""),
        "Exported": f"{_readable(proof.exported_at)} by {proof.exported_by}",
        "Reason": proof.reason,
    }


def _marks(proof: ConsentProof) -> dict[str, str]:
    return {
        "Digest": digest_of(proof),
        "Audit log": f"entry {proof.audit.seq}, {proof.audit.hash}",
        "Last entry": proof.head,
        "Public key": proof.public_key,
        "Signature": f"{proof.signature} (Ed25519)",
    }


def _entry(entry: ProofEntry) -> str:
    facts = {
        "When": _readable(entry.at),
        "Known from": entry.source,
        "IP address": entry.ip,
        "Form": entry.form_version,
    }
    given = {name: value for name, value in facts.items() if value}
    shown = (
        f"<dt>Text shown</dt><dd><blockquote>{_lines(entry.text_shown)}</blockquote></dd>" if entry.text_shown else ""
    )
    said = _SAID.get(entry.status, entry.status)
    rows = _rows(given) + shown + _rows({"Hash": entry.hash}, is_code=True)
    return f"<li><strong>{entry.number}. {_plain(said)}</strong><dl>{rows}</dl></li>\n"


def _facts(pairs: dict[str, str], *, is_code: bool = False) -> str:
    return f"<dl>{_rows(pairs, is_code=is_code)}</dl>"


def _rows(pairs: dict[str, str | None] | dict[str, str], *, is_code: bool = False) -> str:
    tag = "code" if is_code else "bdi"
    return "".join(f"<dt>{name}</dt><dd><{tag}>{_plain(value or '')}</{tag}></dd>" for name, value in pairs.items())


def _readable(moment: str) -> str:
    """A moment as people read it, to the second; the signed document has all of it."""
    day, _, clock = moment.partition("T")
    return f"{day} {clock[:8]} UTC"


def _lines(text: str) -> str:
    return "\n".join(_plain(line) for line in text.splitlines())


def _plain(text: str) -> str:
    """A stranger's text on one line: escaped, nothing in it that turns the text around or cannot be seen."""
    return escape("".join(each if each.isprintable() else "�" for each in text))

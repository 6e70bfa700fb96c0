"""The frame of the API's few pages for people: no script, one style sheet inside, nothing from elsewhere.

Owns their look, their headers and their content security policy; knows no page's text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final

from litestar import MediaType, Response

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #525b67; --ground: #fff; --quiet: #f1f3f6;
  --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9ecef; --faint: #a3adb8; --ground: #14181d; --quiet: #20262d; --link: #86bff7; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 1.0625rem/1.55 system-ui, sans-serif; background: var(--ground); color: var(--ink); }
main { max-width: 34rem; margin: 0 auto; padding: 3rem 1.25rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 1rem; }
a { color: var(--link); display: inline-block; padding: .2rem 0; }
button { font: inherit; font-weight: 600; padding: .75rem 1.25rem; min-height: 3rem; width: 100%;
  margin: .5rem 0 1.5rem; border: 2px solid transparent; border-radius: .5rem; background: #1a56c4;
  color: #fff; cursor: pointer; }
button:hover { background: #13449f; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
.note { font-size: .9375rem; color: var(--faint); }
ul { padding: 0; list-style: none; margin: 0; }
pre { margin: 0 0 1rem; padding: .75rem 1rem; border-radius: .5rem; background: var(--quiet); white-space: pre-wrap;
  font-size: .875rem; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}


def page(status: int, title: str, content: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """One page.

    Takes:   title: plain text; content: HTML, everything that came from outside already escaped.
    """
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><main>{content}</main></body></html>\n"
    )
    return Response(text, status_code=status, media_type=MediaType.HTML, headers={**_HEADERS, **(headers or {})})

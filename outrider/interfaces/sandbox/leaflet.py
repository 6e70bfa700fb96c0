"""What a sandbox that stands in for a provider's API says to a person who opens its address in a browser.

Owns that page, which is the same whatever has arrived; looking at it changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from html import escape
from typing import Final

from aiohttp import web

from outrider.interfaces.sandbox.inbox_style import STYLE

Handler = Callable[[web.Request], Awaitable[web.Response]]
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE).digest()).decode()
_CSP: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def leaflet(title: str, says: str, *looks: tuple[str, str]) -> Handler:
    """A page at the root.

    Takes:   says: what it is and how to use it; looks: paths that may be opened, with what they show
    """
    links = "".join(f'<p><a href="{escape(path)}">{escape(path)}</a> {escape(what)}</p>' for path, what in looks)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>{STYLE.decode()}</style></head><body><header><h1>{escape(title)}</h1></header>"
        f"<main><p>{escape(says)}</p>{links}</main></body></html>"
    )

    async def show(_request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    return show

"""What the root of the API says to whoever opens it: a page for people, the same as JSON for programs.

Owns `/`. Says what this is and where to go on; nothing about this installation that its health page does not say.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

import msgspec
from litestar import HttpMethod, Request, Response, route
from litestar.di import NamedDependency

from outrider.data.runtime import Runtime
from outrider.interfaces.api.pages import page
from outrider.interfaces.auth import PUBLIC

_PLACES: Final = (
    ("/openapi.json", "describes every call (OpenAPI 3.1)"),
    ("/health", "how this installation is"),
    ("/readyz", "whether it takes requests"),
    ("/metrics", "figures for Prometheus; from other networks with a key"),
)
_VARY: Final = {"Vary": "Accept"}


class Landing(msgspec.Struct):
    """Where a program finds its way from the root."""

    name: str
    api: str
    links: dict[str, str]
    sign_in: str


@route("/", http_method=[HttpMethod.GET, HttpMethod.HEAD], opt={"auth": PUBLIC}, include_in_schema=False)
async def landing(request: Request[Any, Any, Any], runtime: NamedDependency[Runtime]) -> Response[Any]:
    """Say what this is: HTML to whoever asks for it, otherwise JSON."""
    if "text/html" in request.headers.get("accept", "").lower():
        return page(200, "Outrider API", _page(runtime.settings.public_url), _VARY)
    links = {path.strip("/").partition(".")[0]: path for path, _ in _PLACES}
    body = Landing("Outrider", "/api/v1", links, "Authorization: Bearer KEY; `outrider key create NAME` makes a key")
    return Response(body, headers=_VARY)


def _page(public_url: str) -> str:
    places = "".join(f'<li><a href="{path}">{path}</a> <span class="note">{what}</span></li>' for path, what in _PLACES)
    url = escape(public_url)
    return (
        "<h1>Outrider is running</h1>"
        "<p>This is its API, for programs: it takes messages and campaigns and sends them."
        " People use the command line.</p>"
        f"<ul>{places}</ul>"
        "<h2>Make the first call</h2>"
        f"<pre>outrider key create first --role admin\ncurl -H 'Authorization: Bearer KEY' {url}/api/v1/campaigns</pre>"
        '<p class="note"><code>outrider --help</code> lists the commands, <code>outrider doctor</code> says what is'
        " missing, and <code>docs/tutorial.md</code> leads from here to a first campaign in ten minutes.</p>"
        '<p class="note">Did a message bring you here that you do not want? Use the unsubscribe link in the message'
        " itself.</p>"
    )


ROUTES = [landing]

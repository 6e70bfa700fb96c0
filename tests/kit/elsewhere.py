"""Somebody else's web server: pages under test must never ask it for anything.

API
    with Elsewhere() as elsewhere:
        elsewhere.url                       its address
        elsewhere.hostile() -> bytes        HTML that tries everything to run, to load and to lead away
        elsewhere.asked                     the paths that were asked for; `/bare` serves that HTML without protection
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Elsewhere:
    """The server, on a thread of its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked, hostile = self.asked, self.hostile

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = hostile() if self.path == "/bare" else b"got you"
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's own name
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="elsewhere")

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def hostile(self) -> bytes:
        """HTML that tries everything to run, to load and to lead away."""
        url = self.url
        return (
            f'<link rel="stylesheet" href="{url}/style"><script src="{url}/script"></script>'
            f'<h1>Hello</h1><script>fetch("{url}/fetch"); document.title = "owned"</script>'
            f'<img src="{url}/picture" alt="picture"><iframe src="{url}/frame"></iframe>'
            f'<div style="position: fixed; inset: 0; background: url({url}/background)">cover</div>'
            f'<video src="{url}/video" autoplay></video><object data="{url}/object"></object>'
            f'<img src="/nothing" onerror="document.title = \'owned\'">'
        ).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

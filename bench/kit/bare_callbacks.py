"""The peer of bench/callbacks.py: an endpoint that inserts what was posted, one statement each, and answers.

Raw ASGI on uvicorn with uvloop and httptools, an asyncpg pool: the same parts as ours, and nothing of its work: nobody
is signed in, nothing is verified, read, told apart or applied. Started as a process: `bare_callbacks.py DATABASE_URL
POOL`; prints `ready: URL`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import asyncpg
import uvicorn

SCHEMA = """
CREATE TABLE IF NOT EXISTS peer_callbacks (id bigserial PRIMARY KEY, path text NOT NULL, body bytea NOT NULL,
                                           at timestamptz NOT NULL DEFAULT now())
"""
INSERT = "INSERT INTO peer_callbacks (path, body) VALUES ($1, $2)"
_HEADERS = [(b"content-type", b"text/xml"), (b"content-length", b"0")]


async def main(url: str, pool_size: int) -> None:
    """Serve until told to stop."""
    async with asyncpg.create_pool(url, min_size=pool_size, max_size=pool_size) as pool:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            await pool.execute(INSERT, scope["path"], body)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b""})

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        print(f"ready: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))

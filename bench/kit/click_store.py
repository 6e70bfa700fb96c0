"""The peer of bench/tracking.py: a click is stored before it is answered, one statement each, as listmonk does.

Raw ASGI on uvicorn with uvloop and httptools, an asyncpg pool: the same parts as ours, without the buffer. Started as a
process: `click_store.py DATABASE_URL POOL`; prints `ready: URL`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import asyncpg
import uvicorn

SCHEMA = """
CREATE TABLE IF NOT EXISTS peer_links (key bigint PRIMARY KEY, url text NOT NULL);
CREATE TABLE IF NOT EXISTS peer_clicks (id bigserial PRIMARY KEY, message text NOT NULL, link bigint NOT NULL,
                                        at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS peer_clicks_link ON peer_clicks (link)
"""
CLICK = """
WITH stored AS (INSERT INTO peer_clicks (message, link) VALUES ($1, $2) RETURNING link)
SELECT l.url FROM peer_links l JOIN stored s ON s.link = l.key
"""


async def main(url: str, pool_size: int) -> None:
    """Serve until told to stop."""
    async with asyncpg.create_pool(url, min_size=pool_size, max_size=pool_size) as pool:

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            _, _, link, message = scope["path"].split("/")
            where = await pool.fetchval(CLICK, message, int(link))
            headers = [(b"location", where.encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 302, "headers": headers})
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

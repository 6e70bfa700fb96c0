"""A server that answers every posted message as Twilio does, and keeps nothing: so fast that it is never the limit.

Reads no more of HTTP than the benchmarks' clients write: a head, a length, a body. Started as a process:
`fake_twilio.py`; prints `ready: URL`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import cast

_SIDS = itertools.count(1)
_HEAD = b"HTTP/1.1 201 Created\r\nContent-Type: application/json;charset=utf-8\r\nContent-Length: "
_END = b"\r\n\r\n"


class Account(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of the kind, but not of the class

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(_END)) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].partition(b"\r\n")[0]) if at >= 0 else 0
            whole = end + len(_END) + length
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            said = b'{"sid": "SM%032x", "status": "queued", "error_code": null, "num_segments": "1"}' % next(_SIDS)
            self._transport.write(b"%s%d%s%s" % (_HEAD, len(said), _END, said))


async def main() -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    server = await loop.create_server(Account, sock=listener)
    print(f"ready: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

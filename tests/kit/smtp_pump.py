"""A client thread that sends one message after the other, pipelined, and notes what was answered with 250."""

from __future__ import annotations

import re
import socket
import threading
from typing import ClassVar

_QUEUED = re.compile(rb"250 2\.0\.0 Ok: queued as (\S+)")
_WAIT_S = 60.0


class Pump(threading.Thread):
    """Sends until the server is gone (or `most` messages). `answered`: queue id of each 250 -> its Message-ID.

    An answer counts only when this client has read it: it is the client's ledger of a drill.
    """

    ENOUGH: ClassVar[int] = 50
    """`has_answered` is set after so many answers."""

    def __init__(
        self, address: tuple[str, int], *, name: str, most: int = 1_000_000, padding_bytes: int = 3_000
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.answered: dict[str, str] = {}
        self.has_answered = threading.Event()
        self._address = address
        self._most = most
        self._padding = (b"x" * 70 + b"\r\n") * (padding_bytes // 72)

    def run(self) -> None:
        """Send."""
        try:
            with socket.create_connection(self._address, timeout=_WAIT_S) as line:
                self._send_all(line)
        except OSError:
            return

    def _send_all(self, line: socket.socket) -> None:
        self._hear(line, b"220 ")
        line.sendall(b"EHLO pump.test\r\n")
        self._hear(line, b"250 ")
        envelope = b"MAIL FROM:<pump@example.org>\r\nRCPT TO:<%b@example.org>\r\nDATA\r\n" % self.name.encode()
        line.sendall(envelope)
        self._hear(line, b"354 ")
        for number in range(1, self._most + 1):
            message_id = f"<{self.name}-{number}@pump.test>"
            behind, last = (envelope, b"354 ") if number < self._most else (b"QUIT\r\n", b"221 ")
            line.sendall(b"Message-ID: %b\r\n\r\n%b.\r\n%b" % (message_id.encode(), self._padding, behind))
            heard = self._hear(line, last)
            for queue_id in _QUEUED.findall(heard):
                self.answered[queue_id.decode()] = message_id
            if len(self.answered) >= self.ENOUGH:
                self.has_answered.set()

    def _hear(self, line: socket.socket, last: bytes) -> bytes:
        """Read until a reply that begins with `last` is whole; what came before an end counts as heard too."""
        heard = b""
        while not re.search(rb"^" + last + rb".*\r\n\Z", heard, re.MULTILINE):
            data = line.recv(65_536)
            if not data:
                raise ConnectionResetError
            heard += data
        return heard
